//! A container's output: which container and from where is decided here, the output comes from the nodes' agent.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Call;
use crate::error::{ApiError, Cause, FieldError};
use crate::node_service::{LogRequest, OutputStream};
use crate::request_info::Query;
use crate::{meta, stored};

/// A container's output as text.
pub(super) async fn get(call: &Call<'_>) -> Result<Response, ApiError> {
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
    let container = container(pod, query.get("container"))?;
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
    let errors = vec![FieldError::new(Cause::Invalid, field, why)];
    ApiError::Invalid { group: "", kind: "PodLogOptions", name: String::new(), errors }
}

fn container_names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    pod["spec"][list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
}

pub(super) fn container(pod: &Value, asked: Option<&str>) -> Result<String, ApiError> {
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
    use serde_json::json;

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
}
