//! Whether pods serve, and why one does not.

use std::collections::BTreeSet;

use serde_json::json;

use crate::facts::Facts;
use crate::findings::{Cause, Checked, Problem, Report};
use crate::near::nearest;
use crate::records::{ContainerStatus, Node, Pod, Service};
use crate::{Context, attempt, count, list, readiness, selector, service, sockets};

/// What kubelets do not tolerate by themselves: taints that minisvc sets for the time a node is away.
const OWN_TAINTS: &str = "node.kubernetes.io/";

/// There is no such pod; what was meant.
pub(crate) fn missing(facts: &Facts, namespace: &str, name: &str) -> Problem {
    if let Err(problem) = service::require_namespace(facts, namespace, &["why", &format!("pod/{name}")]) {
        return problem;
    }
    let missing = format!("there is no pod {name} in namespace {namespace}");
    let here =
        || facts.pods.iter().filter(|pod| pod.metadata.namespace == namespace).map(|pod| pod.metadata.name.as_str());
    // What a Deployment makes has a new name after each restart: its first part is what stays.
    let stem = |full: &str| full.split('-').next().unwrap_or_default().to_owned();
    let near = nearest(name, here()).or_else(|| here().find(|other| stem(other) == stem(name)));
    if let Some(near) = near {
        return Problem::new(Cause::PodMissing, format!("{missing}; did you mean {near}?")).mend(&[
            "minisvc",
            "why",
            &format!("pod/{near}"),
            "-n",
            namespace,
        ]);
    }
    if let Some(other) = facts.pods.iter().find(|pod| pod.metadata.name == name) {
        let other = &other.metadata.namespace;
        return Problem::new(Cause::PodMissing, format!("{missing}, but there is one in {other}")).mend(&[
            "minisvc",
            "why",
            &format!("pod/{name}"),
            "-n",
            other,
        ]);
    }
    Problem::new(Cause::PodMissing, missing).look(&["minisvc", "get", "pods", "-A"])
}

/// The whole way for one pod.
pub(crate) fn check(context: Context<'_>, report: &mut Report, pod: &Pod) -> Checked<String> {
    let path = pod.metadata.path();
    let place = if pod.spec.node_name.is_empty() { String::new() } else { format!(" on {}", pod.spec.node_name) };
    report.fine("object", format!("pod {path} is {}{place}", pod.status.phase));
    match trouble(context.facts, pod) {
        // It can be asked all the same: a Service is what leaves it out.
        Some(problem) if pod_runs(pod) && is_about_readiness(problem.cause) => report.odd("pods", problem),
        Some(problem) => return Err(("pods", problem)),
        None => report.fine("pods", "it is ready"),
    }
    sockets::check_pod(context, report, pod).map_err(|problem| ("sockets", problem))?;
    attempt::check(context, report).map_err(|problem| ("connection", problem))?;
    Ok(format!("pod {path} answers at {}", pod.status.pod_ip))
}

fn is_about_readiness(cause: Cause) -> bool {
    matches!(cause, Cause::ReadinessProbe | Cause::ReadinessGate | Cause::NotReady)
}

fn pod_runs(pod: &Pod) -> bool {
    pod.status.container_statuses.iter().any(|status| status.state.running.is_some())
}

/// The pods that get traffic. With `publishNotReadyAddresses` these are all that run.
pub(crate) fn usable<'a>(
    context: Context<'a>,
    report: &mut Report,
    service: &Service,
    members: Vec<&'a Pod>,
) -> Result<Vec<&'a Pod>, Problem> {
    let path = service.metadata.path();
    let all = members.len();
    let mut usable = Vec::new();
    let mut troubles = Vec::new();
    for pod in members {
        match trouble(context.facts, pod) {
            None => usable.push(pod),
            Some(problem) => troubles.push((pod, problem)),
        }
    }
    if service.spec.publish_not_ready_addresses {
        let (published, hidden): (Vec<_>, Vec<_>) = troubles.into_iter().partition(|(pod, _)| pod_runs(pod));
        if let Some((_, problem)) = published.first() {
            let sentence = format!(
                "Service {path} publishes pods that are not ready (publishNotReadyAddresses), so {} of its {} get traffic \
                 although they are not: {}",
                published.len(),
                count(all, "pod"),
                problem.sentence
            );
            let patch = json!({"spec": {"publishNotReadyAddresses": false}});
            let key = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
            report.odd("pods", Problem::new(Cause::NotReadyPublished, sentence).merge("service", key, &patch));
            usable.extend(published.iter().map(|(pod, _)| *pod));
        }
        troubles = hidden;
    }
    let Some((_, first)) = troubles.into_iter().next() else {
        report.fine("pods", format!("{} ready", count(all, "pod")));
        return Ok(usable);
    };
    if usable.is_empty() {
        let sentence = format!("none of the {} of Service {path} is ready: {}", count(all, "pod"), first.sentence);
        return Err(Problem { sentence, ..first });
    }
    let sentence = format!("{} of the {} of Service {path} serve: {}", usable.len(), count(all, "pod"), first.sentence);
    report.odd("pods", Problem { cause: Cause::PartlyReady, sentence, ..first });
    Ok(usable)
}

