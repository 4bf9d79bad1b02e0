//! What `up` does with a project: applies it, says when each command is ready and where it answers, and shows what the
//! commands write.

mod output;
mod progress;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;

use self::output::Streams;
use self::progress::{Change, Progress};
use crate::api::LabApi;
use crate::commands::{objects, run};
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::narrator::Narrator;
use crate::output::Table;
use crate::project::{LABEL, LABEL_VALUE, Project};

/// Where a project's objects live.
const NAMESPACE: &str = "default";

/// What is typed for no project, where there would be one.
const NONE: &str = "none";

/// How long a lab in the background may take until its project is ready.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// How long the addresses on this machine are waited for: they follow the Services by a moment.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(2);

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A project in a lab that runs.
pub(crate) struct Running<'a> {
    project: &'a Project,
    client: kube::Client,
    home: &'a LabHome,
    narrator: &'a Narrator,
}

impl<'a> Running<'a> {
    /// The project in the lab with this home and client.
    pub(crate) fn new(project: &'a Project, client: kube::Client, home: &'a LabHome, narrator: &'a Narrator) -> Self {
        Self { project, client, home, narrator }
    }

    /// Applies the project's objects, and deletes those of commands that are not in the file any more. Says of each what
    /// happened to it.
    ///
    /// # Errors
    /// When the lab refuses an object.
    pub(crate) async fn apply(&self) -> Result<Vec<String>, CliError> {
        let program = std::env::current_exe().context(|| "cannot find my own program file".to_owned())?;
        let manifests = self.project.objects(&program, &run::environment());
        let mut lines = objects::apply_all(&LabApi::of(self.home)?, &manifests, NAMESPACE).await?;
        lines.extend(self.prune().await?);
        Ok(lines)
    }

    async fn prune(&self) -> Result<Vec<String>, CliError> {
        let with_service = |service: bool| {
            let commands = self.project.commands.iter().filter(|command| !service || command.service.is_some());
            commands.map(|command| command.name.as_str()).collect::<BTreeSet<_>>()
        };
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let services: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut lines = prune(&deployments, "deployment.apps", &with_service(false)).await?;
        lines.extend(prune(&services, "service", &with_service(true)).await?);
        Ok(lines)
    }

    /// Waits until every command is ready, and says where each answers.
    ///
    /// # Errors
    /// When that takes too long: then with what hinders the first that is not ready.
    pub(crate) async fn until_ready(&self) -> Result<(), CliError> {
        let mut progress = Progress::of(self.project);
        let result = tokio::time::timeout(READY_WITHIN, self.watch(&mut progress, None)).await;
        match result {
            Ok(result) => result,
            Err(_) => Err(CliError::failed(format!("{} within {} s", progress.missing(), READY_WITHIN.as_secs()))
                .hint("see why: minisvc get pods, minisvc logs POD, minisvc describe pod POD")),
        }
    }

    /// The same without a limit, and with what the commands write; goes on with that until it is dropped.
    ///
    /// # Errors
    /// When the lab cannot be watched.
    pub(crate) async fn follow(&self) -> Result<(), CliError> {
        let mut streams = Streams::new(self.client.clone(), self.project);
        self.watch(&mut Progress::of(self.project), Some(&mut streams)).await
    }

    /// Ends when all are ready, unless there is output to follow.
    async fn watch(&self, progress: &mut Progress, mut streams: Option<&mut Streams>) -> Result<(), CliError> {
        use futures::StreamExt as _;
        let selected = || watcher::Config::default().labels(&format!("{LABEL}={LABEL_VALUE}"));
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut pods = watcher(pods, selected()).default_backoff().applied_objects().boxed();
        let mut deployments = watcher(deployments, selected()).default_backoff().applied_objects().boxed();
        loop {
            let change = tokio::select! {
                Some(pod) = pods.next() => match pod {
                    Ok(pod) => {
                        if let Some(streams) = &mut streams {
                            streams.look_at(&pod);
                        }
                        progress.pod(&pod)
                    }
                    Err(error) => lost(&error),
                },
                Some(deployment) = deployments.next() => match deployment {
                    Ok(deployment) => progress.deployment(&deployment),
                    Err(error) => lost(&error),
                },
            };
            match change {
                Some(Change::Said(sentence)) => self.narrator.step(&sentence),
                Some(Change::AllReady(sentence)) => {
                    self.narrator.step(&sentence);
                    self.tell_addresses().await?;
                    if streams.is_none() {
                        return Ok(());
                    }
                }
                None => {}
            }
        }
    }

