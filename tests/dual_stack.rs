//! Labs of two IP families, and of IPv6 alone.

mod common;

use common::{Lab, echo, eventually, pod, service};
use serde_json::{Value, json};

/// The strings of a list.
fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// A pod that answers with who asked, and a Service of these families in front of it. Returns the virtual addresses.
fn web(lab: &Lab, policy: &str) -> Vec<String> {
    let mut service = service("web", &json!({"app": "web"}), 80, &json!(8080));
    service["spec"]["ipFamilyPolicy"] = json!(policy);
    lab.apply_all(&[service, pod("web", &json!([echo(8080)]), &json!({}))]);
    lab.ready("web");
    texts(&lab.get("service", "web")["spec"]["clusterIPs"])
}

/// Asks until there is an answer, because the endpoint may be on its way to the data plane.
fn answer(lab: &Lab, url: &str) -> String {
    eventually(url, || lab.fetch(url).ok().filter(|text| text.starts_with("200 ")))
}

// S-095, D-011, D-012, N-019, P-004
#[test]
fn a_service_of_both_families_is_reached_at_both_addresses() {
    let lab = Lab::start("dual", &["--ip-family", "dual"]);
    let [four, six] = <[String; 2]>::try_from(web(&lab, "PreferDualStack")).expect("two addresses");
    assert!(four.starts_with("10.96.") && six.starts_with("fd00:96::"), "{four} {six}");
    let addresses: Vec<Value> = lab.get("pod", "web")["status"]["podIPs"].as_array().cloned().expect("a list");
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for (url, client) in [(format!("http://{four}"), "10.95.0.1"), (format!("http://[{six}]"), "fd00:95::1")] {
        let text = answer(&lab, &url);
        assert!(text.contains(client), "{url} is answered {text}, where {client} asked");
    }
    for (kind, address) in [("A", &four), ("AAAA", &six)] {
        let text = eventually("the name", || {
            lab.dig("udp", kind, "web.default.svc.cluster.local.").ok().filter(|text| text.lines().count() == 2)
        });
        assert!(text.ends_with(address.as_str()), "{kind}: {text}");
    }
}

// S-095, S-169, N-019, N-079
#[test]
fn a_lab_of_ipv6_alone_works() {
    let lab = Lab::start("six", &["--ip-family", "ipv6"]);
    let addresses = web(&lab, "PreferDualStack");
    assert!(addresses.len() == 1 && addresses[0].starts_with("fd00:96::"), "{addresses:?}");
    assert_eq!(texts(&lab.get("service", "kubernetes")["spec"]["clusterIPs"]), ["fd00:96::1"]);
    let text = answer(&lab, "http://web");
    assert!(text.contains("fd00:95::1"), "{text}");
    let pods: Vec<Value> = lab.get("pod", "web")["status"]["podIPs"].as_array().cloned().expect("a list");
    assert!(pods.len() == 1 && pods[0]["ip"].as_str().is_some_and(|ip| ip.starts_with("fd00:244::")), "{pods:?}");
}
