//! Request bodies: read up to the limit, decoded by content type, held against the schema.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;

use crate::error::ApiError;
use crate::request_info::FieldValidation;
use crate::schema;

/// Bodies larger than this are refused.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

/// What is read in POST and PUT.
const OBJECT_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// How an object is written in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// Reads a whole body.
pub(crate) async fn collect(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::RequestEntityTooLarge(format!("limit is {LIMIT}")))
        }
        Err(error) => Err(ApiError::BadRequest(format!("the body of the request could not be read: {error}"))),
    }
}

/// The media type of the body without parameters, in lower case; empty when there is none.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    match content_type(headers).as_str() {
        // The Python client sends none.
        "" | "application/json" | "*/*" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(ApiError::UnsupportedMediaType(OBJECT_TYPES)),
    }
}

/// An object as the client sent it.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) object: Value,
    /// Texts for `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// The body of a POST or PUT as an object of a kind; unknown and duplicate fields are treated as asked for.
pub(crate) fn decode_object(
    headers: &HeaderMap,
    bytes: &[u8],
    kind: &schema::KindName<'_>,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let (object, duplicates) = match encoding(headers)? {
        Encoding::Json => schema::decode_json(bytes)?,
        Encoding::Yaml => schema::decode_yaml(bytes)?,
        Encoding::Protobuf => (schema::decode_protobuf(bytes)?, Vec::new()),
    };
    schema::check(kind, object, &duplicates, validation)
}

/// A small body that may be missing: DeleteOptions and reviews.
pub(crate) fn decode_optional(headers: &HeaderMap, bytes: &[u8]) -> Result<Option<Value>, ApiError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let value = match encoding(headers)? {
        Encoding::Json => schema::decode_json(bytes)?.0,
        Encoding::Yaml => schema::decode_yaml(bytes)?.0,
        Encoding::Protobuf => schema::decode_protobuf(bytes)?,
    };
    Ok(Some(value))
}
