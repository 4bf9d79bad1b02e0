//! The commands that show what the data plane does, and that disturb it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{LabArgs, Output};

#[derive(Debug, Clone, Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Only flows of this client; may be repeated
    #[arg(long = "client", value_name = "ADDRESS[:PORT]")]
    pub(crate) clients: Vec<String>,

    /// Only flows to this Service
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    pub(crate) service: Option<String>,

    /// Only flows from and to this pod
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    pub(crate) pod: Option<String>,

    /// Only flows from and to this node and its pods
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// Only flows to this port, of the Service or of the endpoint
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// At most so many current flows, the newest, and as many that were severed lately
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub(crate) limit: usize,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct EndpointsArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the Service
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    /// The Service: NAME, svc/NAME or service/NAME
    pub(crate) service: String,
}

/// The tables of the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataTable {
    /// Addresses and ports at which Services are reached, with the endpoints new connections may go to
    Frontends,
    /// Who has which address
    Routes,
    /// Clients that keep their endpoint, and for how long
    Affinity,
    /// Addresses and ports that were claimed and are somebody else's
    Clashes,
    /// Everything that is counted, and every limit
    Counters,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TableArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    /// Which one
    #[arg(value_enum, default_value_t = DataTable::Frontends)]
    pub(crate) table: DataTable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceOutput {
    /// A line for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the Service and of --pod
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Only packets from or to this pod
    #[arg(long, value_name = "NAME")]
    pub(crate) pod: Option<String>,

    /// Only packets from or to this node and its pods
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// Only packets from or to this port
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// Every packet, not only those that begin a flow or are refused
    #[arg(long)]
    pub(crate) packets: bool,

    /// Only what is refused or dropped, with the reason
    #[arg(long)]
    pub(crate) drops: bool,

    /// Write every packet into this file for Wireshark instead, before and after translation, with the decision as comment
    #[arg(long, value_name = "FILE", conflicts_with_all = ["packets", "output"])]
    pub(crate) pcap: Option<PathBuf>,

    /// End after so many decisions
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = TraceOutput::Text)]
    pub(crate) output: TraceOutput,

    /// Only packets of this Service: NAME, svc/NAME or service/NAME
    pub(crate) service: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FaultArgs {
    #[command(subcommand)]
    pub(crate) action: FaultAction,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FaultAction {
    /// Make a fault; it is undone by itself when its time is over
    Add(Box<FaultAddArgs>),
    /// Show the faults there are
    List {
        #[command(flatten)]
        lab: LabArgs,

        /// Output format
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Undo faults before their time is over
    Remove {
        #[command(flatten)]
        lab: LabArgs,

        /// All of them
        #[arg(long, conflicts_with = "names")]
        all: bool,

        /// Names of faults
        #[arg(required_unless_present = "all")]
        names: Vec<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FaultAddArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of pods and Services
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Where packets come from: pod/NAME, svc/NAME, node/NAME, zone/NAME, KEY=VALUE of pods, workstation or outside
    /// [default: anywhere]
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Option<String>,

    /// Where they go to, likewise; the other way suffers too, unless --one-way is there [default: anywhere]
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: Option<String>,

    /// Only packets from --from to --to, not the other way
    #[arg(long)]
    pub(crate) one_way: bool,

    /// They come so much later: 100ms, 1.5s
    #[arg(long, value_name = "TIME")]
    pub(crate) delay: Option<String>,

    /// The delay differs by up to this much, either way
    #[arg(long, value_name = "TIME")]
    pub(crate) jitter: Option<String>,

    /// This share is lost: 10%
    #[arg(long, value_name = "SHARE")]
    pub(crate) loss: Option<String>,

    /// This share comes twice
    #[arg(long, value_name = "SHARE")]
    pub(crate) duplicate: Option<String>,

    /// This share is overtaken by those behind it
    #[arg(long, value_name = "SHARE")]
    pub(crate) reorder: Option<String>,

    /// In this share one bit is changed
    #[arg(long, value_name = "SHARE")]
    pub(crate) corrupt: Option<String>,

    /// So many pass and no more: 500kbit, 10mbit, 1gbit a second
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<String>,

    /// New connections and datagrams are refused, as if nobody listened
    #[arg(long)]
    pub(crate) refuse: bool,

    /// Nothing passes
    #[arg(long)]
    pub(crate) partition: bool,

    /// For how long: 60s, 5m [default: until it is removed]
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) duration: Option<String>,

    /// The same seed does the same to the same packets [default: another each time]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// Its name [default: one that is free]
    #[arg(value_name = "NAME")]
    pub(crate) fault: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    pub(crate) action: NodeAction,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum NodeAction {
    /// Show which nodes have power, beside what the API has noticed
    List {
        #[command(flatten)]
        lab: LabArgs,

        /// Output format
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Cut the power of a node: its processes die, its addresses fall silent, its heartbeat stops, and nobody is told
    Stop {
        #[command(flatten)]
        lab: LabArgs,

        /// Name of the node
        node: String,
    },
    /// Give a node its power back: it registers, and runs what is still bound to it
    Start {
        #[command(flatten)]
        lab: LabArgs,

        /// Name of the node
        node: String,
    },
}
