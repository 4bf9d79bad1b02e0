//! The command line as clap sees it. What the words mean is decided in `config.rs` and `commands/`.

mod observe;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

pub(crate) use observe::{
    DataTable, EndpointsArgs, FaultAction, FaultAddArgs, FaultArgs, FlowsArgs, NodeAction, NodeArgs, TableArgs,
    TraceArgs, TraceOutput,
};

use crate::output::GetOutput;

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

/// What `images` lists besides what is built in.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImagesArgs {
    /// A name for a local command, as `up --image` takes it; may be repeated
    #[arg(long = "image", value_name = "NAME=COMMAND")]
    pub(crate) images: Vec<String>,

    /// A YAML file of such names, as `up --images` takes it; may be repeated
    #[arg(long = "images", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkMode {
    /// The lab has a network of its own; reach it with `minisvc shell` and `minisvc exec`
    Private,
    /// This machine itself reaches every virtual IP, through one interface (needs root)
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IpFamily {
    /// Only IPv4
    Ipv4,
    /// Only IPv6
    Ipv6,
    /// Both; Services that ask for no family have that of the first --service-cidr, else IPv4
    Dual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Publish {
    /// Node ports on 127.0.0.1, and load balancers on addresses that mirror theirs: 10.95.1.7 on 127.95.1.7
    External,
    /// Every Service besides, on an address that mirrors its own
    All,
    /// None
    None,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    #[command(flatten)]
    pub(crate) shape: ShapeArgs,

    /// Manifests to apply once the lab is ready: files, folders, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub(crate) filenames: Vec<PathBuf>,

    /// A project: commands to run as Deployments and Services; or none [default: minisvc.yaml in this folder, if there is
    /// one and no manifests are given]
    #[arg(long, value_name = "FILE")]
    pub(crate) project: Option<PathBuf>,

    /// Return as soon as the lab is ready and leave it running in the background
    #[arg(long)]
    pub(crate) detach: bool,

    /// With -f: wait until the pods of the manifests are ready
    #[arg(long)]
    pub(crate) wait: bool,

    /// End the lab when standard input ends, so that it goes with the program that started it
    #[arg(long, conflicts_with = "detach")]
    pub(crate) until_eof: bool,
}

/// What a lab looks like.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShapeArgs {
    /// Where the virtual IPs can be reached from
    #[arg(long, value_enum, default_value_t = NetworkMode::Private)]
    pub(crate) network: NetworkMode,

    /// Number of virtual nodes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) nodes: u8,

    /// Seconds for which a node may be silent before it counts as lost
    #[arg(long, value_name = "SECONDS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(15..))]
    pub(crate) node_grace: u16,

    /// Port of the API on 127.0.0.1; 0 takes any free one [default: 6443, or any free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) api_port: Option<u16>,

    /// IP families of nodes, pods and Services
    #[arg(long, value_enum, default_value_t = IpFamily::Ipv4)]
    pub(crate) ip_family: IpFamily,

    /// Addresses of Services [default: 10.96.0.0/16 and fd00:96::/112]
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',')]
    pub(crate) service_cidr: Vec<IpNet>,

    /// Addresses of pods; each node takes a /24 of it, or a /64 [default: 10.244.0.0/16 and fd00:244::/56]
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',')]
    pub(crate) pod_cidr: Vec<IpNet>,

    /// Addresses of nodes, control plane and workstation [default: 10.95.0.0/24 and fd00:95::/64]
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',')]
    pub(crate) node_cidr: Vec<IpNet>,

    /// Addresses of load balancers [default: 10.95.1.0/24 and fd00:95:0:1::/112]
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',')]
    pub(crate) lb_cidr: Vec<IpNet>,

    /// Whether pods and the workstation reach what is outside of the lab, and this machine as host.minisvc.internal
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub(crate) egress: Switch,

    /// Which Services this machine reaches without entering the lab
    #[arg(long, value_enum, default_value_t = Publish::External)]
    pub(crate) publish: Publish,

    /// Where they are published instead of 127.0.0.0/8; 0.0.0.0 opens them to other machines
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publish_address: Option<std::net::IpAddr>,

    /// Where names outside the cluster are asked, or "none"; may be repeated [default: this machine's name servers]
    #[arg(long = "dns-upstream", env = "MINISVC_DNS_UPSTREAM", value_name = "ADDRESS[:PORT]", value_delimiter = ',')]
    pub(crate) dns_upstreams: Vec<String>,

    /// Where names of one domain are asked instead, for example corp.example=192.0.2.53; may be repeated
    #[arg(long = "dns-stub", value_name = "DOMAIN=ADDRESS[:PORT]")]
    pub(crate) dns_stubs: Vec<String>,

    /// A name for a local command, usable as a container image; may be repeated
    #[arg(long = "image", value_name = "NAME=COMMAND")]
    pub(crate) images: Vec<String>,

    /// A YAML file of such names (`images: {NAME: COMMAND}`); --image wins over it; may be repeated
    #[arg(long = "images", value_name = "FILE")]
    pub(crate) image_files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Do not wait between the steps for a reader's eyes
    #[arg(long)]
    pub(crate) fast: bool,
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
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the pod
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Container of the pod [default: its first]
    #[arg(short, long)]
    pub(crate) container: Option<String>,

    /// The pod to run in; without it the command runs on the workstation
    pub(crate) pod: Option<String>,

    /// The command, after `--`
    #[arg(last = true, required = true, num_args = 1..)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DnsArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Look the name up in this pod; without it on the workstation
    #[arg(long, value_name = "POD")]
    pub(crate) from: Option<String>,

    /// Namespace of the pod
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Record type: A, AAAA, SRV, PTR …
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "A")]
    pub(crate) record_type: String,

    /// The name as a program would give it to the resolver
    #[arg(value_name = "NAME")]
    pub(crate) query: String,
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

    /// svc/NAME[:PORT], pod/NAME[:PORT], ADDRESS[:PORT], a name or a URL; /udp at the end says which protocol
    pub(crate) target: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CourseArgs {
    #[command(subcommand)]
    pub(crate) command: CourseCommand,
}

