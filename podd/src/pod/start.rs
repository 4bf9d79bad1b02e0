//! Starts one container: environment, command line, user, mounts, pipes, process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};
use minisvc_sandbox::{Credentials, MountSpace, ProcessSpec, SpawnError};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::container::Waiting;
use super::event::{Instance, StartFailure};
use super::limits;
use super::sandbox::{PodSandbox, chain, log_dir, write_hosts};
use crate::attach::AttachPoint;
use crate::builtin::VOLUMES;
use crate::env::compose::{self, Objects};
use crate::env::expand::expand;
use crate::image::bring::{For, bring, bring_program, find_program};
use crate::image::{self, Known, Recipe, Wanted};
use crate::logs::write::{LogWriter, Progress};
use crate::shared::{Node, Running, Shared, reference};
use crate::terminal::Terminal;
use crate::volumes::mounts::mounts;

/// Where a container runs that names no directory.
const NO_DIRECTORY: &str = "/";

/// A started container.
pub(crate) struct Started {
    pub(crate) running: Running,
    pub(crate) log: watch::Receiver<Progress>,
    pub(crate) pump: AbortOnDropHandle<()>,
    pub(crate) attach: AttachPoint,
}

/// Starts `container` of `pod` as `instance`.
pub(crate) async fn start(
    shared: &Shared,
    node: &Node,
    pod: &Pod,
    container: &Container,
    sandbox: &PodSandbox,
    instance: Instance,
) -> Result<Started, StartFailure> {
    // P-069
    shared.services.listed().await;
    let environment = environment(shared, node, pod, container, sandbox).await?;
    let Recipe { argv, extras, own } = recipe(shared, container, &environment)?;
    let user = user(shared, pod, container)?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    // Only root may give files away; without root there is one user anyway.
    let owner = user.as_ref().map(|user| user.uid).filter(|_| !shared.sandbox.is_rootless());
    let for_container = For {
        directory: &shared.pod_dir(uid).join("image").join(&container.name),
        owner,
        ipv6: sandbox.addresses.iter().any(IpAddr::is_ipv6),
        path: path_of(&environment),
    };
    let brought = bring(&extras, &for_container)
        .and_then(|files| Ok([files, bring_program(&own, &for_container)?].concat()))
        .map_err(|error| refused("CreateContainerError", format!("files of the image: {error}")))?;
    let mounts = mounts(container, &sandbox.roots, &sandbox.files, &brought, &environment)
        .map_err(|error| refused("CreateContainerConfigError", error.to_string()))?;
    write_hosts(pod, sandbox).map_err(|error| refused("CreateContainerError", error.to_string()))?;
    let directory = log_dir(shared, uid, &container.name);
    let writer = LogWriter::create(&directory, instance.attempt, shared.config.log_limit);
    let writer = writer.map_err(|error| refused("CreateContainerError", format!("no log file: {error}")))?;
    let stdio = Stdio::new(container).map_err(|error| refused("CreateContainerError", format!("no pipe: {error}")))?;

    let mut environment: Vec<(OsString, OsString)> =
        environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    if stdio.terminal.is_some() && !environment.iter().any(|(name, _)| name == "TERM") {
        environment.push(("TERM".into(), "xterm".into()));
    }
    let Stdio { theirs: [stdin, stdout, stderr], out, err, input, terminal } = stdio;
    give_streams([&stdin, &stdout, &stderr], owner);
    let group = limits::group(shared, pod, container, instance);
    let named = container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let cwd = PathBuf::from(named.or(extras.directory).unwrap_or(NO_DIRECTORY));
    let spec = ProcessSpec {
        argv: argv.into_iter().map(OsString::from).collect(),
        env: environment.clone(),
        cwd: Some(cwd.clone()),
        user: user.clone(),
        stdin,
        stdout,
        stderr,
        mounts: MountSpace::New(mounts),
        group: group.clone(),
        terminal: terminal.is_some(),
    };
    let process = sandbox.namespace.spawn(spec).await.map_err(|error| spawn_failure(&error))?;
    if !process.ran_as_requested() && names_user(pod, container) {
        let message = "without root there is one user: runAsUser, runAsGroup and fsGroup have no effect";
        shared.recorder.record(reference(pod, Some(&container.name)), true, "UserNotChanged", message);
    }
    let log = writer.subscribe();
    let (attach, fan) = AttachPoint::new(input, terminal, container.stdin_once.unwrap_or(false));
    let pump = AbortOnDropHandle::new(tokio::spawn(writer.pump(fan, out, err)));
    Ok(Started { running: Running { process, environment, user, directory: Some(cwd), group }, log, pump, attach })
}

