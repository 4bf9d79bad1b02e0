//! The zone, kept up to date a change at a time: what a change does not touch is shared with the zone before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use minisvc_snapmap::SnapMap;

use crate::build::{EndpointEntry, ServiceEntry, Zone, ZoneConfig, service_name};
use crate::index::IndexedService;
use crate::name::Name;

/// Namespace and name of an object.
pub type Key = (String, String);

/// Makes zones of Services and endpoints that come and go. A change costs what its Service has, not what there is.
#[derive(Debug)]
pub struct ZoneBuilder {
    zone: Zone,
    services: HashMap<Key, ServiceEntry>,
    /// Ready endpoints by the slice that they are in, below the key of their Service.
    slices: HashMap<Key, BTreeMap<Key, Vec<EndpointEntry>>>,
    /// The Service of each slice that has a ready endpoint.
    slice_services: HashMap<Key, Key>,
    changed: bool,
}

impl ZoneBuilder {
    /// A zone of nothing.
    pub fn new(config: ZoneConfig) -> Self {
        Self {
            zone: Zone {
                config: Arc::new(config),
                serial: 0,
                complete: false,
                namespaces: SnapMap::new(),
                services: SnapMap::new(),
                vips: SnapMap::new(),
                hosts: SnapMap::new(),
            },
            services: HashMap::new(),
            slices: HashMap::new(),
            slice_services: HashMap::new(),
            changed: false,
        }
    }

    /// The zone as it is now, with the Unix time of its last change in seconds (N-011), and whether the API has been read
    /// completely: until then an unknown name may exist all the same (N-006).
    pub fn zone(&self, changed: u32, complete: bool) -> Zone {
        Zone { serial: changed, complete, ..self.zone.clone() }
    }

    /// Whether anything has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// There is a namespace.
    pub fn put_namespace(&mut self, name: &str) {
        self.changed |= self.zone.namespaces.insert(name.into(), ()).is_none();
    }