/// Why a pod does not serve; `None` when it does.
pub(crate) fn trouble(facts: &Facts, pod: &Pod) -> Option<Problem> {
    let path = pod.metadata.path();
    if pod.metadata.leaves() {
        return Some(Problem::new(Cause::AllTerminating, format!("pod {path} is being deleted")));
    }
    if pod.has_ended() {
        return Some(ended(pod));
    }
    if pod.spec.node_name.is_empty() {
        return Some(unscheduled(facts, pod));
    }
    node_down(facts, pod)
        .or_else(|| before_it_serves(facts, pod))
        .or_else(|| pod.status.container_statuses.iter().find_map(|status| not_running(facts, pod, status)))
        .or_else(|| if pod.is_ready() { None } else { Some(readiness::not_ready(facts, pod)) })
}

fn ended(pod: &Pod) -> Problem {
    let code = pod.status.container_statuses.iter().find_map(|status| status.state.terminated.as_ref());
    let code = code.map(|end| format!(" with code {}", end.exit_code)).unwrap_or_default();
    let sentence =
        format!("pod {} has ended{code} ({}), and what has ended serves nobody", pod.metadata.path(), pod.status.phase);
    Problem::new(Cause::PodEnded, sentence).look(&[
        "minisvc",
        "logs",
        &pod.metadata.name,
        "-n",
        &pod.metadata.namespace,
    ])
}

fn unscheduled(facts: &Facts, pod: &Pod) -> Problem {
    let path = pod.metadata.path();
    let said = facts.event("Pod", &pod.metadata, &["FailedScheduling"]).map(|event| event.message.clone());
    let said = said.or_else(|| pod.condition("PodScheduled").map(|condition| condition.message.clone()));
    let said = said.filter(|said| !said.is_empty());
    let Some(said) = said else {
        return Problem::new(Cause::Unschedulable, format!("pod {path} has no node yet"));
    };
    if said.contains("free ports") {
        return host_port_taken(facts, pod, &said);
    }
    let problem = Problem::new(Cause::Unschedulable, format!("no node takes pod {path}: {said}"));
    if ["Insufficient ", "Too many pods"].iter().any(|lack| said.contains(lack)) {
        let sentence = format!(
            "{} It requests more than is left: request less, end other pods, or start the lab with more by up --node-capacity",
            problem.sentence
        );
        return Problem { sentence, ..problem }.look(&["minisvc", "kubectl", "describe", "nodes"]);
    }
    if said.contains("unschedulable") {
        let cordoned = facts.nodes.iter().find(|node| node.spec.unschedulable);
        return cordoned
            .map_or_else(|| problem.clone(), |node| problem.clone().kubectl("", &["uncordon", &node.metadata.name]));
    }
    if said.contains("node affinity/selector") {
        return wanted_node(facts, pod, problem);
    }
    for node in &facts.nodes {
        for taint in node.spec.taints.iter().filter(|taint| !taint.key.starts_with(OWN_TAINTS)) {
            if said.contains(&taint.key) {
                return problem.kubectl("", &["taint", "nodes", &node.metadata.name, &format!("{}-", taint.key)]);
            }
        }
    }
    problem.look(&["minisvc", "get", "nodes"])
}

fn wanted_node(facts: &Facts, pod: &Pod, problem: Problem) -> Problem {
    let wanted = &pod.spec.node_selector;
    let lacks = |node: &&Node| wanted.iter().any(|(key, value)| node.metadata.labels.get(key) != Some(value));
    let Some(node) = facts.nodes.iter().find(lacks) else { return problem };
    let sentence = format!("{} It wants a node with {}", problem.sentence, selector::text(wanted));
    let labels: Vec<String> = wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut words = vec!["label", "node", &node.metadata.name];
    words.extend(labels.iter().map(String::as_str));
    words.push("--overwrite");
    Problem { sentence, ..problem }.kubectl("", &words)
}

