//! What has to be looked at inside the lab, because no object says it.

use std::net::{IpAddr, SocketAddr};

use crate::address::{Owner, owner};
use crate::facts::{Facts, Key};
use crate::names::{Meaning, meaning, name_for};
use crate::records::{Pod, Service};
use crate::service::Entry;
use crate::{Question, Target};

/// Pods whose sockets are looked at: more would tell no more, and each costs a process.
const MAX_PODS: usize = 8;

/// Containers whose last line is read.
const MAX_LOGS: usize = 4;

/// What [`diagnose`](crate::diagnose) would like to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Pods in which to look for listening sockets, each with a running container.
    pub sockets: Vec<(Key, String)>,
    /// Containers that have ended.
    pub logs: Vec<LogWanted>,
    /// Names to look up where the client is.
    pub names: Vec<String>,
    /// Where to try a connection, from where the client is.
    pub connect: Option<SocketAddr>,
    /// Where the client would go, if it did: only its own address on the way there is of interest.
    pub towards: Option<IpAddr>,
}

/// The log of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogWanted {
    /// Its pod.
    pub pod: Key,
    /// Its name.
    pub container: String,
    /// Whether the run before the present one is meant.
    pub previous: bool,
}

/// Says what to look at before [`diagnose`](crate::diagnose).
pub fn wanted(facts: &Facts, question: &Question) -> Wanted {
    let mut wanted = Wanted::default();
    let namespace = question.client.namespace();
    match &question.target {
        Target::Service((home, name)) => {
            if let Some(service) = facts.service(home, name) {
                wanted.service(facts, question, service, Entry::Own);
            }
        }
        Target::Pod((home, name)) => {
            if let Some(pod) = facts.pod(home, name) {
                wanted.pod(question, pod);
            }
        }
        Target::Address(address) => match owner(facts, *address, question.port, question.protocol) {
            Some(Owner::Service(service, entry)) => wanted.service(facts, question, service, entry),
            Some(Owner::Pod(pod)) => wanted.pod(question, pod),
            Some(Owner::HostPort(pod, _)) => {
                wanted.pod(question, pod);
                wanted.connect = wanted.connect.map(|target| SocketAddr::new(*address, target.port()));
            }
            // One of these may be who listens there.
            Some(Owner::Node(node)) => {
                let there = |pod: &&Pod| pod.spec.host_network && pod.spec.node_name == node.metadata.name;
                facts.pods.iter().filter(there).for_each(|pod| wanted.look_into(pod));
            }
            None => {
                let tcp = question.protocol != Some("UDP") && facts.places.contains_key(address);
                wanted.connect = question.port.filter(|_| tcp).map(|port| SocketAddr::new(*address, port));
            }
        },
        Target::Name(name) => match meaning(facts, name, namespace) {
            Meaning::Service((home, service)) => {
                if let Some(service) = facts.service(&home, &service) {
                    wanted.service(facts, question, service, Entry::Own);
                }
            }
            Meaning::PodOf(host, (home, _)) => {
                if let Some(pod) = facts.pod(&home, &host) {
                    wanted.pod(question, pod);
                }
            }
            Meaning::Outside => {}
        },
    }
    if let Target::Name(name) = &question.target
        && !wanted.names.contains(name)
    {
        wanted.names.push(name.clone());
    }
    wanted.towards = wanted.connect.map(|target| target.ip());
    wanted
}

impl Wanted {
    fn service(&mut self, facts: &Facts, question: &Question, service: &Service, entry: Entry<'_>) {
        if !matches!(question.target, Target::Name(_)) {
            self.names.push(name_for(service, question.client.namespace()));
        }
        if service.is_external_name() {
            let target = &service.spec.external_name;
            if target.parse::<IpAddr>().is_err() && !self.names.contains(target) {
                self.names.push(target.clone());
            }
            return;
        }
        let has_power = |pod: &Pod| !facts.stopped.contains(&pod.spec.node_name);
        let members = facts.pods.iter().filter(|pod| service.selects(pod) && !pod.metadata.leaves() && has_power(pod));
        members.for_each(|pod| self.look_into(pod));
        let of_interest = |port: &&crate::ServicePort| {
            let number = if matches!(entry, Entry::Node(..)) { port.node_port } else { Some(port.port) };
            question.port.is_none_or(|asked| number == Some(asked)) && port.protocol() == "TCP"
        };
        let port = service.spec.ports.iter().find(of_interest).filter(|_| question.protocol != Some("UDP"));
        let address = entry.address().or_else(|| service.cluster_ips().first().copied());
        self.connect = address.zip(port).map(|(address, port)| {
            let number = if matches!(entry, Entry::Node(..)) { port.node_port } else { Some(port.port) };
            SocketAddr::new(address, number.unwrap_or(port.port))
        });
    }

    fn pod(&mut self, question: &Question, pod: &Pod) {
        self.look_into(pod);
        let address = pod.ips().first().copied();
        self.connect = address.zip(question.port.filter(|_| question.protocol != Some("UDP"))).map(SocketAddr::from);
    }

    fn look_into(&mut self, pod: &Pod) {
        let statuses = || pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
        let running = pod.status.container_statuses.iter().find(|status| status.state.running.is_some());
        if let Some(status) = running.filter(|_| self.sockets.len() < MAX_PODS && !pod.has_ended()) {
            self.sockets.push((pod.metadata.key(), status.name.clone()));
        }
        for status in statuses().filter(|status| status.state.running.is_none()) {
            // The end of interest is that of the last run that there was.
            let has_ended = status.state.terminated.is_some() || status.last_state.terminated.is_some();
            if has_ended && self.logs.len() < MAX_LOGS {
                self.logs.push(LogWanted { pod: pod.metadata.key(), container: status.name.clone(), previous: false });
            }
        }
    }
}
