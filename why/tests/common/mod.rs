//! A small world in which everything works, to be broken in one place.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this, and none is a library")]

pub mod rows;

use std::net::{IpAddr, SocketAddr};

use minisvc_why::{
    Attempt, Client, Facts, Findings, Frontend, Listener, Lookup, LookupStep, Question, Seen, diagnose, wanted,
};
use serde_json::{Value, json};

/// Objects as JSON, and what is seen inside the lab.
pub struct World {
    pub services: Vec<Value>,
    pub pods: Vec<Value>,
    pub slices: Vec<Value>,
    pub nodes: Vec<Value>,
    pub events: Vec<Value>,
    pub workloads: Vec<Value>,
    /// The facts that are no objects.
    pub rest: Facts,
}

impl World {
    /// Service `default/web` (80 to 8080) with two pods on two nodes; the client pod `shop/client` is on the second.
    pub fn working() -> Self {
        let mut world = Self {
            services: vec![service("default", "web", "10.96.0.9", &json!({"app": "web"}))],
            pods: vec![
                pod("default", "web-1", "10.244.0.2", "node-1", &json!({"app": "web"})),
                pod("default", "web-2", "10.244.1.2", "node-2", &json!({"app": "web"})),
                pod("shop", "client", "10.244.1.9", "node-2", &json!({"app": "client"})),
            ],
            slices: vec![slice("default", "web", &[("10.244.0.2", "node-1"), ("10.244.1.2", "node-2")])],
            nodes: vec![node("node-1", "10.95.0.11", "10.244.0.0/24"), node("node-2", "10.95.0.12", "10.244.1.0/24")],
            events: Vec::new(),
            workloads: Vec::new(),
            rest: Facts {
                domain: "cluster.local".into(),
                namespaces: ["default", "kube-system", "shop"].map(str::to_owned).to_vec(),
                service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
                frontends: Some(vec![Frontend { at: socket("10.96.0.9:80"), protocol: "TCP".into() }]),
                ..Facts::default()
            },
        };
        world.listens("default", "web-1", &[("TCP", "::", 8080)]);
        world.listens("default", "web-2", &[("TCP", "::", 8080)]);
        world.resolves("web", &["10.96.0.9"]);
        world.resolves("web.default", &["10.96.0.9"]);
        world.rest.seen = Seen {
            source: Some(address("10.95.0.1")),
            attempt: Some(Attempt { target: socket("10.96.0.9:80"), failure: None }),
            ..world.rest.seen
        };
        world
    }

    /// The first Service.
    pub fn web(&mut self) -> &mut Value {
        &mut self.services[0]
    }

    /// Changes both pods of the Service.
    pub fn both(&mut self, change: impl Fn(&mut Value)) {
        self.pods[..2].iter_mut().for_each(change);
    }

    pub fn listens(&mut self, namespace: &str, pod: &str, sockets: &[(&str, &str, u16)]) {
        let listener = |(protocol, ip, port): &(&str, &str, u16)| Listener {
            protocol: (*protocol).into(),
            address: address(ip),
            port: *port,
        };
        self.rest.sockets.insert((namespace.into(), pod.into()), sockets.iter().map(listener).collect());
    }

    pub fn resolves(&mut self, name: &str, addresses: &[&str]) {
        self.rest.seen.lookups.retain(|lookup| lookup.name != name);
        let found = !addresses.is_empty();
        let verdict = if found { "NOERROR, 1 records" } else { "NXDOMAIN: no such name" };
        let step = LookupStep {
            name: format!("{name}.svc.cluster.local."),
            reason: "search svc.cluster.local".into(),
            verdict: verdict.into(),
            found,
        };
        let addresses = addresses.iter().map(|ip| address(ip)).collect();
        self.rest.seen.lookups.push(Lookup { name: name.into(), steps: vec![step], addresses, failure: None });
    }

    pub fn event(&mut self, kind: &str, namespace: &str, name: &str, reason: &str, message: &str) {
        self.events.push(json!({"metadata": {"namespace": namespace}, "reason": reason, "message": message,
            "involvedObject": {"kind": kind, "namespace": namespace, "name": name}, "lastTimestamp": "2026-01-01T00:00:00Z"}));
    }

    pub fn last_line(&mut self, pod: &str, container: &str, line: &str) {
        self.rest.last_lines.insert((("default".into(), pod.into()), container.into()), line.into());
    }

