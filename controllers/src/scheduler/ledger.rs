//! What is taken of each node, and which pods wait for more. It is brought up to date with each change, so that a decision costs
//! as much as there are nodes, not as there are pods. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::around::relations;
use super::place::is_ours;
use super::terms::{self, HostPort};
use crate::cache::Key;
use crate::pod::Pod;
use crate::pods;
use crate::relations::Relations;

/// See the module. It has as much in it as there are pods in the cache.
#[derive(Default)]
pub(crate) struct Ledger {
    nodes: HashMap<String, Taken>,
    /// Decisions whose pod the cache still shows without a node, by uid. An entry goes when the pod's node shows, or the pod.
    assumed: HashMap<String, (String, Arc<Pod>)>,
    /// Pods that no node took, with what they demand of others.
    waiting: BTreeMap<Key, Option<Arc<Relations>>>,
}

/// What the pods of a node that have not ended take of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pods: i64,
    /// By resource, as [`Requests`](crate::requests::Requests) counts them.
    requests: HashMap<String, i128>,
    ports: HashMap<HostPort, i64>,
    /// Pods by the uid of the owner that controls them.
    owners: HashMap<String, i64>,
    /// What pods demand of others. Pods of one template demand the same.
    relations: HashMap<Arc<Relations>, i64>,
}

impl Ledger {
    /// Takes a change of the cache; answers which of the pods that wait may have a node now. Changes may come in another order than
    /// they were made in: each takes away just what another one has added.
    pub(crate) fn changed(&mut self, before: Option<&Pod>, after: Option<&Pod>) -> Vec<Key> {
        let uid = |pod: &Pod| pod.metadata.uid.clone();
        let (was, is) = (before.and_then(place_of), after.and_then(place_of));
        let differs = was != is || was.is_some() && before.map(demand) != after.map(demand);
        let mut leaves = was.is_some() && differs;
        if let Some(uid) = before.and_then(uid).filter(|own| after.and_then(uid).as_ref() != Some(own)) {
            leaves |= self.forget(&uid);
        }
        if let Some(pod) = after.filter(|pod| pods::node_name(pod).is_some()) {
            self.forget(&uid(pod).unwrap_or_default());
        }
        if !self.waiting.is_empty()
            && let Some(pod) = before.or(after).filter(|_| !after.is_some_and(is_ours))
        {
            self.waiting.remove(&Key::of(&pod.metadata));
        }
        if differs {
            if let Some((node, pod)) = was.zip(before) {
                self.count(node, pod, -1);
            }
            if let Some((node, pod)) = is.zip(after) {
                self.count(node, pod, 1);
            }
        }
        if leaves {
            return self.waiting().cloned().collect();
        }
        // A pod that comes, and one that others see in another way, matters to those who look for it.
        if self.waiting.is_empty() || is.is_none() || was == is && before.map(look) == after.map(look) {
            return Vec::new();
        }
        let of_concern = |(key, own): &(&Key, &Option<Arc<Relations>>)| {
            let concern = |pod| own.as_ref().is_some_and(|own| own.concern(&key.namespace, pod));
            before.is_some_and(concern) || after.is_some_and(concern)
        };
        self.waiting.iter().filter(of_concern).map(|(key, _)| key.clone()).collect()
    }

    /// What is taken of a node; `None` for nothing.
    pub(crate) fn taken(&self, node: &str) -> Option<&Taken> {
        self.nodes.get(node)
    }

    /// Counts a decision until the cache shows it or it is forgotten.
    pub(crate) fn assume(&mut self, pod: Arc<Pod>, node: String) {
        self.waiting.remove(&Key::of(&pod.metadata));
        self.count(&node, &pod, 1);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some((node, pod)) = self.assumed.insert(uid, (node, pod)) {
            self.count(&node, &pod, -1);
        }
    }

    /// The node that the pod is decided to go to, while the cache still shows it without one.
    pub(crate) fn assumed(&self, pod: &Pod) -> Option<&str> {
        self.assumed.get(pod.metadata.uid.as_deref().unwrap_or_default()).map(|(node, _)| node.as_str())
    }

    /// A decision does not count any more; answers whether it did.
    pub(crate) fn forget(&mut self, uid: &str) -> bool {
        let forgotten = self.assumed.remove(uid);
        if let Some((node, pod)) = &forgotten {
            self.count(node, pod, -1);
        }
        forgotten.is_some()
    }

    /// No node takes the pod.
    pub(crate) fn waits(&mut self, pod: &Pod) {
        self.waiting.insert(Key::of(&pod.metadata), relations(pod).cloned());
    }

    /// The pod is not to be given a node.
    pub(crate) fn waits_no_more(&mut self, key: &Key) {
        self.waiting.remove(key);
    }

    /// The pods that no node took.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.waiting.keys()
    }

    fn count(&mut self, node: &str, pod: &Pod, by: i64) {
        let mut taken = self.nodes.remove(node).unwrap_or_default();
        taken.count(pod, by);
        if taken != Taken::default() {
            self.nodes.insert(node.to_owned(), taken);
        }
    }
}

