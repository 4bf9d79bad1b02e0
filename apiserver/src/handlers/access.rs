//! Authorisation of a request that already has an identity.

use http::request::Parts;

use crate::attributes::Attributes;
use crate::error::{ApiError, Target};
use crate::identity::Identity;
use crate::request_info::{ResourcePath, Verb};
use crate::serve;

/// Refuses with a 403 what the identity may not do.
pub(super) fn authorize(identity: &Identity, attributes: &Attributes, target: Target) -> Result<(), ApiError> {
    if allowed(identity, attributes) {
        return Ok(());
    }
    let why = attributes.refusal(&identity.user);
    Err(ApiError::Forbidden { target: Box::new(target), why, causes: Vec::new() })
}

/// Discovery, OpenAPI and unknown paths.
pub(super) fn authorize_path(identity: &Identity, parts: &Parts) -> Result<(), ApiError> {
    let path = parts.uri.path().to_owned();
    let attributes = Attributes::Path { verb: parts.method.as_str().to_ascii_lowercase(), path };
    authorize(identity, &attributes, Target::default())
}

/// Reviews of oneself.
pub(super) fn authorize_review(identity: &Identity, path: &ResourcePath) -> Result<(), ApiError> {
    let attributes = Attributes::Resource {
        verb: Verb::Create,
        group: path.group.clone(),
        resource: path.resource.clone(),
        subresource: String::new(),
        namespace: path.namespace.clone().unwrap_or_default(),
        name: String::new(),
    };
    authorize(identity, &attributes, Target::default())
}

/// What another part of the lab answers for.
pub(super) fn authorize_extension(
    identity: &Identity,
    path: &ResourcePath,
    verb: Option<Verb>,
) -> Result<(), ApiError> {
    let attributes = Attributes::Resource {
        verb: verb.unwrap_or(Verb::Other),
        group: path.group.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone().unwrap_or_default(),
        namespace: path.namespace.clone().unwrap_or_default(),
        name: path.name.clone().unwrap_or_default(),
    };
    authorize(identity, &attributes, Target::default())
}

/// The one question; reviews ask it too.
pub(crate) fn allowed(identity: &Identity, attributes: &Attributes) -> bool {
    serve::authorize(identity, attributes)
}
