//! `/openapi/v3`: the index and one document per group-version; `/openapi/v2`: one for all. `minisvc-schema` writes them
//!

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use minisvc_schema::{OpenApi, Served};

use crate::error::ApiError;
use crate::negotiate;
use crate::registry::Registry;
use crate::reviews;

/// The documents for all kinds; they are made when first asked for.
pub(crate) fn documents(registry: &Registry) -> OpenApi {
    let stored = registry.iter().filter(|resource| resource.why_none.is_none()).map(|resource| Served {
        group: resource.group.to_owned(),
        version: resource.version.to_owned(),
        kind: resource.kind.to_owned(),
        plural: resource.plural.to_owned(),
        namespaced: resource.namespaced,
    });
    let reviews = reviews::ALL.iter().map(|review| Served {
        group: review.group.to_owned(),
        version: review.version.to_owned(),
        kind: review.kind.to_owned(),
        plural: review.plural.to_owned(),
        namespaced: review.namespaced,
    });
    OpenApi::new(stored.chain(reviews).collect(), crate::discovery::GIT_VERSION)
}

/// Answers a path below `/openapi/`.
pub(crate) fn answer(documents: &OpenApi, path: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let json = "application/json";
    if path == "v3" {
        return Ok(([(header::CONTENT_TYPE, json)], documents.index().to_owned()).into_response());
    }
    if path == "v2" {
        let swagger = documents.swagger();
        // The older name of this type is no legal one, so it is answered by the newer.
        let form = if negotiate::wants_openapi_message(headers) {
            tagged(headers, negotiate::OPENAPI_MESSAGE, &format!("{}-pb", swagger.hash), swagger.protobuf.as_slice())
        } else {
            tagged(headers, json, &swagger.hash, swagger.json.as_bytes())
        };
        return Ok(form);
    }
    let document = path.strip_prefix("v3/").ok_or(ApiError::UnknownPath)?;
    let text = documents.document(document).ok_or(ApiError::UnknownPath)?;
    Ok(tagged(headers, json, documents.hash(document).unwrap_or_default(), text.as_bytes()))
}

/// A document that a client need not be sent again.
fn tagged(headers: &HeaderMap, content_type: &'static str, hash: &str, content: &[u8]) -> Response {
    let tag = format!("\"{hash}\"");
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|line| line.split(',')).any(|theirs| theirs.trim().trim_start_matches("W/") == tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type)], content.to_vec()).into_response()
    };
    // A hash is a legal header value.
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
