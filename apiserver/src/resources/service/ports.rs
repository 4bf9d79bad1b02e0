//! The rules of `spec.ports` (S-040 to S-048).

use std::collections::HashSet;

use serde_json::Value;

use super::super::check::Errors;
use super::super::json::{integer, list, text};
use super::super::meta;
use super::{CLUSTER_IP, EXTERNAL_NAME, is_headless, kind, node_port};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn validate(errors: &mut Errors, new: &Value) {
    let ports = list(new, "/spec/ports");
    if ports.is_empty() && !is_headless(new) && kind(new) != EXTERNAL_NAME {
        errors.required("spec.ports", "");
    }
    let (mut names, mut numbers, mut node_ports) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        let protocol = text(port, "/protocol");
        name(errors, &field, port, &mut names, ports.len() > 1);
        check(errors, &field, port);
        if node_port(port).is_some() && kind(new) == CLUSTER_IP {
            errors.forbidden(format!("{field}.nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        if !numbers.insert((integer(port, "/port"), protocol)) {
            errors.duplicate(field.as_str(), port.clone());
        }
        if let Some(number) = node_port(port)
            && !node_ports.insert((number, protocol))
        {
            errors.duplicate(format!("{field}.nodePort"), number);
        }
    }
}

fn name<'a>(errors: &mut Errors, field: &str, port: &'a Value, earlier: &mut HashSet<&'a str>, needed: bool) {
    let field = format!("{field}.name");
    match text(port, "/name") {
        "" if needed => errors.required(field, ""),
        "" => {}
        name => {
            errors.rule(field.as_str(), name, meta::label_1123(name));
            if !earlier.insert(name) {
                errors.duplicate(field, name);
            }
        }
    }
}

fn check(errors: &mut Errors, field: &str, port: &Value) {
    let number = integer(port, "/port").unwrap_or_default();
    errors.between(format!("{field}.port"), Some(number), 1, 65_535);
    match text(port, "/protocol") {
        "" => errors.required(format!("{field}.protocol"), ""),
        protocol => errors.one_of(format!("{field}.protocol"), protocol, &PROTOCOLS),
    }
    match &port["targetPort"] {
        Value::String(name) => errors.rule(format!("{field}.targetPort"), name.as_str(), meta::port_name(name)),
        target => errors.between(format!("{field}.targetPort"), target.as_i64(), 1, 65_535),
    }
    let application = text(port, "/appProtocol");
    if !application.is_empty() {
        errors.rule(format!("{field}.appProtocol"), application, meta::qualified_name(application));
    }
}