    /// There is no such namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.changed |= self.zone.namespaces.remove(name).is_some();
    }

    /// Takes a complete list: what is not in it is there no more.
    pub fn list_namespaces(&mut self, names: &HashSet<String>) {
        let gone: Vec<Box<str>> = self
            .zone
            .namespaces
            .iter()
            .map(|(name, ())| name.clone())
            .filter(|name| !names.contains(&**name))
            .collect();
        gone.iter().for_each(|name| self.remove_namespace(name));
        names.iter().for_each(|name| self.put_namespace(name));
    }

    /// There is a Service.
    pub fn put_service(&mut self, service: ServiceEntry) {
        let key = (service.namespace.clone(), service.name.clone());
        if self.services.get(&key) != Some(&service) {
            self.services.insert(key.clone(), service);
            self.index(&key);
        }
    }

    /// There is no such Service, or it has nothing that could be answered.
    pub fn remove_service(&mut self, key: &Key) {
        if self.services.remove(key).is_some() {
            self.index(key);
        }
    }

    /// Takes a complete list: what is not in it is there no more.
    pub fn list_services(&mut self, services: Vec<ServiceEntry>) {
        let listed: HashSet<(&str, &str)> =
            services.iter().map(|service| (service.namespace.as_str(), service.name.as_str())).collect();
        let is_listed = |(namespace, name): &&Key| listed.contains(&(namespace.as_str(), name.as_str()));
        let gone: Vec<Key> = self.services.keys().filter(|key| !is_listed(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove_service(key));
        services.into_iter().for_each(|service| self.put_service(service));
    }

    /// A slice has these ready endpoints, all of one Service.
    pub fn put_slice(&mut self, key: Key, endpoints: Vec<EndpointEntry>) {
        let Some(first) = endpoints.first() else { return self.remove_slice(&key) };
        let service = (first.namespace.clone(), first.service.clone());
        if self.slices.get(&service).and_then(|slices| slices.get(&key)) == Some(&endpoints) {
            return;
        }
        // It may have been another Service's.
        if self.slice_services.get(&key).is_some_and(|known| *known != service) {
            self.remove_slice(&key);
        }
        self.slice_services.insert(key.clone(), service.clone());
        self.slices.entry(service.clone()).or_default().insert(key, endpoints);
        self.index(&service);
    }

    /// A slice is not there, or has nothing that is ready.
    pub fn remove_slice(&mut self, key: &Key) {
        let Some(service) = self.slice_services.remove(key) else { return };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.remove(key);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.index(&service);
    }

    /// Takes a complete list: what is not in it is there no more.
    pub fn list_slices(&mut self, slices: Vec<(Key, Vec<EndpointEntry>)>) {
        let listed: HashSet<&Key> = slices.iter().map(|(key, _)| key).collect();
        let gone: Vec<Key> = self.slice_services.keys().filter(|key| !listed.contains(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove_slice(key));
        slices.into_iter().for_each(|(key, endpoints)| self.put_slice(key, endpoints));
    }

    /// Brings one Service of the zone to what is known of it.
    fn index(&mut self, key: &Key) {
        let (namespace, name) = key;
        let endpoints = self.slices.get(key).into_iter().flat_map(BTreeMap::values).flatten();
        let new = self.services.get(key).map(|service| Arc::new(IndexedService::new(service, endpoints)));
        let mut siblings = self.zone.services.get(&**namespace).cloned().unwrap_or_default();
        let old = match &new {
            Some(new) => siblings.insert(name.as_str().into(), Arc::clone(new)),
            None => siblings.remove(&**name),
        };
        if old.is_none() && new.is_none() {
            return;
        }
        self.changed = true;
        if siblings.is_empty() {
            self.zone.services.remove(&**namespace);
        } else {
            self.zone.services.insert(namespace.as_str().into(), siblings);
        }
        let own = service_name(&self.zone.config.domain, namespace, name);
        self.name_vips(&own, old.as_deref(), new.as_deref());
        self.name_hosts(&own, old.as_deref(), new.as_deref());
    }

    fn name_vips(&mut self, own: &Name, old: Option<&IndexedService>, new: Option<&IndexedService>) {
        let [old, new] = [old, new].map(|service| service.map_or(&[][..], IndexedService::vips));
        for &address in old.iter().filter(|address| !new.contains(address)) {
            leave(&mut self.zone.vips, address, own);
        }
        for &address in new.iter().filter(|address| !old.contains(address)) {
            join(&mut self.zone.vips, address, own.clone());
        }
    }

    fn name_hosts(&mut self, own: &Name, old: Option<&IndexedService>, new: Option<&IndexedService>) {
        let missing = |(label, address): &(&str, IpAddr), in_: Option<&IndexedService>| {
            !in_.is_some_and(|service| service.has(label, *address))
        };
        let gone = old.into_iter().flat_map(IndexedService::hosts).filter(|host| missing(host, new));
        for (label, address) in gone {
            leave(&mut self.zone.hosts, address, &own.under(label));
        }
        let come = new.into_iter().flat_map(IndexedService::hosts).filter(|host| missing(host, old));
        for (label, address) in come {
            join(&mut self.zone.hosts, address, own.under(label));
        }
    }
}

/// Gives an address another name. They are in the order of their texts, so that the same objects always give the same zone.
fn join(names: &mut SnapMap<IpAddr, Arc<[Name]>>, address: IpAddr, name: Name) {
    let mut all: Vec<Name> = names.get(&address).map_or_else(Vec::new, |known| known.to_vec());
    if let Err(at) = all.binary_search_by(|other| other.text().cmp(name.text())) {
        all.insert(at, name);
        names.insert(address, all.into());
    }
}

fn leave(names: &mut SnapMap<IpAddr, Arc<[Name]>>, address: IpAddr, name: &Name) {
    let Some(known) = names.get(&address) else { return };
    let left: Arc<[Name]> = known.iter().filter(|other| !other.is_written_as(name)).cloned().collect();
    if left.is_empty() {
        names.remove(&address);
    } else {
        names.insert(address, left);
    }
}