    /// Tells where each command answers.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub(crate) async fn tell_addresses(&self) -> Result<(), CliError> {
        let addresses = self.addresses().await?;
        self.narrator.line(&format!("\n{addresses}"));
        Ok(())
    }

    /// Where each command answers, in the lab and on this machine.
    async fn addresses(&self) -> Result<String, CliError> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut table = Table::new(&["NAME", "IN THE LAB", "ADDRESS", "ON THIS MACHINE"]);
        let published = self.published().await;
        for command in &self.project.commands {
            let (Some(ports), Some(_)) = (command.port, command.service) else {
                table.push(vec![command.name.clone(), "<no service>".to_owned(), String::new(), String::new()]);
                continue;
            };
            let service = services.get_opt(&command.name).await.context(|| "cannot read a Service".to_owned())?;
            let address = service.and_then(|service| service.spec?.cluster_ip).unwrap_or_else(|| "<none>".to_owned());
            let address =
                if address == "None" { "its pods'".to_owned() } else { format!("{address}:{}", ports.service) };
            let here = published.iter().filter(|row| row["service"] == command.name && row["namespace"] == NAMESPACE);
            let here: Vec<&str> = here.filter_map(|row| row["address"].as_str()).collect();
            table.push(vec![
                command.name.clone(),
                format!("{}:{}", command.name, ports.service),
                address,
                here.join(", "),
            ]);
        }
        Ok(table.render_all())
    }

    /// Where this machine reaches the project's Services, as soon as each that asks for it is there.
    async fn published(&self) -> Vec<Value> {
        let wanted = self.project.commands.iter().filter(|command| command.is_for_this_machine());
        let wanted: Vec<&str> = wanted.map(|command| command.name.as_str()).collect();
        let deadline = tokio::time::Instant::now() + PUBLISHED_WITHIN;
        loop {
            let rows = self.home.published().as_array().cloned().unwrap_or_default();
            let all = wanted.iter().all(|name| rows.iter().any(|row| row["service"] == *name));
            if all || tokio::time::Instant::now() > deadline {
                return rows;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The watch goes on by itself; what was missed is told again.
fn lost(error: &watcher::Error) -> Option<Change> {
    tracing::debug!(%error, "the project's watch broke off");
    None
}

async fn prune<K>(api: &Api<K>, kind: &str, keep: &BTreeSet<&str>) -> Result<Vec<String>, CliError>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let selected = ListParams::default().labels(&format!("{LABEL}={LABEL_VALUE}"));
    let found = api.list(&selected).await.context(|| format!("cannot list each {kind} of the project"))?;
    let names = found.items.iter().filter_map(|object| object.meta().name.clone());
    let mut lines = Vec::new();
    for name in names.filter(|name| !keep.contains(name.as_str())) {
        let deleted = api.delete(&name, &DeleteParams::background()).await;
        deleted.context(|| format!("cannot delete {kind}/{name}, which is not in the project any more"))?;
        lines.push(format!("{kind}/{name} deleted: it is not in the project any more"));
    }
    Ok(lines)
}

/// The project that `up` shall run: the one that is named, one among the manifests, or the one in the present folder if
/// nothing is named, not even `none`.
///
/// # Errors
/// When the file cannot be read or is wrong, or several are named.
pub(crate) fn find(named: Option<&PathBuf>, manifests: &mut Vec<PathBuf>) -> Result<Option<Project>, CliError> {
    let mut paths: Vec<PathBuf> = named.into_iter().filter(|path| path.as_os_str() != NONE).cloned().collect();
    let nothing_named = named.is_none() && manifests.is_empty();
    paths.extend(manifests.extract_if(.., |path| Project::is_meant_by(path)));
    if nothing_named && std::path::Path::new(crate::project::FILE_NAME).is_file() {
        paths.push(PathBuf::from(crate::project::FILE_NAME));
    }
    match paths.as_slice() {
        [] => Ok(None),
        [path] => Project::read(path).map(Some),
        _ => {
            Err(CliError::usage("a lab runs one project at a time")
                .hint("start another lab for the other, with --name"))
        }
    }
}
