//! Objects as far as the checks care, read straight from the API's JSON.
//!
//! Every field that an object may leave out has a default, so that the checks read like the statements they check.

mod questions;

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

macro_rules! records {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
    )*};
}

records! {
    /// What all objects have.
    Meta {
        /// Name.
        name: String,
        /// Namespace; empty for objects without one.
        namespace: String,
        /// Unique id.
        uid: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// When it was asked to go.
        deletion_timestamp: Option<String>,
        /// Who still has to agree to that.
        finalizers: Vec<String>,
        /// What made it.
        owner_references: Vec<Owner>,
    }
    /// Who made an object.
    Owner {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
    }
    /// A Service.
    Service {
        /// Metadata.
        metadata: Meta,
        /// What is wanted.
        spec: ServiceSpec,
        /// What there is.
        status: ServiceStatus,
    }
    /// What a Service wants.
    ServiceSpec {
        /// One of the four types.
        #[serde(rename = "type")]
        kind: String,
        /// The primary address, or `None`.
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        /// All its addresses.
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        /// Ports.
        ports: Vec<ServicePort>,
        /// Labels of its pods.
        selector: BTreeMap<String, String>,
        /// `None` or `ClientIP`.
        session_affinity: String,
        /// `Cluster` or `Local`, for traffic from outside.
        external_traffic_policy: String,
        /// `Cluster` or `Local`, for traffic from pods.
        internal_traffic_policy: String,
        /// Whether pods that are not ready count too.
        publish_not_ready_addresses: bool,
        /// Who provides the load balancer.
        load_balancer_class: String,
        /// Who may ask the load balancer.
        load_balancer_source_ranges: Vec<String>,
        /// What an ExternalName stands for.
        external_name: String,
        /// Further addresses.
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        /// Its families, the primary first.
        ip_families: Vec<String>,
    }
    /// One port of a Service.
    ServicePort {
        /// Name; empty if it has none.
        name: String,
        /// `TCP`, `UDP` or `SCTP`.
        protocol: String,
        /// The port at its address.
        port: u16,
        /// The port of the pods: a number or a name.
        target_port: Value,
        /// The port at every node.
        node_port: Option<u16>,
    }
    /// What there is of a Service.
    ServiceStatus {
        /// Of its load balancer.
        load_balancer: LoadBalancer,
    }
    /// A load balancer.
    LoadBalancer {
        /// Its addresses.
        ingress: Vec<Ingress>,
    }
    /// An address of a load balancer.
    Ingress {
        /// The address.
        ip: String,
    }
    /// A Pod.
    Pod {
        /// Metadata.
        metadata: Meta,
        /// What is wanted.
        spec: PodSpec,
        /// What there is.
        status: PodStatus,
    }
    /// What a Pod wants.
    PodSpec {
        /// The node it is on; empty before it has one.
        node_name: String,
        /// Whether it has its node's network.
        host_network: bool,
        /// Containers.
        containers: Vec<Container>,
        /// Containers that run first.
        init_containers: Vec<Container>,
        /// Labels of the nodes that it may be on.
        node_selector: BTreeMap<String, String>,
        /// Conditions that others must set.
        readiness_gates: Vec<Gate>,
        /// The headless Service under which it has a name; empty if it has none.
        subdomain: String,
    }
    /// A condition that somebody else sets before a pod counts as ready.
    Gate {
        /// Its type.
        condition_type: String,
    }
    /// A container.
    Container {
        /// Name.
        name: String,
        /// Image.
        image: String,
        /// Ports that it declares.
        ports: Vec<ContainerPort>,
        /// How it is asked whether it is ready.
        readiness_probe: Value,
        /// How it is asked whether it has started.
        startup_probe: Value,
    }
    /// A port that a container declares.
    ContainerPort {
        /// Name; empty if it has none.
        name: String,
        /// The number.
        container_port: u16,
        /// Protocol; empty means TCP.
        protocol: String,
        /// The port that it wants on its node.
        host_port: Option<u16>,
    }
    /// What there is of a Pod.
    PodStatus {
        /// Phase.
        phase: String,
        /// The primary address; empty before it has one.
        #[serde(rename = "podIP")]
        pod_ip: String,
        /// All addresses.
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        /// Conditions.
        conditions: Vec<Condition>,
        /// Of each container.
        container_statuses: Vec<ContainerStatus>,
        /// Of each container that runs first.
        init_container_statuses: Vec<ContainerStatus>,
    }
    /// One address of a pod.
    PodIp {
        /// The address.
        ip: String,
    }
    /// A condition.
    Condition {
        /// Type.
        #[serde(rename = "type")]
        kind: String,
        /// `True`, `False` or `Unknown`.
        status: String,
        /// Why, in one word.
        reason: String,
        /// Why.
        message: String,
    }
    /// What there is of a container.
    ContainerStatus {
        /// Name.
        name: String,
        /// Whether it counts as ready.
        ready: bool,
        /// Whether its startup probe has succeeded, if it has one.
        started: bool,
        /// How often it was started anew.
        restart_count: u32,
        /// Now.
        state: State,
        /// Before.
        last_state: State,
    }
    /// A container's state: one of the three.
    State {
        /// It waits.
        waiting: Option<Waiting>,
        /// It runs.
        running: Option<Value>,
        /// It has ended.
        terminated: Option<Terminated>,
    }
    /// Why a container waits.
    Waiting {
        /// In one word.
        reason: String,
        /// In a sentence.
        message: String,
    }
    /// How a container ended.
    Terminated {
        /// Its exit code.
        exit_code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Why, in one word.
        reason: String,
        /// Why, in a sentence.
        message: String,
    }
    /// An EndpointSlice.
    Slice {
        /// Metadata.
        metadata: Meta,
        /// `IPv4`, `IPv6` or `FQDN`.
        address_type: String,
        /// Endpoints.
        endpoints: Vec<Endpoint>,
        /// Ports of all of them.
        ports: Vec<SlicePort>,
    }
    /// One endpoint.
    Endpoint {
        /// Its addresses.
        addresses: Vec<String>,
        /// Its state.
        conditions: EndpointConditions,
        /// The node it is on; empty if unknown.
        node_name: String,
    }
    /// The state of an endpoint; what is not said counts as fine.
    EndpointConditions {
        /// Whether it gets new connections.
        ready: Option<bool>,
        /// Whether it still serves.
        serving: Option<bool>,
        /// Whether it is going.
        terminating: Option<bool>,
    }
    /// A port of a slice.
    SlicePort {
        /// Name; empty if it has none.
        name: String,
        /// Protocol.
        protocol: String,
        /// Number.
        port: Option<u16>,
    }
    /// A Node.
    Node {
        /// Metadata.
        metadata: Meta,
        /// What is wanted.
        spec: NodeSpec,
        /// What there is.
        status: NodeStatus,
    }
    /// What is wanted of a node.
    NodeSpec {
        /// Whether it takes no new pods.
        unschedulable: bool,
        /// What keeps pods away.
        taints: Vec<Taint>,
        /// Addresses of its pods.
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<IpNet>,
    }
    /// What keeps pods away from a node.
    Taint {
        /// Key.
        key: String,
        /// Effect.
        effect: String,
    }
    /// What there is of a node.
    NodeStatus {
        /// Addresses.
        addresses: Vec<NodeAddress>,
        /// Conditions.
        conditions: Vec<Condition>,
    }
    /// One address of a node.
    NodeAddress {
        /// The address.
        address: String,
    }
    /// An Event.
    Event {
        /// Metadata.
        metadata: Meta,
        /// What it is about.
        involved_object: Involved,
        /// In one word.
        reason: String,
        /// In a sentence.
        message: String,
        /// When it was last seen.
        last_timestamp: Option<String>,
    }
    /// What an event is about.
    Involved {
        /// Kind.
        kind: String,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    }
    /// A fault that is made on purpose.
    Fault {
        /// Metadata.
        metadata: Meta,
        /// What it does to whom.
        spec: FaultSpec,
    }
    /// What a fault does, between which two sides.
    FaultSpec {
        /// One side; what it does not say fits everybody.
        from: FaultSide,
        /// The other side.
        to: FaultSide,
        /// Each packet comes so much later.
        delay_milliseconds: u64,
        /// And so much more or less.
        jitter_milliseconds: u64,
        /// How many packets are lost.
        loss_percent: f64,
        /// How many come twice.
        duplicate_percent: f64,
        /// How many overtake others.
        reorder_percent: f64,
        /// How many are damaged.
        corrupt_percent: f64,
        /// How much may pass.
        rate_kilobits_per_second: Option<u64>,
        /// Whether new connections are refused.
        refuse: bool,
        /// Whether nothing passes.
        partition: bool,
    }
    /// One side of a fault: everything that is said must fit.
    FaultSide {
        /// Of the pod, the labels or the Service; `default` if it is not said.
        namespace: Option<String>,
        /// A pod.
        pod: Option<String>,
        /// Pods with these labels.
        match_labels: Option<BTreeMap<String, String>>,
        /// The endpoints of a Service.
        service: Option<String>,
        /// What is on this node.
        node: Option<String>,
        /// What is in this zone.
        zone: Option<String>,
        /// The workstation.
        workstation: bool,
        /// What is outside of the lab.
        outside: bool,
    }
    /// A Deployment, StatefulSet, ReplicaSet or DaemonSet.
    Workload {
        /// Kind.
        kind: String,
        /// Metadata.
        metadata: Meta,
        /// What is wanted.
        spec: WorkloadSpec,
    }
    /// What a workload wants.
    WorkloadSpec {
        /// How many pods; `None` for a DaemonSet.
        replicas: Option<u32>,
        /// What its pods look like.
        template: Template,
    }
    /// What pods look like.
    Template {
        /// Metadata.
        metadata: Meta,
    }
}
