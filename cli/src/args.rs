//! The command line as clap sees it. What the words mean is decided in `config.rs` and `commands/`.

mod course;
mod inside;
mod objects;
mod observe;
mod up;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use course::{CourseArgs, CourseCommand};
pub(crate) use inside::{DnsArgs, ExecArgs, KubectlArgs, RunArgs};
pub(crate) use objects::{ApplyArgs, DeleteArgs, DescribeArgs, GetArgs, LogsArgs};
pub(crate) use observe::{
    DataTable, EndpointsArgs, FaultAction, FaultAddArgs, FaultArgs, FlowsArgs, NodeAction, NodeArgs, TableArgs,
    TraceArgs, TraceOutput,
};
pub(crate) use up::{DemoArgs, ImagesArgs, IpFamily, NetworkMode, Publish, ShapeArgs, Switch, UpArgs};

/// Kubernetes Services for local processes: a real API, real virtual IPs and names, no cluster
#[derive(Debug, Parser)]
#[command(name = "minisvc", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Show more of what happens inside (-v debug, -vv trace); RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show in one go what a Service is: a lab, three pods, a virtual IP, a killed pod and its replacement
    Demo(DemoArgs),
    /// Start a lab and keep it running until Ctrl-C
    Up(UpArgs),
    /// End a lab that runs in the background or in another terminal
    Down(LabArgs),
    /// Show the labs that run and what is in them
    Status(StatusArgs),
    /// Show the flows that the data plane translates, each with the endpoint it was given
    Flows(FlowsArgs),
    /// Show the endpoints of a Service as the data plane has them: who is ready, where, and how much each gets
    Endpoints(EndpointsArgs),
    /// Show a table of the data plane
    Table(TableArgs),
    /// Fail a node as a machine that loses power, and bring it back
    Node(NodeArgs),
    /// Have packets between places come late, wrong or not at all, for a time
    Fault(FaultArgs),
    /// Follow what the data plane decides: each new flow with its endpoint and why, and each refusal
    Trace(TraceArgs),
    /// Open a shell inside a lab: every virtual IP, pod and name is reachable from it
    Shell(LabArgs),
    /// Run one command inside a lab, or inside one of its pods
    Exec(ExecArgs),
    /// Run a local command as a pod, in the foreground
    Run(RunArgs),
    /// Say why a Service, a pod, an address or a name does not answer, and what mends it
    Why(WhyArgs),
    /// Learn Services: lessons with something to do, checked against what really is
    Lab(CourseArgs),
    /// Show how a name is looked up: the search list, each query and each answer
    Dns(DnsArgs),
    /// Print the path of the lab's kubeconfig file
    Kubeconfig(LabArgs),
    /// Run kubectl against the lab
    #[command(disable_help_flag = true)]
    Kubectl(KubectlArgs),
    /// Serve the lab's API over plain HTTP on 127.0.0.1, to programs of this user only
    Proxy(ProxyArgs),
    /// Show the lab live in the browser: Services, pods, and connections as they are made
    Dashboard(DashboardArgs),
    /// Show the lab live in this terminal: Services, endpoints, pods, connections, drops, events
    Top(LabArgs),
    /// List objects, with kubectl's columns
    Get(GetArgs),
    /// Create or change objects from manifests
    Apply(ApplyArgs),
    /// Delete objects
    Delete(DeleteArgs),
    /// Show what is known about one object: its state, its conditions, its events
    Describe(DescribeArgs),
    /// Print what a pod wrote
    Logs(LogsArgs),
    /// List the container images that are known: what each runs, and whether it is installed here
    Images(ImagesArgs),
    /// Check what this machine lacks, and say how to get it
    Doctor(DoctorArgs),
    /// Print a script that completes this program's words in a shell
    Completions(CompletionsArgs),
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man(ManArgs),
}

/// Which lab a command means.
#[derive(Debug, Clone, Args)]
pub(crate) struct LabArgs {
    /// Name of the lab
    #[arg(long, env = "MINISVC_LAB", default_value = "default")]
    pub(crate) name: String,

    /// Folder that keeps the labs [default: /var/lib/minisvc as root, else ~/.local/state/minisvc]
    #[arg(long, env = "MINISVC_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns
    Table,
    /// The same with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// kind/name, one per line
    Name,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Port of 127.0.0.1; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 8001)]
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DashboardArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Port of 127.0.0.1; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 8002)]
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Ask as this pod, NAME or NAMESPACE/NAME; without it as the workstation
    #[arg(long, value_name = "POD")]
    pub(crate) from: Option<String>,

    /// Namespace of what is asked about, and of the pod that asks
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    // No doc comment: rustdoc would read the brackets as links.
    #[arg(
        help = "svc/NAME[:PORT], pod/NAME[:PORT], ADDRESS[:PORT], a name or a URL; /udp at the end says which protocol"
    )]
    pub(crate) target: String,
}

/// Where to look for labs.
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// Folder that keeps the labs [default: /var/lib/minisvc as root, else ~/.local/state/minisvc]
    #[arg(long, env = "MINISVC_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ManArgs {
    /// The folder; it must be there
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to write for
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exec_tells_the_pod_from_the_command() {
        let cli = Cli::try_parse_from(["minisvc", "exec", "web", "--", "ls", "-l"]).expect("valid");
        let Command::Exec(args) = cli.command else { panic!("not exec: {:?}", cli.command) };
        assert_eq!((args.pod.as_deref(), args.command), (Some("web"), vec!["ls".to_owned(), "-l".to_owned()]));
        let cli = Cli::try_parse_from(["minisvc", "exec", "--", "true"]).expect("valid");
        assert!(matches!(cli.command, Command::Exec(ExecArgs { pod: None, .. })));
    }
}
