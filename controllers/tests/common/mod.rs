//! What the tests of this crate share: a server in memory with the controllers at work, a fake kubelet, and waiting
//! for a state with a deadline.

#![allow(dead_code, reason = "none of the test binaries uses all of it")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use minisvc_apiserver::{ApiServer, Identity, MASTERS, Options};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than any machine needs, shorter than anybody's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A server, controllers and kubelet; gone when dropped.
pub(crate) struct Lab {
    pub(crate) client: Client,
    pub(crate) server: ApiServer,
    shutdown: CancellationToken,
    controllers: JoinHandle<()>,
    kubelet: JoinHandle<()>,
}

impl Lab {
    /// With `nodes` Ready nodes `n1`, `n2`, … in zones `z1`, `z2`, ….
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, minisvc_controllers::Options::default()).await
    }

    pub(crate) async fn start_with(nodes: usize, options: minisvc_controllers::Options) -> Self {
        let server = ApiServer::open(Options::default()).await.unwrap();
        let client = server.client(Identity::new("admin", &[MASTERS]));
        for index in 1..=nodes {
            add_node(&client, &format!("n{index}"), &format!("z{index}")).await;
        }
        let shutdown = CancellationToken::new();
        let controllers = tokio::spawn(minisvc_controllers::run(client.clone(), options, shutdown.clone()));
        let kubelet = tokio::spawn(kubelet(client.clone()));
        Self { client, server, shutdown, controllers, kubelet }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Stops everything; fails when a task of the controllers does not end.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, &mut self.controllers).await.expect("the controllers end").unwrap();
        self.kubelet.abort();
        self.server.close().await;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.kubelet.abort();
        self.controllers.abort();
    }
}

/// Waits until the objects of `api` are as `accept` wants them and answers them; fails with what there was.
pub(crate) async fn settles<K>(api: Api<K>, what: &str, accept: impl Fn(&[K]) -> bool) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut known: Vec<K> = Vec::new();
    let mut complete = false;
    let waiting = async {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
        while let Some(event) = events.next().await {
            match event.unwrap() {
                Event::Init => {
                    known.clear();
                    complete = false;
                }
                Event::InitApply(object) | Event::Apply(object) => {
                    known.retain(|other| other.meta().uid != object.meta().uid);
                    known.push(object);
                }
                Event::Delete(object) => known.retain(|other| other.meta().uid != object.meta().uid),
                Event::InitDone => complete = true,
            }
            if complete {
                known.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
                if accept(&known) {
                    return;
                }
            }
        }
    };
    if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
        panic!("{what}: not so after {DEADLINE:?}; there is {known:#?}");
    }
    known
}

/// Waits until one object is as `accept` wants it.
pub(crate) async fn becomes<K>(api: Api<K>, name: &str, what: &str, accept: impl Fn(&K) -> bool) -> K
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let is_it = |object: &&K| object.meta().name.as_deref() == Some(name);
    let known = settles(api, what, |known| known.iter().find(is_it).is_some_and(&accept)).await;
    known.into_iter().find(|object| object.meta().name.as_deref() == Some(name)).unwrap()
}

pub(crate) async fn add_node(client: &Client, name: &str, zone: &str) {
    let api: Api<Node> = Api::all(client.clone());
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}},
    });
    api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    set_ready(client, name, "True").await;
}

pub(crate) async fn set_ready(client: &Client, name: &str, status: &str) {
    let api: Api<Node> = Api::all(client.clone());
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(ready)).await.unwrap();
}

