//! The records that the table is made of, and which of them have changed since it was built last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minisvc_translator::PortId;

use crate::claims::HostPorts;
use crate::records::{NodeRecord, ObjectKey, ServiceRecord, SliceRecord};

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkRole {
    /// A pod with its own network, on this node.
    Pod {
        /// Name of the node.
        node: String,
    },
    /// A node's own namespace.
    Node {
        /// Name of the node.
        name: String,
    },
    /// Where the user types.
    Workstation,
    /// Where the API and DNS listen.
    ControlPlane,
    /// Where flows to the outside are taken over, by [`Netd::relay`](crate::Netd::relay). Its addresses stand for this machine.
    Relay {
        /// The TCP and UDP port on which it listens for them.
        listen: u16,
    },
}

/// A link as far as the table cares.
#[derive(Debug, Clone)]
pub(crate) struct LinkRecord {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) role: LinkRole,
    /// Of a pod.
    pub(crate) host_ports: Option<HostPorts>,
}

/// Ranges of the lab, which do not change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranges {
    pub(crate) services: Vec<IpNet>,
    pub(crate) pods: Vec<IpNet>,
    /// Further ranges of the lab: what nobody has in them is nowhere, not outside.
    pub(crate) own: Vec<IpNet>,
}

/// Which records are not what the table was made of.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Nodes, or links of what is no pod. They change seldom, and everything depends on them.
    pub(crate) everything: bool,
    /// Services that have changed themselves, or whose slices have.
    pub(crate) services: BTreeSet<ObjectKey>,
    /// Links of pods.
    pub(crate) links: BTreeSet<PortId>,
}

impl Changed {
    /// Whether the table is still right.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.everything && self.services.is_empty() && self.links.is_empty()
    }
}

/// Everything the table is made of. What changes it remembers what is to be built anew; a record that is put in again as it was
/// changes nothing.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    ranges: Ranges,
    links: BTreeMap<PortId, Arc<LinkRecord>>,
    services: HashMap<ObjectKey, Arc<ServiceRecord>>,
    /// By the Service's key; in the order of their own, for there is hardly ever more than one.
    slices: HashMap<ObjectKey, Vec<(ObjectKey, SliceRecord)>>,
    /// The Service of each slice.
    slice_services: HashMap<ObjectKey, ObjectKey>,
    nodes: BTreeMap<Arc<str>, NodeRecord>,
    /// Nodes that have lost their power: their addresses are still theirs, and nobody is there.
    off: BTreeSet<String>,
    changed: Changed,
}

impl Inputs {
    /// No records.
    pub(crate) fn new(ranges: Ranges) -> Self {
        Self { ranges, changed: Changed { everything: true, ..Changed::default() }, ..Self::default() }
    }

    /// What has changed since this was asked last.
    pub(crate) fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn put_service(&mut self, record: ServiceRecord) {
        if self.services.get(&record.key).is_some_and(|known| **known == record) {
            return;
        }
        let key = record.key.clone();
        self.services.insert(key.clone(), Arc::new(record));
        self.changed.services.insert(key);
    }

    pub(crate) fn remove_service(&mut self, key: &ObjectKey) {
        if self.services.remove(key).is_some() {
            self.changed.services.insert(key.clone());
        }
    }

