//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daymark_model::{AddressFamily, PerFamily};
use daymark_plan::NodePortAddresses;
use ipnet::IpNet;

use crate::cluster::spec::{Controllers, parse_cidrs};

const AFTER: &str = "Examples:
  daymark up                       a cluster of two nodes, ready in about a second
  kubectl get nodes                the stock kubectl drives it
  daymark status                   nodes, processes, addresses, health
  daymark image load nginx.tar     an image for the pods, without a registry
  daymark down                     remove every trace of it";

/// Kubernetes Services, whole: data plane, DNS, LoadBalancer addresses, and a cluster to use them on.
#[derive(Parser)]
#[command(name = "daymark", version, after_help = AFTER, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start a cluster; returns when it is ready
    Up(Up),
    /// Remove a cluster and everything it made on this machine
    Down(Named),
    /// Start what is not running of a cluster that exists
    Start(Part),
    /// Stop a cluster, or one node of it; the data stays
    Stop(Part),
    /// Show nodes, processes, addresses, versions and health
    Status(Status),
    /// Show what is programmed on the nodes, read from the kernel alone
    Dump(Dump),
    /// Compare what the kernel holds with what the API says it should
    #[command(after_help = "Exit codes: 0 equal, 1 different, 2 it cannot tell.

Examples:
  daymark verify
  daymark verify --node node2 -o json
  daymark verify --kubeconfig agent.conf --node worker-1 --bpf /run/daymark/agent/bpf")]
    Verify(Observed),
    /// Show who is asked how often
    #[command(subcommand)]
    Top(Top),
    /// Work with the images that pods run
    #[command(subcommand)]
    Image(Image),
    /// Run the agent alone, against any Kubernetes API server
    Agent(Agent),
    /// Print a script that completes commands in your shell
    #[command(after_help = "Example:\n  source <(daymark completions bash)")]
    Completions { shell: clap_complete::Shell },
    /// The API server and the controllers (started by `up`)
    #[command(hide = true)]
    Daemon(Named),
    /// One node (started by `up`)
    #[command(hide = true)]
    Node {
        #[command(flatten)]
        cluster: Named,
        #[arg(long)]
        node: String,
    },
}

#[derive(Args, Clone)]
pub struct Named {
    /// Name of the cluster
    #[arg(long, default_value = "default", env = "DAYMARK_CLUSTER")]
    pub name: String,
}

#[derive(Args)]
#[command(after_help = "Examples:
  daymark up
  daymark up --nodes 3 --name demo
  daymark up --no-egress --api-port 16443
  daymark up --ip-family dual      pods, nodes and Services have IPv4 and IPv6 addresses
  daymark up --controllers none    for a kube-controller-manager and a kube-scheduler of your own
  daymark up --foreground          for init systems: stays, and stops the cluster on SIGTERM")]
pub struct Up {
    #[command(flatten)]
    pub cluster: Named,
    /// How many nodes [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=i64::from(crate::cluster::spec::MAX_NODES)))]
    pub nodes: Option<u8>,
    /// Pods cannot reach beyond the nodes' LAN
    #[arg(long)]
    pub no_egress: bool,
    /// Port of the API server on 127.0.0.1 and on the LAN [default: 6443]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub api_port: Option<u16>,
    /// The IP families of nodes, pods and Services [default: ipv4]
    #[arg(long, value_enum)]
    pub ip_family: Option<IpFamily>,
    /// The nodes' network [default: a free 172.30.N.0/24, fd00:172:30:N::/64]
    #[arg(long, value_name = "CIDR[,CIDR]", value_parser = parse_cidrs)]
    pub lan: Option<PerFamily<IpNet>>,
    /// The pods' network [default: a free 10.N.0.0/16, fd00:10:N::/56]
    #[arg(long, value_name = "CIDR[,CIDR]", value_parser = parse_cidrs)]
    pub pod_cidr: Option<PerFamily<IpNet>>,
    /// Where cluster IPs come from; the first is of the primary family [default: a free 10.N.0.0/16,
    /// fd00:10:N::/112]
    #[arg(long, value_name = "CIDR[,CIDR]", value_parser = parse_cidrs)]
    pub service_cidr: Option<PerFamily<IpNet>>,
    /// Who does what kube-controller-manager and kube-scheduler do [default: all]
    #[arg(long, value_enum)]
    pub controllers: Option<Controllers>,
    /// Which of a node's addresses serve node ports: CIDRs, or `primary` [default: all, and loopback from
    /// the node itself]
    #[arg(long, value_name = "CIDR,...|primary")]
    pub nodeport_addresses: Option<NodePortAddresses>,
    /// Stay in the foreground and stop the cluster on SIGINT or SIGTERM
    #[arg(long)]
    pub foreground: bool,
}

/// What `--ip-family` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IpFamily {
    Ipv4,
    Ipv6,
    /// Both; IPv4 is primary unless the first CIDR given is of IPv6
    Dual,
}

impl IpFamily {
    pub fn families(self) -> &'static [AddressFamily] {
        match self {
            IpFamily::Ipv4 => &[AddressFamily::Ipv4],
            IpFamily::Ipv6 => &[AddressFamily::Ipv6],
            IpFamily::Dual => &AddressFamily::BOTH,
        }
    }
}

