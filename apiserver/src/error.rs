//! Why a request failed, and the Status object a client is told: built here and nowhere else.
//!
//! Handlers return an [`ApiError`]; only [`ApiError::status`] knows codes, reasons and message forms.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

pub use crate::field_error::{Cause, FieldError};

/// What a message is about: a resource, and usually one object of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// API group, empty for core.
    pub group: &'static str,
    /// Plural resource name, such as `services`.
    pub resource: &'static str,
    /// Object name; empty when the request names none.
    pub name: String,
}

impl Target {
    /// `services "web"` or `deployments.apps "web"`; without a name only the resource.
    fn quoted(&self) -> String {
        if self.name.is_empty() {
            return self.qualified();
        }
        format!("{} \"{}\"", self.qualified(), self.name)
    }

    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }
}

/// A cause that is no objection of validation: conflicts of field managers, a terminating namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCause {
    /// Machine-readable word, such as `FieldManagerConflict`.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// The field it is about, or empty.
    pub field: String,
}

/// Everything that can go wrong with a request, in the words of the HTTP API.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// 400: the request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// 401: nobody is known to ask.
    #[error("Unauthorized")]
    Unauthorized,
    /// 403: known, but not allowed.
    #[error("{}: {why}", forbidden_subject(.target))]
    Forbidden {
        /// What was asked for.
        target: Box<Target>,
        /// Who may not do what, or why it cannot be done now.
        why: String,
        /// Machine-readable causes.
        causes: Vec<OtherCause>,
    },
    /// 404 for an object of a known resource.
    #[error("{} not found", .0.quoted())]
    NotFound(Box<Target>),
    /// 404 for something that the kind could have, with the reason why it has not.
    #[error("{why}")]
    NotServed {
        /// The resource.
        target: Box<Target>,
        /// What to do instead.
        why: &'static str,
    },
    /// 404 for a path that means nothing; answered as plain text.
    #[error("404 page not found")]
    UnknownPath,
    /// 405: the resource exists but not this verb on it.
    #[error("{verb} is not supported on resources of kind \"{}\"", .target.qualified())]
    MethodNotAllowed {
        /// API verb or HTTP method.
        verb: String,
        /// The resource.
        target: Box<Target>,
    },
    /// 406: no clause of Accept can be served.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(&'static str),
    /// 409: the name is taken.
    #[error("{} already exists", .0.quoted())]
    AlreadyExists(Box<Target>),
    /// 409: the object is not in the state the request expects.
    #[error("Operation cannot be fulfilled on {}: {why}", .target.quoted())]
    Conflict {
        /// The object.
        target: Box<Target>,
        /// What differs.
        why: String,
    },
    /// 409: other field managers own what an apply would change.
    #[error("{message}")]
    ApplyConflict {
        /// The object.
        target: Box<Target>,
        /// One sentence naming every conflict.
        message: String,
        /// One per field.
        causes: Vec<OtherCause>,
    },
    /// 410: the revision asked for is no longer kept.
    #[error("{0}")]
    Expired(String),
    /// 410: the moment that a list in pages shows is no longer kept.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
             results. Continuing with the provided token results in an inconsistent list - objects that were created, \
             modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )]
    ContinueExpired {
        /// The rest as it is now.
        token: String,
    },
    /// 413: the request is more than the server takes; the text names the limit.
    #[error("Request entity too large: {0}")]
    RequestEntityTooLarge(String),
    /// 415: the body is in a form this server does not read.
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(&'static str),
    /// 422: the object breaks the rules of its kind.
    #[error("{}", invalid_message(.group, .kind, .name, .errors))]
    Invalid {
        /// API group of the kind.
        group: &'static str,
        /// Kind, such as `Service`.
        kind: &'static str,
        /// Object name.
        name: String,
        /// At least one objection.
        errors: Vec<FieldError>,
    },
    /// 429: refused for now, for instance by a disruption budget.
    #[error("{message}")]
    TooManyRequests {
        /// Text for people.
        message: String,
        /// Seconds after which trying again makes sense.
        retry_after: u32,
        /// Machine-readable causes.
        causes: Vec<OtherCause>,
    },
    /// 500: our fault.
    #[error("Internal error occurred: {0}")]
    Internal(String),
    /// 503: something this request needs is not there (yet).
    #[error("{0}")]
    ServiceUnavailable(String),
    /// 504: the revision asked for has not been reached.
    #[error("Timeout: Too large resource version: {wanted}, current: {current}")]
    RevisionTooLarge {
        /// What the client asked for.
        wanted: u64,
        /// Where the store is.
        current: u64,
    },
}