/// The node of which a pod takes something.
fn place_of(pod: &Pod) -> Option<&str> {
    pods::node_name(pod).filter(|_| !pods::is_finished(pod))
}

/// What others see of a pod.
fn look(pod: &Pod) -> impl PartialEq {
    (&pod.labels, pods::is_terminating(pod))
}

/// What decides how much a pod takes.
fn demand(pod: &Pod) -> impl PartialEq {
    (&pod.spec, pods::controller(&pod.metadata).map(|owner| &owner.uid))
}

impl Taken {
    /// How many pods there are.
    pub(crate) fn pods(&self) -> i64 {
        self.pods
    }

    /// How much of a resource they request.
    pub(crate) fn requested(&self, resource: &str) -> i128 {
        self.requests.get(resource).copied().unwrap_or_default()
    }

    /// How many the owner with this uid controls.
    pub(crate) fn of_owner(&self, uid: &str) -> i64 {
        self.owners.get(uid).copied().unwrap_or_default()
    }

    /// Whether they leave this host port free.
    pub(crate) fn leaves(&self, port: &HostPort) -> bool {
        !self.ports.iter().any(|(taken, count)| *count > 0 && terms::conflict(port, taken))
    }

    /// What they demand of others, and how many of them do.
    pub(crate) fn relations(&self) -> impl Iterator<Item = (&Relations, u32)> {
        self.relations.iter().map(|(relations, count)| (&**relations, u32::try_from(*count).unwrap_or_default()))
    }

    fn count(&mut self, pod: &Pod, by: i64) {
        self.pods += by;
        if let Some(spec) = &pod.spec {
            for (resource, amount) in spec.requests.iter() {
                shift(&mut self.requests, resource.to_owned(), i128::from(amount) * i128::from(by));
            }
            terms::host_ports(spec).into_iter().for_each(|port| shift(&mut self.ports, port, by));
        }
        if let Some(relations) = relations(pod).filter(|own| own.concern_others()) {
            shift(&mut self.relations, relations.clone(), by);
        }
        if let Some(owner) = pods::controller(&pod.metadata) {
            shift(&mut self.owners, owner.uid.clone(), by);
        }
    }
}

