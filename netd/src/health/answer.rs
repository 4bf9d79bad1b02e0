//! The answers. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::plan::Health;
use super::pulse::Pulse;
use crate::records::ObjectKey;

/// What a listener tells about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The node itself.
    Node,
    /// What its proxy is.
    Mode,
    /// A Service with a health check port.
    Service(ObjectKey),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// Header of its own: how many endpoints share what the node gets.
    pub(super) weight: Option<usize>,
    pub(super) body: String,
}

/// What a node says about a subject when it is asked for this path.
pub(super) fn answer(
    subject: &Subject,
    path: &str,
    node: &Arc<str>,
    health: &Health,
    pulse: &Pulse,
    now: Timestamp,
) -> Answer {
    match (subject, path) {
        // D-098: any path.
        (Subject::Service(key), _) => service(key, node, health, pulse.is_healthy()),
        (Subject::Node, "/healthz") => node_health(node, health, pulse, now, true),
        (Subject::Node, "/livez") => node_health(node, health, pulse, now, false),
        (Subject::Mode, "/proxyMode") => text(200, "minisvc"),
        (Subject::Node, _) => text(404, "there are /healthz and /livez\n"),
        (Subject::Mode, _) => text(404, "there is /proxyMode; the figures are at /metrics of the API\n"),
    }
}

fn text(status: u16, body: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", weight: None, body: body.to_owned() }
}

/// D-099, D-100: ready endpoints count, those that only drain do not.
fn service(key: &ObjectKey, node: &Arc<str>, health: &Health, healthy: bool) -> Answer {
    let ready = health.services.get(key).and_then(|service| service.ready.get(node)).copied().unwrap_or_default();
    let body = json!({
        "service": {"namespace": key.namespace, "name": key.name},
        "localEndpoints": ready,
        "serviceProxyHealthy": healthy,
    });
    let status = if ready > 0 && healthy { 200 } else { 503 };
    Answer { status, content_type: "application/json", weight: Some(ready), body: body.to_string() }
}

/// D-103. What is installed is up to date unless something waits, and then since when that does.
fn node_health(node: &Arc<str>, health: &Health, pulse: &Pulse, now: Timestamp, with_node: bool) -> Answer {
    let (state, healthy) = (health.nodes.get(node), pulse.is_healthy());
    let waiting = jiff::SignedDuration::try_from(pulse.waiting()).unwrap_or_default();
    let updated = now.checked_sub(waiting).unwrap_or(now);
    let family = json!({"lastUpdated": updated, "healthy": healthy});
    let families = [("IPv4", true), ("IPv6", state.is_some_and(|state| state.ipv6))];
    let status: serde_json::Map<_, _> =
        families.into_iter().filter(|(_, there)| *there).map(|(name, _)| (name.to_owned(), family.clone())).collect();
    let mut body = json!({"lastUpdated": updated, "currentTime": now, "status": status});
    let eligible = state.is_some_and(|state| !state.leaving);
    if with_node {
        body["nodeEligible"] = eligible.into();
    }
    let status = if healthy && (eligible || !with_node) { 200 } else { 503 };
    Answer { status, content_type: "application/json", weight: None, body: body.to_string() }
}

/// How long a connection may live: a load balancer asks once, or every few seconds.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use minisvc_translator::PortId;
    use serde_json::Value;

    use super::super::plan::{NodeHealth, ServiceHealth};
    use super::*;

    fn ask(subject: &Subject, path: &str, node: &str, leaving: bool, pulse: &Pulse) -> (u16, Option<usize>, Value) {
        let state = NodeHealth { link: PortId(1), ipv6: false, leaving };
        let service = ServiceHealth { port: 32_000, ready: BTreeMap::from([("a".into(), 2)]) };
        let health = Health {
            nodes: BTreeMap::from([("a".into(), state.clone()), ("b".into(), state)]),
            services: BTreeMap::from([(ObjectKey::new(Some("n"), Some("web")), service)]),
        };
        let now = "2026-01-02T03:04:05Z".parse().expect("a time");
        let answer = answer(subject, path, &node.into(), &health, pulse, now);
        assert_eq!(answer.content_type, "application/json");
        (answer.status, answer.weight, serde_json::from_str(&answer.body).expect("JSON"))
    }

    fn hanging() -> Pulse {
        Pulse::hanging_for(Duration::from_secs(11))
    }

    // D-098, D-099, D-100
    #[test]
    fn a_node_with_ready_endpoints_says_so_and_one_without_does_too() {
        let web = Subject::Service(ObjectKey::new(Some("n"), Some("web")));
        let body = |endpoints: usize, healthy: bool| json!({"service": {"namespace": "n", "name": "web"}, "localEndpoints": endpoints, "serviceProxyHealthy": healthy});
        assert_eq!(ask(&web, "/", "a", false, &Pulse::new()), (200, Some(2), body(2, true)));
        assert_eq!(ask(&web, "/whatever", "a", false, &Pulse::new()).0, 200);
        assert_eq!(ask(&web, "/", "b", false, &Pulse::new()), (503, Some(0), body(0, true)));
        assert_eq!(ask(&web, "/", "a", false, &hanging()), (503, Some(2), body(2, false)));
    }

    // D-103
    #[test]
    fn a_node_that_leaves_or_does_not_keep_up_is_not_healthy() {
        let time = "2026-01-02T03:04:05Z";
        let family = json!({"IPv4": {"lastUpdated": time, "healthy": true}});
        let body = json!({"lastUpdated": time, "currentTime": time, "status": family, "nodeEligible": true});
        assert_eq!(ask(&Subject::Node, "/healthz", "a", false, &Pulse::new()), (200, None, body));
        let (status, _, body) = ask(&Subject::Node, "/healthz", "a", true, &Pulse::new());
        assert_eq!((status, &body["nodeEligible"]), (503, &json!(false)));
        let (status, _, body) = ask(&Subject::Node, "/livez", "a", true, &Pulse::new());
        assert_eq!((status, &body["nodeEligible"]), (200, &Value::Null), "without the node's state");
        for path in ["/healthz", "/livez"] {
            let (status, _, body) = ask(&Subject::Node, path, "a", false, &hanging());
            assert_eq!((status, &body["status"]["IPv4"]["healthy"]), (503, &json!(false)));
            assert_ne!(body["lastUpdated"], body["currentTime"]);
        }
    }
}
