//! The rules of containers: names, ports, variables, mounts (P-006, P-011).

use std::collections::BTreeSet;

use minisvc_schema::Amount;
use serde_json::Value;

use super::probes;
use crate::resources::check::Errors;
use crate::resources::json::{entries, has, integer, list, text};
use crate::resources::meta;

/// What the containers of one pod may refer to.
pub(super) struct Context<'a> {
    /// Names of the pod's volumes.
    pub(super) volumes: &'a BTreeSet<&'a str>,
    pub(super) host_network: bool,
}

/// Checks all lists of containers of a pod spec; names are unique over all of them.
pub(super) fn validate(errors: &mut Errors, field: &str, spec: &Value, context: &Context<'_>) {
    if list(spec, "/containers").is_empty() {
        errors.required(format!("{field}.containers"), "");
    }
    let mut names = BTreeSet::new();
    for which in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in list(spec, &format!("/{which}")).iter().enumerate() {
            let field = format!("{field}.{which}[{index}]");
            let name = text(container, "/name");
            if name.is_empty() {
                errors.required(format!("{field}.name"), "");
            } else {
                errors.rule(format!("{field}.name"), name, meta::label_1123(name));
                if !names.insert(name) {
                    errors.duplicate(format!("{field}.name"), name);
                }
            }
            check(errors, &field, container, context);
            let sidecar = which == "initContainers" && text(container, "/restartPolicy") == "Always";
            probes::validate(errors, &field, container, which == "containers" || sidecar);
            if which == "initContainers" && has(container, "/restartPolicy") {
                let policies = ["Always", "Never", "OnFailure"];
                errors.one_of(format!("{field}.restartPolicy"), text(container, "/restartPolicy"), &policies);
            }
        }
    }
}

fn check(errors: &mut Errors, field: &str, container: &Value, context: &Context<'_>) {
    let image = text(container, "/image");
    if image.is_empty() {
        errors.required(format!("{field}.image"), "");
    } else if image.trim() != image {
        errors.invalid(format!("{field}.image"), image, "must not have leading or trailing whitespace");
    }
    let pull = ["Always", "IfNotPresent", "Never"];
    errors.one_of(format!("{field}.imagePullPolicy"), text(container, "/imagePullPolicy"), &pull);
    let policies = ["File", "FallbackToLogsOnError"];
    errors.one_of(format!("{field}.terminationMessagePolicy"), text(container, "/terminationMessagePolicy"), &policies);
    ports(errors, field, container, context.host_network);
    variables(errors, field, container);
    mounts(errors, field, container, context.volumes);
    resources(errors, field, container);
}

