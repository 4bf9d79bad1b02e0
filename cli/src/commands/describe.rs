//! `describe`: what is known about one object, on one screen: its columns, conditions, containers or endpoints, and events.

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::api::LabApi;
use crate::args::DescribeArgs;
use crate::commands::objects::{self, AS_TABLE, Named};
use crate::discovery::{Kind, Kinds};
use crate::error::CliError;
use crate::home::LabHome;
use crate::output::{self, Table};

/// Events that are shown, the newest.
const MAX_EVENTS: usize = 20;

/// Shows one object.
///
/// # Errors
/// When it does not exist.
pub(crate) async fn describe(args: &DescribeArgs) -> Result<(), CliError> {
    let named = Named::of(&args.kind, args.object.as_deref());
    let Some(name) = named.object else {
        return Err(CliError::usage("describe needs the name of an object")
            .hint(format!("type minisvc describe {} NAME; minisvc get {} lists them", named.kind, named.kind)));
    };
    let api = LabApi::of(&LabHome::of(&args.lab)?)?;
    let kinds = Kinds::ask(&api).await?;
    let kind = kinds.by_word(named.kind)?;
    let path = format!("{}/{name}", kind.path(Some(&args.namespace)));
    let object = match api.get(&path).await {
        Ok(object) => object,
        Err(error) => return Err(objects::did_you_mean(error, &api, kind, &args.namespace, name).await),
    };
    let columns = api.json(Method::GET, &path, AS_TABLE, None).await?;
    let events = events(&api, &object).await?;
    let endpoints = if kind.kind == "Service" { endpoints(&api, &args.namespace, name).await? } else { Vec::new() };
    output::print(&render(kind, &object, &columns, &endpoints, &events, Timestamp::now()))
}

async fn events(api: &LabApi, object: &Value) -> Result<Vec<Value>, CliError> {
    let metadata = &object["metadata"];
    let uid = metadata["uid"].as_str().unwrap_or_default();
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let list =
        api.get(&format!("/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.uid%3D{uid}")).await?;
    let mut events = list["items"].as_array().cloned().unwrap_or_default();
    events.sort_by_key(last_seen);
    let first = events.len().saturating_sub(MAX_EVENTS);
    Ok(events.split_off(first))
}

async fn endpoints(api: &LabApi, namespace: &str, service: &str) -> Result<Vec<Value>, CliError> {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let list = api.get(&format!("{path}?labelSelector=kubernetes.io%2Fservice-name%3D{service}")).await?;
    let slices = list["items"].as_array().cloned().unwrap_or_default();
    let of_slice = |slice: &Value| slice["endpoints"].as_array().cloned().unwrap_or_default();
    Ok(slices.iter().flat_map(of_slice).collect())
}

/// An event's time: that of its last occurrence, wherever it is written.
fn last_seen(event: &Value) -> Option<Timestamp> {
    let fields = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    fields.into_iter().find_map(|field| field.as_str()?.parse().ok())
}

fn render(
    kind: &Kind,
    object: &Value,
    columns: &Value,
    endpoints: &[Value],
    events: &[Value],
    now: Timestamp,
) -> String {
    let mut text = facts(kind, object, columns, now);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    section(
        &mut text,
        "Containers",
        &["NAME", "READY", "RESTARTS", "STATE"],
        list(&object["status"]["containerStatuses"]).iter().map(container),
    );
    section(&mut text, "Endpoints", &["ADDRESS", "READY", "POD", "NODE"], endpoints.iter().map(endpoint));
    section(
        &mut text,
        "Conditions",
        &["TYPE", "STATUS", "REASON", "MESSAGE"],
        list(&object["status"]["conditions"])
            .iter()
            .map(|condition| ["type", "status", "reason", "message"].map(|field| cell(&condition[field])).to_vec()),
    );
    section(
        &mut text,
        "Events",
        &["AGE", "TYPE", "REASON", "MESSAGE"],
        events.iter().map(|event| {
            let mut row = vec![last_seen(event).map_or_else(String::new, |at| age(at, now))];
            row.extend(["type", "reason", "message"].map(|field| cell(&event[field])));
            row
        }),
    );
    text
}

