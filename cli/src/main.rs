//! minisvc: Kubernetes Services for local processes.
//!
//! This file parses the command line and starts the command. `lab.rs` wires the parts of a lab together, and nothing
//! else does.

#![allow(clippy::print_stderr, reason = "the command line is what talks to its user")]

mod adapters;
mod addresses;
mod api;
mod args;
mod commands;
mod config;
mod control;
mod course;
mod dashboard;
mod discovery;
mod error;
mod extension;
mod gateway;
mod home;
mod jsonpath;
mod lab;
mod live;
mod load;
mod lookup;
mod manifests;
mod narrator;
mod output;
mod outside;
mod probe;
mod project;
mod resolved;
mod suggest;
mod terminal;
mod top;
mod waiting;
mod why;
mod wires;
mod workstation;

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::args::Command;
use crate::commands::{
    dashboard as dashboard_command, demo, describe, doctor, endpoints, fault, flows, images, inside, kubectl,
    lab as lab_command, node, objects, proxy, run, status, table, top as top_command, trace, up, why as why_command,
    words,
};
use crate::error::{CliError, Context as _};

fn main() -> ExitCode {
    // This program under other names, for processes inside a lab. They come first: the sandbox's helper must be
    // single-threaded, and none of them wants a command line.
    match std::env::args().nth(1).as_deref() {
        Some("__sandbox") => minisvc_sandbox::helper_main(),
        Some("__echo") => return minisvc_podd::builtin::echo_main(),
        Some("__pause") => return minisvc_podd::builtin::pause_main(),
        Some("__load") => return load::load_main(),
        Some("__resolve") => return workstation::resolve_main(),
        Some("__get") => return probe::get_main(),
        Some("__dig") => return probe::dig_main(),
        Some("__await") => return waiting::await_main(),
        Some("__lookup") => return lookup::lookup_main(),
        Some("__sockets") => return why::sockets_main(),
        Some("__look") => return why::look_main(),
        _ => {}
    }
    let cli = words::parse();
    start_logging(cli.verbose);
    up::leave_terminal_if_detached();
    match execute(&cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", error.render());
            error.exit_code()
        }
    }
}

fn execute(command: &Command) -> Result<ExitCode, CliError> {
    // Commands that become another program or only look at this machine need no runtime.
    match command {
        Command::Kubeconfig(args) => return kubectl::kubeconfig(args).map(|()| ExitCode::SUCCESS),
        Command::Kubectl(args) => return kubectl::kubectl(args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => return doctor::doctor(args),
        Command::Completions(args) => return words::completions(args).map(|()| ExitCode::SUCCESS),
        Command::Man(args) => return words::man(&args.folder).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    if matches!(command, Command::Demo(_) | Command::Up(_))
        && let Err(error) = minisvc_sandbox::take_short_turns()
    {
        // Everything works without; a busy machine makes it slower.
        tracing::debug!(%error, "the kernel does not let this process ask for short turns");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(|| "cannot start the runtime".to_owned())?;
    let result = runtime.block_on(dispatch(command));
    // A thread may still wait for the keyboard; it holds nothing that matters.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: &Command) -> Result<ExitCode, CliError> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Demo(args) => demo::demo(args).await,
        Command::Up(args) => up::up(args).await,
        Command::Down(args) => up::down(args).await.map(done),
        Command::Status(args) => status::status(args).await.map(done),
        Command::Flows(args) => flows::flows(args).await.map(done),
        Command::Endpoints(args) => endpoints::endpoints(args).await.map(done),
        Command::Table(args) => table::table(args).await.map(done),
        Command::Node(args) => node::node(args).await.map(done),
        Command::Fault(args) => fault::fault(args).await.map(done),
        Command::Trace(args) => trace::trace(args).await.map(done),
        Command::Shell(args) => inside::shell(args).await,
        Command::Exec(args) => inside::exec(args).await,
        Command::Run(args) => run::run(args).await,
        Command::Lab(args) => lab_command::lab(args).await,
        Command::Why(args) => why_command::why(args).await,
        Command::Dns(args) => inside::dns(args).await,
        Command::Proxy(args) => proxy::proxy(args).await,
        Command::Dashboard(args) => dashboard_command::dashboard(args).await,
        Command::Top(args) => top_command::top(args).await.map(done),
        Command::Get(args) => objects::get(args).await.map(done),
        Command::Apply(args) => objects::apply(args).await.map(done),
        Command::Delete(args) => objects::delete(args).await.map(done),
        Command::Describe(args) => describe::describe(args).await.map(done),
        Command::Logs(args) => objects::logs(args).await.map(done),
        Command::Images(args) => images::images(args).map(done),
        // They need no runtime and have been done.
        Command::Kubeconfig(_)
        | Command::Kubectl(_)
        | Command::Doctor(_)
        | Command::Completions(_)
        | Command::Man(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Warnings by default: what a user should know is told as progress, not as a log.
fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "minisvc=debug,info",
        _ => "minisvc=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
