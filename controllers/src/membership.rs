//! Which Services a changed pod, Service or node concerns: shared by the controllers of EndpointSlices and Endpoints
//! (S-198).

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use crate::cache::{Cache, Change, Key};
use crate::caches::Caches;
use crate::pod::Pod;
use crate::pods;
use crate::queue::{Queue, Reason};
use crate::selector::service_selects;

/// Whether a controller makes endpoints for the Service at all (S-174, S-187).
pub(crate) fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|pairs| !pairs.is_empty())
    })
}

/// What Services are filed under: the first pair of their selector, which a pod that they select has among its labels.
pub(crate) fn files(service: &Service) -> Option<Key> {
    let pairs = service.spec.as_ref()?.selector.as_ref().filter(|_| has_selector(service))?;
    let (name, value) = pairs.first_key_value()?;
    Some(file(service.metadata.namespace.as_deref(), name, value))
}

fn file(namespace: Option<&str>, name: &str, value: &str) -> Key {
    Key::new(namespace.unwrap_or_default(), format!("{name}={value}"))
}

/// The Services that select the pod.
fn selecting(services: &Cache<Service>, pod: &Pod) -> Vec<Arc<Service>> {
    let labels = pod.labels.iter();
    let filed = labels.flat_map(|(name, value)| services.filed(&file(pod.metadata.namespace.as_deref(), name, value)));
    filed.filter(|service| selects(service, pod)).collect()
}

/// The pods that the Service's selector matches, by name.
pub(crate) fn selected(service: &Service, pods: &Cache<Pod>) -> Vec<Arc<Pod>> {
    pods.select(service.metadata.namespace.as_deref().unwrap_or_default(), |pod| selects(service, pod))
}

/// How a controller's queue takes a Service: at once, or behind ([`Queue::add`], [`Queue::add_behind`]).
pub(crate) type Add = fn(&Queue<Key>, Key, Reason);

/// Puts a Service into `queue` when something happens that its endpoints depend on; `add` is for what pods do.
pub(crate) fn feed(caches: &Caches, queue: &Arc<Queue<Key>>, add: Add) {
    let (services, to) = (caches.services.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        if !matters(change) {
            return;
        }
        // Each once, whether it selects one state or both.
        let keys: BTreeSet<Key> = change
            .states()
            .flat_map(|pod| selecting(&services, pod))
            .map(|service| Key::of(&service.metadata))
            .collect();
        keys.into_iter().for_each(|key| add(&to, key, "a pod changed"));
    });
    let to = queue.clone();
    caches.services.on_change(move |change| {
        if let Some(service) = change.states().last() {
            to.add(Key::of(&service.metadata), "the Service changed");
        }
    });
    let (services, pods, to) = (caches.services.clone(), caches.pods.clone(), queue.clone());
    caches.nodes.on_change(move |change| {
        // Its labels are read at each run but do not start one; its arrival does (S-197).
        let (None, Some(node)) = (change.before, change.after) else { return };
        let waiting = pods.all().into_iter().filter(|pod| pods::node_name(pod) == node.metadata.name.as_deref());
        for pod in waiting {
            for service in selecting(&services, &pod) {
                to.add(Key::of(&service.metadata), "a pod's node appeared");
            }
        }
    });
}

fn selects(service: &Service, pod: &Pod) -> bool {
    has_selector(service) && service_selects(service.spec.as_ref().and_then(|spec| spec.selector.as_ref()), &pod.labels)
}

/// Whether a pod changed in a way that any Service can see (S-198).
fn matters(change: &Change<'_, Pod>) -> bool {
    let (Some(before), Some(after)) = (change.before, change.after) else { return true };
    let readiness = |pod: &Pod| pods::condition(pod, "Ready").map(|ready| ready.status.clone());
    let names = |pod: &Pod| pod.spec.as_ref().map(|spec| (spec.hostname.clone(), spec.subdomain.clone()));
    before.metadata.uid != after.metadata.uid
        || before.labels != after.labels
        || pods::is_terminating(before) != pods::is_terminating(after)
        || pods::phase(before) != pods::phase(after)
        || pods::node_name(before) != pods::node_name(after)
        || pods::address(before, false) != pods::address(after, false)
        || pods::address(before, true) != pods::address(after, true)
        || readiness(before) != readiness(after)
        || names(before) != names(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Origin;
    use crate::fixtures::{Fixture, pod};

    // S-198
    #[test]
    fn a_pod_finds_the_services_that_select_it() {
        let services = Cache::packing_filed(|service| files(service).into_iter().collect());
        let all = [
            ("one-pair", serde_json::json!({"app": "web"})),
            ("two-pairs", serde_json::json!({"app": "web", "tier": "front"})),
            ("another-value", serde_json::json!({"app": "api"})),
            ("one-too-many", serde_json::json!({"app": "web", "zone": "z"})),
            ("no-pair", serde_json::json!({})),
        ];
        for (name, selector) in all {
            for namespace in ["default", "other"] {
                let metadata = serde_json::json!({"namespace": namespace, "name": name, "resourceVersion": "1"});
                let object = serde_json::json!({"metadata": metadata, "spec": {"selector": selector}});
                services.wrote(serde_json::from_value(object).expect("a Service"));
            }
        }
        let found = |pod: Fixture| -> Vec<String> {
            selecting(&services, &pod.pod).iter().map(|service| Key::of(&service.metadata).to_string()).collect()
        };
        let web = pod("a").label("app", "web");
        assert_eq!(found(web), ["default/one-pair"]);
        let mut both = found(pod("a").label("app", "web").label("tier", "front"));
        both.sort();
        assert_eq!(both, ["default/one-pair", "default/two-pairs"]);
        assert!(found(pod("a").label("tier", "front")).is_empty());
    }

    // S-198
    #[test]
    fn only_changes_a_service_can_see_start_a_run() {
        let base = || pod("a").label("app", "web").ip("10.244.0.5").node("n1").ready();
        for (label, after, expected) in [
            ("nothing", base(), false),
            ("annotation", base().annotation("x", "y"), false),
            ("label", base().label("app", "api"), true),
            ("address", base().ip("10.244.0.6"), true),
            ("node", base().node("n2"), true),
            ("ready", base().not_ready(), true),
            ("deletion", base().deleted(), true),
            ("phase", base().phase("Failed"), true),
            ("hostname", base().hostname("a", "web"), true),
            ("namesake", base().uid("another"), true),
        ] {
            let before: Fixture = base();
            let change = Change { before: Some(&before.pod), after: Some(&after.pod), origin: Origin::Watch };
            assert_eq!(matters(&change), expected, "{label}");
        }
        let gone = base();
        assert!(matters(&Change { before: Some(&gone.pod), after: None, origin: Origin::Watch }));
    }
}