/// What precedes the reason in a 403: the resource and name, or neither when a path was asked for.
fn forbidden_subject(target: &Target) -> String {
    if target.resource.is_empty() { "forbidden".to_owned() } else { format!("{} is forbidden", target.quoted()) }
}

fn invalid_message(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> String {
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let parts: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.detail)).collect();
    match parts.as_slice() {
        [single] => format!("{kind} \"{name}\" is invalid: {single}"),
        several => format!("{kind} \"{name}\" is invalid: [{}]", several.join(", ")),
    }
}

impl ApiError {
    /// A 400 with this text.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// A 500 that names what broke.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        Self::Internal(why.to_string())
    }

    /// The HTTP code.
    pub fn code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::NotServed { .. } | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::AlreadyExists(_) | Self::Conflict { .. } | Self::ApplyConflict { .. } => StatusCode::CONFLICT,
            Self::Expired(_) | Self::ContinueExpired { .. } => StatusCode::GONE,
            Self::RequestEntityTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ServiceUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::RevisionTooLarge { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The `reason` word clients test first.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::NotFound(_) | Self::NotServed { .. } | Self::UnknownPath => "NotFound",
            Self::MethodNotAllowed { .. } => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict { .. } => "Conflict",
            Self::Expired(_) | Self::ContinueExpired { .. } => "Expired",
            Self::RequestEntityTooLarge(_) => "RequestEntityTooLarge",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::Invalid { .. } => "Invalid",
            Self::TooManyRequests { .. } => "TooManyRequests",
            Self::Internal(_) => "InternalError",
            Self::ServiceUnavailable(_) => "ServiceUnavailable",
            Self::RevisionTooLarge { .. } => "Timeout",
        }
    }

    /// The Status object: the body of the answer, or the object of an ERROR event.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "reason": self.reason(),
        });
        if let Self::ContinueExpired { token } = self {
            status["metadata"]["continue"] = json!(token);
        }
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status["code"] = json!(self.code().as_u16());
        status
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::NotFound(target) | Self::AlreadyExists(target) | Self::Conflict { target, .. } => {
                Some(target_details(target, &[]))
            }
            Self::MethodNotAllowed { target, .. } | Self::NotServed { target, .. } => Some(target_details(target, &[])),
            Self::Forbidden { target, causes, .. } | Self::ApplyConflict { target, causes, .. } => {
                Some(target_details(target, causes))
            }
            Self::Invalid { group, kind, name, errors } => {
                let causes: Vec<Value> = errors
                    .iter()
                    .map(|e| json!({"reason": e.reason.reason(), "message": e.detail, "field": e.field}))
                    .collect();
                Some(named_details(name, group, kind, causes))
            }
            Self::TooManyRequests { retry_after, causes, .. } => {
                Some(json!({"causes": cause_list(causes), "retryAfterSeconds": retry_after}))
            }
            Self::Internal(why) => Some(json!({"causes": [{"message": why}]})),
            Self::RevisionTooLarge { .. } => Some(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            })),
            Self::BadRequest(_)
            | Self::Unauthorized
            | Self::UnknownPath
            | Self::NotAcceptable(_)
            | Self::Expired(_)
            | Self::ContinueExpired { .. }
            | Self::RequestEntityTooLarge(_)
            | Self::UnsupportedMediaType(_)
            | Self::ServiceUnavailable(_) => None,
        }
    }

    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooManyRequests { retry_after, .. } => Some(*retry_after),
            Self::RevisionTooLarge { .. } => Some(1),
            _ => None,
        }
    }
}

fn target_details(target: &Target, causes: &[OtherCause]) -> Value {
    named_details(&target.name, target.group, target.resource, cause_list(causes))
}

fn named_details(name: &str, group: &str, kind: &str, causes: Vec<Value>) -> Value {
    let mut details = serde_json::Map::new();
    for (key, text) in [("name", name), ("group", group), ("kind", kind)] {
        if !text.is_empty() {
            details.insert(key.to_owned(), Value::from(text));
        }
    }
    if !causes.is_empty() {
        details.insert("causes".to_owned(), Value::Array(causes));
    }
    Value::Object(details)
}

