//! Authorisation of a request that already has an identity.

use http::request::Parts;

use crate::attributes::Attributes;
use crate::error::{ApiError, Target};
use crate::identity::Identity;
use crate::request_info::{ResourcePath, Verb};
use crate::server::Server;

/// Refuses with a 403 what the identity may not do.
pub(super) fn authorize(
    server: &Server,
    identity: &Identity,
    attributes: &Attributes<'_>,
    target: Target,
) -> Result<(), ApiError> {
    let decision = server.authorizer.decide(&server.store, identity, attributes);
    if decision.allowed {
        return Ok(());
    }
    let mut why = attributes.refusal(&identity.user);
    if !decision.reason.is_empty() {
        why = format!("{why}: {}", decision.reason);
    }
    Err(ApiError::Forbidden { target: Box::new(target), why, causes: Vec::new() })
}

/// Discovery, OpenAPI, metrics and unknown paths.
pub(super) fn authorize_path(server: &Server, identity: &Identity, parts: &Parts) -> Result<(), ApiError> {
    let verb = parts.method.as_str().to_ascii_lowercase();
    let attributes = Attributes::Path { verb: &verb, path: parts.uri.path() };
    authorize(server, identity, &attributes, Target::default())
}

/// Whatever has a path like that of a resource. `name` is that of the path, or the one a selector chooses.
pub(super) fn authorize_resource(
    server: &Server,
    identity: &Identity,
    path: &ResourcePath,
    verb: Verb,
    name: &str,
    target: Target,
) -> Result<(), ApiError> {
    let namespace = match &path.namespace {
        Some(namespace) => namespace,
        // A Namespace lies in itself, so that who administers it may see it.
        None if path.group.is_empty() && path.resource == "namespaces" => name,
        None => "",
    };
    let attributes = Attributes::Resource {
        verb: verb.as_str(),
        group: &path.group,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        namespace,
        name,
    };
    authorize(server, identity, &attributes, target)
}
