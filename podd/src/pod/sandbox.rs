//! Makes and removes what the containers of a pod share: address, namespace, interface, volumes, files.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use minisvc_sandbox::{Namespace, NamespaceSpec, TunSpec};

use super::host_ports::{self, Loopback};
use super::plan::seconds;
use crate::files::names::Names;
use crate::files::{hosts, names, resolv};
use crate::network::{Link, LinkId, Owner};
use crate::shared::{Node, Shared, lock, reference};
use crate::volumes::content::Sources;
use crate::volumes::mounts::PodFiles;
use crate::volumes::{self, Root, TokenWanted, VolumeError, disk};

/// Names come from files first, then from DNS; nothing else is asked.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nservices: files\nprotocols: files\n";

/// What the containers of a pod share.
pub(crate) struct PodSandbox {
    pub(crate) namespace: Namespace,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) names: Names,
    pub(crate) files: PodFiles,
    pub(crate) roots: BTreeMap<String, Root>,
    pub(crate) tokens: TokenCache,
    /// `None` for a pod in its node's network.
    own: Option<OwnNetwork>,
}

/// The tokens of a pod, each used until it is old (a fifth of its life is left).
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<BTreeMap<TokenWanted, (String, Instant)>>);

impl TokenCache {
    fn get(&self, wanted: &TokenWanted) -> Option<String> {
        let cache = lock(&self.0);
        let (token, since) = cache.get(wanted)?;
        (since.elapsed() < seconds(wanted.seconds).mul_f32(0.8)).then(|| token.clone())
    }

    fn keep(&self, wanted: &TokenWanted, token: String) -> String {
        lock(&self.0).insert(wanted.clone(), (token.clone(), Instant::now()));
        token
    }
}

/// The addresses and the way to them; given back when the pod is gone.
struct OwnNetwork {
    link: LinkId,
    addresses: Vec<IpAddr>,
    _loopback: Loopback,
}

/// What failed: event reason and message.
pub(crate) type Failure = (&'static str, String);

/// Makes the sandbox of `pod`.
pub(crate) async fn make(shared: &Shared, node: &Arc<Node>, pod: &Pod) -> Result<PodSandbox, Failure> {
    let sandbox_failed = |message: String| ("FailedCreatePodSandBox", message);
    let directory = shared.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default());
    let tokens = TokenCache::default();
    let roots =
        prepare_volumes(shared, node, pod, &directory, &tokens).await.map_err(|e| ("FailedMount", e.to_string()))?;
    let host_network = uses_host_network(pod);
    let names = if host_network {
        Names { hostname: node.config.name.clone(), domain: None, kernel: node.config.name.clone() }
    } else {
        names::names(pod, &shared.config.cluster_domain).map_err(|error| sandbox_failed(error.to_string()))?
    };
    let files = write_files(shared, pod, &directory.join("etc")).map_err(|e| sandbox_failed(e.to_string()))?;
    let (namespace, addresses, own) = if host_network {
        (node.namespace.clone(), node.config.addresses.clone(), None)
    } else {
        let (namespace, own) = make_network(shared, node, pod, &names).await.map_err(sandbox_failed)?;
        (namespace, own.addresses.clone(), Some(own))
    };
    Ok(PodSandbox { namespace, addresses, names, files, roots, tokens, own })
}

/// Takes the sandbox down: returns when every process in it is dead and the address is free (P-057).
pub(crate) async fn remove(shared: &Shared, node: &Node, sandbox: &PodSandbox) {
    // In the node's network, the worker has killed the containers one by one.
    let Some(own) = &sandbox.own else { return };
    // Only what the containers have left behind still runs; closing the device need not wait for it.
    tokio::join!(shared.network.detach(own.link), sandbox.namespace.remove());
    lock(&node.addresses).release(&own.addresses);
}

/// Whether the pod lives in its node's network.
fn uses_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// (Re)writes `/etc/hosts` as N-096 demands at each start of a container.
pub(crate) fn write_hosts(pod: &Pod, sandbox: &PodSandbox) -> std::io::Result<()> {
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    let text = if sandbox.own.is_some() {
        hosts::pod_file(&sandbox.names, &sandbox.addresses, aliases)
    } else {
        hosts::node_file(&fs::read_to_string("/etc/hosts").unwrap_or_default(), aliases)
    };
    // In place: the file is what running containers have mounted.
    fs::write(&sandbox.files.hosts, text)
}

