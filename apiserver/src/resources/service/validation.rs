//! The rules of a Service, put together (services.md sections 3 and 4).
//!
//! Names, labels and annotations in general are `meta`'s, ports are in `ports`, addresses and families in `addresses`.

use serde_json::Value;

use super::super::address::{check_not_special, lenient_cidr, lenient_ip, strict_cidr, strict_ip};
use super::super::check::Errors;
use super::super::json::{at, has, integer, list, text, texts};
use super::super::meta;
use super::{
    CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT, SOURCE_RANGES_ANNOTATION, TOPOLOGY_HINTS, TOPOLOGY_MODE,
    addresses, annotation, health_check_port, is_externally_accessible, kind, needs_health_check_port, ports,
    source_ranges,
};
use crate::registry::FieldError;

const TYPES: [&str; 4] = [CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT];
const ONLY_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
/// A day (S-056).
const AFFINITY_SECONDS: i64 = 86_400;

pub(super) fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    ports::validate(&mut errors, new);
    errors.one_of("spec.type", kind(new), &TYPES);
    if kind(new) == EXTERNAL_NAME {
        external_name(&mut errors, new);
    }
    meta::labels(&mut errors, "spec.selector", at(new, "/spec/selector"));
    affinity(&mut errors, new);
    addresses::validate(&mut errors, new, old);
    external_ips(&mut errors, new, old);
    balancer(&mut errors, new, old);
    policies(&mut errors, new);
    topology(&mut errors, new);
    if let Some(old) = old {
        unchanged(&mut errors, new, old);
    }
    errors.into_list()
}

/// S-053
fn external_name(errors: &mut Errors, new: &Value) {
    let name = text(new, "/spec/externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required("spec.externalName", ""),
        stripped => errors.rule("spec.externalName", name, meta::subdomain(stripped)),
    }
}

/// S-055, S-056
fn affinity(errors: &mut Errors, new: &Value) {
    let affinity = text(new, "/spec/sessionAffinity");
    errors.one_of("spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    if affinity == "ClientIP" {
        let seconds = integer(new, "/spec/sessionAffinityConfig/clientIP/timeoutSeconds");
        if let Some(seconds) = seconds.filter(|seconds| !(1..=AFFINITY_SECONDS).contains(seconds)) {
            errors.invalid(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                seconds,
                format!("must be greater than 0 and less than {AFFINITY_SECONDS}"),
            );
        }
    }
}

/// S-058, S-059, S-083
fn external_ips(errors: &mut Errors, new: &Value, old: Option<&Value>) {
    let stored = old.map(|old| texts(old, "/spec/externalIPs")).unwrap_or_default();
    for (index, entry) in texts(new, "/spec/externalIPs").into_iter().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        let ip = match lenient_ip(entry).filter(|_| stored.contains(&entry)) {
            Some(ip) => Ok(ip),
            None => strict_ip(entry),
        };
        match ip {
            Ok(ip) => check_not_special(errors, &field, entry, ip),
            Err(why) => errors.invalid(field, entry, why),
        }
    }
}

/// What only a LoadBalancer may have (S-060, S-061, S-065, S-066, S-069).
fn balancer(errors: &mut Errors, new: &Value, old: Option<&Value>) {
    let is_balancer = kind(new) == LOAD_BALANCER;
    let class = text(new, "/spec/loadBalancerClass");
    if !is_balancer {
        if !list(new, "/spec/loadBalancerSourceRanges").is_empty() {
            errors.forbidden("spec.LoadBalancerSourceRanges", ONLY_BALANCER);
        }
        if annotation(new, SOURCE_RANGES_ANNOTATION).is_some() {
            errors.forbidden(format!("metadata.annotations[{SOURCE_RANGES_ANNOTATION}]"), ONLY_BALANCER);
        }
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if has(new, &format!("/spec/{field}")) {
                errors.forbidden(format!("spec.{field}"), ONLY_BALANCER);
            }
        }
    } else if has(new, "/spec/loadBalancerClass") {
        errors.rule("spec.loadBalancerClass", class, meta::qualified_name(class));
    }
    if is_balancer {
        let stored: Vec<String> =
            old.map(source_ranges).unwrap_or_default().into_iter().map(|(_, range)| range).collect();
        for (field, range) in source_ranges(new) {
            if !(stored.contains(&range) && lenient_cidr(&range).is_some()) {
                errors.rule(field, range.as_str(), strict_cidr(&range).map(drop));
            }
        }
    }
    if let Some(port) = health_check_port(new) {
        let field = "spec.healthCheckNodePort";
        if !needs_health_check_port(new) {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(field, port, why);
        }
        errors.between(field, Some(port), 0, 65_535);
    }
}

/// S-067, S-068, S-070
fn policies(errors: &mut Errors, new: &Value) {
    let external = text(new, "/spec/externalTrafficPolicy");
    if !is_externally_accessible(new) {
        if !external.is_empty() {
            let why = "may only be set for externally-accessible services";
            errors.invalid("spec.externalTrafficPolicy", external, why);
        }
    } else {
        errors.one_of("spec.externalTrafficPolicy", external, &["Cluster", "Local"]);
    }
    if has(new, "/spec/internalTrafficPolicy") {
        let internal = text(new, "/spec/internalTrafficPolicy");
        errors.one_of("spec.internalTrafficPolicy", internal, &["Cluster", "Local"]);
    }
    if has(new, "/spec/trafficDistribution") {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        errors.one_of("spec.trafficDistribution", text(new, "/spec/trafficDistribution"), &known);
    }
}

/// S-071
fn topology(errors: &mut Errors, new: &Value) {
    if let (Some(mode), Some(hints)) = (annotation(new, TOPOLOGY_MODE), annotation(new, TOPOLOGY_HINTS))
        && mode != hints
    {
        let field = format!("metadata.annotations[{TOPOLOGY_MODE}]");
        errors.invalid(field, mode, format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified"));
    }
}

/// S-080, S-081
fn unchanged(errors: &mut Errors, new: &Value, old: &Value) {
    if kind(new) == LOAD_BALANCER
        && kind(old) == LOAD_BALANCER
        && text(new, "/spec/loadBalancerClass") != text(old, "/spec/loadBalancerClass")
    {
        let class = at(new, "/spec/loadBalancerClass").clone();
        errors.invalid("spec.loadBalancerClass", class, "may not change once set");
    }
    if needs_health_check_port(new) && needs_health_check_port(old) && health_check_port(new) != health_check_port(old)
    {
        errors.forbidden("spec.healthCheckNodePort", "field is immutable");
    }
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;
