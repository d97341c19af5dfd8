//! Every client, frontend, policy, protocol and family, with real sockets over a LAN of two nodes: served by
//! whom, seen as whom, refused at once, or dropped.
//!
//! What is expected is computed by the rules of the definition, in [`Cell::expected`], not by the planner.

#[path = "matrix/cluster.rs"]
mod cluster;
mod common;

use std::time::Duration;

use cluster::{Ends, SERVICES, V4, V6};
use common::net::{Client, Lan, serve};

/// Long enough for an answer on a busy machine, and how long silence is listened to.
const PATIENCE: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_millis(250);
/// How often each cell is asked, so that more than one of several backends is seen.
const TIMES: usize = 3;

/// Not a test: the process that [`common::net::Client`] starts.
#[test]
fn client() {
    common::net::client_main();
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    PodOf(usize),
    /// A process in node 1's own network, below the cgroup: a host-network pod.
    Node1,
    LanHost,
}

impl Who {
    /// Whose data plane sees its sockets.
    fn node(self) -> Option<usize> {
        match self {
            Who::PodOf(node) => Some(node),
            Who::Node1 => Some(1),
            Who::LanHost => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frontend {
    ClusterIp,
    NodePortOf(usize),
    LoadBalancerIp,
    ExternalIp,
    /// A node port on 127.0.0.1 or ::1: the node's own processes have it, and nobody else's loopback does.
    Loopback,
}

const FRONTENDS: [Frontend; 6] = [
    Frontend::ClusterIp,
    Frontend::NodePortOf(1),
    Frontend::NodePortOf(2),
    Frontend::LoadBalancerIp,
    Frontend::ExternalIp,
    Frontend::Loopback,
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// One of these answers: the backend's name and whom it takes for its client.
    Served(Vec<(String, String)>),
    Refused,
    Dropped,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    who: Who,
    frontend: Frontend,
    service: usize,
    protocol: &'static str,
    ends: &'static Ends,
}

impl Cell {
    fn own_address(&self) -> String {
        match self.who {
            Who::PodOf(node) => self.ends.pod(node, 3),
            Who::Node1 => self.ends.node(1),
            Who::LanHost => self.ends.host(),
        }
    }

    /// The node that chooses the backend. A node port belongs to its node unless the client's own node is
    /// that very one; the host's way to LoadBalancer and external addresses leads over node 1.
    fn choosing_node(&self) -> usize {
        match (self.frontend, self.who.node()) {
            (Frontend::NodePortOf(node), _) => node,
            (_, Some(node)) => node,
            (_, None) => 1,
        }
    }

    /// Translated at the socket, packets go from the client to the backend as they are.
    fn at_the_socket(&self) -> bool {
        self.who.node() == Some(self.choosing_node())
    }

    fn expected(&self) -> Expected {
        let service = &SERVICES[self.service];
        let chooser = self.choosing_node();
        if self.frontend == Frontend::ClusterIp && self.who == Who::LanHost {
            return Expected::Dropped;
        }
        if self.frontend == Frontend::Loopback && self.who != Who::Node1 {
            return Expected::Refused;
        }
        let here_only = match self.frontend {
            Frontend::ClusterIp => service.internal_local,
            _ => service.external_local && self.who == Who::LanHost,
        };
        let usable: Vec<usize> =
            service.backends.iter().copied().filter(|node| !here_only || *node == chooser).collect();
        if usable.is_empty() {
            return if service.backends.is_empty() { Expected::Refused } else { Expected::Dropped };
        }
        let seen_as = |backend: usize| match self.at_the_socket() || backend == chooser {
            true => self.own_address(),
            // Its reply must come back to who translated the request.
            false => self.ends.node(chooser),
        };
        Expected::Served(usable.iter().map(|node| (format!("web{node}"), seen_as(*node))).collect())
    }

    fn dials(&self) -> String {
        let service = self.service;
        let ends = self.ends;
        match self.frontend {
            Frontend::ClusterIp => ends.with_port(&ends.cluster_ip(service), 80),
            Frontend::NodePortOf(node) => ends.with_port(&ends.node(node), cluster::node_port(service)),
            Frontend::LoadBalancerIp => ends.with_port(&ends.load_balancer_ip(service), 80),
            Frontend::ExternalIp => ends.with_port(&ends.external_ip(service), 80),
            Frontend::Loopback => ends.with_port(ends.loopback, cluster::node_port(service)),
        }
    }

    /// What is wrong with the answers, if anything.
    fn ask(&self, client: &mut Client) -> Option<String> {
        let expected = self.expected();
        let silent = expected == Expected::Dropped;
        client.ask(&format!("patience {}", if silent { SILENCE } else { PATIENCE }.as_millis()));
        let times = if matches!(expected, Expected::Served(_)) { TIMES } else { 1 };
        (0..times).find_map(|_| {
            let answer = client.ask(&format!("{} {}", self.protocol, self.dials()));
            let right = match &expected {
                Expected::Served(all) => {
                    all.iter().any(|(name, seen)| answer.starts_with(&format!("{name} {seen} ")))
                        && answer.contains(&self.dials())
                }
                Expected::Refused => answer == "ConnectionRefused",
                Expected::Dropped => ["TimedOut", "WouldBlock"].contains(&answer.as_str()),
            };
            (!right).then(|| format!("{self:?} dials {}: expected {expected:?}, got {answer}", self.dials()))
        })
    }
}

fn cells(who: Who) -> impl Iterator<Item = Cell> {
    [&V4, &V6].into_iter().flat_map(move |ends| {
        ["tcp", "udp-connected"].into_iter().flat_map(move |protocol| {
            FRONTENDS.into_iter().flat_map(move |frontend| {
                (0..SERVICES.len()).map(move |service| Cell { who, frontend, service, protocol, ends })
            })
        })
    })
}

#[test]
fn every_client_meets_what_the_policy_says_at_every_frontend() {
    let mut lan = Lan::new();
    cluster::publish(&mut lan);
    serve(&lan.nodes[0].pods[0], "web1", 8080);
    serve(&lan.nodes[1].pods[0], "web2", 8080);
    let outside = common::net::Cgroup::new();
    let clients = [
        (Who::PodOf(1), lan.nodes[0].client(3)),
        (Who::PodOf(2), lan.nodes[1].client(3)),
        (Who::Node1, Client::start(&lan.nodes[0].space, &lan.nodes[0].cgroup.path)),
        (Who::LanHost, Client::start(&lan.host, &outside.path)),
    ];
    let mut asked = 0;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let rows = clients.map(|(who, mut client)| {
            let all: Vec<Cell> = cells(who).collect();
            asked += all.len();
            scope.spawn(move || all.iter().filter_map(|cell| cell.ask(&mut client)).collect::<Vec<_>>())
        });
        rows.into_iter().flat_map(|row| row.join().expect("a row")).collect()
    });
    assert!(wrong.is_empty(), "{} of {asked} cells:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(asked, 4 * 2 * 2 * FRONTENDS.len() * SERVICES.len());
}
