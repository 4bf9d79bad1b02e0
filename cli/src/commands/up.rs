//! `up` and `down`: a lab's life.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::wait::await_condition;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::addresses;
use crate::api::LabApi;
use crate::args::{LabArgs, NetworkMode, UpArgs};
use crate::commands::project::{self, Running};
use crate::commands::{doctor, images, objects};
use crate::config::LabConfig;
use crate::control::Conversation;
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::lab::{Ending, Lab};
use crate::manifests::{self, Manifest};
use crate::narrator::{NOTE, Narrator};
use crate::project::Project;
use crate::waiting::patiently;

/// Set for the process that `--detach` leaves behind: it says on standard output when it is ready.
const DETACHED: &str = "MINISVC_DETACHED";

/// What that process says.
const READY: &str = "ready";

/// How long `--wait` waits for pods.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// Starts a lab and keeps it until Ctrl-C, `down`, or the end of its sandbox.
///
/// # Errors
/// When the lab cannot be started, or its sandbox was killed.
pub(crate) async fn up(args: &UpArgs) -> Result<ExitCode, CliError> {
    let mut config = LabConfig::new(&args.lab.name, &args.shape, &host_resolv_conf())?;
    // Read before anything is started: a typing error must not cost a start.
    let mut filenames = args.filenames.clone();
    let project = project::find(args.project.as_ref(), &mut filenames)?;
    let manifests = if filenames.is_empty() { Vec::new() } else { manifests::read(&filenames)? };
    for (name, command) in project.iter().flat_map(|project| project.images.clone()) {
        // What was typed is newer than what was written.
        config.images.entry(name).or_insert(command);
    }
    for (name, command) in images::read(&args.shape.image_files)? {
        config.images.entry(name).or_insert(command);
    }
    let home = LabHome::of(&args.lab)?;
    if let Some(running) = home.running() {
        let error = CliError::failed(format!("the lab {:?} runs already (process {})", running.name, running.pid))
            .hint(format!("end it with minisvc down --name {}, or start another with --name", running.name));
        // Most likely the file has changed.
        let changed = |project: &Project| format!("bring a change into it with minisvc apply -f {}", project.shown());
        return Err(project.iter().map(changed).fold(error, CliError::hint));
    }
    check_machine(&config)?;
    if args.detach {
        return detach(&home, !manifests.is_empty(), project.as_ref()).await;
    }
    let narrator = Narrator::new();
    let lab = Lab::start(&config, &home, &narrator).await?;
    let project = project.as_ref().map(|project| Running::new(project, lab.client(), &home, &narrator));
    let ready = after_start(args, &lab, &home, &manifests, &narrator, project.as_ref()).await;
    if let Err(error) = ready {
        lab.shutdown().await;
        return Err(error);
    }
    if std::env::var_os(DETACHED).is_some() {
        crate::output::print(&format!("{READY}\n"))?;
    }
    let ending = tokio::select! {
        ending = wait_for_the_end(&lab, args.until_eof) => ending,
        Err(error) = follow(project.as_ref()) => Err(error),
    };
    narrator.step("going down");
    lab.shutdown().await;
    narrator.step("down: no process, interface or mount is left");
    match ending? {
        Ending::Asked => Ok(ExitCode::SUCCESS),
        Ending::SandboxGone => Err(CliError::failed("the lab's sandbox was killed, and with it every pod")
            .hint("start the lab again: its objects and addresses are kept")),
    }
}

/// The host's resolver file; a machine without one has no name servers.
pub(crate) fn host_resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// What would only fail later is refused now, with what to type.
fn check_machine(config: &LabConfig) -> Result<(), CliError> {
    doctor::require_machine()?;
    if config.network == NetworkMode::Host {
        if !nix::unistd::geteuid().is_root() {
            return Err(CliError::usage("--network host needs root: it adds an interface to this machine")
                .hint("run it with sudo, or leave --network out and use minisvc shell"));
        }
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mut routes = addresses::parse_routes(&read("/proc/net/route"));
        routes.extend(addresses::parse_routes6(&read("/proc/net/ipv6_route")));
        config.addresses.check_host_routes(&routes)?;
    }
    Ok(())
}

