//! `demo`: what a Service is, told by one that really runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Parser as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::api::LabApi;
use crate::args::{Cli, Command, DemoArgs, ShapeArgs};
use crate::commands::{doctor, objects};
use crate::config::{CLUSTER_DOMAIN, LabConfig};
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::lab::Lab;
use crate::manifests;
use crate::narrator::Narrator;
use crate::workstation;

const MANIFEST: &str = include_str!("../../../examples/hello/hello.yaml");

/// The Deployment and the Service of the manifest.
const NAME: &str = "hello";

/// Selects the slices of the Service.
const SLICES: &str = "kubernetes.io/service-name=hello";

/// How long any single step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests that are sent at most until every pod has answered: with three pods, missing one after this many is a
/// matter of one in 10^26.
const MAX_REQUESTS: u32 = 150;

/// Shows the whole story and takes everything down again.
///
/// # Errors
/// When the machine lacks something, or a step does not come true.
pub(crate) async fn demo(args: &DemoArgs) -> Result<ExitCode, CliError> {
    doctor::require_machine()?;
    let narrator = Narrator::new();
    let folder = std::env::temp_dir().join(format!("minisvc-demo-{}", std::process::id()));
    let home = LabHome::at("demo", &folder);
    let config = LabConfig::new(&home.name, &shape()?, "")?;
    narrator.line("This is minisvc: Kubernetes Services for ordinary local processes. Watch one come to life.");
    narrator.chapter(1, "A lab");
    narrator.explain(
        "An API that kubectl understands, virtual nodes, a data plane and a DNS server: all of it in this one \
         process, in a network of its own. Nothing on your machine changes.",
    );
    let lab = Lab::start(&config, &home, &narrator).await?;
    let story = Story { lab: &lab, home: &home, narrator: &narrator, pause: pause(args) };
    let told = tokio::select! {
        told = story.tell() => told,
        _ = tokio::signal::ctrl_c() => Err(CliError::failed("interrupted")),
    };
    narrator.chapter(7, "Taking it all down");
    lab.shutdown().await;
    // What was in it was only ever for the demo.
    let _ = std::fs::remove_dir_all(&folder);
    told?;
    narrator.step("no process, interface, route or file is left");
    narrator.line("");
    narrator.line("Your turn:  minisvc up                                (keep it running; Ctrl-C ends it)");
    narrator.line("            minisvc apply -f examples/hello           (in another terminal)");
    narrator.line("            minisvc exec -- curl -s http://hello      (or minisvc shell, or kubectl)");
    Ok(ExitCode::SUCCESS)
}

/// The default lab on any free port, asking nobody outside: the demo shall say the same on every machine.
fn shape() -> Result<ShapeArgs, CliError> {
    let line = ["minisvc", "up", "--api-port", "0", "--dns-upstream", "none"];
    match Cli::try_parse_from(line).context(|| "the demo's lab is malformed".to_owned())?.command {
        Command::Up(up) => Ok(up.shape),
        _ => Err(CliError::failed("the demo's lab is malformed")),
    }
}

/// Time for a reader's eyes between the steps; none for scripts.
fn pause(args: &DemoArgs) -> Duration {
    use std::io::IsTerminal as _;
    if args.fast || !std::io::stderr().is_terminal() { Duration::ZERO } else { Duration::from_millis(1200) }
}

struct Story<'a> {
    lab: &'a Lab,
    home: &'a LabHome,
    narrator: &'a Narrator,
    pause: Duration,
}

