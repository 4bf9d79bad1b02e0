//! What a writer of a Service is warned of (S-073); none of it is an error.

use serde_json::Value;

use super::super::address::{is_canonical_cidr, is_canonical_ip, lenient_cidr, lenient_ip};
use super::super::json::{at, list, text, texts};
use super::{EXTERNAL_NAME, HEADLESS, TOPOLOGY_HINTS, TOPOLOGY_MODE, annotation, is_headless, kind, source_ranges};

pub(super) fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(text);
    if annotation(new, TOPOLOGY_HINTS).is_some() {
        warn(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    external_ips(new, &mut warn);
    if is_headless(new) {
        if !text(new, "/spec/loadBalancerIP").is_empty() {
            warn("spec.loadBalancerIP is ignored when spec.clusterIP is \"None\"".to_owned());
        }
        if text(new, "/spec/sessionAffinity") == "ClientIP" {
            warn("spec.sessionAffinity is ignored for headless services".to_owned());
        }
    }
    if kind(new) != EXTERNAL_NAME && !text(new, "/spec/externalName").is_empty() {
        warn("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(new, "/spec/trafficDistribution") == "PreferClose" {
        warn("spec.trafficDistribution: PreferClose is deprecated, please use PreferSameZone instead".to_owned());
    }
    odd_texts(new, &mut warn);
    warnings
}

fn external_ips(new: &Value, warn: &mut impl FnMut(String)) {
    if list(new, "/spec/externalIPs").is_empty() {
        return;
    }
    warn(match () {
        () if kind(new) == EXTERNAL_NAME => "spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned(),
        () if is_headless(new) => "spec.externalIPs is ignored when spec.clusterIP is \"None\"".to_owned(),
        () => "spec.externalIPs is deprecated in v1.36+".to_owned(),
    });
}

/// Addresses and ranges that are understood, but not written as we would write them.
fn odd_texts(new: &Value, warn: &mut impl FnMut(String)) {
    let listed = |field: &str| -> Vec<(String, String)> {
        let entries = texts(new, &format!("/spec/{field}"));
        entries.iter().enumerate().map(|(index, ip)| (format!("spec.{field}[{index}]"), (*ip).to_owned())).collect()
    };
    let mut addresses = listed("clusterIPs");
    addresses.extend(listed("externalIPs"));
    addresses.push(("spec.loadBalancerIP".to_owned(), text(new, "/spec/loadBalancerIP").to_owned()));
    for (index, entry) in list(at(new, "/status"), "/loadBalancer/ingress").iter().enumerate() {
        addresses.push((format!("status.loadBalancer.ingress[{index}].ip"), text(entry, "/ip").to_owned()));
    }
    for (field, ip) in addresses.iter().filter(|(_, ip)| ip != HEADLESS && lenient_ip(ip).is_some()) {
        if !is_canonical_ip(ip) {
            warn(format!("{field}: non-standard IP address {ip:?} will be considered invalid in a future release"));
        }
    }
    for (field, range) in source_ranges(new).iter().filter(|(_, range)| lenient_cidr(range).is_some()) {
        if !is_canonical_cidr(range) {
            warn(format!("{field}: non-standard CIDR {range:?} will be considered invalid in a future release"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_warning_has_its_occasion() {
        let rows = [
            (json!({}), None),
            (json!({"loadBalancerIP": "192.0.2.1"}), None),
            (json!({"externalIPs": ["192.0.2.1"]}), Some("spec.externalIPs is deprecated")),
            (json!({"type": "ExternalName", "externalIPs": ["192.0.2.1"]}), Some("spec.externalIPs is ignored")),
            (json!({"clusterIPs": ["None"], "externalIPs": ["192.0.2.1"]}), Some("spec.externalIPs is ignored")),
            (json!({"clusterIPs": ["None"], "loadBalancerIP": "192.0.2.1"}), Some("spec.loadBalancerIP is ignored")),
            (json!({"clusterIPs": ["None"], "sessionAffinity": "ClientIP"}), Some("spec.sessionAffinity is ignored")),
            (json!({"externalName": "x"}), Some("spec.externalName is ignored")),
            (
                json!({"trafficDistribution": "PreferClose"}),
                Some("spec.trafficDistribution: PreferClose is deprecated"),
            ),
            (json!({"trafficDistribution": "PreferSameZone"}), None),
            (json!({"clusterIPs": ["FD00::1"]}), Some("spec.clusterIPs[0]: non-standard IP address \"FD00::1\"")),
            (json!({"loadBalancerIP": "010.0.0.1"}), Some("spec.loadBalancerIP: non-standard IP address")),
            (
                json!({"loadBalancerSourceRanges": ["10.0.0.1/8"]}),
                Some("spec.LoadBalancerSourceRanges[0]: non-standard CIDR"),
            ),
        ];
        for (spec, expected) in rows {
            let found = warnings(&json!({"spec": spec}), None);
            match expected {
                None => assert!(found.is_empty(), "S-073: {spec}: {found:?}"),
                Some(start) => assert!(found.len() == 1 && found[0].starts_with(start), "S-073: {spec}: {found:?}"),
            }
        }
        let annotated = json!({"metadata": {"annotations": {TOPOLOGY_HINTS: "auto"}}, "spec": {}});
        assert_eq!(warnings(&annotated, None).len(), 1);
    }
}
