//! What is served below an object: status, scale, log, binding, eviction, token, finalize.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Call;
use super::objects::{self, writer};
use crate::error::{ApiError, FieldError, success_status};
use crate::node_service::{LogRequest, OutputStream};
use crate::registry::{ScalePaths, Subresource};
use crate::render::json_value;
use crate::request_info::{FieldValidation, Query, Verb, WriteOptions};
use crate::schema::{self, KindName, PatchFormat};
use crate::serve::TokenRequest;
use crate::write::{DeleteOptions, Part};
use crate::{body, meta, stored};

pub(super) async fn dispatch(call: Call<'_>, body: Body) -> Result<Response, ApiError> {
    match (call.subresource, call.verb) {
        (Some(Subresource::Status), Verb::Get) => objects::get(&call).await,
        (Some(Subresource::Status), Verb::Update) => objects::update(&call, body).await,
        (Some(Subresource::Status), Verb::Patch) => objects::patch(&call, body).await,
        (Some(Subresource::Scale(paths)), Verb::Get) => get_scale(&call, paths),
        (Some(Subresource::Scale(paths)), Verb::Update | Verb::Patch) => set_scale(&call, paths, body).await,
        (Some(Subresource::Log), Verb::Get) => log(&call).await,
        (Some(Subresource::Binding), Verb::Create) => bind(&call, body).await,
        (Some(Subresource::Eviction), Verb::Create) => evict(&call, body).await,
        (Some(Subresource::Token), Verb::Create) => token(&call, body).await,
        (Some(Subresource::Finalize), Verb::Update) => finalize(&call, body).await,
        _ => Err(call.not_allowed()),
    }
}