impl Story<'_> {
    async fn tell(&self) -> Result<(), CliError> {
        self.apply().await?;
        let pods = self.wait_for_pods().await?;
        let vip = self.resolve().await?;
        self.meet_every_pod(vip, &pods).await?;
        self.lose_a_pod(vip, &pods).await
    }

    async fn chapter(&self, number: usize, title: &str) {
        tokio::time::sleep(self.pause).await;
        self.narrator.chapter(number, title);
    }

    async fn apply(&self) -> Result<(), CliError> {
        self.chapter(2, "A Deployment and a Service").await;
        self.narrator.explain(
            "The Deployment asks for three pods with the label app=hello. Here a pod is a local process with a \
             network of its own. The Service asks for traffic to go to whoever has that label and is ready.",
        );
        self.narrator.quote("minisvc apply -f examples/hello");
        let manifests = manifests::parse("examples/hello/hello.yaml", MANIFEST)?;
        for line in objects::apply_all(&LabApi::of(self.home)?, &manifests, "default").await? {
            self.narrator.step(&line);
        }
        Ok(())
    }

    /// The three pods by name, with their addresses.
    async fn wait_for_pods(&self) -> Result<BTreeMap<String, IpAddr>, CliError> {
        self.chapter(3, "Three pods, one port").await;
        self.narrator.explain(
            "Each pod gets an address, so all three can listen on the same port 8080. A pod gets traffic only when \
             its readiness probe succeeds.",
        );
        let pods = within("three ready pods", endpoints_until(self.lab.client(), |ready| ready.len() == 3)).await?;
        for (name, address) in &pods {
            self.narrator.step(&format!("pod {name} is ready at {address}:8080"));
        }
        Ok(pods)
    }

    async fn resolve(&self) -> Result<IpAddr, CliError> {
        self.chapter(4, "A name and a virtual IP").await;
        self.narrator.explain(
            "Pods come and go, so nobody should remember their addresses. The Service has one address and one name \
             that stay. No process listens on that address: the data plane rewrites packets to it.",
        );
        let name = format!("{NAME}.default.svc.{CLUSTER_DOMAIN}");
        self.narrator.quote(&format!("getent hosts {name}"));
        let answers = self.lab.resolve(&name).await?;
        let vip = *answers.first().ok_or_else(|| CliError::failed(format!("{name} has no address")))?;
        let service = Api::<Service>::default_namespaced(self.lab.client()).get(NAME).await;
        let service = service.context(|| "cannot read the Service".to_owned())?;
        let written = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
        if written != vip.to_string() {
            return Err(CliError::failed(format!("DNS says {vip}, but the Service has {written}")));
        }
        self.narrator.step(&format!("{name} is {vip}"));
        Ok(vip)
    }

    async fn meet_every_pod(&self, vip: IpAddr, pods: &BTreeMap<String, IpAddr>) -> Result<(), CliError> {
        self.chapter(5, "Every pod answers for the Service").await;
        self.narrator.explain("Each new connection to the virtual IP goes to one of the ready pods, at random.");
        self.narrator.quote(&format!("curl http://{NAME}"));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for number in 1..=MAX_REQUESTS {
            let text = self.ask(vip).await.context(|| format!("request {number} to {vip} failed"))?;
            if number == 1 {
                self.narrator.step(&format!("the first answer: {text}"));
            }
            let who = pods.keys().find(|name| text.contains(name.as_str()));
            let who = who.ok_or_else(|| CliError::failed(format!("an unknown pod answered: {text}")))?;
            *counts.entry(who.clone()).or_default() += 1;
            if counts.len() == pods.len() && number >= 30 {
                break;
            }
        }
        if counts.len() < pods.len() {
            return Err(CliError::failed(format!("only {} of {} pods answered", counts.len(), pods.len())));
        }
        let total: u32 = counts.values().sum();
        self.narrator.step(&format!("{total} requests to http://{vip}, all answered:"));
        for (name, count) in counts {
            self.narrator.quote(&format!("{name:<24} {count:>3}"));
        }
        Ok(())
    }

    async fn lose_a_pod(&self, vip: IpAddr, pods: &BTreeMap<String, IpAddr>) -> Result<(), CliError> {
        self.chapter(6, "A pod dies, the Service does not").await;
        let (victim, address) = pods.iter().next().ok_or_else(|| CliError::failed("no pod is left"))?;
        self.narrator.explain(
            "One pod is deleted while a client goes on making requests. Its endpoint leaves the Service first; then \
             the Deployment's ReplicaSet notices that one of three is missing and makes another.",
        );
        self.narrator.quote(&format!("minisvc delete pod {victim}"));
        let load = Load::start(self.lab, vip);
        let killed = Instant::now();
        let api = Api::<Pod>::default_namespaced(self.lab.client());
        api.delete(victim, &DeleteParams::background()).await.context(|| format!("cannot delete {victim}"))?;
        let left = endpoints_until(self.lab.client(), |ready| !ready.contains_key(victim));
        let remaining = within("the endpoint to leave", left).await?;
        self.narrator.step(&format!(
            "{victim} ({address}) is no endpoint any more, {} after the delete; {} still are",
            milliseconds(killed.elapsed()),
            remaining.len()
        ));
        let answer = self.ask(vip).await.context(|| format!("{vip} stopped answering"))?;
        self.narrator.step(&format!("{vip} goes on answering: {answer}"));
        let joined = endpoints_until(self.lab.client(), |ready| ready.len() == 3 && !ready.contains_key(victim));
        let now = within("the replacement", joined).await?;
        let newcomer = now.iter().find(|(name, _)| !pods.contains_key(*name));
        let (name, new_address) = newcomer.ok_or_else(|| CliError::failed("nobody replaced the pod"))?;
        if new_address == address {
            return Err(CliError::failed(format!("the replacement took over the address {address} at once")));
        }
        self.narrator
            .step(&format!("{name} at {new_address} takes its place, {} after", milliseconds(killed.elapsed())));
        self.until_answered_by(vip, name).await?;
        self.narrator.step(&format!("{name} has answered its first request"));
        let (answered, failed) = load.stop().await;
        self.compare(vip, victim, *address, name, *new_address).await?;
        self.narrator.step(&format!("{answered} requests were answered meanwhile, {failed} failed"));
        if failed > 0 {
            return Err(CliError::failed(format!("{failed} requests failed while the pod was replaced")));
        }
        let gone = await_condition(api, victim, |pod: Option<&Pod>| pod.is_none());
        within("the old pod to go", async { gone.await.map(|_| ()).context(|| "cannot watch the pod".to_owned()) })
            .await
    }

    /// Prints what changed and what stayed.
    async fn compare(
        &self,
        vip: IpAddr,
        old: &str,
        old_address: IpAddr,
        new: &str,
        new_address: IpAddr,
    ) -> Result<(), CliError> {
        let name = format!("{NAME}.default.svc.{CLUSTER_DOMAIN}");
        let answers = self.lab.resolve(&name).await?;
        if answers.first() != Some(&vip) {
            return Err(CliError::failed(format!("{name} was {vip} and is now {answers:?}")));
        }
        self.narrator.step("What changed, and what stayed:");
        self.narrator.quote(&format!("pod      {old} {old_address}  ->  {new} {new_address}"));
        self.narrator.quote(&format!("Service  {name} {vip}  ->  {name} {vip}"));
        Ok(())
    }

    async fn until_answered_by(&self, vip: IpAddr, pod: &str) -> Result<(), CliError> {
        for _ in 0..MAX_REQUESTS {
            if self.ask(vip).await.context(|| format!("{vip} stopped answering"))?.contains(pod) {
                return Ok(());
            }
        }
        Err(CliError::failed(format!("{pod} got none of {MAX_REQUESTS} requests")))
    }

    async fn ask(&self, vip: IpAddr) -> std::io::Result<String> {
        workstation::get(self.lab.workstation(), SocketAddr::new(vip, 80), "/", Duration::from_secs(5)).await
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// Gives a step its deadline.
async fn within<T>(what: &str, step: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let late = || CliError::failed(format!("waited {} s for {what}", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, step).await.unwrap_or_else(|_| Err(late()))
}

/// The ready endpoints of the Service, as pod name and address, as soon as `enough` likes them.
async fn endpoints_until(
    client: Client,
    enough: impl Fn(&BTreeMap<String, IpAddr>) -> bool,
) -> Result<BTreeMap<String, IpAddr>, CliError> {
    let api = Api::<EndpointSlice>::default_namespaced(client);
    let doing = || "cannot watch the endpoints".to_owned();
    let list = api.list(&ListParams::default().labels(SLICES)).await.context(doing)?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut slices: BTreeMap<String, EndpointSlice> = BTreeMap::new();
    let name_of = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap_or_default();
    slices.extend(list.items.into_iter().map(|slice| (name_of(&slice), slice)));
    let mut events = api.watch(&WatchParams::default().labels(SLICES), &version).await.context(doing)?.boxed();
    loop {
        let ready = ready_of(slices.values());
        if enough(&ready) {
            return Ok(ready);
        }
        match events.next().await {
            Some(Ok(WatchEvent::Added(slice) | WatchEvent::Modified(slice))) => {
                slices.insert(name_of(&slice), slice);
            }
            Some(Ok(WatchEvent::Deleted(slice))) => {
                slices.remove(&name_of(&slice));
            }
            Some(Ok(WatchEvent::Bookmark(_))) => {}
            Some(Ok(WatchEvent::Error(error))) => return Err(CliError::failed(error.to_string())),
            Some(Err(error)) => return Err(error).context(doing),
            None => return Err(CliError::failed("the watch of the endpoints ended")),
        }
    }
}

fn ready_of<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> BTreeMap<String, IpAddr> {
    slices
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
        .filter_map(|endpoint| {
            let name = endpoint.target_ref.as_ref()?.name.clone()?;
            Some((name, endpoint.addresses.first()?.parse().ok()?))
        })
        .collect()
}

/// A client that makes one request after the other until it is stopped.
struct Load {
    stop: CancellationToken,
    answered: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(lab: &Lab, vip: IpAddr) -> Self {
        let (stop, answered, failed) = (CancellationToken::new(), Arc::default(), Arc::default());
        let from = lab.workstation().clone();
        let task = {
            let (stop, answered, failed) = (stop.clone(), Arc::clone(&answered), Arc::clone(&failed));
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let result = workstation::get(&from, SocketAddr::new(vip, 80), "/", Duration::from_secs(5)).await;
                    let counter: &AtomicU32 = if result.is_ok() { &answered } else { &failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = result {
                        tracing::warn!(%error, "a request failed");
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        };
        Self { stop, answered, failed, task }
    }

    /// How many requests were answered, and how many failed.
    async fn stop(self) -> (u32, u32) {
        self.stop.cancel();
        // It only ends early by a panic, and then the counts are what they are.
        let _ = self.task.await;
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ready_endpoints_count() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4", "metadata": {"name": "hello-x"},
            "endpoints": [
                {"addresses": ["10.244.0.2"], "targetRef": {"name": "a"}, "conditions": {"ready": true}},
                {"addresses": ["10.244.0.3"], "targetRef": {"name": "b"}, "conditions": {"ready": false}},
                {"addresses": ["10.244.0.4"], "targetRef": {"name": "c"}},
            ],
        }))
        .expect("a slice");
        let names: Vec<String> = ready_of([&slice].into_iter()).into_keys().collect();
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn the_manifest_of_the_demo_holds_what_the_demo_says() {
        let manifests = manifests::parse("hello.yaml", MANIFEST).expect("well formed");
        let kinds: Vec<_> = manifests.iter().map(|m| (m.kind(), m.name())).collect();
        assert_eq!(kinds, [("Deployment", NAME), ("Service", NAME)]);
        assert_eq!(manifests[0].object["spec"]["replicas"], 3);
        assert_eq!(manifests[0].object["spec"]["template"]["metadata"]["labels"]["app"], "hello");
        assert!(LabConfig::new("demo", &shape().expect("legal"), "").is_ok());
    }
}