/// Runs every pod that has a node: gives it an address, says it is Running and, unless its image says `broken`, Ready;
/// one whose image says `succeeds` or `fails` has ended at once. Removes a pod when it is to go, unless its image says
/// that it `lingers`.
async fn kubelet(client: Client) {
    let watching = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let mut events = std::pin::pin!(watching.default_backoff());
    let mut addresses = 1_u16;
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let spec = pod.spec.clone().unwrap_or_default();
        if spec.node_name.is_none() {
            continue;
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap());
        let name = pod.metadata.name.clone().unwrap();
        let image = spec.containers[0].image.as_deref().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            if image.contains("lingers") {
                continue;
            }
            // Somebody else may have been faster.
            let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
        } else if pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none()) {
            addresses += 1;
            let ip = format!("10.244.{}.{}", addresses / 250, addresses % 250 + 2);
            let status = match image {
                _ if image.contains("succeeds") => ended(&ip, "Succeeded"),
                _ if image.contains("fails") => ended(&ip, "Failed"),
                _ => running(&ip, if image.contains("broken") { "False" } else { "True" }),
            };
            let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
        }
    }
}

fn running(ip: &str, ready: &str) -> Value {
    json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now()}],
    }})
}

fn ended(ip: &str, phase: &str) -> Value {
    json!({"status": {
        "phase": phase, "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now()}],
    }})
}

pub(crate) fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap().to_string()
}

/// Sets the Ready condition of a pod, as a kubelet would.
pub(crate) async fn set_pod_ready(api: &Api<Pod>, name: &str, status: &str) {
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": now()}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(ready)).await.unwrap();
}

pub(crate) fn pod(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}]},
    })
}

pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

pub(crate) fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    })
}

/// The slices of a Service.
pub(crate) fn slices_of<'a>(slices: &'a [EndpointSlice], service: &str) -> Vec<&'a EndpointSlice> {
    let label = |slice: &&EndpointSlice| {
        slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("kubernetes.io/service-name"))
            .is_some_and(|name| name == service)
    };
    slices.iter().filter(label).collect()
}

/// All endpoints of a Service.
pub(crate) fn endpoints_of<'a>(slices: &'a [EndpointSlice], service: &str) -> Vec<&'a Endpoint> {
    slices_of(slices, service).into_iter().flat_map(|slice| slice.endpoints.iter().flatten()).collect()
}

pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// Waits until so many endpoints of a Service are ready, and answers the slices.
pub(crate) async fn ready_endpoints(lab: &Lab, service: &str, count: usize) -> Vec<EndpointSlice> {
    let what = format!("{count} ready endpoints of {service}");
    settles(lab.api(), &what, |slices: &[EndpointSlice]| {
        endpoints_of(slices, service).iter().filter(|endpoint| is_ready(endpoint)).count() == count
    })
    .await
}

pub(crate) async fn make_service(lab: &Lab, name: &str) -> Service {
    lab.create(service(name)).await
}

/// Keeps an eye on something while a test goes on: `check` runs on every change of the objects of `api` and names
/// what is wrong; [`Watched::verdict`] tells the first fault.
pub(crate) struct Watched {
    task: JoinHandle<()>,
    fault: Arc<std::sync::Mutex<Option<String>>>,
}

impl Watched {
    pub(crate) fn start<K>(api: Api<K>, check: impl Fn(&[K]) -> Option<String> + Send + 'static) -> Self
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let fault = Arc::new(std::sync::Mutex::new(None));
        let found = fault.clone();
        let task = tokio::spawn(async move {
            let mut known: Vec<K> = Vec::new();
            let mut complete = false;
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                // The watch is resumed; what is known stays until then.
                let Ok(event) = event else { continue };
                match event {
                    Event::Init => {
                        known.clear();
                        complete = false;
                    }
                    Event::InitApply(object) | Event::Apply(object) => {
                        known.retain(|other| other.meta().uid != object.meta().uid);
                        known.push(object);
                    }
                    Event::Delete(object) => known.retain(|other| other.meta().uid != object.meta().uid),
                    Event::InitDone => complete = true,
                }
                if complete && let Some(wrong) = check(&known) {
                    found.lock().unwrap().get_or_insert(wrong);
                }
            }
        });
        Self { task, fault }
    }

    pub(crate) fn verdict(self) {
        self.task.abort();
        if let Some(fault) = self.fault.lock().unwrap().take() {
            panic!("{fault}");
        }
    }
}
