//! A LAN of network namespaces: a host (the laptop) and nodes with pods, wired with veths and a bridge.
//! Namespaces are anonymous: they end with the test, whatever happens, and take their interfaces along.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use daymark_dataplane::{Config, DataPlane};
use daymark_plan::tables::Tables;
use nix::sched::{CloneFlags, setns, unshare};

use super::{Pins, ip, unique};

/// A network namespace.
pub struct Space {
    file: File,
}

impl Space {
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
            File::open("/proc/thread-self/ns/net").expect("namespace")
        });
        let space = Self { file: file.join().expect("thread") };
        space.command("ip link set lo up");
        space
    }

    /// Does something inside, on a thread of its own.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("setns");
                action()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Leaves a thread inside that serves until the process ends.
    pub fn serve(&self, action: impl FnOnce() + Send + 'static) {
        let file = self.file.try_clone().expect("descriptor");
        std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("setns");
            action();
        });
    }

    pub fn command(&self, line: &str) {
        let output = self.run(|| {
            let mut words = line.split(' ');
            Command::new(words.next().expect("a program")).args(words).output().expect("runs")
        });
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn sysctl(&self, name: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/{name}"), value).expect("sysctl"));
    }

    /// A path that `ip link set … netns` takes.
    fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    pub fn ifindex(&self, name: &str) -> u32 {
        self.run(|| nix::net::if_::if_nametoindex(name).expect("interface"))
    }
}

/// A directory in the cgroup-v2 hierarchy.
pub struct Cgroup {
    pub path: PathBuf,
}

impl Cgroup {
    pub fn new() -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&"cgroup2"))
            .map(|fields| PathBuf::from(fields[1]))
            .expect("a cgroup-v2 mount");
        let path = root.join(unique("daymark-test-"));
        std::fs::create_dir(&path).expect("cgroup");
        Self { path }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process may still be ending.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("left behind: {}", self.path.display());
    }
}

/// A process in a namespace and a cgroup that does as it is told: sockets belong to the cgroup of the
/// process that makes them, so a thread would not do.
pub struct Client {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// The test binary must have a test named `client` that calls [`client_main`].
    pub fn start(space: &Space, cgroup: &Path) -> Self {
        let mut child = space.run(|| {
            Command::new(std::env::current_exe().expect("own path"))
                .args(["--exact", "client", "--nocapture"])
                .env("DAYMARK_TEST_CGROUP", cgroup)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("client starts")
        });
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, orders, answers }
    }

    /// See [`client_main`] for the orders.
    pub fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("client lives");
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).expect("client lives") > 0, "client ended");
            // The test harness of the child talks too.
            if let Some(answer) = line.trim().split_once('@') {
                return answer.1.to_owned();
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Carries out orders from standard input; the answers begin with `@`. Does nothing unless started by
/// [`Client::start`].
///
/// - `patience N`: from now on an answer may take so many milliseconds.
/// - `tcp ADDRESS`: connects, and answers with the server's greeting and the peer's name.
/// - `hold ADDRESS`: connects and keeps the connection; `say TEXT` sends on it and answers with the echo.
/// - `udp ADDRESS`: asks by an unconnected socket that is kept; answers with the reply and its sender.
/// - `udp-connected ADDRESS`: asks by a connected socket.
pub fn client_main() {
    let Ok(cgroup) = std::env::var("DAYMARK_TEST_CGROUP") else { return };
    std::fs::write(Path::new(&cgroup).join("cgroup.procs"), std::process::id().to_string())
        .expect("the cgroup takes us");
    let mut state = ClientState::default();
    for line in std::io::stdin().lines() {
        let line = line.expect("standard input");
        let (order, argument) = line.split_once(' ').expect("an order and its argument");
        let answer = state.carry_out(order, argument).unwrap_or_else(|error| format!("{:?}", error.kind()));
        println!("@{answer}");
    }
}

struct ClientState {
    held: Option<std::net::TcpStream>,
    udp: Option<UdpSocket>,
    patience: Duration,
}

impl Default for ClientState {
    fn default() -> Self {
        Self { held: None, udp: None, patience: Duration::from_millis(700) }
    }
}

fn connect(address: &str, patience: Duration) -> std::io::Result<std::net::TcpStream> {
    let address: SocketAddr = address.parse().expect("address");
    let stream = std::net::TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

fn greeting(stream: &mut impl Read) -> std::io::Result<String> {
    let mut byte = [0];
    let mut line = String::new();
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0].into());
    }
    Ok(line)
}