/// A second pod that wants the same port of the same node.
fn host_port_taken(facts: &Facts, pod: &Pod, said: &str) -> Problem {
    let wanted = host_ports(pod);
    let holder = facts.pods.iter().find(|other| {
        other.metadata.uid != pod.metadata.uid
            && !other.spec.node_name.is_empty()
            && !other.has_ended()
            && host_ports(other).intersection(&wanted).next().is_some()
    });
    let ports: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let who = holder.map(|pod| format!(", which pod {} has on {}", pod.metadata.path(), pod.spec.node_name));
    let sentence = format!(
        "no node takes pod {}: it wants host port {}{}, and a node has each port once ({said})",
        pod.metadata.path(),
        list(&ports),
        who.unwrap_or_default()
    );
    let problem = Problem::new(Cause::HostPortTaken, sentence);
    let Some(maker) = facts.maker(pod).filter(|maker| maker.spec.replicas.is_some_and(|all| all > 1)) else {
        return problem.look(&["minisvc", "kubectl", "get", "pods", "-A", "-o", "wide"]);
    };
    let replicas = format!("--replicas={}", facts.nodes.len());
    problem.kubectl(&pod.metadata.namespace, &["scale", &maker.kind.to_lowercase(), &maker.metadata.name, &replicas])
}

fn host_ports(pod: &Pod) -> BTreeSet<u16> {
    let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let host = |port: &crate::ContainerPort| {
        port.host_port.filter(|&port| port != 0).or_else(|| pod.spec.host_network.then_some(port.container_port))
    };
    ports.filter_map(host).collect()
}

fn node_down(facts: &Facts, pod: &Pod) -> Option<Problem> {
    let name = &pod.spec.node_name;
    let node = facts.nodes.iter().find(|node| &node.metadata.name == name);
    let mut problem = node_problem(facts, name, node)?;
    problem.sentence = format!("pod {} is on {}", pod.metadata.path(), problem.sentence);
    Some(problem)
}

/// What is wrong with a node; the sentence starts with its name.
pub(crate) fn node_problem(facts: &Facts, name: &str, node: Option<&Node>) -> Option<Problem> {
    if facts.stopped.iter().any(|stopped| stopped == name) {
        let noticed = if node.is_some_and(Node::is_ready) { ", which the API has not noticed yet" } else { "" };
        let sentence = format!("node {name}, whose machine was stopped{noticed}");
        return Some(Problem::new(Cause::NodeDown, sentence).mend(&["minisvc", "node", "start", name]));
    }
    let what = match node {
        None => "is gone",
        Some(node) if !node.is_ready() => "does not report that it is ready",
        Some(_) => return None,
    };
    let sentence = format!("node {name}, which {what}");
    Some(Problem::new(Cause::NodeDown, sentence).look(&["minisvc", "kubectl", "describe", "node", name]))
}

/// Containers that have to end before the others start.
fn before_it_serves(facts: &Facts, pod: &Pod) -> Option<Problem> {
    if pod.condition("Initialized").is_none_or(|condition| condition.status == "True") {
        return None;
    }
    let status = pod
        .status
        .init_container_statuses
        .iter()
        .find(|status| status.state.terminated.as_ref().is_none_or(|end| end.exit_code != 0))?;
    if let Some(problem) = not_running(facts, pod, status) {
        return Some(problem);
    }
    let sentence = format!(
        "pod {} still waits for its init container {}: the others start when it has ended with 0",
        pod.metadata.path(),
        status.name
    );
    Some(Problem::new(Cause::InitWaiting, sentence).look(&logs(pod, &status.name)))
}

fn logs<'a>(pod: &'a Pod, container: &'a str) -> [&'a str; 7] {
    ["minisvc", "logs", &pod.metadata.name, "-c", container, "-n", &pod.metadata.namespace]
}

fn not_running(facts: &Facts, pod: &Pod, status: &ContainerStatus) -> Option<Problem> {
    let path = pod.metadata.path();
    let name = &status.name;
    let end = status.state.terminated.as_ref();
    if let Some(waiting) = &status.state.waiting {
        let said = if waiting.message.is_empty() { String::new() } else { format!(": {}", waiting.message) };
        return Some(match waiting.reason.as_str() {
            "CrashLoopBackOff" => crashes(facts, pod, status),
            "ErrImageNeverPull" | "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => {
                unmapped(facts, pod, name)
            }
            "PodInitializing" => return None,
            "ContainerCreating" => being_made(facts, pod, name),
            reason => {
                Problem::new(Cause::CannotStart, format!("container {name} of pod {path} cannot start: {reason}{said}"))
                    .look(&["minisvc", "kubectl", "describe", "pod", &pod.metadata.name, "-n", &pod.metadata.namespace])
            }
        });
    }
    let crashed = end.is_some_and(|end| end.exit_code != 0 || status.restart_count > 0);
    crashed.then(|| crashes(facts, pod, status))
}

fn being_made(facts: &Facts, pod: &Pod, container: &str) -> Problem {
    let path = pod.metadata.path();
    let event = facts.event("Pod", &pod.metadata, &["FailedMount", "FailedCreatePodSandBox", "Failed"]);
    let said = event.map_or_else(|| "look again in a moment".to_owned(), |event| event.message.clone());
    Problem::new(Cause::CannotStart, format!("container {container} of pod {path} is not started yet: {said}"))
}