/// What can be done with a lesson. A lesson is its number, its name, or a part of its name; without it the one that was
/// started last.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CourseCommand {
    /// List the lessons and how far you are
    List(LabArgs),
    /// Start a lesson and print its page
    Start {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name
        lesson: String,
    },
    /// Print a lesson's page again
    Read {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Say what is done and what is still wrong
    Check {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Give the next hint
    Hint {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Do what the lesson asks for, and show how
    Solve {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
    /// Put a lesson back to its start
    Reset {
        #[command(flatten)]
        lab: LabArgs,

        /// Number, name, or a part of the name [default: the lesson that was started last]
        lesson: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the pod
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// A label of the pod; may be repeated [default: app=NAME]
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,

    /// The port that the command listens on
    #[arg(short, long)]
    pub(crate) port: Option<u16>,

    /// An environment variable; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,

    /// Make a Service in front of the pod too (needs --port)
    #[arg(long, requires = "port")]
    pub(crate) service: bool,

    /// Name of the pod
    pub(crate) pod: String,

    /// The command, after `--`
    #[arg(last = true, required = true, num_args = 1..)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct KubectlArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Everything that kubectl shall get
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<std::ffi::OsString>,
}

/// Which namespace a listing looks at.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScopeArgs {
    /// Namespace to look in
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,

    /// Only objects with these labels
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    #[command(flatten)]
    pub(crate) scope: ScopeArgs,

    /// Output format: table, wide, json, yaml, name, or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT", value_parser = GetOutput::parse, default_value = "table")]
    pub(crate) output: GetOutput,

    /// Go on and print every change
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Kind, as kubectl names it: pods, svc, deploy …; several with commas between them, or all; or KIND/NAME
    pub(crate) kind: String,

    /// Name of one object
    pub(crate) object: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the object
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Kind, as kubectl names it, or KIND/NAME
    pub(crate) kind: String,

    /// Name of the object
    pub(crate) object: Option<String>,
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

#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace for objects that name none
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Files, folders, or - for standard input; a minisvc.yaml is a project
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(crate) filenames: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace for objects that name none
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Delete what these manifests name
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with_all = ["kind", "object"])]
    pub(crate) filenames: Vec<PathBuf>,

    /// Kind, as kubectl names it: pods, svc, deploy …; or KIND/NAME
    #[arg(required_unless_present = "filenames")]
    pub(crate) kind: Option<String>,

    /// Name of the object
    pub(crate) object: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the pod
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Container of the pod [default: its first]
    #[arg(short, long)]
    pub(crate) container: Option<String>,

    /// Go on as the pod writes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// The container before its last restart
    #[arg(short, long)]
    pub(crate) previous: bool,

    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,

    /// Only what is younger than this: 30s, 5m, 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds)]
    pub(crate) since: Option<u64>,

    /// The time in front of each line
    #[arg(long)]
    pub(crate) timestamps: bool,

    /// Name of the pod
    pub(crate) pod: String,
}

/// A duration as kubectl writes it, in seconds: `90`, `30s`, `5m`, `2h`, `1h30m`.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let explain = || "type a duration such as 30s, 5m or 2h".to_owned();
    let mut total: u64 = 0;
    let mut number = String::new();
    for character in text.chars() {
        let factor = match character {
            '0'..='9' => {
                number.push(character);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(explain()),
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(explain)?;
        number.clear();
    }
    let bare = if number.is_empty() { Some(0) } else { number.parse().ok() };
    bare.and_then(|rest: u64| total.checked_add(rest)).filter(|total| *total > 0).ok_or_else(explain)
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
    fn a_duration_is_written_as_for_kubectl() {
        for (text, seconds) in [("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5400)] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "0", "s", "5d", "-1", "99999999999999999999s", "9999999999999999999h"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
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
