//! Whom a request to `…/proxy` is for: the name in the path, and the address and port behind it (S-228 to S-231). Pure.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::error::ApiError;

/// `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id {
    /// The scheme is `https`.
    pub(super) tls: bool,
    pub(super) name: String,
    /// A number, a name, or empty.
    pub(super) port: String,
}

impl Id {
    /// Reads the path segment; `what` is the word for its kind in the refusal.
    pub(super) fn parse(id: &str, what: &str) -> Result<Self, ApiError> {
        let words: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match words.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(ApiError::BadRequest(format!(
                "invalid {what} request {id:?}: write NAME, NAME:PORT or http:NAME:PORT (or https)"
            )));
        }
        Ok(Self { tls: scheme == "https", name: name.to_owned(), port: port.to_owned() })
    }
}

/// Where a pod listens. Without a port it is the first that a container declares.
pub(super) fn pod(id: &Id, pod: &Value) -> Result<SocketAddr, ApiError> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut declared = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok());
    let port = match (id.port.as_str(), id.port.parse::<u16>()) {
        ("", _) => Some(declared.next().and_then(number).unwrap_or_else(|| default_port(id))),
        (_, Ok(port)) => Some(port),
        (name, Err(_)) => declared.find(|port| port["name"] == name).and_then(number),
    };
    let port = port
        .filter(|port| *port > 0)
        .ok_or_else(|| ApiError::BadRequest(format!("pod {:?} has no port {:?}: name its number", id.name, id.port)))?;
    Ok(SocketAddr::new(first_address(&pod["status"]["podIPs"], "ip", &id.name)?, port))
}

/// Where a node listens. Nothing of a node listens by itself here, so the port must be named.
pub(super) fn node(id: &Id, node: &Value) -> Result<SocketAddr, ApiError> {
    if id.port.is_empty() {
        return Err(ApiError::ServiceUnavailable(format!(
            "node {:?} serves no kubelet API: name the port of what listens there, nodes/{}:PORT/proxy",
            id.name, id.name
        )));
    }
    let port = id.port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| ApiError::BadRequest(format!("{:?} is not a port", id.port)))?;
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let internal = addresses.filter(|address| address["type"] == "InternalIP").cloned().collect();
    Ok(SocketAddr::new(first_address(&Value::Array(internal), "address", &id.name)?, port))
}

/// The name of the Service port that is meant: a number is looked up among the Service's ports (S-229).
pub(super) fn service_port(id: &Id, service: &Value) -> Result<String, ApiError> {
    let Ok(number) = id.port.parse::<u64>() else { return Ok(id.port.clone()) };
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    match ports.find(|port| port["port"] == number) {
        Some(port) => Ok(port["name"].as_str().unwrap_or_default().to_owned()),
        None => {
            let why = format!("no service port {number} found for service {:?}", id.name);
            Err(ApiError::ServiceUnavailable(why))
        }
    }
}

/// An address that a Service may be reached at, provided that the pod has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: SocketAddr,
    pub(super) pod: String,
}

/// The ready endpoints of this port whose target is a pod of this namespace (S-231).
pub(super) fn candidates(slice: &Value, namespace: &str, port: &str) -> Vec<Candidate> {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let Some(port) = ports.find(|entry| entry["name"].as_str().unwrap_or_default() == port) else { return Vec::new() };
    let Some(number) = port["port"].as_u64().and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    let mut found = Vec::new();
    for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
        let target = &endpoint["targetRef"];
        if endpoint["conditions"]["ready"] == false || target["kind"] != "Pod" || target["namespace"] != namespace {
            continue;
        }
        let Some(pod) = target["name"].as_str() else { continue };
        let addresses = endpoint["addresses"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
        found.extend(
            addresses
                .filter(is_allowed)
                .map(|address| Candidate { address: SocketAddr::new(address, number), pod: pod.to_owned() }),
        );
    }
    found
}

/// The pod still has this address.
pub(super) fn owns(pod: &Value, address: IpAddr) -> bool {
    let addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
    addresses.filter_map(|entry| entry["ip"].as_str()?.parse::<IpAddr>().ok()).any(|own| own == address)
}

fn default_port(id: &Id) -> u16 {
    if id.tls { 443 } else { 80 }
}

fn first_address(list: &Value, field: &str, name: &str) -> Result<IpAddr, ApiError> {
    let mut addresses = list.as_array().into_iter().flatten();
    let address = addresses.find_map(|entry| entry[field].as_str()?.parse::<IpAddr>().ok());
    let Some(address) = address else {
        return Err(ApiError::BadRequest(format!("address not allowed: {name:?} has none yet")));
    };
    if is_allowed(&address) {
        return Ok(address);
    }
    Err(ApiError::BadRequest(format!("address not allowed: {address}")))
}

