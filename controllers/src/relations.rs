//! What a pod demands of the pods around it: affinity between pods and spreading over topologies, reduced to what decides where it
//! goes. Few pods have any. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, PodAffinity, PodAffinityTerm, PodAntiAffinity, TopologySpreadConstraint};

use crate::pod::{Pod, PodLabels};
use crate::pods;
use crate::selector::{Requirement, Selector};

/// The parts of `spec` that relations come from, as sent.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) affinity: Option<PodAffinity>,
    pub(crate) anti_affinity: Option<PodAntiAffinity>,
    pub(crate) spread: Option<Vec<TopologySpreadConstraint>>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Relations {
    /// Required affinity: where pods are that all of these select.
    pub(crate) near: Box<[Term]>,
    /// Required anti-affinity: where no pod is that one of these selects.
    pub(crate) apart: Box<[Term]>,
    /// Preferences with their weights, which are negative for anti-affinity.
    pub(crate) liked: Box<[(i32, Term)]>,
    /// `spec.topologySpreadConstraints`
    pub(crate) spread: Box<[Constraint]>,
}

/// Which pods, and how near is near.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    namespaces: Box<[Box<str>]>,
    namespace_selector: Selector,
    selector: Selector,
    /// Nodes are in one place when this label of them has the same value.
    pub(crate) topology_key: Box<str>,
}

/// A spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Constraint {
    selector: Selector,
    pub(crate) topology_key: Box<str>,
    pub(crate) max_skew: i32,
    /// With fewer values of the label than this, the least that a place has is none.
    pub(crate) min_domains: i32,
    /// `DoNotSchedule`
    pub(crate) required: bool,
    /// Whether nodes count that the pod's selector and affinity rule out.
    pub(crate) all_nodes: bool,
    /// Whether nodes do not count whose taints keep the pod away.
    pub(crate) heeds_taints: bool,
}

/// Looks up a namespace, for its labels.
pub(crate) type Namespaces<'a> = &'a dyn Fn(&str) -> Option<Arc<Namespace>>;

impl Relations {
    /// Those of a pod in this namespace, with these labels; `None` when it has none.
    pub(crate) fn of(sent: Sent, namespace: &str, labels: &PodLabels) -> Option<Arc<Self>> {
        let pods = Own { namespace, labels };
        let (affinity, anti) = (sent.affinity.unwrap_or_default(), sent.anti_affinity.unwrap_or_default());
        let terms = |terms: Option<Vec<PodAffinityTerm>>| terms.iter().flatten().map(|term| pods.term(term)).collect();
        let liked = affinity.preferred_during_scheduling_ignored_during_execution.into_iter().flatten();
        let disliked = anti.preferred_during_scheduling_ignored_during_execution.into_iter().flatten();
        let weighted = liked.map(|liked| (liked.weight, liked.pod_affinity_term));
        let weighted = weighted.chain(disliked.map(|disliked| (-disliked.weight, disliked.pod_affinity_term)));
        let all = Self {
            near: terms(affinity.required_during_scheduling_ignored_during_execution),
            apart: terms(anti.required_during_scheduling_ignored_during_execution),
            liked: weighted.map(|(weight, term)| (weight, pods.term(&term))).collect(),
            spread: sent.spread.iter().flatten().map(|constraint| pods.constraint(constraint)).collect(),
        };
        (all != Self::default()).then(|| Arc::new(all))
    }

    /// Whether they say something about where other pods should go: spreading is of no concern to them.
    pub(crate) fn concern_others(&self) -> bool {
        !(self.near.is_empty() && self.apart.is_empty() && self.liked.is_empty())
    }

    /// Whether it may matter to a pod of this namespace that waits with them, where `other` is.
    pub(crate) fn concern(&self, namespace: &str, other: &Pod) -> bool {
        self.near.iter().chain(&self.apart).any(|term| term.may_select(other))
            || self.spread.iter().any(|constraint| constraint.counts(namespace, other) && constraint.required)
    }
}

/// The pod that relations are read for.
struct Own<'a> {
    namespace: &'a str,
    labels: &'a PodLabels,
}

impl Own<'_> {
    fn term(&self, sent: &PodAffinityTerm) -> Term {
        let named = sent.namespaces.iter().flatten().map(String::as_str);
        let own = sent.namespaces.iter().flatten().next().is_none() && sent.namespace_selector.is_none();
        let same = self.values(sent.match_label_keys.as_deref()).map(|(key, value)| Requirement::among(key, [value]));
        let other =
            self.values(sent.mismatch_label_keys.as_deref()).map(|(key, value)| Requirement::is_not(key, value));
        Term {
            namespaces: named.chain(own.then_some(self.namespace)).map(Into::into).collect(),
            namespace_selector: Selector::new(sent.namespace_selector.as_ref(), []),
            selector: Selector::new(sent.label_selector.as_ref(), same.chain(other)),
            topology_key: sent.topology_key.as_str().into(),
        }
    }

    fn constraint(&self, sent: &TopologySpreadConstraint) -> Constraint {
        let same = self.values(sent.match_label_keys.as_deref()).map(|(key, value)| Requirement::among(key, [value]));
        Constraint {
            selector: Selector::new(sent.label_selector.as_ref(), same),
            topology_key: sent.topology_key.as_str().into(),
            max_skew: sent.max_skew,
            min_domains: sent.min_domains.unwrap_or(1),
            required: sent.when_unsatisfiable != "ScheduleAnyway",
            all_nodes: sent.node_affinity_policy.as_deref() == Some("Ignore"),
            heeds_taints: sent.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// The pod's own labels of these keys.
    fn values<'a>(&'a self, keys: Option<&'a [String]>) -> impl Iterator<Item = (&'a str, &'a str)> {
        let keys = keys.unwrap_or_default().iter();
        keys.filter_map(|key| Some((key.as_str(), self.labels.get(key)?)))
    }
}

impl Term {
    /// Whether it means this pod.
    pub(crate) fn selects(&self, pod: &Pod, namespaces: Namespaces<'_>) -> bool {
        let name = pod.metadata.namespace.as_deref().unwrap_or_default();
        let elsewhere = &self.namespace_selector;
        let has_labels = || namespaces(name).is_some_and(|namespace| elsewhere.selects(&namespace.metadata.labels));
        self.selector.selects(&pod.labels)
            && (self.names(name) || elsewhere.is_everything() || !elsewhere.is_nothing() && has_labels())
    }

    /// The same, whatever the labels of the pod's namespace are.
    fn may_select(&self, pod: &Pod) -> bool {
        let name = pod.metadata.namespace.as_deref().unwrap_or_default();
        self.selector.selects(&pod.labels) && (self.names(name) || !self.namespace_selector.is_nothing())
    }

    fn names(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|named| **named == *namespace)
    }
}

impl Constraint {
    /// Whether a pod counts for one of this namespace: it is there to stay, and an empty selector counts none, as upstream.
    pub(crate) fn counts(&self, namespace: &str, pod: &Pod) -> bool {
        pod.metadata.namespace.as_deref().unwrap_or_default() == namespace
            && !pods::is_terminating(pod)
            && !self.selector.is_everything()
            && self.selector.selects(&pod.labels)
    }

    /// Whether the pod that has it is one more of those that it counts.
    pub(crate) fn counts_itself(&self, pod: &Pod) -> bool {
        self.selector.selects(&pod.labels)
    }
}
