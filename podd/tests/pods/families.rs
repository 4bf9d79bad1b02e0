//! Pods and nodes with addresses of both IP families, or of IPv6 alone.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use minisvc_podd::Config;
use minisvc_sandbox::ExitStatus;
use serde_json::json;

use crate::lab::{Lab, NODE, shell, status};
use crate::tests;

tests![test_a_pod_has_an_address_of_each_family, test_without_ipv4_everything_is_ipv6];

/// Gives the first node another address, and the pods on it with it. The second node is not needed.
fn second_family(config: &mut Config) {
    config.nodes.truncate(1);
    config.nodes[0].addresses.push("fd00:95::11".parse().expect("an address"));
    config.nodes[0].pod_cidrs.push("fd00:244:0:1::/64".parse().expect("a network"));
}

/// All addresses of a pod and of its node, as its status tells them; the first of each is the one in singular.
fn addresses(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let status = status(pod);
    let own: Vec<String> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    let host: Vec<String> = status.host_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    assert_eq!((own.first(), host.first()), (status.pod_ip.as_ref(), status.host_ip.as_ref()));
    (own, host)
}

// P-004, P-071, N-091
async fn test_a_pod_has_an_address_of_each_family() {
    let lab = Lab::with(second_family).await;
    let node = Api::<Node>::all(lab.client.clone()).get(NODE).await.expect("a node");
    let spec = node.spec.expect("a specification");
    assert_eq!(spec.pod_cidr.as_deref(), Some("10.244.1.0/24"));
    assert_eq!(spec.pod_cidrs.unwrap_or_default(), ["10.244.1.0/24", "fd00:244:0:1::/64"]);
    let named = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let named: Vec<(&str, &str)> = named.iter().map(|a| (a.type_.as_str(), a.address.as_str())).collect();
    assert_eq!(named, [("InternalIP", "10.95.0.11"), ("InternalIP", "fd00:95::11"), ("Hostname", NODE)]);

    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut container = shell("app", "exec sleep 1000");
    container["env"] = json!([field("OWN", "status.podIPs"), field("HOST", "status.hostIPs")]);
    lab.pod("twofold", json!({"containers": [container]})).await;
    let (own, host) = addresses(&lab.ready("twofold").await);
    assert_eq!(own.len(), 2);
    assert!(own[0].starts_with("10.244.1.") && own[1].starts_with("fd00:244:0:1::"), "{own:?}");
    assert_eq!(host, ["10.95.0.11", "fd00:95::11"]);
    let [four, six] = [&own[0], &own[1]];
    for script in [
        format!("[ $OWN = {four},{six} ]"),
        "[ $HOST = 10.95.0.11,fd00:95::11 ]".to_owned(),
        format!("[ \"$(grep -w twofold /etc/hosts)\" = \"$(printf '{four}\\ttwofold\\n{six}\\ttwofold')\" ]"),
    ] {
        assert_eq!(lab.exec("twofold", &script).await, ExitStatus::Code(0), "{script}");
    }
    let namespace = lab.podd.pod_namespace("default", "twofold").expect("it runs");
    for address in &own {
        // Both are really there: something can be bound to them.
        let at = SocketAddr::new(address.parse().expect("an address"), 8080);
        namespace.listen_tcp(at).await.expect("an own address");
    }
    lab.delete("twofold", 0).await;
    lab.gone("twofold").await;
    lab.pod("once", json!({"hostNetwork": true, "restartPolicy": "Never", "containers": [shell("app", "exit 0")]}))
        .await;
    assert_eq!(addresses(&lab.phase("once", "Succeeded").await), (host.clone(), host), "a pod in its node's network");
    lab.stop().await;
}

// P-004, P-025
async fn test_without_ipv4_everything_is_ipv6() {
    let lab = Lab::with(|config| {
        second_family(config);
        config.nodes[0].addresses.remove(0);
        config.nodes[0].pod_cidrs.remove(0);
    })
    .await;
    lab.pod("six", json!({"containers": [shell("app", "exec sleep 1000")]})).await;
    let (own, host) = addresses(&lab.ready("six").await);
    assert_eq!((own, host), (vec!["fd00:244:0:1::2".to_owned()], vec!["fd00:95::11".to_owned()]));
    // The probe asks the pod's own, primary address, which here is the node's.
    let mut echo = json!({"name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "8080"}]});
    echo["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
    lab.pod("probed", json!({"hostNetwork": true, "containers": [echo]})).await;
    lab.ready("probed").await;
    lab.stop().await;
}
