//! What is served below an object: which verb of which subresource goes where, and the small ones themselves.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::objects::{self, writer};
use super::{Call, eviction, log, proxy, scale, stream, token};
use crate::error::{ApiError, FieldError, success_status};
use crate::registry::{Resource, Subresource};
use crate::render::json_value;
use crate::request_info::{Verb, WriteOptions};
use crate::schema::KindName;
use crate::write::Part;
use crate::{body, meta};

/// The answer about a subresource that a kind does not have. kubectl debug knows by a 404 without a name that pods take no
/// further containers, and says so.
pub(super) fn absent(resource: &Resource, segment: &str) -> ApiError {
    if resource.plural != "pods" || segment != "ephemeralcontainers" {
        return ApiError::UnknownPath;
    }
    let why = "containers cannot be added to a running pod: its containers are processes of this machine, so that \
               kubectl exec finds every tool in them";
    ApiError::NotServed { target: Box::new(resource.target("")), why }
}

pub(super) async fn dispatch(call: Call<'_>, body: Body) -> Result<Response, ApiError> {
    match (call.subresource, call.verb) {
        (Some(Subresource::Status), Verb::Get) => objects::get(&call).await,
        (Some(Subresource::Status), Verb::Update) => objects::update(&call, body).await,
        (Some(Subresource::Status), Verb::Patch) => objects::patch(&call, body).await,
        (Some(Subresource::Scale(paths)), Verb::Get) => scale::get(&call, paths),
        (Some(Subresource::Scale(paths)), Verb::Update | Verb::Patch) => scale::set(&call, paths, body).await,
        (Some(Subresource::Log), Verb::Get) => log::get(&call).await,
        (Some(Subresource::Binding), Verb::Create) => bind(&call, body).await,
        (Some(Subresource::Eviction), Verb::Create) => eviction::evict(&call, body).await,
        (Some(Subresource::Token), Verb::Create) => token::create(&call, body).await,
        (Some(Subresource::Finalize), Verb::Update) => finalize(&call, body).await,
        (Some(Subresource::Exec), Verb::Get | Verb::Create) => stream::exec(&call).await,
        (Some(Subresource::Attach), Verb::Get | Verb::Create) => stream::attach(&call).await,
        (Some(Subresource::PortForward), Verb::Get | Verb::Create) => stream::port_forward(&call).await,
        (Some(Subresource::Proxy), _) => proxy::pass(&call, body).await,
        _ => Err(call.not_allowed()),
    }
}

/// Assigns a pod to a node.
async fn bind(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let kind = KindName { group: "", version: "v1", kind: "Binding" };
    let binding = body::decode_object(call.headers, &bytes, &kind, options.field_validation)?.object;
    let name = call.name()?;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        let errors = vec![FieldError::required("target.name", "")];
        return Err(ApiError::Invalid { group: "", kind: "Binding", name: name.to_owned(), errors });
    }
    let conflict = |why: String| ApiError::Conflict { target: Box::new(call.resource.target(name)), why };
    let mut change = |old: &Value| {
        if meta::is_terminating(old) {
            return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        let present = old["spec"]["nodeName"].as_str().unwrap_or_default();
        if !present.is_empty() {
            return Err(conflict(format!("pod {name} is already assigned to node {present:?}")));
        }
        let uid = meta::text(&binding, "uid");
        if !uid.is_empty() && uid != meta::text(old, "uid") {
            return Err(conflict("the UID in the binding is not that of the pod".to_owned()));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = json!(node);
        set_condition(&mut new, "PodScheduled", None, &meta::timestamp(call.now));
        Ok(new)
    };
    let manager = call.manager(options.field_manager.as_deref());
    writer(call, Part::Decided, options.dry_run, &manager).update(name, &mut change).await?;
    Ok(json_value(StatusCode::CREATED, &success_status(Some(StatusCode::CREATED), None)))
}

/// Makes a condition of the status true, for a reason with a message or without.
pub(super) fn set_condition(object: &mut Value, name: &str, why: Option<(&str, &str)>, now: &str) {
    let mut condition = json!({"type": name, "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    if let Some((reason, message)) = why {
        condition["reason"] = json!(reason);
        condition["message"] = json!(message);
    }
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let conditions = &mut object["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(list) => match list.iter_mut().find(|c| c["type"] == name) {
            Some(found) => *found = condition,
            None => list.push(condition),
        },
        None => *conditions = json!([condition]),
    }
}

/// Replaces a Namespace's `spec.finalizers`.
async fn finalize(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let kind = (&**call.resource).into();
    let sent = body::decode_object(call.headers, &bytes, &kind, options.field_validation)?.object;
    let mut change = |old: &Value| {
        let mut new = old.clone();
        new["spec"]["finalizers"] = match &sent["spec"]["finalizers"] {
            Value::Null => json!([]),
            list => list.clone(),
        };
        match meta::text(&sent, "resourceVersion") {
            "" => {}
            stated => meta::set(&mut new, "resourceVersion", stated),
        }
        Ok(new)
    };
    let manager = call.manager(options.field_manager.as_deref());
    let written = writer(call, Part::Decided, options.dry_run, &manager).update(call.name()?, &mut change).await?;
    Ok(renderer.object(StatusCode::OK, &written.text, &written.warnings))
}
