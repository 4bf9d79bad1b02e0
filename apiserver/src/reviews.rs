//! Reviews: questions about what one may do, answered and not stored.

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::attributes::Attributes;
use crate::error::{ApiError, Target};
use crate::identity::{Identity, MASTERS};
use crate::render::json_value;
use crate::request_info::{FieldValidation, ResourcePath, Verb};
use crate::schema::KindName;
use crate::{body, handlers};

/// A kind that can only be created, and whose answer is its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    question: Question,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Who am I?
    Me,
    /// May I do this?
    Access,
    /// What may I do?
    Rules,
    /// May somebody else do this?
    OthersAccess,
}

/// All reviews served.
pub(crate) const ALL: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        question: Question::Me,
    },
    Review {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        question: Question::Access,
    },
    Review {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        question: Question::Rules,
    },
    Review {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        question: Question::OthersAccess,
    },
];

/// The review this path names.
pub(crate) fn find(path: &ResourcePath) -> Option<&'static Review> {
    let bare = path.namespace.is_none() && path.name.is_none();
    ALL.iter().find(|r| bare && r.group == path.group && r.version == path.version && r.plural == path.resource)
}

/// Answers a review with itself and its status.
pub(crate) async fn handle(
    review: &Review,
    identity: &Identity,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    if parts.method != Method::POST {
        let target = Target { group: review.group, resource: review.plural, name: String::new() };
        return Err(ApiError::MethodNotAllowed { verb: parts.method.to_string(), target: Box::new(target) });
    }
    let bytes = body::collect(body).await?;
    let kind = KindName { group: review.group, version: review.version, kind: review.kind };
    let mut object = body::decode_object(&parts.headers, &bytes, &kind, FieldValidation::Warn)?.object;
    let status = match review.question {
        Question::Me => json!({"userInfo": {"username": identity.user, "groups": identity.groups}}),
        Question::Access => {
            let allowed = handlers::allowed(identity, &asked(&object["spec"])?);
            json!({"allowed": allowed})
        }
        Question::Rules => rules(identity),
        Question::OthersAccess => {
            let allowed = handlers::allowed(&subject(&object["spec"])?, &asked(&object["spec"])?);
            json!({"allowed": allowed})
        }
    };
    object["kind"] = json!(review.kind);
    object["apiVersion"] = json!(format!("{}/{}", review.group, review.version));
    object["status"] = status;
    Ok(json_value(StatusCode::CREATED, &object))
}

/// Of whom a review of others speaks. Nothing is added: whoever asks names all the groups.
fn subject(spec: &Value) -> Result<Identity, ApiError> {
    let user = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups: Vec<String> =
        spec["groups"].as_array().into_iter().flatten().filter_map(|group| group.as_str().map(str::to_owned)).collect();
    if user.is_empty() && groups.is_empty() {
        return Err(ApiError::bad_request("at least one of user or group must be specified"));
    }
    Ok(Identity { user, groups })
}

fn asked(spec: &Value) -> Result<Attributes, ApiError> {
    let text = |part: &Value, key: &str| part[key].as_str().unwrap_or_default().to_owned();
    if let Some(part) = spec.get("nonResourceAttributes").filter(|part| part.is_object()) {
        return Ok(Attributes::Path { verb: text(part, "verb"), path: text(part, "path") });
    }
    let Some(part) = spec.get("resourceAttributes").filter(|part| part.is_object()) else {
        return Err(ApiError::bad_request(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    };
    Ok(Attributes::Resource {
        verb: Verb::named(&text(part, "verb")),
        group: text(part, "group"),
        resource: text(part, "resource"),
        subresource: text(part, "subresource"),
        namespace: text(part, "namespace"),
        name: text(part, "name"),
    })
}

fn rules(identity: &Identity) -> Value {
    let everything = json!(["*"]);
    let (resources, paths) = if identity.is_in(MASTERS) {
        let all = json!([{"verbs": everything, "apiGroups": everything, "resources": everything}]);
        (all, json!([{"verbs": everything, "nonResourceURLs": everything}]))
    } else {
        (
            json!([]),
            json!([{"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/openapi/*"]}]),
        )
    };
    // Rules of a fixed authoriser are not all of this form, so the list does not claim to be everything.
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": !identity.is_in(MASTERS)})
}