fn get_scale(call: &Call<'_>, paths: &ScalePaths) -> Result<Response, ApiError> {
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

async fn set_scale(call: &Call<'_>, paths: &ScalePaths, body: Body) -> Result<Response, ApiError> {
    let format = if call.verb == Verb::Patch { Some(objects::patch_format(call)?) } else { None };
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let kind = KindName { group: "autoscaling", version: "v1", kind: "Scale" };
    let sent = match format {
        Some(_) => schema::decode_json(&bytes)?.0,
        None => body::decode_object(call.headers, &bytes, &kind, options.field_validation)?.object,
    };
    let name = call.name()?;
    let change = |old: &Value| {
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
    let written = writer(call, Part::Object, options.dry_run, &manager).update(name, &change).await?;
    Ok(json_value(StatusCode::OK, &scale_of(&stored::decode(&written.text), paths)))
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
    let change = |old: &Value| {
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
        set_condition(&mut new, "PodScheduled", &meta::timestamp(call.now));
        Ok(new)
    };
    let manager = call.manager(options.field_manager.as_deref());
    writer(call, Part::Decided, options.dry_run, &manager).update(name, &change).await?;
    Ok(json_value(StatusCode::CREATED, &success_status(Some(StatusCode::CREATED), None)))
}

/// Makes a condition of the status true.
fn set_condition(object: &mut Value, name: &str, now: &str) {
    let condition = json!({"type": name, "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
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

/// Deletes a pod the way `kubectl drain` wants it. No disruption budgets are served, so none forbids.
async fn evict(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let bytes = body::collect(body).await?;
    let eviction = body::decode_optional(call.headers, &bytes)?.unwrap_or(Value::Null);
    let name = call.name()?;
    let named = meta::text(&eviction, "name");
    if !named.is_empty() && named != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = DeleteOptions::read(eviction.get("deleteOptions"), &call.query)?;
    options.dry_run |= WriteOptions::from_query(&call.query)?.dry_run;
    writer(call, Part::Object, options.dry_run, "").delete(name, &options).await?;
    Ok(json_value(StatusCode::CREATED, &success_status(Some(StatusCode::CREATED), None)))
}

/// Replaces a Namespace's `spec.finalizers`.
async fn finalize(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let renderer = call.renderer()?;
    let options = WriteOptions::from_query(&call.query)?;
    let bytes = body::collect(body).await?;
    let kind = (&**call.resource).into();
    let sent = body::decode_object(call.headers, &bytes, &kind, options.field_validation)?.object;
    let change = |old: &Value| {
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
    let written = writer(call, Part::Decided, options.dry_run, &manager).update(call.name()?, &change).await?;
    Ok(renderer.object(StatusCode::OK, &written.text, &written.warnings))
}

/// How long a token is good when the client does not say, and at least and most.
const TOKEN_SECONDS: i64 = 3600;
const TOKEN_SECONDS_RANGE: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// Issues a token for a ServiceAccount.
async fn token(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let name = call.name()?;
    let account = stored::decode(&call.server.record(call.resource, call.namespace(), name)?.value);
    let bytes = body::collect(body).await?;
    let kind = KindName { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" };
    let mut object = body::decode_object(call.headers, &bytes, &kind, FieldValidation::Warn)?.object;
    let spec = &object["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS);
    if !TOKEN_SECONDS_RANGE.contains(&seconds) {
        let why = "may not be less than 10 minutes or more than 2^32 seconds";
        let errors = vec![FieldError::invalid("spec.expirationSeconds", &json!(seconds), why)];
        let (group, kind) = ("authentication.k8s.io", "TokenRequest");
        return Err(ApiError::Invalid { group, kind, name: name.to_owned(), errors });
    }
    let audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let pod = bound_pod(call, &spec["boundObjectRef"])?;
    let expires = call.now.checked_add(SignedDuration::from_secs(seconds)).map_err(ApiError::internal)?;
    let request = TokenRequest {
        namespace: call.namespace(),
        service_account: name,
        uid: meta::text(&account, "uid"),
        pod: pod.as_ref().map(|(name, uid)| (name.as_str(), uid.as_str())),
        audiences: &audiences,
        expires,
    };
    let token = call.server.ca.tokens().issue(&request, call.now).map_err(ApiError::internal)?;
    object["kind"] = json!("TokenRequest");
    object["apiVersion"] = json!("authentication.k8s.io/v1");
    object["metadata"] = json!({"name": name, "namespace": call.namespace()});
    object["spec"]["expirationSeconds"] = json!(seconds);
    object["status"] = json!({"token": token, "expirationTimestamp": meta::timestamp(expires)});
    Ok(json_value(StatusCode::CREATED, &object))
}

/// Name and uid of the pod that a token is bound to; it must exist.
fn bound_pod(call: &Call<'_>, reference: &Value) -> Result<Option<(String, String)>, ApiError> {
    if !reference.is_object() {
        return Ok(None);
    }
    if reference["kind"] != "Pod" {
        let kind = reference["kind"].as_str().unwrap_or_default();
        return Err(ApiError::BadRequest(format!("cannot bind token to an object of kind {kind:?}, only to a Pod")));
    }
    let name = reference["name"].as_str().unwrap_or_default();
    let pods = call.server.registry.find("", "v1", "pods").ok_or(ApiError::UnknownPath)?;
    let record = call.server.record(pods, call.namespace(), name)?;
    let stated = reference["uid"].as_str().unwrap_or_default();
    if !stated.is_empty() && stated != record.head.uid {
        let why = format!("the UID in the bound object reference ({stated}) does not match the UID in record");
        return Err(ApiError::Conflict { target: Box::new(pods.target(name)), why });
    }
    Ok(Some((name.to_owned(), record.head.uid.clone())))
}

/// A container's output as text.
async fn log(call: &Call<'_>) -> Result<Response, ApiError> {
    let record = call.server.record(call.resource, call.namespace(), call.name()?)?;
    let pod = stored::decode(&record.value);
    let request = log_request(&pod, &call.query, call.now)?;
    let Some(service) = call.server.node_service() else {
        return Err(ApiError::ServiceUnavailable("no agent runs pods, so there are no logs".to_owned()));
    };
    let stream = service.logs(request).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(stream)).into_response())
}

fn log_request(pod: &Value, query: &Query, now: Timestamp) -> Result<LogRequest, ApiError> {
    let previous = query.flag("previous");
    let container = log_container(pod, query.get("container"))?;
    check_container_state(pod, &container, previous)?;
    let since_seconds = query.number::<i64>("sinceSeconds")?;
    let since_time = query.number::<Timestamp>("sinceTime")?;
    let since = match (since_seconds, since_time) {
        (Some(_), Some(_)) => {
            return Err(bad_log_option("sinceSeconds", "at most one of sinceTime or sinceSeconds may be specified"));
        }
        (Some(seconds), None) if seconds < 1 => return Err(bad_log_option("sinceSeconds", "must be greater than 0")),
        (Some(seconds), None) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, time) => time,
    };
    if query.number::<i64>("tailLines")?.is_some_and(|lines| lines < 0) {
        return Err(bad_log_option("tailLines", "must be greater than or equal to 0"));
    }
    if query.number::<i64>("limitBytes")?.is_some_and(|bytes| bytes < 1) {
        return Err(bad_log_option("limitBytes", "must be greater than 0"));
    }
    let stream = match query.get("stream") {
        None | Some("All") => None,
        Some("Stdout") => Some(OutputStream::Stdout),
        Some("Stderr") => Some(OutputStream::Stderr),
        Some(_) => return Err(bad_log_option("stream", "supported values: All, Stdout, Stderr")),
    };
    Ok(LogRequest {
        namespace: meta::text(pod, "namespace").to_owned(),
        pod: meta::text(pod, "name").to_owned(),
        uid: meta::text(pod, "uid").to_owned(),
        container,
        follow: query.flag("follow"),
        previous,
        tail_lines: query.number("tailLines")?,
        since,
        timestamps: query.flag("timestamps"),
        limit_bytes: query.number("limitBytes")?,
        stream,
    })
}

fn bad_log_option(field: &str, why: &str) -> ApiError {
    let errors = vec![FieldError::new(crate::error::Cause::Invalid, field, why)];
    ApiError::Invalid { group: "", kind: "PodLogOptions", name: String::new(), errors }
}

fn container_names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    pod["spec"][list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
}

fn log_container(pod: &Value, asked: Option<&str>) -> Result<String, ApiError> {
    let name = meta::text(pod, "name");
    let main = container_names(pod, "containers");
    let init = container_names(pod, "initContainers");
    match (asked, main.as_slice()) {
        (Some(asked), _) if main.contains(&asked) || init.contains(&asked) => Ok(asked.to_owned()),
        (Some(asked), _) => Err(ApiError::BadRequest(format!("container {asked} is not valid for pod {name}"))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, several) => {
            let mut text =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", several.join(" "));
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::BadRequest(text))
        }
    }
}

/// A container that has not started has no output, nor a run before the first.
fn check_container_state(pod: &Value, container: &str, previous: bool) -> Result<(), ApiError> {
    let name = meta::text(pod, "name");
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut statuses = lists.iter().filter_map(|list| pod["status"][*list].as_array()).flatten();
    let status = statuses.find(|status| status["name"] == container).unwrap_or(&Value::Null);
    let ran_before = status["lastState"]["terminated"].is_object();
    if previous && !ran_before {
        let text = format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
        return Err(ApiError::BadRequest(text));
    }
    let started = status["state"]["running"].is_object() || status["state"]["terminated"].is_object() || ran_before;
    if !started {
        let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or("ContainerCreating");
        let text = format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}");
        return Err(ApiError::BadRequest(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
            "status": {"containerStatuses": [status]},
        })
    }

    fn log_error(pod: &Value, query: &str) -> String {
        log_request(pod, &Query::parse(Some(query)), Timestamp::UNIX_EPOCH).unwrap_err().to_string()
    }

    //
    #[test]
    fn log_parameters_are_read() {
        let running = pod(json!({"name": "a", "state": {"running": {}}}));
        let query = Query::parse(Some(
            "follow=true&tailLines=10&sinceSeconds=5&timestamps=true&limitBytes=100&stream=Stderr&insecureSkipTLSVerifyBackend=true",
        ));
        let now = Timestamp::from_second(100).unwrap();
        let request = log_request(&running, &query, now).unwrap();
        let expected = LogRequest {
            namespace: "default".to_owned(),
            pod: "web".to_owned(),
            uid: "u".to_owned(),
            container: "a".to_owned(),
            follow: true,
            previous: false,
            tail_lines: Some(10),
            since: Some(Timestamp::from_second(95).unwrap()),
            timestamps: true,
            limit_bytes: Some(100),
            stream: Some(OutputStream::Stderr),
        };
        assert_eq!(request, expected);
    }

    //
    #[test]
    fn log_errors_name_the_container() {
        let waiting = pod(json!({"name": "a", "state": {"waiting": {"reason": "ErrImageNeverPull"}}}));
        let reason = "container \"a\" in pod \"web\" is waiting to start: ErrImageNeverPull";
        assert_eq!(log_error(&waiting, ""), reason);
        let running = pod(json!({"name": "a", "state": {"running": {}}}));
        assert_eq!(log_error(&running, "container=x"), "container x is not valid for pod web");
        let previous = "previous terminated container \"a\" in pod \"web\" not found";
        assert_eq!(log_error(&running, "previous=true"), previous);
        let mut several = running;
        several["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
        let choices =
            "a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [i]";
        assert_eq!(log_error(&several, ""), choices);
    }

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
