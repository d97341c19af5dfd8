//! Chaos under load, with a ledger of every request: endpoints churn, agents are killed, the API server goes
//! away, a new version takes over. No request is broken, and none reaches a backend that it should not.
//!
//! `DAYMARK_CHAOS=full` kills 100 times and changes the endpoints 1,000 times; `DAYMARK_CHAOS=30,200,50` kills 30
//! times and changes 200 times, 50 ms apart.

#[path = "chaos/churn.rs"]
mod churn;
#[path = "chaos/ledger.rs"]
mod ledger;
#[path = "chaos/load.rs"]
mod load;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use churn::{Backend, SLICE};
use ledger::{Ledger, Outage};
use load::{Kind, Load, Place, now};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Cluster, Laptop};

/// Debug builds on a busy machine; see what the test prints for how long it really takes.
const WINDOW: Duration = Duration::from_secs(1);
const BACKENDS: usize = 6;
const NODES: [&str; 2] = ["node1", "node2"];

/// Not a test: the process that [`Load`] starts.
#[test]
fn load() {
    load::main();
}

struct Size {
    kills: usize,
    changes: usize,
    pause: Duration,
}

fn size() -> Size {
    let text = std::env::var("DAYMARK_CHAOS").unwrap_or_else(|_| "15,150,60".into());
    let text = if text == "full" { "100,1000,100" } else { text.as_str() };
    let numbers: Vec<usize> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    let [kills, changes, pause] = numbers[..] else {
        panic!("DAYMARK_CHAOS={text}: see the top of this file")
    };
    Size { kills, changes, pause: Duration::from_millis(pause as u64) }
}

fn pod(name: &str, node: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: chaos}}}}\nspec: {{nodeName: {node}, \
         terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'daymark/web:v1', \
         args: ['--port', '80', '--tcp-echo', '7', '--udp-echo', '7'], readinessProbe: {{tcpSocket: {{port: 80}}}}}}]}}\n"
    )
}

const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: chaos}
spec:
  type: NodePort
  ports:
  - {name: http, port: 80, nodePort: 30080}
  - {name: echo, port: 7, nodePort: 30007}
  - {name: question, port: 7, nodePort: 30008, protocol: UDP}
";

/// Backends b1…, and clients k1 and k2, one on each node, which serve too but belong to no Service.
fn deploy(cluster: &Cluster) -> Vec<Backend> {
    let laptop = cluster.laptop;
    let mut manifest = String::from(SERVICE);
    for index in 0..BACKENDS {
        manifest += &pod(&format!("b{}", index + 1), NODES[index % 2]);
    }
    manifest += &(pod("k1", "node1") + &pod("k2", "node2"));
    laptop.apply(&manifest);
    laptop.kubectl("wait --for=condition=Ready pod -l app=chaos --timeout=60s");
    let ips = laptop.kubectl(
        "get pods -l app=chaos -o jsonpath={range.items[*]}{.metadata.name},{.status.podIP},{.spec.nodeName}{\"\\n\"}{end}",
    );
    let fields = ips.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let backends: Vec<Backend> = fields
        .filter(|fields| fields[0].starts_with('b'))
        .map(|fields| Backend { name: fields[0].clone(), ip: fields[1].clone(), node: fields[2].clone() })
        .collect();
    let (endpoints, _) = churn::endpoints(&backends, 0);
    laptop.apply(&format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {SLICE}, labels: \
         {{kubernetes.io/service-name: chaos, endpointslice.kubernetes.io/managed-by: chaos}}}}\naddressType: IPv4\nports: \
         [{{name: http, port: 80, protocol: TCP}}, {{name: echo, port: 7, protocol: TCP}}, {{name: question, port: 7, \
         protocol: UDP}}]\nendpoints: {endpoints}\n"
    ));
    backends
}

/// Where the processes of a pod live.
fn place_of(laptop: &Laptop, pod: &str, node: &str) -> Place {
    let uid = laptop.kubectl(&format!("get pod {pod} -o jsonpath={{.metadata.uid}}"));
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mount = mounts.lines().find(|l| l.contains(" cgroup2 ")).expect("cgroup v2");
    let mount = Path::new(mount.split(' ').nth(1).expect("a mount point"));
    let cgroup = mount.join("daymark").join(&laptop.name).join(node).join(format!("pod{uid}"));
    let pid = first_process(&cgroup).unwrap_or_else(|| panic!("no process in {}", cgroup.display()));
    let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
    Place { name: format!("pod {pod}"), node: node.into(), netns, cgroup: Some(cgroup) }
}

fn first_process(cgroup: &Path) -> Option<String> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let own = own.lines().next().map(str::to_owned);
    let below = || fs::read_dir(cgroup).ok()?.flatten().find_map(|entry| first_process(&entry.path()));
    own.or_else(below)
}

