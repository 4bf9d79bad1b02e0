//! What a lab knows beyond its objects, in its API: `minisvc.dev/v1` (docs/extension-api.md).
//!
//! The API server authorises each request and lists the resources; here they are answered, from what netd tells. Lists
//! come as JSON and as kubectl's Table.

mod machines;
mod parameters;
mod trace;
mod views;
mod why;

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path as RoutePath, Query, RawPathParams};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, header};
use jiff::Timestamp;
use minisvc_apiserver::error::{ApiError, Target};
use minisvc_apiserver::registry::Column;
use minisvc_apiserver::{Extension, ExtensionResource};
use minisvc_netd::{Netd, observe};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::adapters::Nodes;
use crate::home::LabHome;
use parameters::Parameters;

const GROUP: &str = "minisvc.dev";
const VERSION: &str = "v1";

/// Questions of [`why`] that are answered at once.
pub(crate) fn questions() -> Semaphore {
    Semaphore::new(why::MAX_QUESTIONS)
}

/// Where answers come from.
pub(crate) struct Sources {
    pub(crate) netd: Netd,
    pub(crate) nodes: Nodes,
    /// The lab itself, to ask it as its commands do.
    pub(crate) home: LabHome,
    /// Questions that are being answered.
    pub(crate) questions: Semaphore,
    /// Ends answers that would go on for ever.
    pub(crate) shutdown: CancellationToken,
}

/// One resource that is looked at and never stored.
struct View {
    resource: ExtensionResource,
    columns: &'static [Column],
    /// What its query may say beyond what every list is asked with.
    parameters: &'static [&'static str],
    /// Its items now; blocks until they are known.
    look: fn(&Sources, &Parameters) -> Result<Vec<Value>, ApiError>,
    row: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Everything of `minisvc.dev/v1` that is not stored.
pub(crate) fn extension(sources: Sources) -> Extension {
    let sources = Arc::new(sources);
    let mut router = Router::new();
    for view in views::ALL {
        let sources = Arc::clone(&sources);
        let answer = move |path: RawPathParams, Query(query): Query<Vec<(String, String)>>, headers: HeaderMap| {
            let sources = Arc::clone(&sources);
            let part = |name: &str| path.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
            let (namespace, name) = (part("namespace"), part("name"));
            async move {
                let asked = Asked { view, namespace, name, table: table_version(&headers) };
                asked.answer(sources, query).await.unwrap_or_else(ApiError::into_response)
            }
        };
        let plural = view.resource.plural;
        let mut roots = vec![format!("/apis/{GROUP}/{VERSION}/{plural}")];
        if view.resource.namespaced {
            roots.push(format!("/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{plural}"));
        }
        for root in roots {
            router = router.route(&root, get(answer.clone())).route(&format!("{root}/{{name}}"), get(answer.clone()));
        }
    }
    let switched = Arc::clone(&sources);
    let switch = move |RoutePath((name, action)): RoutePath<(String, String)>| async move {
        machines::switch(&switched, &name, &action).await.unwrap_or_else(ApiError::into_response)
    };
    router = router.route(&format!("/apis/{GROUP}/{VERSION}/machines/{{name}}/{{action}}"), post(switch));
    let asked = Arc::clone(&sources);
    let question = move |posted: Result<Json<why::Posted>, JsonRejection>| async move {
        let answered =
            async { why::answer(&asked, posted.map_err(|error| ApiError::bad_request(error.body_text()))?.0).await };
        answered.await.unwrap_or_else(ApiError::into_response)
    };
    router = router.route(&format!("/apis/{GROUP}/{VERSION}/whys"), post(question));
    let followed = move |Query(query): Query<Vec<(String, String)>>| async move {
        trace::answer(&sources, query).unwrap_or_else(ApiError::into_response)
    };
    router = router.route(&format!("/apis/{GROUP}/{VERSION}/trace"), get(followed));
    let resources = views::ALL.iter().map(|view| view.resource).chain([trace::RESOURCE, why::RESOURCE]).collect();
    Extension { group: GROUP, version: VERSION, resources, router }
}

