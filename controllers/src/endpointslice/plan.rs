//! From what slices should contain to the writes that make it so. Pure, and the same for slices made from pods and
//! for mirrored ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::desired::{Desired, GroupKey, Port};
use super::pack::{Existing, Member, pack};
use crate::selector::Labels;
use crate::trigger;

/// Whose slice it is.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The Service a slice belongs to.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Longest base of a generated name: the server adds five characters (S-190).
const MAX_BASE: usize = 58;

/// What slices belong to: what all of them have in common.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) namespace: String,
    /// Names begin with it.
    pub(crate) name: String,
    pub(crate) labels: Labels,
    /// Annotations a slice must have besides the trigger time, or `None` when any are fine.
    pub(crate) annotations: Option<Labels>,
    pub(crate) owner: OwnerReference,
    /// At most so many endpoints in a slice.
    pub(crate) max: usize,
    /// Whether a family without endpoints has an empty slice (S-187).
    pub(crate) placeholder: bool,
    /// It is being deleted: no new slices (S-203).
    pub(crate) closing: bool,
}

/// Writes, in the order in which they are to be made: no endpoint is out of every slice in between.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    /// Names.
    pub(crate) delete: Vec<String>,
}

impl Member for Endpoint {
    type Id = (Option<String>, Option<String>);

    fn id(&self) -> Self::Id {
        let pod = self.target_ref.as_ref().and_then(|target| target.uid.clone());
        (pod, self.addresses.first().cloned())
    }
}

/// Plans the writes for `parent`, whose managed slices are `slices`.
pub(crate) fn plan(
    parent: &Parent,
    desired: &Desired,
    slices: &[Arc<EndpointSlice>],
    triggered: Option<Timestamp>,
) -> Changes {
    let mut changes = Changes::default();
    let families: BTreeSet<bool> = desired.families.iter().copied().collect();
    for ipv6 in families {
        let of_family: Vec<_> = slices.iter().filter(|slice| is_ipv6(slice) == Some(ipv6)).cloned().collect();
        plan_family(&mut changes, parent, desired, ipv6, &of_family, triggered);
    }
    let foreign = slices.iter().filter(|slice| !is_ipv6(slice).is_some_and(|ipv6| desired.families.contains(&ipv6)));
    changes.delete.extend(foreign.filter_map(|slice| slice.metadata.name.clone()));
    if parent.closing {
        changes.create.clear();
    }
    changes
}

/// A slice to be: existing or new, its ports and its endpoints.
type Content = (Option<usize>, Vec<Port>, Vec<Endpoint>);

fn plan_family(
    changes: &mut Changes,
    parent: &Parent,
    desired: &Desired,
    ipv6: bool,
    slices: &[Arc<EndpointSlice>],
    triggered: Option<Timestamp>,
) {
    let mut by_group: BTreeMap<GroupKey, Vec<Existing<Endpoint>>> = BTreeMap::new();
    for (index, slice) in slices.iter().enumerate() {
        let members = slice.endpoints.clone().unwrap_or_default();
        let existing = Existing { index, members, stale: !is_marked(parent, slice) };
        by_group.entry(GroupKey::new(ipv6, ports(slice))).or_default().push(existing);
    }
    let mut contents: Vec<Content> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    for (key, group) in desired.groups.iter().filter(|(key, _)| key.ipv6 == ipv6) {
        let packing = pack(by_group.remove(key).unwrap_or_default(), group.endpoints.clone(), parent.max);
        contents.extend(packing.updates.into_iter().map(|(index, members)| (Some(index), key.ports.clone(), members)));
        contents.extend(packing.creates.into_iter().map(|members| (None, group.ports.clone(), members)));
        free.extend(packing.emptied);
    }
    let has_endpoints = desired.groups.keys().any(|key| key.ipv6 == ipv6);
    free.extend(by_group.into_values().flatten().map(|slice| slice.index));
    if !has_endpoints && parent.placeholder {
        contents.push((None, Vec::new(), Vec::new()));
        // A placeholder that is there already is the best slice to reuse for the placeholder.
        free.sort_by_key(|index| {
            let slice = slices.get(*index);
            slice.is_none_or(|slice| !ports(slice).is_empty() || slice.endpoints.iter().flatten().next().is_some())
        });
    }
    let mut free = free.into_iter();
    for (index, ports, endpoints) in contents {
        match index.or_else(|| free.next()).and_then(|index| slices.get(index)) {
            None => changes.create.push(new_slice(parent, ipv6, ports, endpoints, triggered)),
            Some(slice) => changes.update.extend(edited(parent, slice, ports, endpoints, triggered)),
        }
    }
    changes.delete.extend(free.filter_map(|index| slices.get(index)?.metadata.name.clone()));
}

fn ports(slice: &EndpointSlice) -> Vec<Port> {
    slice.ports.iter().flatten().map(Port::from).collect()
}

fn is_ipv6(slice: &EndpointSlice) -> Option<bool> {
    match slice.address_type.as_str() {
        "IPv4" => Some(false),
        "IPv6" => Some(true),
        _ => None,
    }
}

fn new_slice(
    parent: &Parent,
    ipv6: bool,
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
    triggered: Option<Timestamp>,
) -> EndpointSlice {
    let mut base = parent.name.clone();
    base.truncate(MAX_BASE - 1);
    let mut slice = EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{base}-")),
            namespace: Some(parent.namespace.clone()),
            ..ObjectMeta::default()
        },
        address_type: if ipv6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.into_iter().map(EndpointPort::from).collect()),
    };
    mark(parent, &mut slice, triggered);
    slice
}

/// The slice with new content, or `None` when that is what it has.
fn edited(
    parent: &Parent,
    slice: &EndpointSlice,
    ports_now: Vec<Port>,
    endpoints: Vec<Endpoint>,
    triggered: Option<Timestamp>,
) -> Option<EndpointSlice> {
    let ipv6 = slice.address_type == "IPv6";
    let same_ports = GroupKey::new(ipv6, ports(slice)) == GroupKey::new(ipv6, ports_now.clone());
    let same_endpoints = slice.endpoints.as_deref().unwrap_or_default() == endpoints;
    if same_ports && same_endpoints && is_marked(parent, slice) {
        return None;
    }
    let mut slice = slice.clone();
    slice.endpoints = Some(endpoints);
    if !same_ports {
        slice.ports = Some(ports_now.into_iter().map(EndpointPort::from).collect());
    }
    mark(parent, &mut slice, triggered);
    Some(slice)
}

/// Whether labels, annotations and owner are as we wrote them.
fn is_marked(parent: &Parent, slice: &EndpointSlice) -> bool {
    let owned = slice.metadata.owner_references.iter().flatten().any(|known| *known == parent.owner);
    let annotated = parent.annotations.as_ref().is_none_or(|wanted| {
        let mut present = slice.metadata.annotations.clone().unwrap_or_default();
        present.remove(trigger::ANNOTATION);
        present == *wanted
    });
    owned && annotated && slice.metadata.labels.as_ref() == Some(&parent.labels)
}

fn mark(parent: &Parent, slice: &mut EndpointSlice, triggered: Option<Timestamp>) {
    slice.metadata.labels = Some(parent.labels.clone());
    slice.metadata.owner_references = Some(vec![parent.owner.clone()]);
    if let Some(annotations) = &parent.annotations {
        slice.metadata.annotations = Some(annotations.clone());
    }
    let annotations = slice.metadata.annotations.get_or_insert_default();
    match triggered {
        Some(time) => {
            annotations.insert(trigger::ANNOTATION.to_owned(), time.to_string());
        }
        None => {
            annotations.remove(trigger::ANNOTATION);
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
