//! The nodes of the table: who they are, and where their ports are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_translator::{Node, NodeId, ServiceTable};

use super::inputs::{Inputs, LinkRole};

/// Nodes by their names.
pub(crate) type NodeIds = HashMap<Arc<str>, NodeId>;

/// Nodes come from the API and from links, whichever is first to name them; addresses from both.
pub(super) fn add(table: &mut ServiceTable, inputs: &Inputs) -> NodeIds {
    let mut addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut up: BTreeSet<&str> = BTreeSet::new();
    for node in inputs.nodes().values() {
        addresses.entry(Arc::clone(&node.name)).or_default().extend(&node.addresses);
    }
    for link in inputs.links().values() {
        match &link.role {
            LinkRole::Pod { node } => {
                addresses.entry(node.as_str().into()).or_default();
            }
            LinkRole::Node { name } => {
                if !inputs.is_off(name) {
                    up.insert(name);
                }
                addresses.entry(name.as_str().into()).or_default().extend(&link.addresses);
            }
            LinkRole::Workstation | LinkRole::ControlPlane | LinkRole::Relay { .. } => {}
        }
    }
    let add = |(name, addresses): (Arc<str>, BTreeSet<IpAddr>)| {
        let record = inputs.nodes().get(&name);
        let zone = record.and_then(|node| node.zone.clone());
        let balanced = up.contains(&*name) && record.is_none_or(|node| !node.excluded && !node.leaving);
        let node = Node { name: Arc::clone(&name), addresses: addresses.into_iter().collect(), zone, balanced };
        (name, table.add_node(node))
    };
    addresses.into_iter().map(add).collect()
}
