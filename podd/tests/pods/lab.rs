//! A lab without controllers or data plane: sandbox, API server, podd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use minisvc_apiserver::{ApiServer, Identity, Options};
use minisvc_podd::{
    Config, ExecSpec, ImageCommand, Link, LinkId, LogOptions, Network, NetworkError, NodeConfig, Owner, Podd,
};
use minisvc_sandbox::{ExitStatus, LaunchOptions, Sandbox};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The first node.
pub(crate) const NODE: &str = "node-1";

/// Keeps the devices open and remembers who is attached; moves no packets.
#[derive(Default)]
pub(crate) struct Plug {
    links: Mutex<(u64, BTreeMap<LinkId, Link>)>,
}

impl Plug {
    /// Names of the attached links.
    pub(crate) fn attached(&self) -> Vec<String> {
        self.links.lock().expect("not poisoned").1.values().map(|link| link.name.clone()).collect()
    }
}

#[async_trait]
impl Network for Plug {
    async fn attach(&self, link: Link) -> Result<LinkId, NetworkError> {
        let mut links = self.links.lock().expect("not poisoned");
        links.0 += 1;
        let id = LinkId(links.0);
        links.1.insert(id, link);
        Ok(id)
    }

    async fn detach(&self, id: LinkId) {
        let link = self.links.lock().expect("not poisoned").1.remove(&id);
        // Closing a device takes the kernel a while.
        tokio::task::spawn_blocking(move || drop(link)).await.expect("closing does not panic");
    }

    async fn power_off(&self, node: &str) {
        let mut links = self.links.lock().expect("not poisoned");
        links.1.retain(
            |_, link| !matches!(&link.owner, Owner::Pod { node: name, .. } | Owner::Node { name } if name == node),
        );
    }

    async fn power_on(&self, _: &str) {}
}

/// A lab.
pub(crate) struct Lab {
    pub(crate) api: ApiServer,
    pub(crate) client: Client,
    pub(crate) podd: Podd,
    pub(crate) sandbox: Sandbox,
    pub(crate) plug: Arc<Plug>,
    pub(crate) directory: tempfile::TempDir,
}

impl Lab {
    /// A lab with two nodes.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A lab whose configuration has been changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let api = ApiServer::open(Options::default()).await.expect("an API server");
        let client = api.client(Identity::component("test"));
        let account = json!({"metadata": {"name": "default"}});
        let _: ServiceAccount = create(&client, "default", account).await;
        let roots = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "a certificate"}});
        let _: ConfigMap = create(&client, "default", roots).await;
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = config(directory.path());
        change(&mut config);
        let (podd, sandbox, plug) = start_podd(&api, config).await;
        Self { api, client, podd, sandbox, plug, directory }
    }

    /// Everything down and up again, as after a reboot of the nodes: same objects, same state directory.
    pub(crate) async fn reboot(self) -> Self {
        let Self { api, client, podd, sandbox, directory, .. } = self;
        podd.shutdown().await;
        sandbox.shutdown().await;
        let (podd, sandbox, plug) = start_podd(&api, config(directory.path())).await;
        Self { api, client, podd, sandbox, plug, directory }
    }

    /// Everything down.
    pub(crate) async fn stop(self) {
        self.podd.shutdown().await;
        self.sandbox.shutdown().await;
        self.api.close().await;
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod bound to the first node.
    pub(crate) async fn pod(&self, name: &str, spec: Value) -> Pod {
        let mut full =
            json!({"nodeName": NODE, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 5});
        full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        // A container with a command may have any image.
        for list in ["containers", "initContainers"] {
            for container in full.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let fields = container.as_object_mut().expect("an object");
                fields.entry("image").or_insert_with(|| json!("host"));
            }
        }
        create(&self.client, "default", json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": full}))
            .await
    }

    /// Waits until the pod (`None`: gone) fits.
    pub(crate) async fn until(&self, name: &str, what: &str, fits: impl Fn(Option<&Pod>) -> bool) -> Option<Pod> {
        let condition = |pod: Option<&Pod>| fits(pod);
        match tokio::time::timeout(PATIENCE, await_condition(self.pods(), name, condition)).await {
            Ok(result) => result.expect("a watch"),
            Err(_) => panic!("{name} is not {what}: {}", self.describe(name).await),
        }
    }

    /// Waits until the pod is Ready.
    pub(crate) async fn ready(&self, name: &str) -> Pod {
        let is_ready = |pod: Option<&Pod>| pod.is_some_and(|pod| condition(pod, "Ready") == "True");
        let pod = self.until(name, "ready", is_ready).await.expect("a pod");
        let mut conditions = status(&pod).conditions.iter().flatten();
        let ready = conditions.find(|condition| condition.type_ == "Ready").expect("it was just seen");
        assert_eq!((&ready.reason, &ready.message), (&None, &None), "why it was not ready is forgotten");
        pod
    }

    /// Waits for a phase.
    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Pod {
        self.until(name, phase, |pod| pod.is_some_and(|p| status(p).phase.as_deref() == Some(phase)))
            .await
            .expect("a pod")
    }

    /// Waits until the object is gone.
    pub(crate) async fn gone(&self, name: &str) {
        self.until(name, "gone", |pod| pod.is_none()).await;
    }

    /// Waits for an event with this reason and returns its message.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> String {
        self.event_saying(name, reason, "").await
    }

    /// An event of this reason whose message has this text; there may be others of the reason before it.
    pub(crate) async fn event_saying(&self, name: &str, reason: &str, text: &str) -> String {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let events = self.events(name).await;
                let wanted = |(got, message): &(String, String)| got == reason && message.contains(text);
                if let Some((_, message)) = events.into_iter().find(wanted) {
                    return message;
                }
                // Events have no order among objects, so they are simply looked at again.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        match found.await {
            Ok(message) => message,
            Err(_) => panic!("no event {reason} {text:?} for {name}: {}", self.describe(name).await),
        }
    }

    /// Reasons and messages of a pod's events, as they were written.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let params = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let list = events.list(&params).await.expect("events");
        let mut events: Vec<_> = list.items;
        events.sort_by_key(|event| event.metadata.name.clone());
        events.into_iter().map(|e| (e.reason.unwrap_or_default(), e.message.unwrap_or_default())).collect()
    }

    pub(crate) async fn delete(&self, name: &str, grace: u32) {
        self.pods().delete(name, &DeleteParams::default().grace_period(grace)).await.expect("a deletion");
    }

    /// Runs a command in a pod and returns its exit status.
    pub(crate) async fn exec(&self, pod: &str, command: &str) -> ExitStatus {
        let argv = ["/bin/sh", "-c", command].map(Into::into).to_vec();
        let spec = ExecSpec { argv, ..ExecSpec::default() };
        self.podd.exec("default", pod, None, spec).await.expect("a process").wait().await
    }

    /// What a container has printed.
    pub(crate) async fn log(&self, pod: &str, options: LogOptions) -> String {
        let stream = self.podd.logs("default", pod, options).expect("a log");
        let chunks: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect()).await.expect("the end of the log");
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.expect("readable")).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn describe(&self, name: &str) -> String {
        let pod = self.pods().get_opt(name).await.expect("an answer");
        let status = pod.and_then(|pod| pod.status);
        format!("{}\nevents: {:#?}", serde_json::to_string_pretty(&status).expect("JSON"), self.events(name).await)
    }
}

