//! The pod of a DaemonSet on a node, and which nodes may have one (P-112). Pure.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    self as core, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PodTemplateSpec, Toleration,
};

use crate::pod::{self, Pod};
use crate::pod_writer::pod_from;
use crate::pods;
use crate::revisions::HASH_LABEL;
use crate::scheduler::terms;

/// The field by which a pod demands one very node.
const NODE_FIELD: &str = "metadata.name";

/// What a DaemonSet's pods endure besides what the template says: key, effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The pod for `node`, made of the template of the revision with this hash. The scheduler binds it.
pub(crate) fn pod(set: &DaemonSet, template: &PodTemplateSpec, hash: &str, node: &str) -> core::Pod {
    let mut pod = pod_from(template, set);
    pod.metadata.labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    demand(spec, node);
    pod
}

fn tolerate(spec: &mut PodSpec) {
    let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
    let host_network = spec.host_network.unwrap_or(false);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(host_network.then_some(network)) {
        let added = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        // A time limit of the template's own would let the pod be evicted.
        tolerations.retain(|known| known.key != added.key || known.effect != added.effect);
        tolerations.push(added);
    }
}

/// Replaces required node affinity, which has been looked at already, by the one node.
fn demand(spec: &mut PodSpec, node: &str) {
    let field = NodeSelectorRequirement {
        key: NODE_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), ..NodeSelectorTerm::default() };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a pod is on or demands.
pub(crate) fn target(pod: &Pod) -> Option<&str> {
    if let Some(node) = pods::node_name(pod) {
        return Some(node);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields
        .filter(|field| field.key == NODE_FIELD && field.operator == "In")
        .find_map(|field| field.values.as_ref()?.first())
        .map(String::as_str)
}

/// What a node means to a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is to have a pod.
    Run,
    /// It gets no new pod, but keeps the one it has: a taint that only keeps new ones away.
    Keep,
    Never,
}

/// Whether `node` may have a pod of this template.
pub(crate) fn fit(template: &PodTemplateSpec, node: &Node) -> Fit {
    let mut spec = template.spec.clone().unwrap_or_default();
    tolerate(&mut spec);
    let demands = pod::PodSpec {
        node_selector: spec.node_selector,
        affinity: spec.affinity.map(|affinity| Box::new(pod::Affinity { node_affinity: affinity.node_affinity })),
        tolerations: spec.tolerations.unwrap_or_default().into(),
        ..pod::PodSpec::default()
    };
    let pod = Pod { spec: Some(demands), ..Pod::default() };
    if !terms::selects_node(&pod, node) {
        return Fit::Never;
    }
    let untolerated = terms::all_untolerated(&pod, node);
    if untolerated.iter().any(|taint| taint.effect == "NoExecute") {
        Fit::Never
    } else if untolerated.is_empty() {
        Fit::Run
    } else {
        Fit::Keep
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{NodeSpec, Taint};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::fixtures::{meta, template};

    fn node(labels: &[(&str, &str)], taints: &[(&str, &str)]) -> Node {
        let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let taint =
            |(key, effect): &(&str, &str)| Taint { key: (*key).into(), effect: (*effect).into(), ..Taint::default() };
        Node {
            metadata: ObjectMeta { labels: Some(labels), ..meta("n1") },
            spec: Some(NodeSpec { taints: Some(taints.iter().map(taint).collect()), ..NodeSpec::default() }),
            status: None,
        }
    }

    #[test]
    fn nodes_are_eligible_by_selector_and_taints() {
        let mut picky = template("web:1");
        picky.spec.as_mut().unwrap().node_selector = Some([("disk".to_owned(), "fast".to_owned())].into());
        let plain = template("web:1");
        for (label, template, node, expected) in [
            ("P-112: any", &plain, node(&[], &[]), Fit::Run),
            ("P-112: selected", &picky, node(&[("disk", "fast")], &[]), Fit::Run),
            ("P-112: not selected", &picky, node(&[], &[]), Fit::Never),
            ("P-112: reserved", &plain, node(&[], &[("mine", "NoSchedule")]), Fit::Keep),
            ("P-112: driven off", &plain, node(&[], &[("mine", "NoExecute")]), Fit::Never),
            ("P-112: cordoned", &plain, node(&[], &[("node.kubernetes.io/unschedulable", "NoSchedule")]), Fit::Run),
            ("P-112: lost", &plain, node(&[], &[("node.kubernetes.io/unreachable", "NoExecute")]), Fit::Run),
            ("P-112: not ready", &plain, node(&[], &[("node.kubernetes.io/not-ready", "NoExecute")]), Fit::Run),
        ] {
            assert_eq!(fit(template, &node), expected, "{label}");
        }
    }

    // P-112
    #[test]
    fn a_pod_demands_its_node_and_endures_much() {
        let set = DaemonSet { metadata: meta("agent"), ..DaemonSet::default() };
        let mut host = template("web:1");
        host.spec.as_mut().unwrap().host_network = Some(true);
        host.spec.as_mut().unwrap().tolerations = Some(vec![Toleration {
            key: Some("node.kubernetes.io/unreachable".into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: Some(5),
            ..Toleration::default()
        }]);
        let made = pod(&set, &host, "abc", "n7");
        assert_eq!(target(&Pod::of(&made)), Some("n7"));
        assert_eq!(made.metadata.generate_name.as_deref(), Some("agent-"));
        assert_eq!(made.metadata.labels.as_ref().unwrap()[HASH_LABEL], "abc");
        let tolerations = made.spec.unwrap().tolerations.unwrap();
        assert_eq!(tolerations.len(), 7, "with hostNetwork also network-unavailable");
        assert!(tolerations.iter().all(|toleration| toleration.toleration_seconds.is_none()));
        assert_eq!(pod(&set, &template("web:1"), "abc", "n7").spec.unwrap().tolerations.unwrap().len(), 6);
    }
}