/// The standard streams of a container: its ends and ours.
struct Stdio {
    theirs: [Option<OwnedFd>; 3],
    out: pipe::Receiver,
    /// None with a terminal, which shows both outputs.
    err: Option<pipe::Receiver>,
    input: Option<pipe::Sender>,
    terminal: Option<Terminal>,
}

impl Stdio {
    /// What the manifest says: `tty`, `stdin`, or neither.
    fn new(container: &Container) -> std::io::Result<Self> {
        let wants_input = container.stdin.unwrap_or(false);
        if container.tty.unwrap_or(false) {
            let (terminal, screen) = Terminal::open()?;
            return Ok(Self {
                theirs: [Some(screen.try_clone()?), Some(screen.try_clone()?), Some(screen)],
                out: terminal.screen()?,
                err: None,
                input: if wants_input { Some(terminal.keyboard()?) } else { None },
                terminal: Some(terminal),
            });
        }
        let make = || -> std::io::Result<(pipe::Receiver, OwnedFd)> {
            let (reader, writer) = std::io::pipe()?;
            Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer.into()))
        };
        let ((out, stdout), (err, stderr)) = (make()?, make()?);
        let (stdin, input) = if wants_input {
            let (reader, writer) = std::io::pipe()?;
            (Some(reader.into()), Some(pipe::Sender::from_owned_fd(writer.into())?))
        } else {
            (None, None)
        };
        Ok(Self { theirs: [stdin, Some(stdout), Some(stderr)], out, err: Some(err), input, terminal: None })
    }
}

async fn environment(
    shared: &Shared,
    node: &Node,
    pod: &Pod,
    container: &Container,
    sandbox: &PodSandbox,
) -> Result<BTreeMap<String, String>, StartFailure> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let objects: Objects = shared
        .objects(namespace, compose::references(container))
        .await
        .map_err(|error| refused("CreateContainerConfigError", chain(&error)))?;
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let variables = shared.services.variables(namespace, links);
    let mut base = shared.config.base_environment.clone();
    base.insert("HOSTNAME".to_owned(), sandbox.names.hostname.clone());
    if image::is_echo(container.image.as_deref().unwrap_or_default()) {
        base.insert("POD_NAME".to_owned(), pod.metadata.name.clone().unwrap_or_default());
        base.insert("POD_NAMESPACE".to_owned(), namespace.to_owned());
        base.insert("NODE_NAME".to_owned(), node.config.name.clone());
        let volumes = container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str());
        base.insert(VOLUMES.to_owned(), volumes.collect::<Vec<_>>().join(":"));
    }
    let facts = node.facts(&sandbox.addresses);
    compose::environment(pod, container, base, variables, &objects, &facts)
        .map_err(|error| refused("CreateContainerConfigError", error.to_string()))
}

fn recipe(
    shared: &Shared,
    container: &Container,
    environment: &BTreeMap<String, String>,
) -> Result<Recipe, StartFailure> {
    // Only what the manifest says refers to variables, not the scripts of ready images.
    let lookup = |name: &str| environment.get(name).cloned();
    let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, lookup)).collect()
    };
    let wanted = Wanted {
        image: container.image.as_deref().unwrap_or_default(),
        command: &expanded(&container.command),
        args: &expanded(&container.args),
    };
    let path = path_of(environment);
    let known = Known {
        images: &shared.config.images,
        builtin: &shared.config.builtin_program,
        find: &|program| find_program(program, path),
    };
    image::recipe(&wanted, &known).map_err(|error| refused("ErrImageNeverPull", error.to_string()))
}