/// Makes the volumes, or refreshes those that are made of API objects.
pub(crate) async fn prepare_volumes(
    shared: &Shared,
    node: &Node,
    pod: &Pod,
    directory: &Path,
    cache: &TokenCache,
) -> Result<BTreeMap<String, Root>, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let objects = shared.objects(namespace, volumes::references(pod)).await;
    let objects = objects.map_err(|error| VolumeError::Api(Box::new(error)))?;
    let mut tokens = BTreeMap::new();
    for wanted in volumes::tokens(pod) {
        let token = match cache.get(&wanted) {
            Some(token) => token,
            None => cache.keep(&wanted, request_token(shared, pod, namespace, &wanted).await?),
        };
        tokens.insert(wanted, token);
    }
    let facts = node.facts(&[]);
    let sources = Sources { pod, objects: &objects, tokens: &tokens, facts: &facts };
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let id = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let owner = disk::Owner {
        uid: id(context.and_then(|c| c.run_as_user)).or_else(|| shared.config.run_as.as_ref().map(|user| user.uid)),
        group: id(context.and_then(|c| c.fs_group)),
    };
    // Only root may give files away; without root there is one user anyway.
    let owner = if shared.sandbox.is_rootless() { disk::Owner::default() } else { owner };
    let directory = directory.join("volumes");
    let list = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    list.map(|volume| Ok((volume.name.clone(), disk::prepare(volume, &directory, &sources, owner)?))).collect()
}

async fn request_token(
    shared: &Shared,
    pod: &Pod,
    namespace: &str,
    wanted: &TokenWanted,
) -> Result<String, VolumeError> {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: wanted.audience.clone().map(|audience| vec![audience]),
            expiration_seconds: Some(wanted.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), namespace);
    match accounts.create_token_request(&account, &PostParams::default(), &request).await {
        Ok(answer) => Ok(answer.status.and_then(|status| status.token).unwrap_or_default()),
        Err(source) => Err(VolumeError::Token { account, source: Box::new(source) }),
    }
}

/// Writes the resolver's files; warns about what the manifest asks in vain.
fn write_files(shared: &Shared, pod: &Pod, directory: &Path) -> std::io::Result<PodFiles> {
    fs::create_dir_all(directory)?;
    let files = PodFiles {
        hosts: directory.join("hosts"),
        resolv_conf: directory.join("resolv.conf"),
        nsswitch: directory.join("nsswitch.conf"),
    };
    let host = fs::read_to_string(&shared.config.host_resolv_conf).unwrap_or_default();
    let cluster = resolv::Cluster {
        namespace: pod.metadata.namespace.as_deref().unwrap_or("default"),
        zone: &shared.config.cluster_domain,
        dns: shared.config.dns,
        host: &host,
    };
    let spec = pod.spec.clone().unwrap_or_default();
    let (text, warnings) = resolv::resolv_conf(&spec, &cluster);
    for warning in warnings {
        shared.recorder.record(reference(pod, None), true, warning.reason, warning.message);
    }
    fs::write(&files.hosts, "")?;
    fs::write(&files.resolv_conf, text)?;
    fs::write(&files.nsswitch, NSSWITCH)?;
    Ok(files)
}

async fn make_network(
    shared: &Shared,
    node: &Arc<Node>,
    pod: &Pod,
    names: &Names,
) -> Result<(Namespace, OwnNetwork), String> {
    let lease = Lease::take(node)?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let ipv6 = lease.addresses.iter().any(IpAddr::is_ipv6);
    let spec = NamespaceSpec {
        name: name.clone(),
        hostname: names.kernel.clone(),
        ipv6,
        processes: shared.config.process_limit,
    };
    let namespace = shared.sandbox.make_namespace(spec).await.map_err(|error| chain(&error))?;
    let tun = TunSpec {
        mtu: shared.config.mtu,
        offload: shared.config.offload,
        ..TunSpec::eth0_with(lease.addresses.clone())
    };
    let device = namespace.open_tun(tun).await.map_err(|error| chain(&error))?;
    let pod_namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    let host_ports = host_ports::host_ports(pod);
    let link = Link {
        name: format!("pod {pod_namespace}/{name}"),
        device,
        offload: shared.config.offload,
        addresses: lease.addresses.clone(),
        owner: Owner::Pod {
            namespace: pod_namespace,
            name,
            node: node.config.name.clone(),
            created,
            host_ports: host_ports.clone(),
        },
    };
    let link = shared.network.attach(link).await.map_err(|error| error.to_string())?;
    let loopback = host_ports::serve(node, &host_ports, &lease.addresses, &shared.config.node_ports).await;
    Ok((namespace, OwnNetwork { link, addresses: lease.keep(), _loopback: loopback }))
}

/// Addresses that go back to their pools unless they are kept.
struct Lease {
    node: Arc<Node>,
    addresses: Vec<IpAddr>,
}

impl Lease {
    fn take(node: &Arc<Node>) -> Result<Self, String> {
        let addresses = lock(&node.addresses).allocate();
        let addresses = addresses.map_err(|range| format!("no address is left in the node's pod range {range}"))?;
        Ok(Self { node: Arc::clone(node), addresses })
    }

    fn keep(mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.addresses)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.node.addresses).release(&self.addresses);
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Where the logs of a container are.
pub(crate) fn log_dir(shared: &Shared, uid: &str, container: &str) -> PathBuf {
    shared.pod_dir(uid).join("logs").join(container)
}
