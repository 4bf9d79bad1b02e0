//! What somebody changed in a Service, as the Events that tell of it (S-139). Pure.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::desired::is_load_balancer;

/// Reason and message of one Event.
pub(crate) type Note = (&'static str, String);

/// The Events for a change, if the Service is or was of type LoadBalancer.
pub(crate) fn changes(before: &Service, after: &Service) -> Vec<Note> {
    if !is_load_balancer(before) && !is_load_balancer(after) {
        return Vec::new();
    }
    let (Some(old), Some(new)) = (&before.spec, &after.spec) else { return Vec::new() };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<i32>| number.unwrap_or_default().to_string();
    let count = |spec: &ServiceSpec| format!("Count: {}", spec.external_ips.as_ref().map_or(0, Vec::len));
    let list =
        |list: &Option<Vec<String>>| format!("[{}]", list.iter().flatten().cloned().collect::<Vec<_>>().join(" "));
    let mut notes = Vec::new();
    let mut note = |reason, changed: bool, before: String, after: String| {
        if changed {
            notes.push((reason, format!("{before} -> {after}")));
        }
    };
    note("Type", old.type_ != new.type_, text(&old.type_), text(&new.type_));
    let ranges = |spec: &ServiceSpec| list(&spec.load_balancer_source_ranges);
    note("LoadBalancerSourceRanges", ranges(old) != ranges(new), ranges(old), ranges(new));
    let asked = |spec: &ServiceSpec| text(&spec.load_balancer_ip);
    note("LoadbalancerIP", asked(old) != asked(new), asked(old), asked(new));
    note("ExternalIP", list(&old.external_ips) != list(&new.external_ips), count(old), count(new));
    let policy = |spec: &ServiceSpec| text(&spec.external_traffic_policy);
    note("ExternalTrafficPolicy", policy(old) != policy(new), policy(old), policy(new));
    let check = |spec: &ServiceSpec| number(spec.health_check_node_port);
    note("HealthCheckNodePort", check(old) != check(new), check(old), check(new));
    notes
}