fn config(directory: &Path) -> Config {
    let node = |number: u8, zone: &str| NodeConfig {
        name: format!("node-{number}"),
        addresses: vec![[10, 95, 0, 10 + number].into()],
        zone: Some(zone.to_owned()),
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().expect("a network")],
    };
    let host_resolv_conf = directory.join("resolv.conf");
    std::fs::write(&host_resolv_conf, "nameserver 192.0.2.1\nsearch corp.example\n").expect("written");
    Config {
        dns: Some([10, 96, 0, 10].into()),
        host_resolv_conf,
        backoff_base: Duration::from_millis(200),
        backoff_cap: Duration::from_secs(1),
        volume_refresh: Duration::from_millis(200),
        images: BTreeMap::from([(
            "say".to_owned(),
            ImageCommand { command: vec!["/bin/echo".into(), "said:".into()] },
        )]),
        ..Config::new(vec![node(1, "a"), node(2, "b")], directory.join("state"))
    }
}

async fn start_podd(api: &ApiServer, config: Config) -> (Podd, Sandbox, Arc<Plug>) {
    let sandbox = Sandbox::launch(LaunchOptions::this_program("podd-test")).await.expect("a sandbox");
    let plug = Arc::new(Plug::default());
    let client = api.client(Identity::component("podd"));
    let network = Arc::clone(&plug) as Arc<dyn Network>;
    let podd = Podd::start(config, client, sandbox.clone(), network).await.expect("podd");
    (podd, sandbox, plug)
}

/// Creates an object.
pub(crate) async fn create<K>(client: &Client, namespace: &str, object: Value) -> K
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + serde::Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let object = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.expect("created")
}

/// Status of a condition, or nothing.
pub(crate) fn condition(pod: &Pod, kind: &str) -> String {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|c| c.type_ == kind).map(|c| c.status.clone()).next().unwrap_or_default()
}

/// The status, which every pod has.
pub(crate) fn status(pod: &Pod) -> &k8s_openapi::api::core::v1::PodStatus {
    pod.status.as_ref().expect("a status")
}

/// Restart count of the first container.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    status(pod).container_statuses.as_ref().map_or(0, |list| list[0].restart_count)
}

/// Waiting reason and message of the first container.
pub(crate) fn waiting(pod: &Pod) -> (String, String) {
    let list = status(pod).container_statuses.clone().unwrap_or_default();
    let waiting = list.into_iter().next().and_then(|c| c.state?.waiting);
    waiting.map(|w| (w.reason.unwrap_or_default(), w.message.unwrap_or_default())).unwrap_or_default()
}

/// A container that runs a shell script.
pub(crate) fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "command": ["/bin/sh", "-c", script]})
}

/// The directory of `lab` as a hostPath volume called `out`, and its path.
pub(crate) fn shared_directory(lab: &Lab, name: &str) -> (Value, PathBuf) {
    let path = lab.directory.path().join(name);
    std::fs::create_dir_all(&path).expect("made");
    (json!({"name": "out", "hostPath": {"path": path, "type": "Directory"}}), path)
}
