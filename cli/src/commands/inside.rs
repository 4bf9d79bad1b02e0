//! `shell`, `exec` and `dns`: commands that run inside a lab, with the caller's terminal.

use std::ffi::OsString;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::LabApi;
use crate::args::{DnsArgs, ExecArgs, LabArgs};
use crate::control::{Conversation, Execution, Place};
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::terminal::Stdio;

/// Opens the user's shell on the workstation.
///
/// # Errors
/// When the lab does not run or the shell cannot be started.
pub(crate) async fn shell(args: &LabArgs) -> Result<ExitCode, CliError> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    run(&LabHome::of(args)?, Place::Workstation, vec![shell]).await
}

/// Runs one command on the workstation or in a pod; ends with its exit code.
///
/// # Errors
/// When the lab does not run or the command cannot be started.
pub(crate) async fn exec(args: &ExecArgs) -> Result<ExitCode, CliError> {
    let place = place(args.pod.as_deref(), &args.namespace, args.container.clone());
    run(&LabHome::of(&args.lab)?, place, args.command.iter().map(OsString::from).collect()).await
}

/// Shows how a name is looked up on the workstation or in a pod. Ends with 1 if it is not found.
///
/// # Errors
/// When the lab does not run or the pod does not.
pub(crate) async fn dns(args: &DnsArgs) -> Result<ExitCode, CliError> {
    let program = std::env::current_exe().context(|| "cannot find my own program file".to_owned())?;
    let argv = vec![program.into(), "__lookup".into(), (&args.query).into(), (&args.record_type).into()];
    run(&LabHome::of(&args.lab)?, place(args.from.as_deref(), &args.namespace, None), argv).await
}

fn place(pod: Option<&str>, namespace: &str, container: Option<String>) -> Place {
    match pod {
        None => Place::Workstation,
        // As kubectl has it: pod/web and web are the same.
        Some(pod) => {
            let pod = pod.strip_prefix("pod/").unwrap_or(pod).to_owned();
            Place::Pod { namespace: namespace.to_owned(), pod, container }
        }
    }
}

async fn run(home: &LabHome, mut place: Place, argv: Vec<OsString>) -> Result<ExitCode, CliError> {
    let conversation = Conversation::with(home)?;
    if let Place::Pod { namespace, pod, container } = &mut place {
        *container = Some(LabApi::of(home)?.container(namespace, pod, container.as_deref()).await?);
    }
    let (stdio, fds) = Stdio::choose()?;
    let execution = Execution {
        place,
        argv,
        env: std::env::vars_os().collect(),
        cwd: std::env::current_dir().ok(),
        terminal: stdio.is_terminal(),
    };
    // Caught from the start: a signal between the command's start and ours would end us and not reach the command.
    let mut signals = Signals::catch()?;
    conversation.execute(execution, &fds).await?;
    // Ours would keep the command's terminal and pipes open beyond its end.
    drop(fds);
    let code = loop {
        tokio::select! {
            code = conversation.ended() => break code?,
            number = signals.next() => conversation.signal(number).await?,
        }
    };
    stdio.finish().await;
    // Exit codes have eight bits; a code out of range cannot come from a process.
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}

/// Signals that are meant for the command rather than for us.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> Result<Self, CliError> {
        let catch = |kind| signal(kind).context(|| "cannot catch signals".to_owned());
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            quit: catch(SignalKind::quit())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.quit.recv() => SignalKind::quit().as_raw_value(),
            _ = self.hang_up.recv() => SignalKind::hangup().as_raw_value(),
        }
    }
}