fn start_loads(cluster: &Cluster) -> Vec<Load> {
    let laptop = cluster.laptop;
    let cluster_ip = laptop.kubectl("get service chaos -o jsonpath={.spec.clusterIP}");
    let mut loads = Vec::new();
    let mut start = |place: &Place, ip: &str, ports: [u16; 3]| {
        for (kind, port) in [
            (Kind::Http, ports[0]),
            (Kind::Held, ports[1]),
            (Kind::Udp, ports[2]),
            (Kind::UdpSocket, ports[2]),
        ] {
            let target: SocketAddr = format!("{ip}:{port}").parse().expect("an address");
            loads.push(Load::start(place, kind, target, laptop.path(&format!("load-{}", loads.len()))));
        }
    };
    for (node, ip) in NODES.iter().zip(cluster.node_ips()) {
        let netns = laptop.path("laptop");
        let place = Place { name: format!("laptop at {node}"), node: (*node).into(), netns, cgroup: None };
        start(&place, &ip, [30080, 30007, 30008]);
    }
    for (pod, node) in ["k1", "k2"].iter().zip(NODES) {
        start(&place_of(laptop, pod, node), &cluster_ip, [80, 7, 7]);
    }
    loads
}

fn kill_process(laptop: &Laptop, process: &str) {
    let lock = laptop.path("run").join(&laptop.name).join("locks").join(process);
    let pid = fs::read_to_string(&lock).expect("its lock").trim().parse().expect("its pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it lives");
}

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Does something after which these nodes know nothing new until `daymark start` has returned.
fn outage(laptop: &Laptop, nodes: &[&str], trouble: impl FnOnce()) -> Vec<Outage> {
    let from = now();
    trouble();
    laptop.daymark(&["start"]);
    let until = now();
    nodes.iter().map(|node| Outage { node: (*node).into(), from, until }).collect()
}

/// Kills agents one after the other, then the API server and an agent, then replaces the program.
fn trouble(laptop: &Laptop, kills: usize) -> Vec<Outage> {
    let mut outages = Vec::new();
    for index in 0..kills {
        let node = NODES[index % 2];
        outages.extend(outage(laptop, &[node], || {
            kill_process(laptop, node);
            pause(200);
        }));
        pause(100);
    }
    if kills == 0 {
        return outages;
    }
    outages.extend(outage(laptop, &NODES, || {
        kill_process(laptop, "daemon");
        pause(1000);
        kill_process(laptop, "node1");
        pause(500);
    }));
    // The same pins, another program file: how a package is upgraded.
    let upgraded = laptop.path("daymark-upgraded").display().to_string();
    fs::copy(env!("CARGO_BIN_EXE_daymark"), &upgraded).expect("a copy");
    for node in NODES {
        let from = now();
        laptop.run(&[&upgraded, "stop", "--node", node]);
        laptop.run(&[&upgraded, "start", "--node", node]);
        outages.push(Outage { node: node.into(), from, until: now() });
    }
    outages
}

#[test]
fn no_request_is_broken_or_goes_astray() {
    let Size { kills, changes, pause: between } = size();
    let laptop = Laptop::new();
    let cluster = laptop.up();
    let backends = deploy(&cluster);
    // Before the first change somebody must answer everywhere.
    for node in cluster.node_ips() {
        support::eventually("the Service answers", || cluster.curl(&format!("http://{node}:30080/hostname")));
    }
    let begin = now();
    let first = churn::endpoints(&backends, 0).1;
    let loads = start_loads(&cluster);
    let (netns, kubeconfig) = (laptop.path("laptop"), laptop.path("kubeconfig"));
    let churning = std::thread::spawn({
        let backends = backends.clone();
        move || churn::run(netns, kubeconfig, backends, changes, between)
    });
    let outages = trouble(&laptop, kills);
    let eras = churning.join().expect("the churn");
    pause(500);
    let requests: Vec<_> = loads.into_iter().flat_map(Load::finish).collect();
    let ledger = Ledger { eras: std::iter::once(first).chain(eras).collect(), outages, requests };
    let judgement = ledger.judge(WINDOW.as_nanos() as u64);

    eprintln!(
        "{} requests in {} s, {kills} kills, {changes} changes: {} broken, {} wrong; last obeyed after {} ms\n{:#?}",
        ledger.requests.len(),
        (now() - begin) / 1_000_000_000,
        judgement.broken.len(),
        judgement.wrong.len(),
        judgement.latest / 1_000_000,
        judgement.answered_by,
    );
    let some = |all: &[String]| all.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(judgement.broken.is_empty(), "{} broken:\n{}", judgement.broken.len(), some(&judgement.broken));
    assert!(judgement.wrong.is_empty(), "{} astray:\n{}", judgement.wrong.len(), some(&judgement.wrong));
    assert_eq!(ledger.eras.len(), changes + 1);
    let answered: BTreeSet<&String> = judgement.answered_by.keys().collect();
    assert_eq!(answered, backends.iter().map(|b| &b.name).collect(), "every backend had its share");
    assert_eq!(judgement.by_load.len(), 16, "every load asked: {:?}", judgement.by_load);
    assert!(judgement.by_load.values().all(|count| *count > 50), "{:?}", judgement.by_load);
}
