//! What a project's commands write, line by line, each with its pod in front.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::task::JoinSet;

use super::NAMESPACE;
use crate::output;
use crate::project::Project;

/// Logs that are followed at a time; those of further pods are not shown, and it is said.
const MAX_STREAMS: usize = 500;

/// Characters that a pod's name has after its Deployment's that matter: the pod's own.
const SUFFIX: usize = 5;

/// Colours of the names in front, in turn.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];

/// The container of each pod that is shown.
const CONTAINER: &str = "main";

/// The logs that are being followed; they end with this value.
pub(super) struct Streams {
    client: kube::Client,
    commands: Vec<String>,
    width: usize,
    colour: bool,
    /// Pods by their uid, each with the number of a start of its container that is shown or was.
    known: BTreeSet<(String, i32)>,
    tasks: JoinSet<()>,
}

impl Streams {
    pub(super) fn new(client: kube::Client, project: &Project) -> Self {
        let commands: Vec<String> = project.commands.iter().map(|command| command.name.clone()).collect();
        let longest = commands.iter().map(String::len).max().unwrap_or(0);
        Self {
            client,
            commands,
            width: longest + 1 + SUFFIX,
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            known: BTreeSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Follows the log of a container that has started since it was looked at last.
    pub(super) fn look_at(&mut self, pod: &Pod) {
        while self.tasks.try_join_next().is_some() {}
        let Some((name, start)) = new_start(pod) else { return };
        if !self.known.insert(start) {
            return;
        }
        if self.tasks.len() >= MAX_STREAMS {
            tracing::warn!(pod = name, "too many pods: the output of this one is not shown; see minisvc logs");
            return;
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let (name, prefix) = (name.to_owned(), self.prefix(name, pod));
        self.tasks.spawn(async move {
            let parameters = LogParams { follow: true, container: Some(CONTAINER.to_owned()), ..LogParams::default() };
            let Ok(log) = pods.log_stream(&name, &parameters).await else {
                // The pod has gone in the meantime.
                return;
            };
            let mut lines = log.lines();
            while let Ok(Some(line)) = lines.try_next().await {
                if output::print(&format!("{prefix} {line}\n")).is_err() {
                    return;
                }
            }
        });
    }

    fn prefix(&self, name: &str, pod: &Pod) -> String {
        let command = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).map_or(name, String::as_str);
        let text = format!("{:<width$} |", short(command, name), width = self.width);
        if !self.colour {
            return text;
        }
        let number = self.commands.iter().position(|known| known == command).unwrap_or(0);
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or_default();
        format!("\x1b[{colour}m{text}\x1b[0m")
    }
}

/// `web-xlcfj` of the pod `web-j2mcnkkkx8-xlcfj`.
fn short(command: &str, pod: &str) -> String {
    let own = pod.rsplit('-').next().unwrap_or_default();
    if pod.starts_with(command) && own.len() == SUFFIX { format!("{command}-{own}") } else { pod.to_owned() }
}

/// The pod's name, and its uid with the number of its container's start; `None` as long as it has not started.
fn new_start(pod: &Pod) -> Option<(&str, (String, i32))> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let main = statuses.iter().find(|status| status.name == CONTAINER)?;
    let state = main.state.as_ref()?;
    let has_output = state.running.is_some() || state.terminated.is_some();
    let start = (pod.metadata.uid.clone()?, main.restart_count);
    has_output.then_some((pod.metadata.name.as_deref()?, start))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(state: &Value) -> Pod {
        let container =
            json!([{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state}]);
        let object = json!({"metadata": {"name": "web-1", "uid": "u"}, "status": {"containerStatuses": container}});
        serde_json::from_value(object).expect("a Pod")
    }

    #[test]
    fn a_log_is_followed_from_each_start_of_its_container() {
        assert_eq!(new_start(&pod(&json!({"waiting": {"reason": "ContainerCreating"}}))), None);
        let start = Some(("web-1", ("u".to_owned(), 1)));
        assert_eq!(new_start(&pod(&json!({"running": {}}))), start);
        assert_eq!(new_start(&pod(&json!({"terminated": {"exitCode": 0}}))), start, "it was too quick for us");
    }

    #[test]
    fn a_pod_is_called_after_its_command_with_its_own_ending() {
        assert_eq!(short("web", "web-j2mcnkkkx8-xlcfj"), "web-xlcfj");
        assert_eq!(short("web", "other"), "other");
    }
}