impl ClientState {
    fn carry_out(&mut self, order: &str, argument: &str) -> std::io::Result<String> {
        match order {
            "patience" => {
                self.patience = Duration::from_millis(argument.parse().expect("milliseconds"));
                Ok(String::new())
            }
            "tcp" => {
                let mut stream = connect(argument, self.patience)?;
                Ok(format!("{} peer {}", greeting(&mut stream)?, stream.peer_addr()?))
            }
            "hold" => {
                let mut stream = connect(argument, self.patience)?;
                let text = greeting(&mut stream)?;
                self.held = Some(stream);
                Ok(text)
            }
            "say" => {
                let stream = self.held.as_mut().expect("hold comes first");
                writeln!(stream, "{argument}")?;
                greeting(stream)
            }
            "udp" => {
                let family = if argument.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
                if self.udp.is_none() {
                    self.udp = Some(UdpSocket::bind(family)?);
                }
                let socket = self.udp.as_ref().expect("just bound");
                socket.set_read_timeout(Some(self.patience))?;
                socket.send_to(b"who", argument)?;
                let mut buffer = [0; 200];
                let (length, from) = socket.recv_from(&mut buffer)?;
                Ok(format!("{} from {from}", String::from_utf8_lossy(&buffer[..length])))
            }
            "udp-connected" => {
                let family = if argument.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
                let socket = UdpSocket::bind(family)?;
                socket.connect(argument)?;
                socket.set_read_timeout(Some(self.patience))?;
                socket.send(b"who")?;
                let mut buffer = [0; 200];
                let (length, from) = socket.recv_from(&mut buffer)?;
                let peer = socket.peer_addr()?;
                Ok(format!("{} from {from} peer {peer}", String::from_utf8_lossy(&buffer[..length])))
            }
            "udp-address" => {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(argument)?;
                Ok(socket.local_addr()?.ip().to_string())
            }
            other => panic!("order {other}"),
        }
    }
}

/// Serves TCP and UDP on a port: greets with its name and the client's address, then echoes lines.
pub fn serve(space: &Space, name: &'static str, port: u16) {
    let (tcp, udp) = space.run(|| {
        let any = ("::", port);
        (TcpListener::bind(any).expect("TCP port"), UdpSocket::bind(any).expect("UDP port"))
    });
    space.serve(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.expect("accept");
            std::thread::spawn(move || {
                let from = stream.peer_addr().map(|from| from.ip().to_canonical().to_string());
                let from = from.unwrap_or_default();
                let mut lines = BufReader::new(stream.try_clone().expect("descriptor")).lines();
                let mut answer = writeln!(stream, "{name} {from}");
                while answer.is_ok()
                    && let Some(Ok(line)) = lines.next()
                {
                    answer = writeln!(stream, "{line}");
                }
            });
        }
    });
    space.serve(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let answer = if length > 200 {
                format!("{length}")
            } else {
                format!("{name} {}", from.ip().to_canonical())
            };
            let _ = udp.send_to(answer.as_bytes(), from);
        }
    });
}

/// One node with its pods.
pub struct Node {
    pub space: Space,
    pub pods: Vec<Space>,
    pub cgroup: Cgroup,
    pub number: u8,
    pins: Pins,
    plane: Option<DataPlane>,
}

impl Node {
    pub fn config(&self) -> Config {
        let number = self.number;
        let node_ips = vec![ip(&format!("192.0.2.1{number}")), ip(&format!("2001:db8::1{number}"))];
        Config { node_ips, ..self.pins.config() }
    }

    pub fn plane(&mut self) -> &mut DataPlane {
        self.plane.as_mut().expect("the agent runs")
    }

    /// What a killed agent leaves, and what a new one does.
    pub fn stop_agent(&mut self) {
        self.plane = None;
    }

    pub fn start_agent(&mut self) -> Tables {
        let config = self.config();
        let uplink = self.space.ifindex("eth0");
        let pods: Vec<u32> =
            (0..self.pods.len()).map(|i| self.space.ifindex(&format!("dm{}", i + 2))).collect();
        let (plane, tables) = self.space.run(|| {
            let (plane, tables) = DataPlane::open(config).expect("opens");
            plane.attach_cgroup(&self.cgroup.path).expect("cgroup");
            plane.attach_uplink(uplink).expect("uplink");
            pods.iter().for_each(|pod| plane.attach_pod(*pod).expect("pod"));
            (plane, tables)
        });
        self.plane = Some(plane);
        tables
    }

