//! The Scale subresource: an object seen as its number of replicas.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::Call;
use super::objects::{self, writer};
use crate::error::{ApiError, FieldError};
use crate::registry::ScalePaths;
use crate::render::json_value;
use crate::request_info::{Verb, WriteOptions};
use crate::schema::{self, KindName, PatchFormat};
use crate::write::Part;
use crate::{body, meta, stored};

pub(super) fn get(call: &Call<'_>, paths: &ScalePaths) -> Result<Response, ApiError> {
    let record = call.server.record(call.resource, call.namespace(), call.name()?)?;
    Ok(json_value(StatusCode::OK, &scale_of(&stored::decode(&record.value), paths)))
}

/// An object seen as a Scale.
fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer("/metadata").and_then(|m| m.get(key)) {
            metadata[key] = value.clone();
        }
    }
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": number(paths.spec_replicas)},
        "status": {
            "replicas": number(paths.status_replicas),
            "selector": selector_text(object.pointer(paths.selector).unwrap_or(&Value::Null)),
        },
    })
}

/// A LabelSelector or a label map in query form, sorted.
fn selector_text(selector: &Value) -> String {
    let plain = selector.get("matchLabels").or_else(|| selector.get("matchExpressions").is_none().then_some(selector));
    let labels = plain.and_then(Value::as_object).into_iter().flatten();
    let mut terms: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match expression["operator"].as_str().unwrap_or_default() {
            "In" => terms.push(format!("{key} in ({})", values.join(","))),
            "NotIn" => terms.push(format!("{key} notin ({})", values.join(","))),
            "Exists" => terms.push(key.to_owned()),
            _ => terms.push(format!("!{key}")),
        }
    }
    terms.sort();
    terms.join(",")
}

pub(super) async fn set(call: &Call<'_>, paths: &ScalePaths, body: Body) -> Result<Response, ApiError> {
    let format = if call.verb == Verb::Patch { Some(objects::patch_format(call)?) } else { None };
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let kind = KindName { group: "autoscaling", version: "v1", kind: "Scale" };
    let sent = match format {
        Some(_) => schema::decode_json(&bytes)?.0,
        None => body::decode_object(call.headers, &bytes, &kind, options.field_validation)?.object,
    };
    let name = call.name()?;
    let mut change = |old: &Value| {
        let scale = match format {
            Some(PatchFormat::Json) => schema::patch(call.resource, PatchFormat::Json, &scale_of(old, paths), &sent)?,
            // A Scale has no lists, so both kinds of merge are the same.
            Some(_) => schema::patch(call.resource, PatchFormat::Merge, &scale_of(old, paths), &sent)?,
            None => sent.clone(),
        };
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let why = "must be greater than or equal to 0";
            let errors = vec![FieldError::invalid("spec.replicas", &json!(replicas), why)];
            return Err(ApiError::Invalid { group: "autoscaling", kind: "Scale", name: name.to_owned(), errors });
        }
        let mut new = old.clone();
        for key in ["uid", "resourceVersion"] {
            match meta::text(&scale, key) {
                "" => {}
                stated => meta::set(&mut new, key, stated),
            }
        }
        let (parent, field) = paths.spec_replicas.rsplit_once('/').unwrap_or(("", paths.spec_replicas));
        if let Some(parent) = new.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.insert(field.to_owned(), json!(replicas));
        }
        Ok(new)
    };
    let manager = call.manager(options.field_manager.as_deref());
    let written = writer(call, Part::Object, options.dry_run, &manager).update(name, &mut change).await?;
    Ok(json_value(StatusCode::OK, &scale_of(&stored::decode(&written.text), paths)))
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_scale_tells_replicas_and_selector() {
        let paths = ScalePaths {
            spec_replicas: "/spec/replicas",
            status_replicas: "/status/replicas",
            selector: "/spec/selector",
        };
        let object = json!({
            "metadata": {"name": "web", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"b": "2", "a": "1"}}},
            "status": {"replicas": 2},
        });
        let scale = scale_of(&object, &paths);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "a=1,b=2"}));
        assert_eq!(scale["metadata"], json!({"name": "web"}));
        assert_eq!(selector_text(&json!({"app": "x"})), "app=x");
    }
}
