//! Room in the API for what other parts of the lab know: resources that are not stored here but answered by somebody else.
//!
//! The server authorises each request and lists the resources in discovery; what the answers are is the owner's business.

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::Request;
use http::request::Parts;
use tower::ServiceExt as _;

use crate::request_info::ResourcePath;

/// A resource that somebody else answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionResource {
    /// The name in paths, such as `flows`.
    pub plural: &'static str,
    /// The name of one, such as `flow`.
    pub singular: &'static str,
    /// The kind of its items, such as `Flow`.
    pub kind: &'static str,
    /// What else clients may call it.
    pub short_names: &'static [&'static str],
    /// Whether its paths name a namespace.
    pub namespaced: bool,
    /// What may be done with it, in the words of authorisation.
    pub verbs: &'static [&'static str],
}

/// A group-version that somebody else answers for.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The API group, such as `minisvc.dev`.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it serves.
    pub resources: Vec<ExtensionResource>,
    /// Answers authorised requests; it sees them with their whole path.
    pub router: Router,
}

impl Extension {
    /// Whether requests with this path are its own.
    pub(crate) fn serves(&self, path: &ResourcePath) -> bool {
        let here = path.group == self.group && path.version == self.version;
        here && self.resources.iter().any(|resource| resource.plural == path.resource)
    }

    /// Passes an authorised request on.
    pub(crate) async fn answer(&self, parts: Parts, body: Body) -> Response {
        let answer = self.router.clone().oneshot(Request::from_parts(parts, body)).await;
        answer.unwrap_or_else(|never| match never {}).into_response()
    }
}