    /// A client in the n-th pod, the first being 2, as its address.
    pub fn client(&self, pod: usize) -> Client {
        Client::start(&self.pods[pod - 2], &self.cgroup.path)
    }
}

/// Host 192.0.2.1 and 2001:db8::1; node n at 192.0.2.1n and 2001:db8::1n with pods 10.244.n.2 and
/// fd00:10:244:n::2, 10.244.n.3 and fd00:10:244:n::3.
pub struct Lan {
    pub host: Space,
    pub nodes: Vec<Node>,
    _switch: Space,
}

const NODE_MAC: &str = "ee:ee:ee:ee:ee:ee";

impl Lan {
    pub fn new() -> Self {
        let switch = Space::new();
        switch.command("ip link add br0 type bridge");
        switch.command("ip link set br0 up");
        let host = Space::new();
        plug(&switch, &host, "host", ["192.0.2.1/24", "2001:db8::1/64"]);
        let nodes: Vec<Node> = [1, 2].map(|number| node(&switch, number)).into();
        // A link carries nothing until the kernel has noticed its carrier, which may take a second.
        for (from, to) in
            [(&nodes[0].space, "192.0.2.12"), (&nodes[0].space, "192.0.2.1"), (&nodes[1].space, "192.0.2.1")]
        {
            from.command(&format!("ping -q -c 1 -w 5 -i 0.1 {to}"));
        }
        Self { host, nodes, _switch: switch }
    }
}

fn plug(switch: &Space, space: &Space, port: &str, addresses: [&str; 2]) {
    switch.command(&format!("ip link add {port} type veth peer name eth0 netns {}", space.path()));
    switch.command(&format!("ip link set {port} master br0 up"));
    for address in addresses {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        space.command(&format!("ip addr add {address} dev eth0{nodad}"));
    }
    space.command("ip link set eth0 up");
}

fn node(switch: &Space, number: u8) -> Node {
    let space = Space::new();
    let addresses = [format!("192.0.2.1{number}/24"), format!("2001:db8::1{number}/64")];
    plug(switch, &space, &format!("node{number}"), [&addresses[0], &addresses[1]]);
    space.sysctl("net/ipv4/ip_forward", "1");
    space.sysctl("net/ipv6/conf/all/forwarding", "1");
    space.command("ip route add default via 192.0.2.1");
    let other = 3 - number;
    space.command(&format!("ip route add 10.244.{other}.0/24 via 192.0.2.1{other}"));
    space.command(&format!("ip route add fd00:10:244:{other}::/64 via 2001:db8::1{other}"));
    let pods = [2, 3].map(|pod| plug_pod(&space, number, pod)).into();
    let mut node = Node { space, pods, cgroup: Cgroup::new(), number, pins: Pins::new(), plane: None };
    node.start_agent();
    node
}

fn plug_pod(node: &Space, number: u8, pod: u8) -> Space {
    let space = Space::new();
    let mac = format!("02:00:00:00:0{number}:0{pod}");
    node.command(&format!(
        "ip link add dm{pod} address {NODE_MAC} type veth peer name eth0 netns {}",
        space.path()
    ));
    node.command(&format!("ip link set dm{pod} up"));
    space.command(&format!("ip link set eth0 address {mac}"));
    space.command("ip link set eth0 up");
    let addresses = [format!("10.244.{number}.{pod}/32"), format!("fd00:10:244:{number}::{pod}/128")];
    for (address, gateway) in addresses.iter().zip(["169.254.1.1", "fe80::1"]) {
        let plain = address.split('/').next().expect("an address");
        let nodad = if plain.contains(':') { " nodad" } else { "" };
        node.command(&format!("ip route add {address} dev dm{pod}"));
        node.command(&format!("ip neigh add {plain} dev dm{pod} lladdr {mac} nud permanent"));
        space.command(&format!("ip addr add {address} dev eth0{nodad}"));
        space.command(&format!("ip route add default via {gateway} dev eth0 onlink"));
        space.command(&format!("ip neigh add {gateway} dev eth0 lladdr {NODE_MAC} nud permanent"));
    }
    space
}