fn ports(errors: &mut Errors, field: &str, container: &Value, host_network: bool) {
    let mut names = BTreeSet::new();
    for (index, port) in list(container, "/ports").iter().enumerate() {
        let field = format!("{field}.ports[{index}]");
        let name = text(port, "/name");
        if !name.is_empty() {
            errors.rule(format!("{field}.name"), name, meta::port_name(name));
            if !names.insert(name) {
                errors.duplicate(format!("{field}.name"), name);
            }
        }
        let number = integer(port, "/containerPort").unwrap_or_default();
        match number {
            0 => errors.required(format!("{field}.containerPort"), ""),
            _ => errors.between(format!("{field}.containerPort"), Some(number), 1, 65_535),
        }
        match integer(port, "/hostPort").unwrap_or_default() {
            0 => {}
            host if host_network && host != number => {
                errors.invalid(
                    format!("{field}.hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
            host => errors.between(format!("{field}.hostPort"), Some(host), 1, 65_535),
        }
        errors.one_of(format!("{field}.protocol"), text(port, "/protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn variables(errors: &mut Errors, field: &str, container: &Value) {
    for (index, variable) in list(container, "/env").iter().enumerate() {
        let field = format!("{field}.env[{index}]");
        let name = text(variable, "/name");
        if name.is_empty() {
            errors.required(format!("{field}.name"), "");
        } else if !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
            errors.invalid(format!("{field}.name"), name, "must consist of printable ASCII characters other than '='");
        }
        if !has(variable, "/valueFrom") {
            continue;
        }
        let sources = entries(variable, "/valueFrom").filter(|(_, source)| !source.is_null()).count();
        if !text(variable, "/value").is_empty() {
            errors.invalid(format!("{field}.valueFrom"), "", "may not be specified when `value` is not empty");
        } else if sources != 1 {
            errors.invalid(format!("{field}.valueFrom"), "", "must specify exactly one source");
        }
    }
}

fn mounts(errors: &mut Errors, field: &str, container: &Value, volumes: &BTreeSet<&str>) {
    let mut paths = BTreeSet::new();
    for (index, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        match text(mount, "/name") {
            "" => errors.required(format!("{field}.name"), ""),
            name if !volumes.contains(name) => errors.not_found(format!("{field}.name"), name),
            _ => {}
        }
        match text(mount, "/mountPath") {
            "" => errors.required(format!("{field}.mountPath"), ""),
            path if !paths.insert(path) => errors.invalid(format!("{field}.mountPath"), path, "must be unique"),
            _ => {}
        }
        let sub_path = text(mount, "/subPath");
        if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
            errors.invalid(format!("{field}.subPath"), sub_path, "must be a relative path without '..'");
        }
    }
}

fn resources(errors: &mut Errors, field: &str, container: &Value) {
    for which in ["limits", "requests"] {
        for (name, amount) in entries(container, &format!("/resources/{which}")) {
            let field = format!("{field}.resources.{which}[{name}]");
            let quantity = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            match Amount::parse(&quantity) {
                None => errors.invalid(field, amount.clone(), "must be a quantity such as 500m, 1.5 or 128Mi"),
                Some(amount) if amount.is_negative() => {
                    errors.invalid(field, quantity, "must be greater than or equal to 0");
                }
                Some(requested) if which == "requests" => {
                    let limit = container.pointer(&format!("/resources/limits/{}", name.replace('/', "~1")));
                    let limit = limit.and_then(Value::as_str).and_then(Amount::parse);
                    if limit.is_some_and(|limit| requested > limit) {
                        errors.invalid(field, quantity, format!("must be less than or equal to {name} limit"));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// Whether two quantities are the same amount, however written.
pub(in crate::resources) fn same_quantity(one: &str, other: &str) -> bool {
    one == other || Amount::parse(one).is_some_and(|amount| Amount::parse(other) == Some(amount))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(container: &Value, host_network: bool) -> Vec<String> {
        let mut spec = json!({"containers": [container], "hostNetwork": host_network, "volumes": [{"name": "v"}]});
        crate::resources::podspec::default(&mut spec, crate::resources::podspec::Owner::Template);
        let mut errors = Errors::default();
        crate::resources::podspec::validate(&mut errors, "spec", &spec);
        errors.into_list().into_iter().map(|error| error.field.replace("spec.containers[0].", "")).collect()
    }

    // P-011
    #[test]
    fn port_names_are_unique_in_their_container_only() {
        let port = |name: &str| json!({"name": name, "containerPort": 80});
        let twice = json!({"name": "c", "image": "i", "ports": [port("a"), port("a")]});
        assert_eq!(fields(&twice, false), ["ports[1].name"]);
        let long = json!({"name": "c", "image": "i", "ports": [port("a123456789012345")]});
        assert_eq!(fields(&long, false), ["ports[0].name"]);
        let mut spec = json!({"containers": [
            {"name": "c", "image": "i", "ports": [port("a")]}, {"name": "d", "image": "i", "ports": [port("a")]},
        ]});
        crate::resources::podspec::default(&mut spec, crate::resources::podspec::Owner::Pod);
        let mut errors = Errors::default();
        crate::resources::podspec::validate(&mut errors, "spec", &spec);
        assert!(errors.is_empty());
        assert_eq!(spec["containers"][0]["ports"][0]["protocol"], "TCP");
    }

    // P-006
    #[test]
    fn on_the_host_network_a_port_is_its_host_port() {
        let container = json!({"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 81}]});
        assert_eq!(fields(&container, true), ["ports[0].hostPort"]);
        assert!(fields(&container, false).is_empty());
    }

    #[test]
    fn each_rule_names_its_field() {
        let rows = [
            (json!({"name": ""}), vec!["name"]),
            (json!({"name": "A"}), vec!["name"]),
            (json!({"image": ""}), vec!["image"]),
            (json!({"imagePullPolicy": "Maybe"}), vec!["imagePullPolicy"]),
            (json!({"ports": [{"containerPort": 0}]}), vec!["ports[0].containerPort"]),
            (json!({"ports": [{"containerPort": 1, "protocol": "ICMP"}]}), vec!["ports[0].protocol"]),
            (json!({"env": [{"name": "a=b"}]}), vec!["env[0].name"]),
            (json!({"env": [{"name": "a", "valueFrom": {}}]}), vec!["env[0].valueFrom"]),
            (json!({"env": [{"name": "a", "value": "x", "valueFrom": {"fieldRef": {}}}]}), vec!["env[0].valueFrom"]),
            (json!({"volumeMounts": [{"name": "w", "mountPath": "/w"}]}), vec!["volumeMounts[0].name"]),
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/w"}, {"name": "v", "mountPath": "/w", "subPath": "../x"}]}),
                vec!["volumeMounts[1].mountPath", "volumeMounts[1].subPath"],
            ),
            (json!({"resources": {"limits": {"cpu": "x"}}}), vec!["resources.limits[cpu]"]),
            (json!({"resources": {"limits": {"cpu": "-1"}}}), vec!["resources.limits[cpu]"]),
            (json!({"resources": {"limits": {"memory": "1e6"}, "requests": {"memory": "1M"}}}), vec![]),
            (
                json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1001m"}}}),
                vec!["resources.requests[cpu]"],
            ),
        ];
        for (change, expected) in rows {
            let mut container = json!({"name": "c", "image": "i"});
            for (key, value) in change.as_object().unwrap() {
                container[key] = value.clone();
            }
            assert_eq!(fields(&container, false), expected, "{change}");
        }
    }
}
