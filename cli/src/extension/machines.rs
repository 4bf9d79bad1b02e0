//! The nodes as machines: which run, and how to fail one and bring it back.

use axum::response::{IntoResponse as _, Response};
use http::header;
use minisvc_apiserver::ExtensionResource;
use minisvc_apiserver::error::{ApiError, Target};
use minisvc_podd::SwitchError;
use serde_json::{Value, json};

use super::{GROUP, Sources, VERSION, or_none};

/// Named apart from the nodes of Kubernetes, whose objects say what is known of them; these are what is.
pub(super) const RESOURCE: ExtensionResource = ExtensionResource {
    plural: "machines",
    singular: "machine",
    kind: "Machine",
    short_names: &[],
    namespaced: false,
    verbs: &["get", "list", "create"],
};

/// Every node, in the order of their numbers. Blocks until podd has answered.
pub(super) fn all(sources: &Sources) -> Vec<Value> {
    // Runs where blocking is allowed.
    let machines = tokio::runtime::Handle::current().block_on(sources.nodes.machines());
    let machine = |(config, runs): (minisvc_podd::NodeConfig, bool)| {
        json!({
            "metadata": {"name": config.name},
            "running": runs,
            "zone": config.zone,
            "addresses": config.addresses,
            "podRanges": config.pod_cidrs,
        })
    };
    machines.into_iter().map(machine).collect()
}

pub(super) fn row(machine: &Value) -> Vec<Value> {
    let joined = |name: &str| {
        let texts: Vec<&str> = machine[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        or_none(&texts.join(",").into())
    };
    let state = if machine["running"] == true { "Running" } else { "Stopped" };
    vec![
        machine["metadata"]["name"].clone(),
        state.into(),
        or_none(&machine["zone"]),
        joined("addresses"),
        joined("podRanges"),
    ]
}

/// `POST machines/NAME/stop` and `…/start`.
pub(super) async fn switch(sources: &Sources, name: &str, action: &str) -> Result<Response, ApiError> {
    let done = match action {
        "stop" => sources.nodes.stop_node(name).await,
        "start" => sources.nodes.start_node(name).await,
        _ => {
            return Err(ApiError::bad_request(format!(
                "a machine can be told to stop and to start, not to {action:?}"
            )));
        }
    };
    let target = || Box::new(Target { group: GROUP, resource: RESOURCE.plural, name: name.to_owned() });
    match done {
        None => Err(ApiError::ServiceUnavailable("the nodes do not run yet, or no longer".to_owned())),
        Some(Err(SwitchError::Unknown(_))) => Err(ApiError::NotFound(target())),
        Some(Err(error @ SwitchError::Already { .. })) => {
            Err(ApiError::Conflict { target: target(), why: error.to_string() })
        }
        Some(Err(error @ SwitchError::Start(_))) => Err(ApiError::Internal(crate::adapters::with_causes(&error))),
        Some(Ok(())) => {
            let body = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": RESOURCE.kind,
                "metadata": {"name": name}, "running": action == "start"});
            Ok(([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response())
        }
    }
}
