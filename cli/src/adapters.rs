//! Where two parts of a lab meet that do not know each other: podd asks for a network, and netd is one; the API asks for
//! logs, and podd keeps them.

use std::sync::Arc;

use minisvc_apiserver::{ApiError, LogRequest, LogStream, NodeService};
use minisvc_netd::{LinkRole, Netd, PortId};
use minisvc_podd::{ExecSpec, Link, LinkId, LogOptions, Network, NetworkError, Owner, Podd};
use minisvc_sandbox::Process;
use tokio::sync::RwLock;

/// What is answered to those who come too late.
const GOING_DOWN: &str = "the lab is going down";

/// The data plane as podd sees it.
pub(crate) struct NetdNetwork {
    netd: Netd,
}

impl NetdNetwork {
    /// Connects pods and nodes to this data plane.
    pub(crate) fn new(netd: Netd) -> Self {
        Self { netd }
    }
}

#[async_trait::async_trait]
impl Network for NetdNetwork {
    async fn attach(&self, link: Link) -> Result<LinkId, NetworkError> {
        let role = match link.owner {
            Owner::Pod { node, .. } => LinkRole::Pod { node },
            Owner::Node { name } => LinkRole::Node { name },
        };
        let link = minisvc_netd::Link { name: link.name, device: link.device, addresses: link.addresses, role };
        Ok(LinkId(u64::from(self.netd.attach(link).0)))
    }

    async fn detach(&self, id: LinkId) {
        // Every number comes from `attach`, so it fits.
        if let Ok(port) = u32::try_from(id.0) {
            self.netd.detach(PortId(port));
        }
    }
}

/// The nodes' agent, for those who ask it while the lab runs: nobody is left holding it when the lab goes down.
#[derive(Clone, Default)]
pub(crate) struct Nodes {
    podd: Arc<RwLock<Option<Podd>>>,
}

impl Nodes {
    /// Shares the agent.
    pub(crate) fn new(podd: Podd) -> Self {
        Self { podd: Arc::new(RwLock::new(Some(podd))) }
    }

    /// Starts a process in a running container.
    ///
    /// # Errors
    /// In podd's words, or that the lab is going down.
    pub(crate) async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        spec: ExecSpec,
    ) -> Result<Process, String> {
        match &*self.podd.read().await {
            Some(podd) => podd.exec(namespace, pod, container, spec).await.map_err(|error| with_causes(&error)),
            None => Err(GOING_DOWN.to_owned()),
        }
    }

    /// Ends all pods and the agent. Whoever asks later is told that the lab goes down.
    pub(crate) async fn shutdown(&self) {
        let podd = self.podd.write().await.take();
        if let Some(podd) = podd {
            podd.shutdown().await;
        }
    }
}

/// An error with its causes on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[async_trait::async_trait]
impl NodeService for Nodes {
    async fn logs(&self, request: LogRequest) -> Result<LogStream, ApiError> {
        let options = LogOptions {
            container: Some(request.container),
            follow: request.follow,
            previous: request.previous,
            timestamps: request.timestamps,
            tail_lines: request.tail_lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
            since: request.since,
            limit_bytes: request.limit_bytes,
            stream: request.stream.map(|stream| match stream {
                minisvc_apiserver::OutputStream::Stdout => minisvc_podd::OutputStream::Stdout,
                minisvc_apiserver::OutputStream::Stderr => minisvc_podd::OutputStream::Stderr,
            }),
        };
        match &*self.podd.read().await {
            Some(podd) => podd
                .logs(&request.namespace, &request.pod, options)
                .map_err(|error| ApiError::BadRequest(error.to_string())),
            None => Err(ApiError::ServiceUnavailable(GOING_DOWN.to_owned())),
        }
    }
}