fn cause_list(causes: &[OtherCause]) -> Vec<Value> {
    causes
        .iter()
        .map(|cause| {
            let mut value = json!({"reason": cause.reason, "message": cause.message});
            if !cause.field.is_empty() {
                value["field"] = Value::from(cause.field.as_str());
            }
            value
        })
        .collect()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self == Self::UnknownPath {
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            return (StatusCode::NOT_FOUND, plain, "404 page not found\n").into_response();
        }
        let mut body = self.status().to_string();
        body.push('\n');
        let mut response = (self.code(), [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A Status that tells of success, with the given details.
pub fn success_status(code: Option<StatusCode>, details: Option<Value>) -> Value {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if let Some(details) = details {
        status["details"] = details;
    }
    if let Some(code) = code {
        status["code"] = json!(code.as_u16());
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service_error(errors: Vec<FieldError>) -> Value {
        ApiError::Invalid { group: "", kind: "Service", name: "web".to_owned(), errors }.status()
    }

    // S-034, A-065, A-119, A-120
    #[test]
    fn one_objection_stands_alone_and_several_in_brackets() {
        let one = FieldError::required("spec.ports", "");
        let two = FieldError::invalid("spec.ports[0].port", &json!(70000), "must be between 1 and 65535, inclusive");
        let status = service_error(vec![one.clone()]);
        assert_eq!(status["message"], "Service \"web\" is invalid: spec.ports: Required value");
        assert_eq!(status["code"], 422);
        assert_eq!(status["reason"], "Invalid");
        assert_eq!(status["details"]["kind"], "Service");
        let status = service_error(vec![one, two]);
        assert_eq!(
            status["message"],
            "Service \"web\" is invalid: [spec.ports: Required value, spec.ports[0].port: Invalid value: 70000: must be \
             between 1 and 65535, inclusive]"
        );
        assert_eq!(status["details"]["causes"][1]["field"], "spec.ports[0].port");
        assert_eq!(status["details"]["causes"][1]["reason"], "FieldValueInvalid");
    }

    //
    #[test]
    fn messages_name_resource_and_group() {
        let target = Target { group: "apps", resource: "deployments", name: "web".to_owned() };
        let not_found = ApiError::NotFound(Box::new(target.clone())).status();
        assert_eq!(not_found["message"], "deployments.apps \"web\" not found");
        assert_eq!(not_found["details"], json!({"name": "web", "group": "apps", "kind": "deployments"}));
        let exists = ApiError::AlreadyExists(Box::new(target.clone())).status();
        assert_eq!(exists["message"], "deployments.apps \"web\" already exists");
        assert_eq!((exists["code"].as_u64(), exists["reason"].as_str()), (Some(409), Some("AlreadyExists")));
        let forbidden = |target: &Target| {
            let target = Box::new(target.clone());
            ApiError::Forbidden { target, why: "no".to_owned(), causes: Vec::new() }.to_string()
        };
        assert_eq!(forbidden(&target), "deployments.apps \"web\" is forbidden: no");
        assert_eq!(forbidden(&Target { name: String::new(), ..target.clone() }), "deployments.apps is forbidden: no");
        assert_eq!(forbidden(&Target::default()), "forbidden: no");
        let conflict = ApiError::Conflict { target: Box::new(target), why: "stale".to_owned() }.status();
        assert_eq!(conflict["message"], "Operation cannot be fulfilled on deployments.apps \"web\": stale");
    }

    //
    #[test]
    fn only_what_passes_by_itself_says_when_to_try_again() {
        let refused = ApiError::TooManyRequests { message: "later".to_owned(), retry_after: 7, causes: Vec::new() };
        for (error, expected) in [
            (refused, Some("7")),
            (ApiError::RevisionTooLarge { wanted: 9, current: 3 }, Some("1")),
            (ApiError::internal("bug"), None),
            (ApiError::ServiceUnavailable("nobody is there".to_owned()), None),
            (ApiError::Expired("gone".to_owned()), None),
        ] {
            let response = error.clone().into_response();
            let header = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(header.as_deref(), expected, "{error:?}");
        }
    }

    //
    #[test]
    fn a_future_revision_is_told_in_the_words_reflectors_know() {
        let status = ApiError::RevisionTooLarge { wanted: 9, current: 3 }.status();
        assert_eq!(status["code"], 504);
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
    }
}
