//! Services of type LoadBalancer, end to end.

mod common;

use common::{Lab, eventually, pod};
use serde_json::{Value, json};

fn balancer(name: &str, more: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

fn ingress(service: &Value) -> Option<&str> {
    service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()
}

fn given(lab: &Lab, name: &str) -> String {
    let service = lab.until("given an address", "svc", name, |service| ingress(service).is_some());
    ingress(&service).expect("there").to_owned()
}

// S-127, S-128, D-064
#[test]
fn an_address_answers_and_is_kept_over_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut lab = Lab::start_in("balancer", folder.path(), &["--publish", "none"]);
    lab.apply_all(&[
        pod("web", &json!([common::echo(8080)]), &json!({})),
        balancer("first", &json!({})),
        balancer("second", &json!({})),
    ]);
    lab.ready("web");
    let (first, second) = (given(&lab, "first"), given(&lab, "second"));
    assert_ne!(first, second);
    assert!(lab.run(&["get", "svc"]).contains(&first));
    for address in [&first, &second] {
        let text = eventually("an answer", || lab.fetch(&format!("http://{address}/")).ok());
        assert!(text.contains("web on node-1"), "{text}");
        assert!(lab.fetch_in("web", &format!("http://{address}/")).is_ok(), "from a pod");
    }
    lab.run(&["delete", "svc", "first"]);
    assert!(lab.interrupt().success());
    drop(lab);
    let lab = Lab::start_in("balancer", folder.path(), &["--publish", "none"]);
    assert_eq!(given(&lab, "second"), second);
    lab.apply(&balancer("third", &json!({})).to_string());
    assert_eq!(given(&lab, "third"), first, "what is free is given again");
}

// S-126, S-128, S-139
#[test]
fn an_empty_pool_is_told_and_the_other_addresses_work() {
    let lab = Lab::start("pending", &["--publish", "none", "--lb-cidr", "10.95.1.0/30"]);
    lab.apply_all(&[
        pod("web", &json!([common::echo(8080)]), &json!({})),
        balancer("a", &json!({})),
        balancer("b", &json!({})),
    ]);
    lab.ready("web");
    given(&lab, "a");
    given(&lab, "b");
    lab.apply(&balancer("c", &json!({})).to_string());
    let message = eventually("an Event", || {
        let events = lab.list("events");
        let event = events.iter().find(|event| event["reason"] == "SyncLoadBalancerFailed")?;
        Some(event["message"].as_str().unwrap_or_default().to_owned())
    });
    assert!(message.contains("no address is left in the pool 10.95.1.0/30"), "{message}");
    assert!(lab.run(&["get", "svc", "c"]).contains("<pending>"));
    let node_port = &lab.get("svc", "c")["spec"]["ports"][0]["nodePort"];
    assert!(eventually("an answer", || lab.fetch(&format!("http://10.95.0.11:{node_port}/")).ok()).contains("web"));
    lab.run(&["delete", "svc", "a"]);
    given(&lab, "c");
}

// S-133, D-066, D-067
#[test]
fn source_ranges_guard_the_address_and_nothing_else() {
    let lab = Lab::start("ranges", &["--publish", "none"]);
    let mut service = balancer("web", &json!({"loadBalancerSourceRanges": ["192.0.2.0/24"]}));
    lab.apply_all(&[pod("web", &json!([common::echo(8080)]), &json!({})), service.clone()]);
    lab.ready("web");
    let address = given(&lab, "web");
    let vip = lab.get("svc", "web")["spec"]["clusterIP"].as_str().expect("set").to_owned();
    eventually("an answer", || lab.fetch(&format!("http://{vip}/")).ok());
    assert!(lab.fetch(&format!("http://{address}/")).is_err(), "nobody answers whom the ranges leave out");
    service["spec"]["loadBalancerSourceRanges"] = json!(["10.95.0.1/32"]);
    lab.apply(&service.to_string());
    eventually("an answer", || lab.fetch(&format!("http://{address}/")).ok());
}
