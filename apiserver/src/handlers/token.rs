//! Tokens for ServiceAccounts.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::Call;
use crate::error::{ApiError, FieldError};
use crate::render::json_value;
use crate::request_info::FieldValidation;
use crate::schema::KindName;
use crate::serve::TokenRequest;
use crate::{body, meta, stored};

/// How long a token is good when the client does not say, and at least and most.
const TOKEN_SECONDS: i64 = 3600;
const TOKEN_SECONDS_RANGE: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// Issues a token for a ServiceAccount.
pub(super) async fn create(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let name = call.name()?;
    let account = stored::decode(&call.server.record(call.resource, call.namespace(), name)?.value);
    let bytes = body::collect(body).await?;
    let kind = KindName { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" };
    let mut object = body::decode_object(call.headers, &bytes, &kind, FieldValidation::Warn)?.object;
    let spec = &object["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS);
    if !TOKEN_SECONDS_RANGE.contains(&seconds) {
        let why = "may not be less than 10 minutes or more than 2^32 seconds";
        let errors = vec![FieldError::invalid("spec.expirationSeconds", &json!(seconds), why)];
        let (group, kind) = ("authentication.k8s.io", "TokenRequest");
        return Err(ApiError::Invalid { group, kind, name: name.to_owned(), errors });
    }
    let audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let pod = bound_pod(call, &spec["boundObjectRef"])?;
    let expires = call.now.checked_add(SignedDuration::from_secs(seconds)).map_err(ApiError::internal)?;
    let request = TokenRequest {
        namespace: call.namespace(),
        service_account: name,
        uid: meta::text(&account, "uid"),
        pod: pod.as_ref().map(|(name, uid)| (name.as_str(), uid.as_str())),
        audiences: &audiences,
        expires,
    };
    let token = call.server.ca.tokens().issue(&request, call.now).map_err(ApiError::internal)?;
    object["kind"] = json!("TokenRequest");
    object["apiVersion"] = json!("authentication.k8s.io/v1");
    object["metadata"] = json!({"name": name, "namespace": call.namespace()});
    object["spec"]["expirationSeconds"] = json!(seconds);
    object["status"] = json!({"token": token, "expirationTimestamp": meta::timestamp(expires)});
    Ok(json_value(StatusCode::CREATED, &object))
}

/// Name and uid of the pod that a token is bound to; it must exist.
fn bound_pod(call: &Call<'_>, reference: &Value) -> Result<Option<(String, String)>, ApiError> {
    if !reference.is_object() {
        return Ok(None);
    }
    if reference["kind"] != "Pod" {
        let kind = reference["kind"].as_str().unwrap_or_default();
        return Err(ApiError::BadRequest(format!("cannot bind token to an object of kind {kind:?}, only to a Pod")));
    }
    let name = reference["name"].as_str().unwrap_or_default();
    let pods = call.server.registry.find("", "v1", "pods").ok_or(ApiError::UnknownPath)?;
    let record = call.server.record(pods, call.namespace(), name)?;
    let stated = reference["uid"].as_str().unwrap_or_default();
    if !stated.is_empty() && *stated != *record.head.uid() {
        let why = format!("the UID in the bound object reference ({stated}) does not match the UID in record");
        return Err(ApiError::Conflict { target: Box::new(pods.target(name)), why });
    }
    Ok(Some((name.to_owned(), record.head.uid().to_owned())))
}
