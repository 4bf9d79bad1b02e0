//! The rules of a Service's status (S-074, S-075). Conditions are anyone's to write and not looked at (S-136).

use serde_json::Value;

use super::super::address::{lenient_ip, strict_ip};
use super::super::check::Errors;
use super::super::json::{has, list, text};
use super::super::meta;
use super::{LOAD_BALANCER, kind};
use crate::registry::FieldError;

const FIELD: &str = "status.loadBalancer.ingress";

pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let entries = list(new, "/status/loadBalancer/ingress");
    let stored: Vec<&str> = list(old, "/status/loadBalancer/ingress").iter().map(|entry| text(entry, "/ip")).collect();
    if kind(new) != LOAD_BALANCER && !entries.is_empty() {
        errors.forbidden(FIELD, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for (index, entry) in entries.iter().enumerate() {
        let field = format!("{FIELD}[{index}]");
        let ip = text(entry, "/ip");
        let mode = has(entry, "/ipMode").then(|| text(entry, "/ipMode"));
        if !ip.is_empty() && !stored.contains(&ip) {
            errors.rule(format!("{field}.ip"), ip, strict_ip(ip).map(drop));
        }
        match mode {
            None if !ip.is_empty() => errors.required(format!("{field}.ipMode"), "must be specified when `ip` is set"),
            Some(_) if ip.is_empty() => {
                errors.forbidden(format!("{field}.ipMode"), "may not be specified when `ip` is not set")
            }
            Some(mode) => errors.one_of(format!("{field}.ipMode"), mode, &["Proxy", "VIP"]),
            None => {}
        }
        let hostname = text(entry, "/hostname");
        if hostname.is_empty() {
            continue;
        }
        errors.rule(format!("{field}.hostname"), hostname, meta::subdomain(hostname));
        if lenient_ip(hostname).is_some() {
            errors.invalid(format!("{field}.hostname"), hostname, "must be a DNS name, not an IP address");
        }
    }
    errors.into_list()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(kind: &str, ingress: Value) -> Vec<String> {
        let new = json!({"spec": {"type": kind}, "status": {
            "loadBalancer": {"ingress": ingress}, "conditions": [{"type": "Anything", "status": "True"}],
        }});
        let found = validate(&new, &json!({"spec": {"type": kind}}));
        found.into_iter().map(|error| error.field.replace(FIELD, "")).collect()
    }

    #[test]
    fn ingress_entries_are_addresses_or_names() {
        let rows = [
            ("S-074", "ClusterIP", json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]), vec![""]),
            (
                "S-075",
                "LoadBalancer",
                json!([{"ip": "192.0.2.1", "ipMode": "Proxy"}, {"hostname": "lb.example.com"}]),
                vec![],
            ),
            ("S-075", "LoadBalancer", json!([{"ip": "x", "ipMode": "VIP"}]), vec!["[0].ip"]),
            ("S-075", "LoadBalancer", json!([{"ip": "192.0.2.1"}]), vec!["[0].ipMode"]),
            ("S-075", "LoadBalancer", json!([{"ipMode": "VIP", "hostname": "a"}]), vec!["[0].ipMode"]),
            ("S-075", "LoadBalancer", json!([{"ip": "192.0.2.1", "ipMode": "Odd"}]), vec!["[0].ipMode"]),
            ("S-075", "LoadBalancer", json!([{"hostname": "192.0.2.1"}]), vec!["[0].hostname"]),
            ("S-075", "LoadBalancer", json!([{"hostname": "A_b"}]), vec!["[0].hostname"]),
            // Only the type of a Service is complained of here, never its conditions.
            ("S-136", "ClusterIP", json!([]), vec![]),
        ];
        for (statement, kind, ingress, expected) in rows {
            assert_eq!(fields(kind, ingress.clone()), expected, "{statement}: {ingress}");
        }
    }
}