/// What the data plane adds to `/metrics`.
pub(crate) fn figures(netd: Netd) -> impl Fn(&mut String) + Send + Sync + 'static {
    move |out| {
        // It answers within a batch of packets; other requests go on meanwhile.
        let figures = tokio::task::block_in_place(|| observe::figures(&netd));
        observe::open_metrics(&figures, out);
    }
}

/// One request.
struct Asked {
    view: &'static View,
    namespace: Option<String>,
    name: Option<String>,
    /// The version of the Table that is wanted instead of the objects.
    table: Option<&'static str>,
}

impl Asked {
    async fn answer(self, sources: Arc<Sources>, query: Vec<(String, String)>) -> Result<Response, ApiError> {
        let ExtensionResource { plural, kind, .. } = self.view.resource;
        let parameters = Parameters::read(plural, self.view.parameters, query, self.namespace.clone())?;
        let look = self.view.look;
        // The data plane answers when it gets to it, which must not stop the runtime.
        let items = tokio::task::spawn_blocking(move || look(&sources, &parameters)).await;
        let mut items = items.map_err(ApiError::internal)??;
        let api_version = format!("{GROUP}/{VERSION}");
        if let Some(name) = &self.name {
            items.retain(|item| item["metadata"]["name"] == **name);
            if items.is_empty() {
                let target = Target { group: GROUP, resource: plural, name: name.clone() };
                return Err(ApiError::NotFound(Box::new(target)));
            }
        }
        let body = match self.table {
            Some(version) => self.rows(&items, version),
            None if self.name.is_some() => {
                let mut one = json!({"apiVersion": api_version, "kind": kind});
                merge(&mut one, items.swap_remove(0));
                one
            }
            None => json!({"apiVersion": api_version, "kind": format!("{kind}List"), "metadata": {}, "items": items}),
        };
        Ok(([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response())
    }

    fn rows(&self, items: &[Value], version: &str) -> Value {
        let now = Timestamp::now();
        let meta = format!("meta.k8s.io/{version}");
        let rows = items.iter().map(|item| {
            let object = json!({"kind": "PartialObjectMetadata", "apiVersion": meta, "metadata": item["metadata"]});
            json!({"cells": (self.view.row)(item, now), "object": object})
        });
        let columns = self.view.columns.iter().map(|column| {
            json!({"name": column.name, "type": column.kind, "format": column.format,
                   "description": column.description, "priority": column.priority})
        });
        json!({"kind": "Table", "apiVersion": meta, "metadata": {},
               "columnDefinitions": columns.collect::<Vec<_>>(), "rows": rows.collect::<Vec<_>>()})
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// The version of the Table, if the first clause of Accept that can be served asks for one.
fn table_version(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for clause in accept.flat_map(|value| value.split(',')) {
        let mut parts = clause.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            continue;
        }
        let words: Vec<&str> = parts.collect();
        match words.iter().find_map(|word| word.strip_prefix("as=")) {
            None => return None,
            Some("Table") if words.contains(&"v=v1beta1") => return Some("v1beta1"),
            Some("Table") => return Some("v1"),
            Some(_) => {}
        }
    }
    None
}

/// A value, or what tables show in place of none.
fn or_none(value: &Value) -> Value {
    match value {
        Value::Null => "<none>".into(),
        Value::String(text) if text.is_empty() => "<none>".into(),
        other => other.clone(),
    }
}

/// An object: its metadata, then what is known about it.
fn object(metadata: Value, known: &impl serde::Serialize) -> Result<Value, ApiError> {
    let mut object = json!({"metadata": metadata});
    merge(&mut object, serde_json::to_value(known).map_err(ApiError::internal)?);
    Ok(object)
}

#[cfg(test)]
mod tests;
