//! `/openapi/v3`: the index and one document per group-version, written by `minisvc-schema`.

use axum::response::{IntoResponse, Response};
use http::header;
use minisvc_schema::{OpenApi, Served};

use crate::error::ApiError;
use crate::registry::Registry;

/// The documents for all kinds; they are made when first asked for.
pub(crate) fn documents(registry: &Registry) -> OpenApi {
    let served = registry.iter().map(|resource| Served {
        group: resource.group.to_owned(),
        version: resource.version.to_owned(),
        kind: resource.kind.to_owned(),
        plural: resource.plural.to_owned(),
        namespaced: resource.namespaced,
    });
    OpenApi::new(served.collect(), crate::discovery::GIT_VERSION)
}

/// Answers a path below `/openapi/`.
pub(crate) fn answer(documents: &OpenApi, path: &str) -> Result<Response, ApiError> {
    let json = [(header::CONTENT_TYPE, "application/json")];
    if path == "v3" {
        return Ok((json, documents.index().to_owned()).into_response());
    }
    let document = path.strip_prefix("v3/").ok_or(ApiError::UnknownPath)?;
    let text = documents.document(document).ok_or(ApiError::UnknownPath)?;
    let tag = format!("\"{}\"", documents.hash(document).unwrap_or_default());
    Ok((json, [(header::ETAG, tag)], text.to_owned()).into_response())
}
