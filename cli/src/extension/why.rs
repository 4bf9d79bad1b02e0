//! `why` for those who ask the API: a question is posted and comes back with its answer, as access reviews do.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::header;
use minisvc_apiserver::ExtensionResource;
use minisvc_apiserver::error::ApiError;
use minisvc_why::{Client, Question};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{GROUP, Sources, VERSION};
use crate::why;

/// It can only be created: who lists everything asks nothing.
pub(super) const RESOURCE: ExtensionResource = ExtensionResource {
    plural: "whys",
    singular: "why",
    kind: "Why",
    short_names: &[],
    namespaced: false,
    verbs: &["create"],
};

/// Questions at once; one more is told to come again. Each starts a few processes in the lab.
pub(super) const MAX_QUESTIONS: usize = 8;

/// A question as it is posted.
#[derive(Debug, Deserialize)]
pub(super) struct Posted {
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Spec {
    target: String,
    #[serde(default = "default_namespace")]
    namespace: String,
    from: Option<String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// Answers a question.
pub(super) async fn answer(sources: &Arc<Sources>, posted: Posted) -> Result<Response, ApiError> {
    let Spec { target, namespace, from } = posted.spec;
    let client = from.as_deref().map_or(Client::Workstation, |pod| why::client(pod, &namespace));
    let question =
        Question::parse(&target, &namespace, client).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let Ok(_permit) = sources.questions.try_acquire() else {
        return Err(ApiError::TooManyRequests {
            message: format!("{MAX_QUESTIONS} questions are being answered already"),
            retry_after: 1,
            causes: Vec::new(),
        });
    };
    let findings = why::answer(&sources.home, &question).await.map_err(ApiError::internal)?;
    let spec: Value = json!({"target": target, "namespace": namespace, "from": from});
    let body = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": RESOURCE.kind, "metadata": {}, "spec": spec,
        "status": findings});
    Ok(([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response())
}
