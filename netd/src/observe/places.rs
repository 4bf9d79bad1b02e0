//! What links lead to, by what people call it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use minisvc_translator::{PortId, Route, ServiceTable};
use serde::Serialize;

use crate::table::LinkRole;

/// Links that have gone and whose names are still known, for flows that broke with them; the oldest is forgotten first.
const MAX_GONE: usize = 1024;

/// A place in the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// What kind of place.
    pub kind: PlaceKind,
    /// A pod's `namespace/name`, a node's name, else the name of the link.
    pub name: String,
    /// The node it is on, if it is on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether it is no longer there.
    #[serde(skip_serializing_if = "is_false")]
    pub gone: bool,
}

/// What kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum PlaceKind {
    /// A pod with its own network.
    Pod,
    /// A node: its host-network pods and processes.
    Node,
    /// Where the user types, and this machine under `--network host`.
    Workstation,
    /// Where the API and DNS listen.
    ControlPlane,
    /// Where flows to the outside are taken over.
    Outside,
}

/// What every link leads to, also those that have lately gone.
#[derive(Debug, Clone, Default)]
pub struct Places {
    present: BTreeMap<PortId, Place>,
    /// The oldest first.
    gone: VecDeque<(PortId, Place)>,
}

impl Places {
    /// Adds a link.
    pub(crate) fn add(&mut self, port: PortId, name: &str, role: &LinkRole) {
        let (kind, node) = match role {
            LinkRole::Pod { node } => (PlaceKind::Pod, Some(node.clone())),
            LinkRole::Node { name } => (PlaceKind::Node, Some(name.clone())),
            LinkRole::Workstation => (PlaceKind::Workstation, None),
            LinkRole::ControlPlane => (PlaceKind::ControlPlane, None),
            LinkRole::Relay { .. } => (PlaceKind::Outside, None),
        };
        self.present.insert(port, Place { kind, name: name.to_owned(), node, gone: false });
    }

    /// Takes a link out; its name stays known for a while.
    pub(crate) fn remove(&mut self, port: PortId) {
        let Some(place) = self.present.remove(&port) else { return };
        if self.gone.len() == MAX_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back((port, Place { gone: true, ..place }));
    }

    /// What a link leads to, or has led to.
    #[must_use]
    pub fn get(&self, port: PortId) -> Option<&Place> {
        let gone = || self.gone.iter().rev().find(|(other, _)| *other == port).map(|(_, place)| place);
        self.present.get(&port).or_else(gone)
    }

    /// Every link that is there, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (PortId, &Place)> {
        self.present.iter().map(|(&port, place)| (port, place))
    }

    /// Who has an address.
    pub(crate) fn at(&self, table: &ServiceTable, address: IpAddr) -> Option<&Place> {
        self.get(table.route(address).map(|Route { port, .. }| port)?)
    }

    /// The links that are or were those of places that `wanted` likes.
    pub(crate) fn ports(&self, wanted: impl Fn(&Place) -> bool) -> Vec<PortId> {
        let gone = self.gone.iter().map(|(port, place)| (*port, place));
        self.iter().chain(gone).filter(|(_, place)| wanted(place)).map(|(port, _)| port).collect()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_has_gone_keeps_its_name_for_a_while() {
        let mut places = Places::default();
        let role = LinkRole::Pod { node: "node-1".into() };
        places.add(PortId(7), "default/web", &role);
        places.remove(PortId(7));
        let place = places.get(PortId(7)).expect("still known");
        assert_eq!((place.name.as_str(), place.node.as_deref(), place.gone), ("default/web", Some("node-1"), true));
        assert_eq!(places.ports(|place| place.name == "default/web"), [PortId(7)]);
        assert_eq!(places.iter().count(), 0);
        for number in 0..1024 {
            places.add(PortId(100 + number), "x", &role);
            places.remove(PortId(100 + number));
        }
        assert_eq!(places.get(PortId(7)), None, "the oldest is forgotten");
    }
}
