//! What a lab is to look like: `up`, `demo` and `images`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::{LabArgs, Output};

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

    /// What each node says that it has for pods, instead of what this machine has: cpu, memory, ephemeral-storage, pods, or a
    /// thing such as example.com/gpu; may be repeated
    #[arg(long, value_name = "RESOURCE=AMOUNT", value_delimiter = ',')]
    pub(crate) node_capacity: Vec<String>,

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
