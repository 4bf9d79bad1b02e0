//! Starts a lesson, takes it away, and does what its solution says.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use super::Scene;
use super::lesson::{Lesson, Move};
use super::place::{Choice, Reference, is_ready};
use super::progress::LESSON;
use crate::commands::objects::apply_all;
use crate::control::Place;
use crate::error::CliError;
use crate::manifests::{self, Manifest};
use crate::why::inside::run_own;

/// How long anything may take that has to be waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it has come.
const LOOK: Duration = Duration::from_millis(50);

/// How long a request of a solution may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(15);

/// Makes the lesson's namespace and applies what it starts with.
///
/// # Errors
/// When the lab has too few nodes or refuses something.
pub(crate) async fn start(scene: &Scene, lesson: &Lesson) -> Result<(), CliError> {
    let nodes = scene.api.get("/api/v1/nodes").await?["items"].as_array().map_or(0, Vec::len);
    if nodes < lesson.plan.nodes {
        let wanted = lesson.plan.nodes;
        return Err(CliError::usage(format!(
            "lesson {} needs {wanted} nodes, and this lab has {nodes}",
            lesson.number
        ))
        .hint(format!("start another: minisvc up --name course --nodes {wanted}, then add --name course")));
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": lesson.namespace(), "labels": {LESSON: lesson.id()}}});
    let namespace = Manifest { origin: "the lesson".to_owned(), object: namespace };
    apply_all(&scene.api, &[namespace], &lesson.namespace()).await?;
    for (position, file) in lesson.plan.start.iter().enumerate() {
        if position > 0 {
            settled(scene).await?;
        }
        apply(scene, lesson, file).await?;
    }
    Ok(())
}

async fn apply(scene: &Scene, lesson: &Lesson, file: &str) -> Result<(), CliError> {
    // A test makes sure that it is there.
    let text = lesson.file(file).unwrap_or_default();
    let text = scene.expand(text).await.map_err(CliError::failed)?;
    let found = manifests::parse(file, &text)?;
    apply_all(&scene.api, &found, &scene.namespace).await.map(|_| ())
}

/// Waits until every pod of the lesson is ready.
async fn settled(scene: &Scene) -> Result<(), CliError> {
    let path = format!("/api/v1/namespaces/{}/pods", scene.namespace);
    until("its pods to be ready", async || {
        let list = scene.api.get(&path).await?;
        let pods = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(!pods.is_empty() && pods.iter().all(is_ready))
    })
    .await
}

async fn until(what: &str, fits: impl AsyncFn() -> Result<bool, CliError>) -> Result<(), CliError> {
    let deadline = Instant::now() + PATIENCE;
    while !fits().await? {
        if Instant::now() > deadline {
            return Err(CliError::failed(format!("waited for {what} for {} s", PATIENCE.as_secs())));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Deletes everything that belongs to the lesson and waits until it is gone.
///
/// # Errors
/// When the lab does not answer.
pub(crate) async fn remove(scene: &Scene, lesson: &Lesson) -> Result<(), CliError> {
    let path = format!("/api/v1/namespaces?labelSelector={LESSON}={}", lesson.id());
    let list = scene.api.get(&path).await?;
    for namespace in list["items"].as_array().into_iter().flatten() {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        match scene.api.json(Method::DELETE, &format!("/api/v1/namespaces/{name}"), "application/json", None).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    until("the lesson to be gone", async || {
        Ok(scene.api.get(&path).await?["items"].as_array().is_none_or(Vec::is_empty))
    })
    .await
}

/// Does one step of the solution, and says it as a user would have typed it.
///
/// # Errors
/// When the lab refuses it.
async fn step(scene: &Scene, lesson: &Lesson, step: &Move) -> Result<String, CliError> {
    let namespace = &scene.namespace;
    if !step.delete.is_empty() {
        let object = scene.object(&step.delete).await.map_err(CliError::failed)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        delete(scene, &step.delete, name).await?;
        let kind = Reference::parse(&step.delete).map(|reference| reference.kind).unwrap_or_default();
        return Ok(format!("minisvc delete {kind} {name} -n {namespace}"));
    }
    if !step.request.is_empty() {
        let url = scene.expand(&step.request).await.map_err(CliError::failed)?;
        let words = ["__get".to_owned(), url.clone()];
        let printed = run_own(&scene.home, Place::Workstation, &words, REQUEST_WITHIN).await?;
        if printed.code != 0 {
            return Err(CliError::failed(format!("{url} does not answer: {}", printed.err.trim_end())));
        }
        return Ok(format!("minisvc exec -- curl -s {url}"));
    }
    apply(scene, lesson, &step.apply).await?;
    let text = lesson.file(&step.apply).unwrap_or_default();
    let text = scene.expand(text).await.map_err(CliError::failed)?;
    Ok(format!("minisvc apply -n {namespace} -f - <<'EOF'\n{}EOF", text))
}

async fn delete(scene: &Scene, reference: &str, name: &str) -> Result<(), CliError> {
    let Some(Reference { namespace, kind, choice }) = Reference::parse(reference) else { return Ok(()) };
    let kind = scene.kinds.by_word(kind)?;
    let path = format!("{}/{name}", kind.path(Some(namespace.unwrap_or(&scene.namespace))));
    scene.api.json(Method::DELETE, &path, "application/json", None).await?;
    // By label another one may be there at once; by name it must be gone before it is made anew.
    let Choice::Name(_) = choice else { return Ok(()) };
    until("the object to be gone", async || match scene.api.get(&path).await {
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error),
        Ok(_) => Ok(false),
    })
    .await
}

/// Does the whole solution; `told` gets each step before the next is done.
///
/// # Errors
/// When a step fails.
pub(crate) async fn solve(
    scene: &Scene,
    lesson: &Lesson,
    mut told: impl FnMut(String) -> Result<(), CliError>,
) -> Result<(), CliError> {
    for one in &lesson.plan.solution {
        // What the step speaks of may have just been asked for.
        let deadline = Instant::now() + PATIENCE;
        let line = loop {
            match step(scene, lesson, one).await {
                Ok(line) => break line,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(LOOK * 4).await,
            }
        };
        told(line)?;
    }
    Ok(())
}
