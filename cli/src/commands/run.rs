//! `run`: a pod around a local command, in the foreground.

use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStateWaiting, Pod};
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::LabApi;
use crate::args::RunArgs;
use crate::commands::objects;
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::waiting::patiently;

/// Variables of the caller that the command gets without asking: what programs need to find themselves.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TERM", "SHELL"];

/// How long the pod gets between the caller's Ctrl-C and being killed.
const GRACE: Duration = Duration::from_secs(10);

/// Makes the pod, shows what it writes, and takes it away again at its end or on Ctrl-C. Ends with its exit code.
///
/// # Errors
/// When the lab refuses the pod, or the command cannot be started.
pub(crate) async fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    let labels = parse_pairs("-l", &args.labels)?;
    let env = parse_pairs("-e", &args.env)?;
    let api = LabApi::of(&LabHome::of(&args.lab)?)?;
    let pods: Api<Pod> = Api::namespaced(api.kube(), &args.namespace);
    let manifest = pod_manifest(args, &labels, &env);
    let collection = format!("/api/v1/namespaces/{}", args.namespace);
    api.json(Method::POST, &format!("{collection}/pods"), "application/json", Some(&manifest)).await?;
    let ending = follow(args, &api, &pods, &collection, &manifest).await;
    // Whatever happened, the pod goes with us.
    let grace = u32::try_from(GRACE.as_secs()).unwrap_or(u32::MAX);
    let parameters = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::background() };
    let deleted = pods.delete(&args.pod, &parameters).await;
    if deleted.is_ok() {
        let gone = await_condition(pods, &args.pod, |pod: Option<&Pod>| pod.is_none());
        // The lab may be going down at the same time; then there is nothing to wait for.
        let gone = tokio::time::timeout(GRACE + Duration::from_secs(5), gone);
        let _ = patiently("waiting for the command to end", gone).await;
    }
    if args.service {
        let path = format!("{collection}/services/{}", args.pod);
        // It is gone already if the user deleted it.
        let _ = api.json(Method::DELETE, &path, "application/json", None).await;
    }
    ending
}

async fn follow(
    args: &RunArgs,
    api: &LabApi,
    pods: &Api<Pod>,
    collection: &str,
    manifest: &Value,
) -> Result<ExitCode, CliError> {
    let signals = || -> std::io::Result<_> { Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) };
    let (mut interrupt, mut terminate) = signals().context(|| "cannot catch signals".to_owned())?;
    if args.service {
        let service = service_manifest(args, &manifest["metadata"]["labels"]);
        let made =
            api.json(Method::POST, &format!("{collection}/services"), "application/json", Some(&service)).await?;
        let (address, port) = (made["spec"]["clusterIP"].as_str().unwrap_or_default(), args.port.unwrap_or_default());
        eprintln!("service/{}: http://{}.{}:{port} is http://{address}:{port}", args.pod, args.pod, args.namespace);
    }
    let watched = async {
        let started = await_condition(pods.clone(), &args.pod, |pod: Option<&Pod>| {
            pod.is_none_or(|pod| has_started(pod) || trouble(pod).is_some())
        });
        let pod = started.await.context(|| "cannot watch the pod".to_owned())?;
        if let Some(message) = pod.as_ref().and_then(trouble) {
            return Err(CliError::failed(format!("the command cannot be started: {message}")));
        }
        let address = pod.and_then(|pod| pod.status?.pod_ip).unwrap_or_default();
        eprintln!("pod/{} runs at {address}; Ctrl-C ends it", args.pod);
        objects::stream_log(api, &args.namespace, &args.pod, "follow=true").await?;
        let ended = await_condition(pods.clone(), &args.pod, |pod: Option<&Pod>| {
            pod.is_none_or(|pod| exit_code(pod).is_some())
        });
        let pod = ended.await.context(|| "cannot watch the pod".to_owned())?;
        Ok(pod.as_ref().and_then(exit_code).unwrap_or(1))
    };
    let code = tokio::select! {
        code = watched => code?,
        _ = interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
    };
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}

fn pod_manifest(args: &RunArgs, labels: &[(String, String)], env: &[(String, String)]) -> Value {
    let mut all_labels: serde_json::Map<String, Value> =
        labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    if all_labels.is_empty() {
        all_labels.insert("app".to_owned(), json!(args.pod));
    }
    let own = env.iter().cloned();
    let env: Vec<Value> =
        environment().into_iter().chain(own).map(|(name, value)| json!({"name": name, "value": value})).collect();
    let ports: Vec<Value> = args.port.iter().map(|port| json!({"containerPort": port})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": args.pod, "labels": all_labels},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main",
                "image": "minisvc/run",
                "command": args.command,
                "workingDir": std::env::current_dir().ok(),
                "env": env,
                "ports": ports,
            }],
        },
    })
}

/// The variables of the caller that a command gets without asking.
pub(crate) fn environment() -> Vec<(String, String)> {
    PASSED_ON.iter().filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?))).collect()
}

fn service_manifest(args: &RunArgs, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": args.pod},
        "spec": {"selector": labels, "ports": [{"port": args.port}]},
    })
}

/// `KEY=VALUE`, as often as wanted.
fn parse_pairs(flag: &str, pairs: &[String]) -> Result<Vec<(String, String)>, CliError> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(CliError::usage(format!("{flag} {pair:?} is not of the form KEY=VALUE"))
                .hint(format!("type {flag} key=value, once for each"))),
        })
        .collect()
}

fn state(pod: &Pod) -> Option<&ContainerState> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()
}

fn has_started(pod: &Pod) -> bool {
    state(pod).is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

/// Why the container will not start, if that is so.
fn trouble(pod: &Pod) -> Option<String> {
    let state = state(pod)?;
    let (reason, message) = match (&state.waiting, &state.terminated) {
        (Some(ContainerStateWaiting { reason: Some(reason), message }), _) => (reason, message),
        (_, Some(ContainerStateTerminated { reason: Some(reason), message, .. })) => (reason, message),
        _ => return None,
    };
    let is_trouble = reason.ends_with("Error") && reason != "Error" || reason.starts_with("ErrImage");
    is_trouble.then(|| message.clone().unwrap_or_else(|| reason.clone()))
}

fn exit_code(pod: &Pod) -> Option<i32> {
    Some(state(pod)?.terminated.as_ref()?.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(state: Value) -> Pod {
        let object = json!({"status": {"containerStatuses": [
            {"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
        serde_json::from_value(object).expect("a Pod")
    }

    #[test]
    fn a_command_that_cannot_start_is_told_from_one_that_failed() {
        let missing = pod(json!({"waiting": {"reason": "CreateContainerError", "message": "no such command"}}));
        assert_eq!(trouble(&missing).as_deref(), Some("no such command"));
        assert!(!has_started(&missing));
        let failed = pod(json!({"terminated": {"reason": "Error", "exitCode": 3}}));
        assert_eq!((trouble(&failed), exit_code(&failed)), (None, Some(3)));
        assert_eq!(trouble(&pod(json!({"waiting": {"reason": "ContainerCreating"}}))), None);
    }

    #[test]
    fn labels_and_variables_are_pairs() {
        assert_eq!(parse_pairs("-l", &["a=b=c".into()]).expect("legal"), [("a".into(), "b=c".into())]);
        let text = parse_pairs("-e", &["novalue".into()]).expect_err("no pair").render();
        assert!(text.contains("-e key=value"), "{text}");
    }
}