/// Shows what the project's commands write, in the foreground; never ends otherwise.
async fn follow(project: Option<&Running<'_>>) -> Result<(), CliError> {
    match project {
        Some(project) if std::env::var_os(DETACHED).is_none() => project.follow().await,
        _ => std::future::pending().await,
    }
}

async fn after_start(
    args: &UpArgs,
    lab: &Lab,
    home: &LabHome,
    manifests: &[Manifest],
    narrator: &Narrator,
    project: Option<&Running<'_>>,
) -> Result<(), CliError> {
    if !manifests.is_empty() {
        let api = LabApi::of(home)?;
        for line in objects::apply_all(&api, manifests, "default").await? {
            narrator.step(&line);
        }
        if args.wait {
            wait_until_ready(lab.client(), manifests).await?;
            narrator.step("all pods of the manifests are ready");
        }
    }
    if let Some(project) = project {
        for line in project.apply().await? {
            narrator.step(&line);
        }
        if args.wait || std::env::var_os(DETACHED).is_some() {
            project.until_ready().await?;
        }
    }
    narrator.line("");
    narrator.line("The lab is ready. Next, in another terminal:");
    let name = if home.name == "default" { String::new() } else { format!(" --name {}", home.name) };
    for (command, what) in [
        ("shell", "a shell that reaches every virtual IP, pod and name"),
        ("status", "what runs"),
        ("kubectl", "get pods,services -A"),
    ] {
        let (command, comment) = if command == "kubectl" {
            (format!("minisvc kubectl{name} -- {what}"), "or: export KUBECONFIG=$(minisvc kubeconfig)".to_owned())
        } else {
            (format!("minisvc {command}{name}"), what.to_owned())
        };
        narrator.line(&format!("  {command:<44} {comment}"));
    }
    narrator.line("Ctrl-C here takes everything down.");
    Ok(())
}

/// Waits until Deployments and Pods of the manifests are ready.
///
/// # Errors
/// When they are not ready in time; names the first that is not.
pub(crate) async fn wait_until_ready(client: kube::Client, manifests: &[Manifest]) -> Result<(), CliError> {
    let deadline = tokio::time::Instant::now() + READY_WITHIN;
    for manifest in manifests.iter().filter(|manifest| ["Deployment", "Pod"].contains(&manifest.kind())) {
        let (group, version) = manifest.api_version().rsplit_once('/').unwrap_or_else(|| ("", manifest.api_version()));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, manifest.kind()));
        let namespace = if manifest.namespace().is_empty() { "default" } else { manifest.namespace() };
        let api = kube::Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        let ready = await_condition(api, manifest.name(), |object: Option<&DynamicObject>| {
            object.is_some_and(|object| is_ready(&object.data, object.metadata.generation))
        });
        match tokio::time::timeout_at(deadline, ready).await {
            Ok(result) => {
                result.context(|| "cannot watch the lab".to_owned())?;
            }
            Err(_) => {
                let what = format!("{} {}", manifest.kind(), manifest.name());
                return Err(CliError::failed(format!("{what} was not ready within {} s", READY_WITHIN.as_secs()))
                    .hint(format!("see why: minisvc get pods -n {namespace} -o wide, minisvc logs POD")));
            }
        }
    }
    Ok(())
}

fn is_ready(data: &Value, generation: Option<i64>) -> bool {
    let status = &data["status"];
    match data["spec"]["replicas"].as_i64() {
        Some(replicas) => {
            let current = status["observedGeneration"].as_i64() >= generation;
            current && status["availableReplicas"].as_i64().unwrap_or(0) >= replicas
        }
        None => {
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        }
    }
}