#[derive(Args)]
#[command(after_help = "Examples:
  daymark stop                     the whole cluster
  daymark stop --node node2        one node's process; its pods run on until they are replaced
  daymark start")]
pub struct Part {
    #[command(flatten)]
    pub cluster: Named,
    /// Only this node
    #[arg(long)]
    pub node: Option<String>,
}

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    pub cluster: Named,
    #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
    pub output: String,
}

#[derive(Subcommand)]
pub enum Image {
    /// Load an image archive (docker save, OCI layout; plain, gzip or zstd)
    Load {
        #[command(flatten)]
        cluster: Named,
        file: PathBuf,
    },
    /// List the images that pods can run without a registry
    List {
        #[command(flatten)]
        cluster: Named,
    },
    /// Remove an image
    Rm {
        #[command(flatten)]
        cluster: Named,
        image: String,
    },
}

#[derive(Args)]
#[command(after_help = "Example:
  daymark agent --kubeconfig /etc/kubernetes/agent.conf --node worker-1 --cluster-cidr 10.244.0.0/16")]
pub struct Agent {
    /// Kubeconfig of the API server; in a pod, its ServiceAccount is used without it
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// The Node that this machine is
    #[arg(long, env = "NODE_NAME")]
    pub node: String,
    /// The pods' network, of all nodes together; it is not masqueraded
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Vec<IpNet>,
    /// The network of the cluster IPs; packets for it never leave the node
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Vec<IpNet>,
    /// Interface that other machines are reached by [default: the one with the node's address]
    #[arg(long)]
    pub uplink: Option<String>,
    /// Pods' interfaces on the node begin with one of these
    #[arg(long, default_values_t = ["dm".to_owned(), "veth".to_owned(), "cali".to_owned(), "lxc".to_owned()])]
    pub pod_interface_prefix: Vec<String>,
    /// The cgroup v2 folder whose processes reach Services [default: the root of the mount]
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
    /// Where programs and maps are pinned
    #[arg(long, default_value = "/run/daymark/agent/bpf")]
    pub bpf: PathBuf,
    /// Which of the node's addresses serve node ports: CIDRs, or `primary` [default: all, and loopback from
    /// the node itself]
    #[arg(long, value_name = "CIDR,...|primary")]
    pub nodeport_addresses: Option<NodePortAddresses>,
    /// Where /healthz and /livez are answered
    #[arg(long, default_value_t = crate::agent::health::Addresses::default().healthz)]
    pub healthz_bind_address: std::net::SocketAddr,
    /// Where /metrics is answered
    #[arg(long, default_value_t = crate::agent::health::Addresses::default().metrics)]
    pub metrics_bind_address: std::net::SocketAddr,
    /// Serve cluster DNS on the node's address, for this domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns: Option<String>,
}

/// Whose data plane to look at.
#[derive(Args)]
pub struct Observed {
    #[command(flatten)]
    pub cluster: Named,
    /// Only this node [default: all of the cluster]
    #[arg(long)]
    pub node: Option<String>,
    /// The folder of an agent's pins, instead of a cluster's
    #[arg(long)]
    pub bpf: Option<PathBuf>,
    /// As given to the agent at --bpf
    #[arg(long, value_name = "CIDR,...|primary", requires = "bpf")]
    pub nodeport_addresses: Option<NodePortAddresses>,
    /// As given to the agent at --bpf
    #[arg(long, value_name = "CIDR", requires = "bpf")]
    pub cluster_cidr: Vec<IpNet>,
    /// As given to the agent at --bpf
    #[arg(long, value_name = "CIDR", requires = "bpf")]
    pub service_cidr: Vec<IpNet>,
    /// Kubeconfig of the API server that the agent at --bpf follows
    #[arg(long, requires = "bpf")]
    pub kubeconfig: Option<PathBuf>,
    #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
    pub output: String,
}

#[derive(Args)]
#[command(after_help = "Examples:
  daymark dump                     everything, of every node
  daymark dump --node node1 frontends
  daymark dump flows -o json
  daymark dump --bpf /run/daymark/agent/bpf    of `daymark agent`, also when it is dead")]
pub struct Dump {
    #[arg(value_enum, default_value = "all")]
    pub part: DumpPart,
    #[command(flatten)]
    pub observed: Observed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DumpPart {
    Frontends,
    Backends,
    Flows,
    All,
}

#[derive(Subcommand)]
pub enum Top {
    /// Connections, refusals and bytes of each Service port
    Services(TopServices),
}

#[derive(Args)]
#[command(
    after_help = "Bytes are those of IP packets where clients come from outside (node ports, LoadBalancer and external addresses), within
5 s, and what TCP connections of pods and nodes carried, once they are closed. UDP of pods is not seen again after its socket.

Examples:
  daymark top services
  daymark top services --backends --sort rate --interval 5
  daymark top services --watch"
)]
pub struct TopServices {
    #[command(flatten)]
    pub observed: Observed,
    /// Only Services of this namespace
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// A line for each backend
    #[arg(long)]
    pub backends: bool,
    #[arg(long, value_enum, default_value = "connections")]
    pub sort: Sort,
    /// Seconds over which rates are measured
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,
    /// Print again after each interval, until interrupted
    #[arg(long, short)]
    pub watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    Connections,
    Rate,
    Bytes,
    Refusals,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("must be within 0.1 and 3600".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
