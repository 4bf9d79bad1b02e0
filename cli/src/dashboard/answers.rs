//! What the panel asks is answered by the command line itself, word for word, with the command in front: so the page
//! teaches what to type.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use super::Page;
use crate::error::{CliError, Context as _};

/// Longer than any of these commands takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most that is shown of an answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Whose flows.
#[derive(Deserialize)]
pub(super) struct Wanted {
    service: Option<String>,
    pod: Option<String>,
    limit: Option<u32>,
}

/// What `minisvc flows` says.
pub(super) async fn flows(State(page): State<Arc<Page>>, Query(wanted): Query<Wanted>) -> Response {
    let limit = wanted.limit.unwrap_or(100).to_string();
    let mut arguments = vec!["flows", "--limit", &limit];
    for (flag, value) in [("--service", &wanted.service), ("--pod", &wanted.pod)] {
        arguments.extend(value.iter().flat_map(|value| [flag, value.as_str()]));
    }
    answer(say(&page, &arguments).await)
}

/// What is to be explained.
#[derive(Deserialize)]
pub(super) struct Target {
    target: String,
    namespace: String,
}

/// What `minisvc why` says.
pub(super) async fn why(State(page): State<Arc<Page>>, Query(asked): Query<Target>) -> Response {
    answer(say(&page, &["why", "-n", &asked.namespace, "--", &asked.target]).await)
}

/// Which Service, as `namespace/name`.
#[derive(Deserialize)]
pub(super) struct Attempt {
    service: String,
}

/// One request to the first TCP port of a Service, from the workstation.
pub(super) async fn attempt(State(page): State<Arc<Page>>, Query(wanted): Query<Attempt>) -> Response {
    answer(send(&page, &wanted.service).await)
}

async fn send(page: &Page, service: &str) -> Result<String, CliError> {
    let (namespace, name) = service.split_once('/').ok_or_else(|| CliError::usage("namespace/name is asked for"))?;
    let object = page.api.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")).await?;
    let port = first_port(&object).ok_or_else(|| CliError::usage("the Service has no TCP port to ask"))?;
    let program = std::env::current_exe().context(|| "cannot find my own program file".to_owned())?;
    let url = format!("http://{name}.{namespace}:{port}/");
    say(page, &["exec", "--", &program.to_string_lossy(), "__get", &url]).await
}

fn first_port(service: &Value) -> Option<u64> {
    let mut ports = service["spec"]["ports"].as_array()?.iter();
    ports.find(|port| port["protocol"].as_str().unwrap_or("TCP") == "TCP")?["port"].as_u64()
}

/// Runs this very program against the lab, and returns what it said on both of its outputs.
async fn say(page: &Page, arguments: &[&str]) -> Result<String, CliError> {
    let program = std::env::current_exe().context(|| "cannot find my own program file".to_owned())?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env("MINISVC_LAB", &page.home.name);
    if let Some(folder) = page.home.root().parent() {
        command.env("MINISVC_STATE_DIR", folder);
    }
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| CliError::failed("the lab did not answer in time"))?;
    let output = output.context(|| "cannot ask the lab".to_owned())?;
    let mut said = format!("$ minisvc {}\n", arguments.join(" "));
    for bytes in [&output.stdout, &output.stderr] {
        said += &String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_ANSWER)]);
    }
    Ok(said)
}

fn answer(outcome: Result<String, CliError>) -> Response {
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match outcome {
        Ok(text) => (plain, text).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, plain, error.render()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_port_that_speaks_tcp_is_tried() {
        let service = |ports: Value| json!({"spec": {"ports": ports}});
        assert_eq!(first_port(&service(json!([{"port": 53, "protocol": "UDP"}, {"port": 80}]))), Some(80));
        assert_eq!(first_port(&service(json!([{"port": 53, "protocol": "UDP"}]))), None);
        assert_eq!(first_port(&json!({"spec": {}})), None);
    }
}