fn path_of(environment: &BTreeMap<String, String>) -> &str {
    environment.get("PATH").map_or("", String::as_str)
}

/// Makes the container's user the owner of its streams, so that a program may open `/dev/stdout` anew.
fn give_streams(streams: [&Option<OwnedFd>; 3], owner: Option<u32>) {
    for stream in streams.into_iter().flatten() {
        if let Some(uid) = owner
            && let Err(error) = std::os::unix::fs::fchown(stream, Some(uid), None)
        {
            debug!(%error, "a stream is not the container's own");
        }
    }
}

/// Who the container runs as: its own security context, else the pod's, else who started minisvc.
fn user(shared: &Shared, pod: &Pod, container: &Container) -> Result<Option<Credentials>, StartFailure> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let id = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let uid = id(own.and_then(|c| c.run_as_user).or_else(|| of_pod.and_then(|c| c.run_as_user)));
    let gid = id(own.and_then(|c| c.run_as_group).or_else(|| of_pod.and_then(|c| c.run_as_group)));
    let extra = of_pod.and_then(|c| c.fs_group).into_iter();
    let extra = extra.chain(of_pod.into_iter().flat_map(|c| c.supplemental_groups.iter().flatten().copied()));
    let extra: Vec<u32> = extra.filter_map(|group| id(Some(group))).collect();
    let base = shared.config.run_as.clone();
    let non_root = own.and_then(|c| c.run_as_non_root).or_else(|| of_pod.and_then(|c| c.run_as_non_root)) == Some(true);
    let effective =
        uid.or_else(|| base.as_ref().map(|user| user.uid)).unwrap_or_else(|| nix::unistd::getuid().as_raw());
    if non_root && effective == 0 {
        let message = "container has runAsNonRoot and would run as root".to_owned();
        return Err(refused("CreateContainerConfigError", message));
    }
    if uid.is_none() && gid.is_none() && extra.is_empty() {
        return Ok(base);
    }
    let mut user = match (uid, base) {
        // Another user does not inherit the groups of ours.
        (Some(uid), base) if base.as_ref().is_none_or(|base| base.uid != uid) => {
            Credentials { uid, gid: uid, groups: Vec::new() }
        }
        (_, Some(base)) => base,
        (_, None) => Credentials { uid: effective, gid: nix::unistd::getgid().as_raw(), groups: Vec::new() },
    };
    user.gid = gid.unwrap_or(user.gid);
    user.groups.extend(extra);
    Ok(Some(user))
}

fn names_user(pod: &Pod, container: &Container) -> bool {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    own.is_some_and(|c| c.run_as_user.is_some() || c.run_as_group.is_some())
        || of_pod.is_some_and(|c| c.run_as_user.is_some() || c.run_as_group.is_some() || c.fs_group.is_some())
}

fn refused(reason: &str, message: String) -> StartFailure {
    StartFailure::Refused(Waiting { reason: reason.to_owned(), message })
}

/// A program that cannot be executed fails the container; a sandbox that is gone or a mount that is refused does not.
fn spawn_failure(error: &SpawnError) -> StartFailure {
    match error {
        SpawnError::NotFound { program, .. } => {
            let package = image::package_of(program.rsplit('/').next().unwrap_or_default());
            let hint = package.map(|package| format!(" (`apt-get install {package}` has it on Debian and Ubuntu)"));
            StartFailure::Failed(chain(error) + &hint.unwrap_or_default())
        }
        SpawnError::NoInterpreter { .. }
        | SpawnError::PermissionDenied { .. }
        | SpawnError::NotExecutable { .. }
        | SpawnError::ArgumentsTooLong { .. }
        | SpawnError::Execute { .. }
        | SpawnError::WorkingDirectory { .. }
        | SpawnError::User { .. }
        | SpawnError::Invalid(_) => StartFailure::Failed(chain(error)),
        SpawnError::Mount { .. } | SpawnError::NoSuchProcess | SpawnError::Sandbox(_) => {
            refused("CreateContainerError", chain(error))
        }
    }
}