    /// Takes a complete list: what is not in it is there no more.
    pub(crate) fn list_services(&mut self, records: Vec<ServiceRecord>) {
        let listed: BTreeSet<ObjectKey> = records.iter().map(|record| record.key.clone()).collect();
        let gone: Vec<ObjectKey> = self.services.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.remove_service(key));
        records.into_iter().for_each(|record| self.put_service(record));
    }

    pub(crate) fn put_slice(&mut self, key: ObjectKey, mut record: SliceRecord) {
        let of_service = self.slices.get(&record.service).map_or(&[][..], Vec::as_slice);
        if place(of_service, &key).is_ok_and(|at| of_service[at].1 == record) {
            return;
        }
        // It may have been another Service's.
        self.remove_slice(&key);
        if let Some((known, _)) = self.services.get_key_value(&record.service) {
            record.service = known.clone();
        }
        self.changed.services.insert(record.service.clone());
        self.slice_services.insert(key.clone(), record.service.clone());
        let slices = self.slices.entry(record.service.clone()).or_default();
        slices.reserve_exact(1);
        let at = place(slices, &key).unwrap_or_else(|at| at);
        slices.insert(at, (key, record));
    }

    pub(crate) fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(service) = self.slice_services.remove(key) else { return };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.retain(|(known, _)| known != key);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.changed.services.insert(service);
    }

    /// Takes a complete list: what is not in it is there no more.
    pub(crate) fn list_slices(&mut self, records: Vec<(ObjectKey, SliceRecord)>) {
        let listed: BTreeSet<&ObjectKey> = records.iter().map(|(key, _)| key).collect();
        let gone: Vec<ObjectKey> = self.slice_services.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.remove_slice(key));
        records.into_iter().for_each(|(key, record)| self.put_slice(key, record));
    }

    pub(crate) fn put_node(&mut self, record: NodeRecord) {
        // A heartbeat changes nothing that a packet meets.
        if self.nodes.get(&record.name) != Some(&record) {
            self.nodes.insert(Arc::clone(&record.name), record);
            self.changed.everything = true;
        }
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        self.changed.everything |= self.nodes.remove(name).is_some();
    }

    /// Takes a complete list: what is not in it is there no more.
    pub(crate) fn list_nodes(&mut self, records: Vec<NodeRecord>) {
        let listed = records.into_iter().map(|record| (Arc::clone(&record.name), record)).collect();
        if self.nodes != listed {
            self.nodes = listed;
            self.changed.everything = true;
        }
    }

    pub(crate) fn attach(&mut self, port: PortId, link: LinkRecord) {
        self.note_link(port, &link);
        if let Some(before) = self.links.insert(port, Arc::new(link)) {
            self.note_link(port, &before);
        }
    }

    pub(crate) fn detach(&mut self, port: PortId) {
        if let Some(link) = self.links.remove(&port) {
            self.note_link(port, &link);
        }
    }

    /// A pod on a node that the API does not know makes that node known, or leaves it unknown.
    fn note_link(&mut self, port: PortId, link: &LinkRecord) {
        match &link.role {
            LinkRole::Pod { node } if self.nodes.contains_key(node.as_str()) => drop(self.changed.links.insert(port)),
            _ => self.changed.everything = true,
        }
    }

    /// Has a node lose its power, or get it back.
    pub(crate) fn switch(&mut self, node: &str, on: bool) {
        self.changed.everything |= if on { self.off.remove(node) } else { self.off.insert(node.to_owned()) };
    }

    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    pub(crate) fn links(&self) -> &BTreeMap<PortId, Arc<LinkRecord>> {
        &self.links
    }

    /// The links of a node and its pods.
    pub(crate) fn links_of(&self, node: &str) -> Vec<PortId> {
        let is_its =
            |role: &LinkRole| matches!(role, LinkRole::Pod { node: name } | LinkRole::Node { name } if name == node);
        self.links.iter().filter(|(_, link)| is_its(&link.role)).map(|(&port, _)| port).collect()
    }

    pub(crate) fn services(&self) -> &HashMap<ObjectKey, Arc<ServiceRecord>> {
        &self.services
    }

    /// The slices of a Service, in the order of their names.
    pub(crate) fn slices_of(&self, service: &ObjectKey) -> impl Iterator<Item = &SliceRecord> + Clone {
        self.slices.get(service).into_iter().flatten().map(|(_, slice)| slice)
    }

    pub(crate) fn nodes(&self) -> &BTreeMap<Arc<str>, NodeRecord> {
        &self.nodes
    }

    pub(crate) fn is_off(&self, node: &str) -> bool {
        self.off.contains(node)
    }
}

/// Where a slice is in the list, or belongs.
fn place(slices: &[(ObjectKey, SliceRecord)], key: &ObjectKey) -> Result<usize, usize> {
    slices.binary_search_by(|(known, _)| known.cmp(key))
}