fn unmapped(facts: &Facts, pod: &Pod, container: &str) -> Problem {
    let path = pod.metadata.path();
    let image = pod.spec.containers.iter().chain(&pod.spec.init_containers).find(|c| c.name == container);
    let image = image.map(|container| container.image.as_str()).unwrap_or_default();
    let sentence = format!(
        "container {container} of pod {path} has the image {image}, which stands for no command: give the container a \
         command, or start the lab with --image {image}=COMMAND"
    );
    let problem = Problem::new(Cause::ImageUnmapped, sentence);
    let working = facts.pods.iter().filter(|pod| pod.is_ready()).flat_map(|pod| &pod.spec.containers);
    let known: Vec<&str> = ["minisvc/echo", "minisvc/pause"]
        .into_iter()
        .chain(working.map(|container| container.image.as_str()))
        .collect();
    let Some(meant) = nearest(image, known) else { return problem };
    let problem = Problem { sentence: format!("{}; did you mean {meant}?", problem.sentence), ..problem };
    let (kind, name) = facts.maker(pod).map_or_else(
        || ("pod".to_owned(), pod.metadata.name.clone()),
        |maker| (maker.kind.to_lowercase(), maker.metadata.name.clone()),
    );
    let assignment = format!("{container}={meant}");
    problem.kubectl(&pod.metadata.namespace, &["set", "image", &format!("{kind}/{name}"), &assignment])
}

fn crashes(facts: &Facts, pod: &Pod, status: &ContainerStatus) -> Problem {
    let (path, name) = (pod.metadata.path(), &status.name);
    let end = status.state.terminated.as_ref().or(status.last_state.terminated.as_ref());
    if let Some(end) = end.filter(|end| end.reason == "StartError") {
        let sentence = format!("the program of container {name} of pod {path} cannot be started: {}", end.message);
        let (pod, namespace) = (&pod.metadata.name, &pod.metadata.namespace);
        return Problem::new(Cause::CannotStart, sentence)
            .look(&["minisvc", "kubectl", "describe", "pod", pod, "-n", namespace]);
    }
    let how = match end {
        Some(end) if end.reason == "OOMKilled" => {
            "needs more memory than its limit (resources.limits.memory) allows, and is killed".to_owned()
        }
        Some(end) if end.signal.is_some_and(|signal| signal != 0) => {
            format!("is killed by signal {}", end.signal.unwrap_or_default())
        }
        Some(end) => format!("ends with code {}", end.exit_code),
        None => "ends".to_owned(),
    };
    let last = facts.last_lines.get(&(pod.metadata.key(), name.clone())).filter(|line| !line.is_empty());
    let line = last.map(|line| format!("; its last line: {line}")).unwrap_or_default();
    let times = count(usize::try_from(status.restart_count).unwrap_or(usize::MAX), "restart");
    if let Some(line) = last.filter(|line| is_port_clash(line)) {
        return port_clash(facts, pod, name, line);
    }
    let sentence = format!("container {name} of pod {path} {how} again and again ({times}){line}");
    Problem::new(Cause::CrashLoop, sentence).look(&[&logs(pod, name)[..], &["--previous"]].concat())
}

fn is_port_clash(line: &str) -> bool {
    let line = line.to_lowercase();
    ["address already in use", "address in use", "eaddrinuse"].iter().any(|said| line.contains(said))
}

fn port_clash(facts: &Facts, pod: &Pod, container: &str, line: &str) -> Problem {
    let path = pod.metadata.path();
    let same_network = |other: &&Pod| {
        other.metadata.uid != pod.metadata.uid
            && pod.spec.host_network
            && other.spec.host_network
            && other.spec.node_name == pod.spec.node_name
            && pod_runs(other)
    };
    let others: Vec<String> = facts.pods.iter().filter(same_network).map(|other| other.metadata.path()).collect();
    let why = if pod.spec.host_network {
        let who = if others.is_empty() { String::new() } else { format!(", as {} does", list(&others)) };
        format!("it uses the network of node {}{who}, and a port there can be taken once", pod.spec.node_name)
    } else {
        "another process of the pod has the port".to_owned()
    };
    let sentence = format!("container {container} of pod {path} cannot listen, because {why}; its last line: {line}");
    let problem = Problem::new(Cause::HostPortTaken, sentence);
    let Some(maker) = facts.maker(pod).filter(|_| pod.spec.host_network) else {
        return problem.look(&logs(pod, container));
    };
    let patch = json!({"spec": {"template": {"spec": {"hostNetwork": false}}}});
    let kind = maker.kind.to_lowercase();
    problem.merge(&kind, (&maker.metadata.namespace, &maker.metadata.name), &patch)
}