async fn wait_for_the_end(lab: &Lab, until_eof: bool) -> Result<Ending, CliError> {
    let catch = |kind| signal(kind).context(|| "cannot catch signals".to_owned());
    let (mut interrupt, mut terminate) = (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => Ending::Asked,
        _ = terminate.recv() => Ending::Asked,
        () = end_of_input(), if until_eof => Ending::Asked,
        ending = lab.ending() => ending,
    })
}

/// Resolves when nobody holds the other end of standard input any more.
async fn end_of_input() {
    let (ended_tx, ended_rx) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait at its end for one that reads.
    std::thread::spawn(move || {
        // What is written there means nothing; an error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended_tx.send(());
    });
    let _ = ended_rx.await;
}

/// Runs this very command again in the background and returns when it says that it is ready.
async fn detach(home: &LabHome, applies: bool, project: Option<&Project>) -> Result<ExitCode, CliError> {
    home.create()?;
    let log_path: PathBuf = home.root().join("up.log");
    let doing = || "cannot start the lab in the background".to_owned();
    let log = std::fs::File::create(&log_path).context(doing)?;
    let program = std::env::current_exe().context(doing)?;
    let args = std::env::args_os().skip(1).filter(|arg| arg != "--detach");
    let mut child = Command::new(program)
        .args(args)
        .env(DETACHED, "1")
        .stdin(if applies { Stdio::inherit() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context(doing)?;
    let stdout = child.stdout.take();
    let first_line = move || stdout.and_then(|stdout| BufReader::new(stdout).lines().next());
    let said = tokio::task::spawn_blocking(first_line);
    let said = patiently("waiting for the lab to be ready", said).await.context(doing)?;
    if let Some(Ok(line)) = said
        && line == READY
    {
        let name = if home.name == "default" { String::new() } else { format!(" --name {}", home.name) };
        if let Some(project) = project {
            Running::new(project, LabApi::of(home)?.kube(), home, &Narrator::new()).tell_addresses().await?;
        }
        // Best effort: it stands in the log in any case.
        let said = std::fs::read_to_string(&log_path).unwrap_or_default();
        said.lines().filter(|line| line.starts_with(NOTE)).for_each(|line| eprintln!("{line}"));
        eprintln!("The lab {:?} runs in the background (process {}).", home.name, child.id());
        eprintln!("Next: minisvc shell{name}, minisvc status{name}; minisvc down{name} ends it.");
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().context(doing)?;
    eprint!("{}", std::fs::read_to_string(&log_path).unwrap_or_default());
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Called first thing by the background process: it must outlive the terminal it was started from.
pub(crate) fn leave_terminal_if_detached() {
    if std::env::var_os(DETACHED).is_some() {
        // It fails only for a group's leader, which a process that was just spawned is not.
        let _ = nix::unistd::setsid();
    }
}

/// Ends a lab and returns when its main process is gone.
///
/// # Errors
/// When the lab does not run.
pub(crate) async fn down(args: &LabArgs) -> Result<(), CliError> {
    let home = LabHome::of(args)?;
    // Also when the lab was killed, and there is nobody to talk to.
    minisvc_sandbox::remove_abandoned_groups();
    let going = Conversation::with(&home)?;
    patiently("waiting for the pods to end and the lab to go down", going.down()).await?;
    eprintln!("The lab {:?} is down. Its objects and addresses are kept for the next minisvc up.", home.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_means_the_present_generation_is_available() {
        let deployment = |observed: i64, available: i64| json!({"spec": {"replicas": 2}, "status": {"observedGeneration": observed, "availableReplicas": available}});
        assert!(is_ready(&deployment(3, 2), Some(3)));
        assert!(!is_ready(&deployment(2, 2), Some(3)), "the controller has not seen the change yet");
        assert!(!is_ready(&deployment(3, 1), Some(3)));
        let pod = |status: &str| json!({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&pod("True"), None));
        assert!(!is_ready(&pod("False"), None));
    }
}