/// Changes a count; nothing is kept of what is none.
fn shift<K: Eq + Hash, N: Default + PartialEq + std::ops::AddAssign>(counts: &mut HashMap<K, N>, key: K, by: N) {
    let mut entry = match counts.entry(key) {
        std::collections::hash_map::Entry::Occupied(entry) => entry,
        std::collections::hash_map::Entry::Vacant(entry) => entry.insert_entry(N::default()),
    };
    *entry.get_mut() += by;
    if *entry.get() == N::default() {
        entry.remove();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{Fixture, pod};
    use crate::scheduler::fixtures::reads;

    fn asks(name: &str, cpu: i64) -> Fixture {
        let mut pod = pod(name).owned_by("ReplicaSet", "set").host_port(80);
        pod.pod.spec.as_mut().unwrap().requests.cpu = cpu;
        pod
    }

    /// What is to be looked at again, of a pod that waits for room.
    fn woken(ledger: &mut Ledger, before: Option<&Pod>, after: Option<&Pod>) -> bool {
        ledger.waits(&pod("w").pod);
        !ledger.changed(before, after).is_empty()
    }

    fn numbers(ledger: &Ledger, node: &str) -> (i64, i128, i64) {
        ledger.taken(node).map_or((0, 0, 0), |taken| (taken.pods(), taken.requested("cpu"), taken.of_owner("set")))
    }

    #[test]
    fn a_node_has_what_its_pods_take_until_they_end() {
        let mut ledger = Ledger::default();
        let [waits, bound] = [asks("a", 300).pod, asks("a", 300).node("n1").pod];
        assert!(!woken(&mut ledger, None, Some(&waits)));
        assert_eq!(numbers(&ledger, "n1"), (0, 0, 0));
        assert!(!woken(&mut ledger, Some(&waits), Some(&bound)));
        assert_eq!(numbers(&ledger, "n1"), (1, 300, 1));
        let ready = asks("a", 300).node("n1").ready().pod;
        assert!(!woken(&mut ledger, Some(&bound), Some(&ready)), "its state says nothing of room");
        let resized = asks("a", 200).node("n1").ready().pod;
        assert!(woken(&mut ledger, Some(&ready), Some(&resized)));
        assert_eq!(numbers(&ledger, "n1"), (1, 200, 1));
        let ended = asks("a", 200).node("n1").phase("Succeeded").pod;
        assert!(woken(&mut ledger, Some(&resized), Some(&ended)));
        assert!(!woken(&mut ledger, Some(&ended), None));
        assert!(ledger.nodes.is_empty(), "and nothing is kept of it");
    }

    #[test]
    fn changes_that_are_told_in_another_order_come_to_the_same() {
        let mut ledger = Ledger::default();
        let [one, two] = [asks("a", 300).node("n1").pod, asks("a", 200).node("n1").pod];
        ledger.changed(Some(&two), None);
        ledger.changed(Some(&one), Some(&two));
        ledger.changed(None, Some(&one));
        assert!(ledger.nodes.is_empty());
    }

    #[test]
    fn a_decision_counts_once() {
        let mut ledger = Ledger::default();
        let waits = Arc::new(asks("a", 300).pod);
        ledger.waits(&waits);
        ledger.assume(waits.clone(), "n1".into());
        assert_eq!((numbers(&ledger, "n1"), ledger.waiting().count()), ((1, 300, 1), 0));
        ledger.changed(Some(&waits), Some(&asks("a", 300).node("n1").pod));
        assert_eq!((numbers(&ledger, "n1"), ledger.assumed(&waits).is_some()), ((1, 300, 1), false));
        ledger.forget("uid-a");
        assert_eq!(numbers(&ledger, "n1"), (1, 300, 1));
        let other = Arc::new(asks("b", 100).pod);
        ledger.assume(other.clone(), "n1".into());
        assert!(woken(&mut ledger, Some(&other), None), "what it was to take is there for others");
        assert_eq!(numbers(&ledger, "n1"), (1, 300, 1), "gone before it got there");
    }

    #[test]
    fn a_pod_waits_until_it_has_a_node_or_goes() {
        let mut ledger = Ledger::default();
        let waits = pod("a").pod;
        let waits_after = |ledger: &mut Ledger, after: Option<&Pod>| {
            ledger.waits(&waits);
            ledger.changed(Some(&waits), after);
            ledger.waiting().count()
        };
        assert_eq!(waits_after(&mut ledger, Some(&pod("a").not_ready().pod)), 1);
        assert_eq!(waits_after(&mut ledger, Some(&pod("a").node("n1").pod)), 0);
        assert_eq!(waits_after(&mut ledger, Some(&pod("a").deleted().pod)), 0);
        assert_eq!(waits_after(&mut ledger, None), 0);
    }

    #[test]
    fn a_pod_is_looked_at_again_when_one_changes_that_it_looks_for() {
        let selects = json!({"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "web"}}});
        let affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [selects]}});
        let wishes = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": selects},
        ]}});
        let mut spread = selects.clone();
        spread.as_object_mut().unwrap().extend([("maxSkew".to_owned(), 1.into())]);
        let mut ledger = Ledger::default();
        for (name, spec) in [
            ("near", json!({"affinity": affinity})),
            ("spread", json!({"topologySpreadConstraints": [spread]})),
            ("wishes", json!({"affinity": wishes})),
            ("room", json!({})),
        ] {
            ledger.waits(&reads(name, "", spec).pod);
        }
        let web = || reads("w", "app=web", json!({}));
        let (bound, other) = (web().node("n1").pod, reads("w", "app=db", json!({})).node("n1").pod);
        let (going, ready) = (web().node("n1").deleted().pod, web().node("n1").ready().pod);
        let elsewhere = reads("other/w", "app=web", json!({})).node("n1").pod;
        for (label, before, after, expected) in [
            ("it gets a node", Some(&web().pod), Some(&bound), "near spread"),
            ("its state changes", Some(&bound), Some(&ready), ""),
            ("its label comes", Some(&other), Some(&bound), "near spread"),
            ("its label goes", Some(&bound), Some(&other), "near spread"),
            ("it is to go", Some(&bound), Some(&going), "near spread"),
            ("it goes", Some(&going), None, "near room spread wishes"),
            ("another comes", None, Some(&other), ""),
            ("it has no node", None, Some(&web().pod), ""),
            ("it is in another namespace", None, Some(&elsewhere), ""),
        ] {
            let names: Vec<_> = ledger.changed(before, after).into_iter().map(|key| key.name).collect();
            assert_eq!(names.join(" "), expected, "{label}");
        }
    }

    #[test]
    fn what_pods_of_a_template_demand_is_kept_once_and_only_if_it_concerns_others() {
        let selects = json!({"topologyKey": "host", "labelSelector": {}});
        let apart =
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [selects]}}});
        let spread = json!({"topologySpreadConstraints": [selects]});
        let mut ledger = Ledger::default();
        let pods = [("a", &apart), ("b", &apart), ("c", &spread)];
        let pods = pods.map(|(name, spec)| reads(name, "", spec.clone()).node("n1").pod);
        pods.iter().for_each(|pod| drop(ledger.changed(None, Some(pod))));
        let counts = |ledger: &Ledger| ledger.taken("n1").map(|taken| taken.relations().map(|(_, count)| count).sum());
        assert_eq!((ledger.taken("n1").unwrap().relations().count(), counts(&ledger)), (1, Some(2)));
        ledger.changed(Some(&pods[0]), None);
        assert_eq!(counts(&ledger), Some(1));
        pods[1..].iter().for_each(|pod| drop(ledger.changed(Some(pod), None)));
        assert!(ledger.nodes.is_empty());
    }
}