    /// A Deployment through a ReplicaSet made both pods.
    pub fn deployed(&mut self, replicas: u32) {
        let template = json!({"metadata": {"labels": {"app": "web"}}});
        let spec = json!({"replicas": replicas, "template": template});
        self.workloads
            .push(json!({"kind": "Deployment", "metadata": {"namespace": "default", "name": "web"}, "spec": spec}));
        self.workloads
            .push(json!({"kind": "ReplicaSet", "spec": spec, "metadata": {"namespace": "default", "name": "web-abc",
            "ownerReferences": [{"kind": "Deployment", "name": "web"}]}}));
        self.both(|pod| pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "web-abc"}]));
    }

    pub fn facts(self) -> Facts {
        fn read<T: serde::de::DeserializeOwned>(objects: Vec<Value>) -> Vec<T> {
            objects.into_iter().map(|object| serde_json::from_value(object).expect("an object")).collect()
        }
        Facts {
            services: read(self.services),
            pods: read(self.pods),
            slices: read(self.slices),
            nodes: read(self.nodes),
            events: read(self.events),
            workloads: read(self.workloads),
            ..self.rest
        }
    }
}

/// Answers a question of the workstation, or of `client` as `namespace/pod`.
pub fn ask(world: World, target: &str, client: Option<&str>) -> Findings {
    let client = client.map_or(Client::Workstation, |client| {
        let (namespace, pod) = client.split_once('/').expect("namespace/pod");
        Client::Pod((namespace.into(), pod.into()))
    });
    let (target, namespace) = target.split_once(" -n ").unwrap_or((target, "default"));
    let question = Question::parse(target, namespace, client).expect("a target");
    let facts = world.facts();
    // Whatever is broken, this must not be in the way.
    wanted(&facts, &question);
    diagnose(&facts, &question)
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

pub fn service(namespace: &str, name: &str, ip: &str, selector: &Value) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
        "ipFamilies": ["IPv4"], "selector": selector, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
        "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}})
}

pub fn pod(namespace: &str, name: &str, ip: &str, node: &str, labels: &Value) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "minisvc/echo"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": true, "started": true, "state": {"running": {}}}]}})
}

/// Makes a pod one that runs and is not ready.
pub fn unready(pod: &mut Value) {
    pod["status"]["conditions"][1] =
        json!({"type": "Ready", "status": "False", "message": "containers with unready status: [main]"});
    pod["status"]["containerStatuses"][0]["ready"] = json!(false);
}

/// Makes a pod one whose container waits.
pub fn waiting(pod: &mut Value, reason: &str, message: &str) {
    unready(pod);
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": reason, "message": message}});
}

/// Makes a pod one that has no node.
pub fn unplaced(pod: &mut Value) {
    unready(pod);
    pod["status"]["phase"] = json!("Pending");
    pod["spec"]["nodeName"] = json!("");
}

pub fn slice(namespace: &str, service: &str, endpoints: &[(&str, &str)]) -> Value {
    let endpoint =
        |(ip, node): &(&str, &str)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}});
    json!({"metadata": {"namespace": namespace, "name": format!("{service}-abc"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()})
}

pub fn node(name: &str, ip: &str, pods: &str) -> Value {
    let zone = format!("zone-{}", if name == "node-1" { "a" } else { "b" });
    json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}, "spec": {"podCIDRs": [pods]}, "status": {"addresses": [{"type": "InternalIP", "address": ip}],
        "conditions": [{"type": "Ready", "status": "True"}]}})
}

/// Makes the Service one of type NodePort.
pub fn node_port(world: &mut World) {
    world.web()["spec"]["type"] = json!("NodePort");
    world.web()["spec"]["ports"][0]["nodePort"] = json!(30080);
    world
        .rest
        .frontends
        .as_mut()
        .expect("asked")
        .push(Frontend { at: socket("10.95.0.11:30080"), protocol: "TCP".into() });
    world.rest.seen.attempt = None;
}

/// And one with a load balancer.
pub fn load_balancer(world: &mut World) {
    node_port(world);
    world.web()["spec"]["type"] = json!("LoadBalancer");
    world.web()["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.95.1.7"}]}});
    world.rest.frontends.as_mut().expect("asked").push(Frontend { at: socket("10.95.1.7:80"), protocol: "TCP".into() });
}
