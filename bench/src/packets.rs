//! What each program takes for one packet, by the kernel's own test runs: unlike times of connections, these bear a
//! machine that does something else besides.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daymark_dataplane::PacketProgram::{self, Out, Pod, Uplink};
use daymark_dataplane::{Config, DataPlane};
use daymark_model::Protocol;
use daymark_plan::tables::{Frontend, FrontendKey, FrontendKind, Op, ServiceEntry, Slot};
use etherparse::PacketBuilder;

use crate::row;
use crate::space::Space;

/// A frame is sent on so often, losing one hop each time.
const REPEAT: u32 = 200;
const ROUNDS: usize = 2000;

struct Tcp<'a> {
    from: &'a str,
    to: &'a str,
    syn: bool,
    ack: bool,
}

/// The node's namespace: a LAN, two pods, routes to other nodes.
fn node() -> Result<Space> {
    let space = Space::new()?;
    for line in [
        "ip link add eth0 address 04:04:04:04:04:04 type veth peer name lan0",
        "ip link set lan0 up",
        "ip link set eth0 up",
        "ip addr add 192.0.2.11/24 dev eth0",
        "ip route add 10.244.99.0/24 via 192.0.2.99",
        "ip route add unreachable 10.244.0.0/16",
        "ip link add dm2 address 04:04:04:04:04:04 type veth peer name pod2",
        "ip link set dm2 up",
        "ip link set pod2 up",
        "ip route add 10.244.11.2/32 dev dm2",
    ] {
        space.command(line)?;
    }
    space.sysctl("net/ipv4/ip_forward", "1")?;
    Ok(space)
}

fn index(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| name.to_owned())
}

fn frame(tcp: &Tcp<'_>) -> Result<Vec<u8>> {
    let (from, to): (std::net::SocketAddrV4, std::net::SocketAddrV4) = (tcp.from.parse()?, tcp.to.parse()?);
    let mut header = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from.ip().octets(), to.ip().octets(), 255)
        .tcp(from.port(), to.port(), 1, 65_000);
    if tcp.syn {
        header = header.syn();
    }
    if tcp.ack {
        header = header.ack(1);
    }
    let mut bytes = Vec::new();
    header.write(&mut bytes, &[0; 64])?;
    Ok(bytes)
}

/// The shortest of many times: whatever else runs only adds.
fn shortest(
    plane: &DataPlane,
    program: PacketProgram,
    tcp: &Tcp<'_>,
    index: u32,
    repeat: u32,
) -> Result<Duration> {
    let frame = frame(tcp)?;
    let times =
        (0..ROUNDS).map(|_| plane.time(program, &frame, index, repeat)).collect::<Result<Vec<_>, _>>()?;
    times.into_iter().min().context("rounds")
}

fn service() -> Vec<Op> {
    let slot = |ip: &str, local| Slot { ip: ip.parse().unwrap_or([0; 4].into()), port: 8080, local };
    let put = |id: u32, port: u16, slot: Slot| {
        let entry = ServiceEntry {
            generation: 1,
            n_local: u32::from(slot.local),
            slots: vec![slot],
            ..Default::default()
        };
        let key = FrontendKey { ip: [192, 0, 2, 11].into(), port, protocol: Protocol::Tcp };
        let frontend =
            Frontend { service: id, kind: FrontendKind::NodePort, local_only: false, source_checked: false };
        [Op::PutService { id, entry }, Op::PutFrontend { key, frontend }]
    };
    [put(1, 30081, slot("10.244.11.2", true)), put(2, 30082, slot("10.244.99.7", false))].concat()
}

fn measure(dir: &std::path::Path) -> Result<()> {
    let (uplink, pod) = (index("eth0")?, index("dm2")?);
    let mut config = Config::new(dir.join("bpf"));
    config.node_ips = vec![[192, 0, 2, 11].into()];
    config.pod_cidrs = vec!["10.244.0.0/16".parse()?];
    config.service_cidrs = vec!["10.96.0.0/12".parse()?];
    config.cluster_sources = vec!["192.0.2.11/32".parse()?, "192.0.2.99/32".parse()?];
    let (mut plane, _) = DataPlane::open(config)?;
    plane.apply(&service())?;
    plane.attach_uplink(uplink)?;
    plane.attach_pod(pod)?;
    let pass = |from, to, syn, ack| Tcp { from, to, syn, ack };
    let rows = [
        ("pod to a pod elsewhere, SYN", Pod, pass("10.244.11.2:4000", "10.244.99.7:80", true, false), pod),
        ("pod to a pod elsewhere, data", Pod, pass("10.244.11.2:4000", "10.244.99.7:80", false, true), pod),
        (
            "from a pod elsewhere, SYN-ACK",
            Uplink,
            pass("10.244.99.7:80", "10.244.11.2:4000", true, true),
            uplink,
        ),
        (
            "from a pod elsewhere, data",
            Uplink,
            pass("10.244.99.7:80", "10.244.11.2:4000", false, true),
            uplink,
        ),
        ("the node's own, leaving", Out, pass("192.0.2.11:4000", "192.0.2.99:80", false, true), uplink),
        ("LAN to the node itself", Uplink, pass("192.0.2.1:4000", "192.0.2.11:22", false, true), uplink),
    ];
    for (what, program, tcp, index) in &rows {
        let took = shortest(&plane, *program, tcp, *index, REPEAT)?;
        row(what, &format!("{} ns", took.as_nanos()), "");
    }
    connections(&plane, uplink, pod)
}

/// Packets of translated connections: one run each, since the next would find another packet.
fn connections(plane: &DataPlane, uplink: u32, pod: u32) -> Result<()> {
    for (what, port, backend) in
        [("here", 30081u16, "10.244.11.2:8080"), ("elsewhere", 30082, "10.244.99.7:8080")]
    {
        let mut least = [u128::MAX; 4];
        for round in 0..ROUNDS {
            let client = format!("192.0.2.1:{}", 20_000 + round);
            let node = format!("192.0.2.11:{port}");
            let steps = [(true, false), (false, true)];
            let mut seen = client.clone();
            for (at, (syn, ack)) in steps.into_iter().enumerate() {
                let sent = frame(&Tcp { from: &client, to: &node, syn, ack })?;
                if at == 0 && port == 30082 {
                    // The port that the node calls from, before the timed packet would have asked for it.
                    let first = plane.run(Uplink, &sent, uplink)?;
                    seen = format!("192.0.2.11:{}", u16::from_be_bytes([first.frame[34], first.frame[35]]));
                } else {
                    least[at] = least[at].min(plane.time(Uplink, &sent, uplink, 1)?.as_nanos());
                }
            }
            let (program, index) = if port == 30081 { (Pod, pod) } else { (Uplink, uplink) };
            for (at, syn) in [(2, true), (3, false)] {
                let reply = frame(&Tcp { from: backend, to: &seen, syn, ack: true })?;
                least[at] = least[at].min(plane.time(program, &reply, index, 1)?.as_nanos());
            }
        }
        for (name, least) in ["SYN", "data", "SYN-ACK", "reply"].iter().zip(least) {
            if least < u128::MAX {
                row(
                    &format!("node port, pod {what}: {name}"),
                    &format!("{least} ns"),
                    "one run, with its overhead",
                );
            }
        }
    }
    ensure!(plane.meters().flow_entries()? > 0, "nothing was translated");
    Ok(())
}

pub fn run() -> Result<()> {
    let dir = tempfile::Builder::new().prefix("daymark-bench-").tempdir()?;
    let space = node()?;
    let done = space.run(|| measure(dir.path()));
    daymark_dataplane::remove(&dir.path().join("bpf"))?;
    done
}
