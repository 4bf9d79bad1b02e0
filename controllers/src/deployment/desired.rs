//! What a Deployment wants of its ReplicaSets: a plain function of them, the pods and the template.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::rollout::{self, Limits, Set};
use super::template::{HASH_LABEL, hash, same};

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that are not copied to its ReplicaSets.
const NOT_COPIED: [&str; 5] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS];

/// Writes to make, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) create: Option<ReplicaSet>,
    /// Sets with a new size or new annotations.
    pub(crate) update: Vec<ReplicaSet>,
    /// Names of sets that history no longer needs.
    pub(crate) delete: Vec<String>,
    /// The Deployment's own revision annotation, when it has to change.
    pub(crate) revision: Option<String>,
}

/// Plans one step; `sets` are the Deployment's own, `old_pods` tells whether a pod of an old set is still there that
/// is not Succeeded or Failed, terminating ones included.
pub(crate) fn desired(deployment: &Deployment, sets: &[Arc<ReplicaSet>], old_pods: bool) -> Changes {
    let limits = limits(deployment);
    let new = newest(deployment, sets);
    let old = old_sets(sets, new.as_deref());
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let revision = revision_for(new.as_deref(), &old);
    let mut sizes: BTreeMap<String, i32> = BTreeMap::new();
    let mut changes = Changes::default();

    let resized = sets
        .iter()
        .any(|set| size(set) > 0 && annotated(set, DESIRED_REPLICAS).is_some_and(|known| known != limits.replicas));
    if paused || resized {
        scale(limits, is_recreate(deployment), new.as_deref(), &old, &mut sizes);
    } else if is_recreate(deployment) {
        sizes.extend(old.iter().map(|set| (name(set), 0)));
        if !old_pods && old.iter().all(|set| size(set) == 0) {
            match &new {
                Some(new) => drop(sizes.insert(name(new), limits.replicas)),
                None => changes.create = Some(new_set(deployment, limits.replicas, &revision)),
            }
        }
    } else {
        let working: Vec<Set> = old.iter().map(|set| numbers(set)).collect();
        let present = new.as_deref().map_or(Set { replicas: 0, pods: 0, available: 0, max_replicas: None }, numbers);
        let (grown, shrunk) = rollout::step(limits, present, &working);
        sizes.extend(old.iter().map(|set| name(set)).zip(shrunk));
        match &new {
            Some(new) => drop(sizes.insert(name(new), grown)),
            None => changes.create = Some(new_set(deployment, grown, &revision)),
        }
    }
    for set in sets {
        let is_new = new.as_ref().is_some_and(|new| new.metadata.uid == set.metadata.uid);
        let wanted = sizes.get(&name(set)).copied().unwrap_or_else(|| size(set));
        changes.update.extend(updated(deployment, set, wanted, is_new.then_some(revision.as_str())));
    }
    if new.is_some() || changes.create.is_some() {
        let known = deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
        changes.revision = (known != Some(&revision)).then_some(revision);
    }
    changes.delete = history(deployment, new.as_deref(), &old);
    changes
}

/// The set of the present template; of several, the oldest.
pub(crate) fn newest(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<Arc<ReplicaSet>> {
    let template = &deployment.spec.as_ref()?.template;
    let equal = |set: &&Arc<ReplicaSet>| {
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()).is_some_and(|known| same(known, template))
    };
    sets.iter().filter(equal).min_by_key(|set| age_key(set)).cloned()
}

/// All the others, oldest first.
pub(crate) fn old_sets(sets: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> Vec<Arc<ReplicaSet>> {
    let mut old: Vec<Arc<ReplicaSet>> =
        sets.iter().filter(|set| new.is_none_or(|new| new.metadata.uid != set.metadata.uid)).cloned().collect();
    old.sort_by_key(|set| age_key(set));
    old
}

/// P-097: percentages, surge rounded up, unavailability down; never both 0.
pub(crate) fn limits(deployment: &Deployment) -> Limits {
    let spec = deployment.spec.as_ref();
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    if is_recreate(deployment) {
        return Limits { replicas, max_surge: 0, max_unavailable: replicas };
    }
    let rolling = spec.and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let max_surge = amount(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, true);
    let mut max_unavailable = amount(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, false);
    if max_surge == 0 && max_unavailable == 0 {
        max_unavailable = 1;
    }
    Limits { replicas, max_surge, max_unavailable: max_unavailable.min(replicas) }
}

fn amount(value: Option<&IntOrString>, replicas: i32, up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(25),
        None => 25_i64,
    };
    let hundredths = percent.clamp(0, 1_000_000) * i64::from(replicas);
    i32::try_from(if up { (hundredths + 99) / 100 } else { hundredths / 100 }).unwrap_or(i32::MAX)
}

pub(crate) fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

pub(crate) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn numbers(set: &ReplicaSet) -> Set {
    let pods = set.status.as_ref().map_or(0, |status| status.replicas);
    let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    Set { replicas: size(set), pods, available, max_replicas: annotated(set, MAX_REPLICAS) }
}

fn name(set: &ReplicaSet) -> String {
    set.metadata.name.clone().unwrap_or_default()
}

fn age_key(set: &ReplicaSet) -> (Option<jiff::Timestamp>, String) {
    (set.metadata.creation_timestamp.as_ref().map(|time| time.0), name(set))
}

