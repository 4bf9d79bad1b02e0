//! Reviews: questions about who one is and what one may do, answered and not stored.

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::attributes::Attributes;
use crate::body;
use crate::error::{ApiError, FieldError, Target};
use crate::identity::Identity;
use crate::rbac::{Decision, Granted, Rule};
use crate::render::json_value;
use crate::request_info::{FieldValidation, ResourcePath};
use crate::schema::KindName;
use crate::serve::TokenReview;
use crate::server::Server;

/// A kind that can only be created, and whose answer is its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
    question: Question,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Who am I?
    Me,
    /// Whose token is this?
    Token,
    /// May I do this?
    Access,
    /// What may I do?
    Rules,
    /// May somebody else do this?
    OthersAccess,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// All reviews served.
pub(crate) const ALL: &[Review] = &[
    review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", Question::Me),
    review(AUTHENTICATION, "TokenReview", "tokenreviews", Question::Token),
    Review {
        namespaced: true,
        ..review(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", Question::OthersAccess)
    },
    review(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", Question::Access),
    review(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", Question::Rules),
    review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", Question::OthersAccess),
];

const fn review(group: &'static str, kind: &'static str, plural: &'static str, question: Question) -> Review {
    Review { group, version: "v1", kind, plural, namespaced: false, question }
}

/// The review this path names.
pub(crate) fn find(path: &ResourcePath) -> Option<&'static Review> {
    let here = |r: &&Review| r.group == path.group && r.version == path.version && r.plural == path.resource;
    ALL.iter().find(here).filter(|r| path.name.is_none() && path.namespace.is_some() == r.namespaced)
}

/// Answers a review with itself and its status.
pub(crate) async fn handle(
    server: &Server,
    review: &Review,
    path: &ResourcePath,
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
    let status = review.answer(server, path, identity, &object["spec"])?;
    object["kind"] = json!(review.kind);
    object["apiVersion"] = json!(format!("{}/{}", review.group, review.version));
    object["status"] = status;
    Ok(json_value(StatusCode::CREATED, &object))
}

impl Review {
    fn answer(
        &self,
        server: &Server,
        path: &ResourcePath,
        identity: &Identity,
        spec: &Value,
    ) -> Result<Value, ApiError> {
        let decide = |identity: &Identity| -> Result<Value, ApiError> {
            let asked = self.asked(spec, path.namespace.as_deref())?;
            Ok(access(&server.authorizer.decide(&server.store, identity, &asked)))
        };
        match self.question {
            Question::Me => Ok(json!({"userInfo": identity.to_value()})),
            Question::Token => self.token(server, spec),
            Question::Access => decide(identity),
            Question::OthersAccess => decide(&self.subject(spec)?),
            Question::Rules => {
                let namespace = spec["namespace"].as_str().unwrap_or_default();
                if namespace.is_empty() {
                    return Err(ApiError::bad_request("no namespace on request"));
                }
                Ok(rules(&server.authorizer.granted(&server.store, identity, namespace)))
            }
        }
    }

    fn invalid(&self, error: FieldError) -> ApiError {
        ApiError::Invalid { group: self.group, kind: self.kind, name: String::new(), errors: vec![error] }
    }

    /// Of whom a review of others speaks. Nothing is added: whoever asks names all the groups.
    fn subject(&self, spec: &Value) -> Result<Identity, ApiError> {
        let user = spec["user"].as_str().unwrap_or_default().to_owned();
        let groups = texts(&spec["groups"]);
        if user.is_empty() && groups.is_empty() {
            let why = "at least one of user or group must be specified";
            return Err(self.invalid(FieldError::invalid("spec.user", &json!(""), why)));
        }
        Ok(Identity { user, groups, ..Identity::default() })
    }

    /// What is asked about; a review inside of a namespace is about that namespace.
    fn asked<'a>(&self, spec: &'a Value, home: Option<&str>) -> Result<Attributes<'a>, ApiError> {
        let part = |key: &str| spec.get(key).filter(|part| part.is_object());
        match (part("resourceAttributes"), part("nonResourceAttributes")) {
            (Some(part), None) => {
                let text = |key: &str| part[key].as_str().unwrap_or_default();
                if home.is_some_and(|home| home != text("namespace")) {
                    let why = "must match metadata.namespace";
                    let error = FieldError::invalid("spec.resourceAttributes.namespace", &part["namespace"], why);
                    return Err(self.invalid(error));
                }
                Ok(Attributes::Resource {
                    verb: text("verb"),
                    group: text("group"),
                    resource: text("resource"),
                    subresource: text("subresource"),
                    namespace: text("namespace"),
                    name: text("name"),
                })
            }
            (None, Some(_)) if home.is_some() => {
                let why = "disallowed on this kind of request";
                Err(self.invalid(FieldError::invalid("spec.nonResourceAttributes", &json!({}), why)))
            }
            (None, Some(part)) => {
                let text = |key: &str| part[key].as_str().unwrap_or_default();
                Ok(Attributes::Path { verb: text("verb"), path: text("path") })
            }
            _ => {
                let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                Err(self.invalid(FieldError::invalid("spec.resourceAttributes", &Value::Null, why)))
            }
        }
    }

    /// Whose token it is; why it is worth nothing is said to whoever may ask.
    fn token(&self, server: &Server, spec: &Value) -> Result<Value, ApiError> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        Ok(match server.authenticator().review_token(token, &texts(&spec["audiences"]), Timestamp::now()) {
            TokenReview::Valid { identity, audiences } => {
                json!({"authenticated": true, "user": identity.to_value(), "audiences": audiences})
            }
            TokenReview::Worthless { why } => json!({"user": {}, "error": why}),
        })
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn access(decision: &Decision) -> Value {
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    status
}

fn rules(granted: &Granted) -> Value {
    let of = |wanted: fn(&Rule) -> bool| -> Vec<Value> {
        granted.rules.iter().filter(|rule| wanted(rule)).map(Rule::to_value).collect()
    };
    let mut status = json!({
        "resourceRules": of(|rule| rule.urls.is_empty()),
        "nonResourceRules": of(|rule| !rule.urls.is_empty()),
        "incomplete": !granted.problems.is_empty(),
    });
    if !granted.problems.is_empty() {
        status["evaluationError"] = json!(granted.problems.join(", "));
    }
    status
}
