//! A LAN of network namespaces: a host, which this process is in, nodes with pods, and a far node whose
//! pods are the backends of every Service. Wired with veths and a bridge; no way out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::dialer::Dialer;
use crate::room;
use crate::servers;
use crate::space::Space;

pub const POD_CIDR: &str = "10.244.0.0/16";
pub const SERVICE_CIDR: &str = "10.96.0.0/12";
pub const HOST_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NODE_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// The far node, whose pods have 10.244.99.0/24.
const FAR: u8 = 99;
pub const FAR_NAME: &str = "far";

/// A node: its namespace, a pod that dials and a pod that serves.
pub struct Node {
    pub name: &'static str,
    number: u8,
    pub space: Space,
    /// In the first pod.
    pub client: Dialer,
    /// Of the pods on this node.
    pub cgroup: PathBuf,
    _pods: [Space; 2],
}

impl Node {
    pub fn ip(&self) -> IpAddr {
        node_ip(self.number)
    }

    /// Of the pod that serves.
    pub fn server_ip(&self) -> IpAddr {
        pod_ip(self.number, 3)
    }
}

fn node_ip(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

fn pod_ip(node: u8, pod: u8) -> IpAddr {
    IpAddr::from([10, 244, node, pod])
}

pub fn far_ip() -> IpAddr {
    node_ip(FAR)
}

/// A pod of the far node that the LAN's host reaches, and is answered by, through one of the first two nodes.
pub fn through(node: usize) -> IpAddr {
    backend_ip(200 + node)
}

/// An address that a backend pod has: there are 240, numbered from 0, and more numbers wrap around.
pub fn backend_ip(number: usize) -> IpAddr {
    pod_ip(FAR, u8::try_from(10 + number % 240).unwrap_or(10))
}

/// Another of them, on the port that accepts and does nothing more.
pub fn backend(number: usize) -> SocketAddr {
    SocketAddr::new(backend_ip(number), servers::ACCEPT)
}

pub struct Lan {
    pub nodes: Vec<Node>,
    /// On the LAN's host.
    pub laptop: Dialer,
    _far: [Space; 2],
    _switch: Space,
    _cgroups: Cgroups,
}

impl Lan {
    /// Nodes of these names. This process is the LAN's host from then on.
    pub fn new(names: &[&'static str]) -> Result<Self> {
        let switch = Space::new()?;
        switch.command("ip link add br0 type bridge")?;
        switch.command("ip link set br0 up")?;
        let host = Space::own()?;
        plug(&switch, &host, "host", &HOST_IP.to_string())?;
        let cgroups = Cgroups::new()?;
        let numbers: Vec<u8> = (11..).take(names.len()).collect();
        let mut nodes = Vec::new();
        for (name, number) in names.iter().zip(&numbers) {
            nodes.push(node(&switch, name, *number, &cgroups)?);
        }
        let far = far_node(&switch, &numbers)?;
        for number in &numbers {
            host.command(&format!("ip route add 10.244.{number}.0/24 via {}", node_ip(*number)))?;
        }
        for (at, number) in numbers.iter().take(2).enumerate() {
            host.command(&format!("ip route add {}/32 via {}", through(at), node_ip(*number)))?;
        }
        far[0].command(&format!("ip route add {HOST_IP}/32 via {}", node_ip(numbers[0])))?;
        for cidr in [POD_CIDR, SERVICE_CIDR] {
            host.command(&format!("ip route add unreachable {cidr}"))?;
        }
        let laptop = Dialer::start(&host, &cgroups.make("laptop")?)?;
        let mut lan = Self { nodes, laptop, _far: far, _switch: switch, _cgroups: cgroups };
        // A link carries nothing until the kernel has noticed its carrier, which may take a second.
        for node in &mut lan.nodes {
            node.client.reach(backend(0)).with_context(|| format!("node {} and the far node", node.name))?;
            lan.laptop.reach(SocketAddr::new(node.server_ip(), servers::ANSWER))?;
        }
        Ok(lan)
    }

    pub fn node(&mut self, name: &str) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|n| n.name == name)
    }
}

fn plug(switch: &Space, space: &Space, port: &str, address: &str) -> Result<()> {
    switch.command(&format!("ip link add {port} type veth peer name eth0 netns {}", space.path()))?;
    switch.command(&format!("ip link set {port} master br0 up"))?;
    space.command(&format!("ip addr add {address}/24 dev eth0"))?;
    space.command("ip link set eth0 up").map(drop)
}

fn node(switch: &Space, name: &'static str, number: u8, cgroups: &Cgroups) -> Result<Node> {
    let space = Space::new()?;
    plug(switch, &space, &format!("node{number}"), &node_ip(number).to_string())?;
    space.sysctl("net/ipv4/ip_forward", "1")?;
    // Packets come in and leave by one interface; nobody shall be told of a shorter way.
    space.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
    space.sysctl("net/ipv4/conf/eth0/send_redirects", "0")?;
    space.command(&format!("ip route add 10.244.{FAR}.0/24 via {}", node_ip(FAR)))?;
    for cidr in [POD_CIDR, SERVICE_CIDR] {
        space.command(&format!("ip route add unreachable {cidr}"))?;
    }
    let pods = [plug_pod(&space, number, 2)?, plug_pod(&space, number, 3)?];
    servers::start(&pods[1])?;
    let cgroup = cgroups.make(name)?;
    let client = Dialer::start(&pods[0], &cgroup)?;
    Ok(Node { name, number, space, client, cgroup, _pods: pods })
}

fn far_node(switch: &Space, others: &[u8]) -> Result<[Space; 2]> {
    let space = Space::new()?;
    plug(switch, &space, "far", &node_ip(FAR).to_string())?;
    space.sysctl("net/ipv4/ip_forward", "1")?;
    for number in others {
        space.command(&format!("ip route add 10.244.{number}.0/24 via {}", node_ip(*number)))?;
    }
    let backends = plug_pod(&space, FAR, 2)?;
    space.command(&format!("ip route add 10.244.{FAR}.0/24 via {} dev dm2", pod_ip(FAR, 2)))?;
    backends.command(&format!("ip route add local 10.244.{FAR}.0/24 dev lo"))?;
    servers::start(&backends)?;
    Ok([space, backends])
}

/// As Daymark's and many other network plugins do: a /32 and a permanent neighbour.
fn plug_pod(node: &Space, number: u8, pod: u8) -> Result<Space> {
    let space = Space::new()?;
    let address = pod_ip(number, pod);
    let mac = format!("02:00:00:00:{number:02x}:{pod:02x}");
    for line in [
        format!("ip link add dm{pod} address {NODE_MAC} type veth peer name eth0 netns {}", space.path()),
        format!("ip link set dm{pod} up"),
        format!("ip route add {address}/32 dev dm{pod}"),
        format!("ip neigh add {address} dev dm{pod} lladdr {mac} nud permanent"),
    ] {
        node.command(&line)?;
    }
    for line in [
        format!("ip link set eth0 address {mac}"),
        "ip link set eth0 up".to_owned(),
        format!("ip addr add {address}/32 dev eth0"),
        "ip route add default via 169.254.1.1 dev eth0 onlink".to_owned(),
        format!("ip neigh add 169.254.1.1 dev eth0 lladdr {NODE_MAC} nud permanent"),
    ] {
        space.command(&line)?;
    }
    Ok(space)
}

/// The cgroups of this run; the room removes them.
struct Cgroups(PathBuf);

impl Cgroups {
    fn new() -> Result<Self> {
        let path = room::cgroups()?;
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
