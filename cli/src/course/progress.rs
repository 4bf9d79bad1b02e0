//! What a learner has done so far: it stands on the lesson's namespace.

use http::Method;
use serde_json::{Value, json};

use super::Lesson;
use crate::api::LabApi;
use crate::error::CliError;

/// The label that says to which lesson a namespace belongs.
pub(crate) const LESSON: &str = "minisvc.dev/lesson";

/// The annotation that says that its checks held once.
const DONE: &str = "minisvc.dev/lesson-done";

/// The annotation that counts the hints that were given.
const HINTS: &str = "minisvc.dev/lesson-hints";

/// How far a lesson is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It was not started.
    New,
    /// It was, and so many hints were given.
    Started { hints: usize },
    /// Its checks held once.
    Done,
}

/// How far a lesson is.
///
/// # Errors
/// When the lab does not answer.
pub(crate) async fn state_of(api: &LabApi, lesson: &Lesson) -> Result<State, CliError> {
    match api.get(&format!("/api/v1/namespaces/{}", lesson.namespace())).await {
        Ok(namespace) => Ok(read(&namespace)),
        Err(error) if error.is_not_found() => Ok(State::New),
        Err(error) => Err(error),
    }
}

fn read(namespace: &Value) -> State {
    let annotation = |name: &str| namespace["metadata"]["annotations"][name].as_str();
    if annotation(DONE).is_some() {
        return State::Done;
    }
    State::Started { hints: annotation(HINTS).and_then(|text| text.parse().ok()).unwrap_or(0) }
}

impl State {
    /// Writes down that the checks held.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub(crate) async fn done(api: &LabApi, lesson: &Lesson) -> Result<(), CliError> {
        annotate(api, lesson, DONE, "true").await
    }

    /// Writes down how many hints were given.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub(crate) async fn hinted(api: &LabApi, lesson: &Lesson, hints: usize) -> Result<(), CliError> {
        annotate(api, lesson, HINTS, &hints.to_string()).await
    }
}

async fn annotate(api: &LabApi, lesson: &Lesson, name: &str, value: &str) -> Result<(), CliError> {
    let patch = json!({"metadata": {"annotations": {name: value}}});
    let headers = [("content-type", "application/merge-patch+json"), ("accept", "application/json")];
    let path = format!("/api/v1/namespaces/{}", lesson.namespace());
    api.send(Method::PATCH, &path, &headers, patch.to_string().into_bytes()).await.map(|_| ())
}

/// The lesson that was started last.
///
/// # Errors
/// When none was.
pub(crate) async fn latest(api: &LabApi) -> Result<Lesson, CliError> {
    let list = api.get(&format!("/api/v1/namespaces?labelSelector={LESSON}")).await?;
    let started = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let created =
        |namespace: &&Value| namespace["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    let newest = started.iter().max_by_key(created);
    let number = newest.and_then(|namespace| namespace["metadata"]["labels"][LESSON].as_str());
    match number {
        Some(number) => super::find(number),
        None => Err(CliError::usage("no lesson was started").hint("start the first: minisvc lab start 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_stands_on_the_namespace() {
        let namespace = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        assert_eq!(read(&namespace(Value::Null)), State::Started { hints: 0 });
        assert_eq!(read(&namespace(json!({HINTS: "2"}))), State::Started { hints: 2 });
        assert_eq!(read(&namespace(json!({HINTS: "2", DONE: "true"}))), State::Done);
    }
}