fn annotated(set: &ReplicaSet, key: &str) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

/// The size changed, or nothing may roll: only scale.
fn scale(
    limits: Limits,
    recreate: bool,
    new: Option<&ReplicaSet>,
    old: &[Arc<ReplicaSet>],
    sizes: &mut BTreeMap<String, i32>,
) {
    // Newest first, as the arithmetic wants it.
    let active: Vec<&ReplicaSet> =
        new.into_iter().chain(old.iter().rev().map(Arc::as_ref)).filter(|set| size(set) > 0).collect();
    match active.as_slice() {
        [] => {
            let only = new.or_else(|| old.last().map(Arc::as_ref));
            sizes.extend(only.map(|set| (name(set), limits.replicas)));
        }
        [only] => drop(sizes.insert(name(only), limits.replicas)),
        _ if new.is_some_and(|new| is_saturated(new, limits)) => {
            sizes.extend(old.iter().map(|set| (name(set), 0)));
        }
        _ if recreate => {}
        several => {
            let numbers: Vec<Set> = several.iter().map(|set| numbers(set)).collect();
            let shares = rollout::proportional(limits, &numbers);
            sizes.extend(several.iter().map(|set| name(set)).zip(shares));
        }
    }
}

/// The new set does all the work already.
fn is_saturated(new: &ReplicaSet, limits: Limits) -> bool {
    size(new) == limits.replicas
        && annotated(new, DESIRED_REPLICAS) == Some(limits.replicas)
        && numbers(new).available == limits.replicas
}

fn revision_of(set: &ReplicaSet) -> i64 {
    let text = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The new set's revision: above every old one. Going back to an old template makes it the latest again.
fn revision_for(new: Option<&ReplicaSet>, old: &[Arc<ReplicaSet>]) -> String {
    let highest = old.iter().map(|set| revision_of(set)).max().unwrap_or(0);
    let own = new.map_or(0, revision_of);
    if own > highest { own.to_string() } else { (highest + 1).to_string() }
}

fn annotations(deployment: &Deployment, wanted: &mut BTreeMap<String, String>) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            wanted.insert(key.clone(), value.clone());
        }
    }
}

fn scale_annotations(limits: Limits, wanted: &mut BTreeMap<String, String>) {
    wanted.insert(DESIRED_REPLICAS.to_owned(), limits.replicas.to_string());
    wanted.insert(MAX_REPLICAS.to_owned(), (limits.replicas + limits.max_surge).to_string());
}

fn updated(deployment: &Deployment, set: &ReplicaSet, wanted: i32, revision: Option<&str>) -> Option<ReplicaSet> {
    let mut updated = set.clone();
    let annotations_now = updated.metadata.annotations.get_or_insert_default();
    if wanted > 0 || size(set) > 0 {
        scale_annotations(limits(deployment), annotations_now);
    }
    if let Some(revision) = revision {
        annotations(deployment, annotations_now);
        if let Some(before) = annotations_now.insert(REVISION.to_owned(), revision.to_owned())
            && before != revision
        {
            let history = annotations_now.entry(REVISION_HISTORY.to_owned()).or_default();
            *history = if history.is_empty() { before } else { format!("{history},{before}") };
        }
    }
    if let Some(spec) = &mut updated.spec {
        spec.replicas = Some(wanted);
        if revision.is_some() {
            spec.min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        }
    }
    let same_wait = |a: &ReplicaSet, b: &ReplicaSet| {
        let wait = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        wait(a) == wait(b)
    };
    let same = updated.metadata.annotations.as_ref() == set.metadata.annotations.as_ref()
        && size(set) == wanted
        && same_wait(&updated, set);
    (!same).then_some(updated)
}

fn new_set(deployment: &Deployment, replicas: i32, revision: &str) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let mut wanted = BTreeMap::new();
    annotations(deployment, &mut wanted);
    scale_annotations(limits(deployment), &mut wanted);
    wanted.insert(REVISION.to_owned(), revision.to_owned());
    let parent = deployment.metadata.name.clone().unwrap_or_default();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{parent}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(wanted),
            owner_references: Some(vec![owner(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// The reference that makes a ReplicaSet ours.
pub(crate) fn owner(deployment: &Deployment) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: deployment.metadata.name.clone().unwrap_or_default(),
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Empty old sets beyond `revisionHistoryLimit` (P-099), once the rollout is over.
fn history(deployment: &Deployment, new: Option<&ReplicaSet>, old: &[Arc<ReplicaSet>]) -> Vec<String> {
    let replicas = limits(deployment).replicas;
    let done = new.is_some_and(|new| size(new) == replicas && numbers(new).available >= replicas)
        && old.iter().all(|set| size(set) == 0);
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    if !done {
        return Vec::new();
    }
    let mut empty: Vec<&Arc<ReplicaSet>> = old
        .iter()
        .filter(|set| {
            let pods = set.status.as_ref().map_or(0, |status| status.replicas);
            pods == 0 && set.metadata.deletion_timestamp.is_none()
        })
        .collect();
    empty.sort_by_key(|set| Reverse(revision_of(set)));
    empty.into_iter().skip(usize::try_from(limit).unwrap_or(0)).map(|set| name(set)).collect()
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
