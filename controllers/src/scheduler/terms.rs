//! What a pod demands of a node, term by term. Pure.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Taint};

use crate::pod::{Pod, PodSpec};
use crate::selector::Labels;
use crate::taints::tolerates;

/// `spec.nodeSelector` and required node affinity.
pub(crate) fn selects_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.metadata.labels.as_ref();
    let has = |key: &String, value: &String| labels.and_then(|labels| labels.get(key)) == Some(value);
    if !spec.node_selector.iter().flatten().all(|(key, value)| has(key, value)) {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    // Terms are alternatives; a term without any requirement matches nothing.
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// What the weights of preferred node affinity add up to; a term without any requirement adds nothing.
pub(crate) fn liking(pod: &Pod, node: &Node) -> i32 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let preferred =
        affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    let liked = preferred.into_iter().flatten().filter(|preferred| term_matches(&preferred.preference, node));
    liked.fold(0, |sum, preferred| sum.saturating_add(preferred.weight))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels: &Labels| labels.get(key)).cloned();
    let field = |key: &str| (key == "metadata.name").then(|| node.metadata.name.clone()).flatten();
    expressions.iter().all(|requirement| holds(requirement, label(&requirement.key).as_deref()))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key).as_deref()))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |accept: fn(i64, i64) -> bool| {
        let limit = values.first().and_then(|limit| number(limit));
        matches!((value.and_then(number), limit), (Some(value), Some(limit)) if accept(value, limit))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.iter().any(|known| known == value)),
        "NotIn" => !value.is_some_and(|value| values.iter().any(|known| known == value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, limit| value > limit),
        "Lt" => compare(|value, limit| value < limit),
        _ => false,
    }
}

/// The first taint that keeps the pod away.
pub(crate) fn untolerated<'a>(pod: &Pod, node: &'a Node) -> Option<&'a Taint> {
    not_tolerated(pod, node, &["NoSchedule", "NoExecute"]).next()
}

/// All taints that keep the pod away.
pub(crate) fn all_untolerated<'a>(pod: &Pod, node: &'a Node) -> Vec<&'a Taint> {
    not_tolerated(pod, node, &["NoSchedule", "NoExecute"]).collect()
}

/// How many taints say that the pod should rather go elsewhere.
pub(crate) fn to_avoid(pod: &Pod, node: &Node) -> u32 {
    u32::try_from(not_tolerated(pod, node, &["PreferNoSchedule"]).count()).unwrap_or(u32::MAX)
}

fn not_tolerated<'a>(pod: &Pod, node: &'a Node, effects: &[&str]) -> impl Iterator<Item = &'a Taint> {
    let tolerations = pod.spec.as_ref().map(|spec| &*spec.tolerations).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether the node takes new pods: Ready, and not cordoned unless that is tolerated.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// `kubectl cordon` (P-119).
pub(crate) fn is_cordoned(pod: &Pod, node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let tolerations = pod.spec.as_ref().map(|spec| &*spec.tolerations).unwrap_or_default();
    cordoned && !tolerations.iter().any(|toleration| tolerates(toleration, &taint))
}

/// A port of the node that a pod takes: address (`None` for all), protocol, number.
pub(crate) type HostPort = (Option<String>, String, i32);

/// The host ports a pod takes.
pub(crate) fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let ports = spec.lasting_containers().flat_map(|container| &container.ports);
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|ip| !matches!(ip.as_str(), "" | "0.0.0.0" | "::"));
            Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
        })
        .collect()
}

/// Whether two host ports cannot both be had.
pub(crate) fn conflict(a: &HostPort, b: &HostPort) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0.is_none() || b.0.is_none() || a.0 == b.0)
}
