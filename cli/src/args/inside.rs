//! Commands that run inside a lab, or against it: `exec`, `dns`, `run`, `kubectl`.

use clap::Args;

use super::LabArgs;

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