/// Addresses that mean something else to whoever connects are no targets: a status can be written by others than podd.
fn is_allowed(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(text: &str) -> Id {
        Id::parse(text, "service").expect("an id")
    }

    // S-228, S-230
    #[test]
    fn ids_name_scheme_name_and_port() {
        for (text, tls, name, port) in [
            ("web", false, "web", ""),
            ("web:80", false, "web", "80"),
            ("web:http", false, "web", "http"),
            ("http:web:", false, "web", ""),
            ("https:web:443", true, "web", "443"),
            (":web:80", false, "web", "80"),
        ] {
            assert_eq!(id(text), Id { tls, name: name.to_owned(), port: port.to_owned() }, "{text}");
        }
        for wrong in ["", ":80", "ftp:web:80", "http::80", "a:b:c:d"] {
            let refused = Id::parse(wrong, "service").expect_err(wrong);
            assert!(refused.to_string().starts_with(&format!("invalid service request {wrong:?}")), "{refused}");
            assert_eq!(refused.code(), 400);
        }
    }

    #[test]
    fn a_pod_s_first_port_is_its_default() {
        let object = json!({
            "spec": {"containers": [
                {"name": "a"},
                {"name": "b", "ports": [{"containerPort": 8080}, {"name": "metrics", "containerPort": 9090}]},
            ]},
            "status": {"podIPs": [{"ip": "10.244.0.5"}]},
        });
        for (text, expected) in
            [("web", "10.244.0.5:8080"), ("web:81", "10.244.0.5:81"), ("web:metrics", "10.244.0.5:9090")]
        {
            assert_eq!(pod(&id(text), &object).expect("a target").to_string(), expected);
        }
        assert_eq!(pod(&id("https:web:"), &json!({"status": object["status"]})).expect("a target").port(), 443);
        for (text, object, expected) in [
            ("web:none", object.clone(), "has no port \"none\""),
            ("web:0", object.clone(), "has no port \"0\""),
            ("web", json!({"status": {"podIPs": [{"ip": "127.0.0.1"}]}}), "address not allowed: 127.0.0.1"),
            ("web", json!({"status": {}}), "address not allowed: \"web\" has none yet"),
        ] {
            let refused = pod(&id(text), &object).expect_err(text);
            assert!(refused.to_string().contains(expected) && refused.code() == 400, "{refused}");
        }
    }

    #[test]
    fn a_node_is_reached_at_its_internal_address() {
        let addresses =
            json!([{"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "10.95.0.11"}]);
        let object = json!({"status": {"addresses": addresses}});
        assert_eq!(node(&id("node-1:30080"), &object).expect("a target").to_string(), "10.95.0.11:30080");
        let refused = node(&id("node-1"), &object).expect_err("no port");
        assert!(refused.code() == 503 && refused.to_string().contains("nodes/node-1:PORT/proxy"), "{refused}");
        assert_eq!(node(&id("node-1:http"), &object).expect_err("no number").code(), 400);
    }

    // S-229, S-230
    #[test]
    fn the_number_of_a_service_port_stands_for_its_name() {
        let service = json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "web", "port": 8080}]}});
        for (text, expected) in [("x:80", "http"), ("x:8080", "web"), ("x:other", "other"), ("x", "")] {
            assert_eq!(service_port(&id(text), &service).expect("a port"), expected);
        }
        let refused = service_port(&id("x:81"), &service).expect_err("no such port");
        assert_eq!(refused, ApiError::ServiceUnavailable("no service port 81 found for service \"x\"".to_owned()));
    }

    // S-229, S-231
    #[test]
    fn only_ready_endpoints_of_pods_are_candidates() {
        let endpoint = |ip: &str, ready: bool, target: Value| json!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": target});
        let pod = |namespace: &str| json!({"kind": "Pod", "namespace": namespace, "name": "a"});
        let slice = json!({
            "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}],
            "endpoints": [
                endpoint("10.244.0.5", true, pod("default")),
                endpoint("10.244.0.6", false, pod("default")),
                endpoint("10.244.0.7", true, pod("other")),
                endpoint("10.244.0.8", true, Value::Null),
                endpoint("127.0.0.1", true, pod("default")),
            ],
        });
        let found = candidates(&slice, "default", "metrics");
        let address = "10.244.0.5:9090".parse().expect("an address");
        assert_eq!(found, [Candidate { address, pod: "a".to_owned() }]);
        assert_eq!(candidates(&slice, "default", ""), []);
        assert!(owns(&json!({"status": {"podIPs": [{"ip": "10.244.0.5"}]}}), address.ip()));
        assert!(!owns(&json!({"status": {"podIPs": [{"ip": "10.244.0.9"}]}}), address.ip()));
    }
}
