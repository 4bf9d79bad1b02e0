//! The rules of probes and life-cycle hooks (P-023, P-024).

use serde_json::Value;

use crate::resources::check::Errors;
use crate::resources::json::{at, entries, has, integer, text};
use crate::resources::meta;

/// The fields of a probe that say how to ask.
const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
/// The fields of a hook that say what to do.
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// Checks probes and hooks of one container; `allowed` is false for those that run before or beside the others.
pub(super) fn validate(errors: &mut Errors, field: &str, container: &Value, allowed: bool) {
    for which in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = at(container, &format!("/{which}"));
        if probe.is_null() {
            continue;
        }
        let field = format!("{field}.{which}");
        if !allowed {
            errors.forbidden(
                field,
                "may not be set for init containers without restartPolicy=Always or ephemeral containers",
            );
            continue;
        }
        check_probe(errors, &field, probe, which != "readinessProbe");
    }
    if has(container, "/lifecycle") && !allowed {
        errors.forbidden(
            format!("{field}.lifecycle"),
            "may not be set for init containers without restartPolicy=Always or ephemeral containers",
        );
        return;
    }
    for (which, hook) in entries(container, "/lifecycle").filter(|(which, _)| ["postStart", "preStop"].contains(which))
    {
        handler(errors, &format!("{field}.lifecycle.{which}"), hook, &HOOK_HANDLERS);
    }
}

fn check_probe(errors: &mut Errors, field: &str, probe: &Value, one_success: bool) {
    handler(errors, field, probe, &PROBE_HANDLERS);
    for number in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.not_negative(format!("{field}.{number}"), integer(probe, &format!("/{number}")));
    }
    if let Some(threshold) = integer(probe, "/successThreshold")
        && one_success
        && threshold != 1
    {
        errors.invalid(format!("{field}.successThreshold"), threshold, "must be 1");
    }
    if let Some(grace) = integer(probe, "/terminationGracePeriodSeconds") {
        if grace <= 0 {
            errors.invalid(format!("{field}.terminationGracePeriodSeconds"), grace, "must be greater than 0");
        }
        if !one_success {
            errors.invalid(
                format!("{field}.terminationGracePeriodSeconds"),
                grace,
                "must not be set for readinessProbes",
            );
        }
    }
}

fn handler(errors: &mut Errors, field: &str, value: &Value, known: &[&str]) {
    let given: Vec<&str> = known.iter().copied().filter(|name| has(value, &format!("/{name}"))).collect();
    match given.as_slice() {
        [] => return errors.required(field, "must specify a handler type"),
        [_] => {}
        [_, second, ..] => errors.forbidden(format!("{field}.{second}"), "may not specify more than 1 handler type"),
    }
    match given[0] {
        "exec" if value["exec"]["command"].as_array().is_none_or(Vec::is_empty) => {
            errors.required(format!("{field}.exec.command"), "");
        }
        "httpGet" => {
            port(errors, &format!("{field}.httpGet.port"), at(value, "/httpGet/port"));
            errors.one_of(format!("{field}.httpGet.scheme"), text(value, "/httpGet/scheme"), &["HTTP", "HTTPS"]);
        }
        "tcpSocket" => port(errors, &format!("{field}.tcpSocket.port"), at(value, "/tcpSocket/port")),
        "grpc" => port(errors, &format!("{field}.grpc.port"), at(value, "/grpc/port")),
        _ => {}
    }
}

fn port(errors: &mut Errors, field: &str, port: &Value) {
    match port {
        Value::String(name) => errors.rule(field, name.as_str(), meta::port_name(name)),
        other => errors.between(field, Some(other.as_i64().unwrap_or_default()), 1, 65_535),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(container: &Value, allowed: bool) -> Vec<String> {
        let mut errors = Errors::default();
        validate(&mut errors, "c", container, allowed);
        errors.into_list().into_iter().map(|error| error.field).collect()
    }

    // P-023, P-024
    #[test]
    fn a_probe_asks_in_one_way() {
        let get = json!({"port": 80, "scheme": "HTTP"});
        let rows = [
            (json!({"readinessProbe": {"httpGet": get}}), vec![]),
            (json!({"readinessProbe": {"httpGet": get, "successThreshold": 3}}), vec![]),
            (
                json!({"livenessProbe": {"httpGet": get, "successThreshold": 3}}),
                vec!["c.livenessProbe.successThreshold"],
            ),
            (
                json!({"startupProbe": {"grpc": {"port": 80}, "successThreshold": 2}}),
                vec!["c.startupProbe.successThreshold"],
            ),
            (json!({"livenessProbe": {}}), vec!["c.livenessProbe"]),
            (json!({"livenessProbe": {"exec": {}}}), vec!["c.livenessProbe.exec.command"]),
            (json!({"livenessProbe": {"tcpSocket": {"port": "Web"}}}), vec!["c.livenessProbe.tcpSocket.port"]),
            (json!({"livenessProbe": {"exec": {"command": ["a"]}, "httpGet": get}}), vec!["c.livenessProbe.httpGet"]),
            (json!({"livenessProbe": {"httpGet": get, "periodSeconds": -1}}), vec!["c.livenessProbe.periodSeconds"]),
            (
                json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}, "postStart": {}}}),
                vec!["c.lifecycle.postStart"],
            ),
        ];
        for (container, expected) in rows {
            assert_eq!(fields(&container, true), expected, "{container}");
        }
        assert_eq!(fields(&json!({"livenessProbe": {}, "lifecycle": {}}), false), ["c.livenessProbe", "c.lifecycle"]);
    }
}