/// Name, labels, and what the server says in columns.
fn facts(kind: &Kind, object: &Value, columns: &Value, now: Timestamp) -> String {
    let metadata = &object["metadata"];
    let mut facts = vec![("name".to_owned(), kind.display(metadata["name"].as_str().unwrap_or_default()))];
    facts.extend(metadata["namespace"].as_str().map(|namespace| ("namespace".to_owned(), namespace.to_owned())));
    for field in ["labels", "annotations"] {
        facts.extend(metadata[field].as_object().filter(|pairs| !pairs.is_empty()).map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", cell(value))).collect();
            (field.to_owned(), pairs.join(", "))
        }));
    }
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    facts
        .extend(owners.map(|owner| ("owner".to_owned(), format!("{}/{}", cell(&owner["kind"]), cell(&owner["name"])))));
    let created = metadata["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
    facts.extend(created.map(|at| ("created".to_owned(), format!("{at} ({} ago)", age(at, now)))));
    facts.extend(metadata["deletionTimestamp"].as_str().map(|at| ("being deleted by".to_owned(), at.to_owned())));
    let names = columns["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| cell(&column["name"]).to_lowercase());
    let cells = columns["rows"][0]["cells"].as_array().into_iter().flatten().map(cell);
    facts.extend(
        names.zip(cells).filter(|(name, value)| !["name", "age"].contains(&name.as_str()) && !value.is_empty()),
    );
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
    facts.iter().map(|(name, value)| format!("{:<width$}  {value}\n", format!("{name}:"))).collect()
}

fn section(text: &mut String, title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = Table::new(header);
    rows.for_each(|row| table.push(row));
    if !table.is_empty() {
        text.push_str(&format!("\n{title}\n"));
        text.extend(table.render_all().lines().map(|line| format!("  {line}\n")));
    }
}

fn container(status: &Value) -> Vec<String> {
    let state = status["state"].as_object().and_then(|state| state.iter().next());
    let state = state.map_or_else(String::new, |(name, details)| {
        let details = [&details["reason"], &details["message"]]
            .map(cell)
            .into_iter()
            .chain(details["exitCode"].as_i64().map(|code| format!("exit code {code}")));
        std::iter::once(name.clone()).chain(details.filter(|text| !text.is_empty())).collect::<Vec<_>>().join(", ")
    });
    vec![cell(&status["name"]), cell(&status["ready"]), cell(&status["restartCount"]), state]
}

fn endpoint(endpoint: &Value) -> Vec<String> {
    let conditions = &endpoint["conditions"];
    let is = |name: &str| conditions[name].as_bool();
    // Not said means ready (S-195).
    let ready = match (is("ready").unwrap_or(true), is("serving"), is("terminating")) {
        (true, ..) => "yes",
        (false, Some(true), Some(true)) => "no, terminating but serving",
        (false, _, Some(true)) => "no, terminating",
        (false, ..) => "no",
    };
    let address = endpoint["addresses"].as_array().into_iter().flatten().map(cell).collect::<Vec<_>>().join(",");
    vec![address, ready.to_owned(), cell(&endpoint["targetRef"]["name"]), cell(&endpoint["nodeName"])]
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim_end().replace('\n', " "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The two largest units, as kubectl shows ages.
fn age(from: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(from).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{}s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Kind {
        Kind {
            group: String::new(),
            version: "v1".into(),
            kind: "Service".into(),
            plural: "services".into(),
            singular: "service".into(),
            short_names: vec![],
            categories: vec![],
            namespaced: true,
        }
    }

    #[test]
    fn everything_that_is_known_is_on_one_screen() {
        let object = json!({"metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [{"kind": "Shop", "name": "s"}]},
            "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Why", "message": "because"}]}});
        let columns = json!({"columnDefinitions": [{"name": "Name"}, {"name": "Cluster-IP"}, {"name": "Age"}],
            "rows": [{"cells": ["web", "10.96.0.9", "5m"]}]});
        let endpoints =
            [json!({"addresses": ["10.244.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true},
            "targetRef": {"name": "web-1"}, "nodeName": "node-1"})];
        let events =
            [json!({"lastTimestamp": "2026-01-01T00:04:00Z", "type": "Normal", "reason": "Seen", "message": "it\nis"})];
        let now = "2026-01-01T00:05:10Z".parse().expect("a time");
        assert_eq!(
            render(&service(), &object, &columns, &endpoints, &events, now),
            "name:        service/web
namespace:   default
labels:      app=web
owner:       Shop/s
created:     2026-01-01T00:00:00Z (5m10s ago)
cluster-ip:  10.96.0.9

Endpoints
  ADDRESS      READY                         POD     NODE
  10.244.0.2   no, terminating but serving   web-1   node-1

Conditions
  TYPE    STATUS   REASON   MESSAGE
  Ready   False    Why      because

Events
  AGE   TYPE     REASON   MESSAGE
  70s   Normal   Seen     it is
"
        );
    }

    #[test]
    fn a_container_says_why_it_does_not_run() {
        let status = json!({"name": "main", "ready": false, "restartCount": 2,
            "state": {"terminated": {"reason": "Error", "exitCode": 3}}});
        assert_eq!(container(&status), ["main", "false", "2", "terminated, Error, exit code 3"]);
    }
}
