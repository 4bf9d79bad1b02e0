//! The downward API: what a pod may be told about itself (P-071 to P-073).

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};
use minisvc_schema::Amount;
use thiserror::Error;

/// What is not in the manifest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Addresses of the pod, empty before it has a sandbox.
    pub(crate) pod_ips: Vec<IpAddr>,
    /// Addresses of its node.
    pub(crate) host_ips: Vec<IpAddr>,
    /// Allocatable cpu of the node, for a container without a limit.
    pub(crate) node_cpu: String,
    /// Allocatable memory of the node.
    pub(crate) node_memory: String,
}

/// Why a reference has no value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum FieldError {
    /// No such field, or not here.
    #[error("field path {0:?} is not supported")]
    Unsupported(String),
    /// No such resource.
    #[error("resource {0:?} is not supported")]
    Resource(String),
    /// No such container.
    #[error("container {0:?} not found")]
    Container(String),
}

/// A field for a variable (P-071).
///
/// # Errors
/// For a path the downward API does not have for variables.
pub(crate) fn env_field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, FieldError> {
    let spec = pod.spec.as_ref();
    let join = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let value = match path {
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()),
        "status.hostIP" => Some(first(&facts.host_ips)),
        "status.hostIPs" => Some(join(&facts.host_ips)),
        "status.podIP" => Some(first(&facts.pod_ips)),
        "status.podIPs" => Some(join(&facts.pod_ips)),
        // P-072: the whole maps are for volumes only.
        "metadata.labels" | "metadata.annotations" => return Err(FieldError::Unsupported(path.to_owned())),
        _ => return volume_field(pod, path),
    };
    Ok(value.unwrap_or_default())
}

/// A field for a file of a volume (P-072).
///
/// # Errors
/// For a path the downward API does not have for volumes.
pub(crate) fn volume_field(pod: &Pod, path: &str) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let subscript = |map: &str| path.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = subscript("metadata.labels") {
        return Ok(meta.labels.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Ok(meta.annotations.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let value = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(meta.labels.iter().flatten())),
        "metadata.annotations" => Some(lines(meta.annotations.iter().flatten())),
        _ => return Err(FieldError::Unsupported(path.to_owned())),
    };
    Ok(value.unwrap_or_default())
}

/// `key="value"` a line, values quoted so that one line stays one line.
fn lines<'a>(map: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let mut out = String::new();
    for (key, value) in map {
        if !out.is_empty() {
            out.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{key}={value:?}");
    }
    out
}

/// A resource of a container (P-073); without a limit the node's allocatable amount.
///
/// # Errors
/// For an unknown container or resource, or a quantity that cannot be read.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    name: Option<&str>,
    resource: &str,
    divisor: Option<&str>,
    facts: &Facts,
) -> Result<String, FieldError> {
    let container = match name.filter(|name| !name.is_empty()) {
        Some(name) => find(pod, name).ok_or_else(|| FieldError::Container(name.to_owned()))?,
        None => own.ok_or_else(|| FieldError::Container(String::new()))?,
    };
    let unknown = || FieldError::Resource(resource.to_owned());
    let (side, kind) = resource.split_once('.').ok_or_else(unknown)?;
    if !matches!(kind, "cpu" | "memory" | "ephemeral-storage") && !kind.starts_with("hugepages-") {
        return Err(unknown());
    }
    let resources = container.resources.as_ref();
    let amounts = match side {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unknown()),
    };
    let node = match (side, kind) {
        ("limits", "cpu") => facts.node_cpu.as_str(),
        ("limits", "memory") => facts.node_memory.as_str(),
        _ => "0",
    };
    let amount = amounts.and_then(|map| map.get(kind)).map_or(node, |quantity| quantity.0.as_str());
    // The API server writes an unset divisor as "0".
    let divisor = divisor.filter(|d| !d.is_empty() && *d != "0").unwrap_or("1");
    let count = Amount::parse(amount).zip(Amount::parse(divisor)).and_then(|(amount, unit)| amount.in_units_of(unit));
    count.map(|count| count.to_string()).ok_or_else(unknown)
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> (Pod, Facts) {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1",
                "labels": {"app": "web"}, "annotations": {"note": "two\nlines", "x": "1"}},
            "spec": {"nodeName": "node-1", "serviceAccountName": "default", "containers": [
                {"name": "app", "resources": {"limits": {"cpu": "500m"}, "requests": {"memory": "64Mi"}}}]},
        }));
        let facts = Facts {
            pod_ips: vec!["10.244.1.2".parse().expect("an address"), "fd00::2".parse().expect("an address")],
            host_ips: vec!["10.95.0.11".parse().expect("an address")],
            node_cpu: "4".to_owned(),
            node_memory: "8Gi".to_owned(),
        };
        (pod.expect("a pod"), facts)
    }

    #[test]
    fn fields_for_variables() {
        let (pod, facts) = sample();
        let table = [
            ("P-071", "metadata.name", "web-0"),
            ("P-071", "metadata.namespace", "shop"),
            ("P-071", "metadata.uid", "u-1"),
            ("P-071", "metadata.labels['app']", "web"),
            ("P-071", "metadata.annotations['x']", "1"),
            ("P-071", "metadata.labels['none']", ""),
            ("P-071", "spec.nodeName", "node-1"),
            ("P-071", "spec.serviceAccountName", "default"),
            ("P-071", "status.hostIP", "10.95.0.11"),
            ("P-071", "status.hostIPs", "10.95.0.11"),
            ("P-071", "status.podIP", "10.244.1.2"),
            ("P-071", "status.podIPs", "10.244.1.2,fd00::2"),
        ];
        for (statement, path, expected) in table {
            assert_eq!(env_field(&pod, &facts, path).as_deref(), Ok(expected), "{statement} {path}");
        }
    }

    // P-072
    #[test]
    fn whole_maps_are_for_volumes() {
        let (pod, facts) = sample();
        assert!(env_field(&pod, &facts, "metadata.labels").is_err());
        assert_eq!(volume_field(&pod, "metadata.annotations").as_deref(), Ok("note=\"two\\nlines\"\nx=\"1\""));
        assert!(volume_field(&pod, "status.podIP").is_err());
    }

    #[test]
    fn resources_come_from_the_container_or_the_node() {
        let (pod, facts) = sample();
        let own = pod.spec.as_ref().map(|spec| &spec.containers[0]);
        let table = [
            ("P-073", "limits.cpu", Some("1m"), "500"),
            ("P-073", "limits.cpu", Some("0"), "1"),
            ("P-073", "limits.memory", Some("1Gi"), "8"),
            ("P-073", "requests.memory", Some("1Mi"), "64"),
            ("P-073", "requests.cpu", None, "0"),
        ];
        for (statement, name, divisor, expected) in table {
            let got = resource(&pod, own, None, name, divisor, &facts);
            assert_eq!(got.as_deref(), Ok(expected), "{statement} {name}");
        }
        assert!(resource(&pod, None, Some("app"), "limits.cpu", None, &facts).is_ok());
        assert!(resource(&pod, None, Some("nope"), "limits.cpu", None, &facts).is_err());
        assert!(resource(&pod, own, None, "limits.gpu", None, &facts).is_err());
    }
}
