//! The way out: pods reach what the host reaches, under the host's address; `--no-egress` closes it.

mod support;

use std::process::Command;

use support::{Killed, Laptop, check, eventually};

/// A machine on the far side of the laptop, `198.51.100.2` and `2001:db8:5::2`, with a web server.
struct Outside {
    _server: Killed,
    namespace: std::path::PathBuf,
}

impl Outside {
    fn new(laptop: &Laptop) -> Self {
        let namespace = laptop.path("outside");
        std::fs::write(&namespace, "").expect("a file");
        let at = format!("--net={}", namespace.display());
        let script = "ip link set lo up";
        assert!(Command::new("unshare").args([&at, "sh", "-c", script]).status().expect("unshare").success());
        laptop.run(&[
            "ip",
            "link",
            "add",
            "out0",
            "type",
            "veth",
            "peer",
            "name",
            "in0",
            "netns",
            &namespace.display().to_string(),
        ]);
        laptop.run(&["ip", "link", "set", "out0", "up"]);
        laptop.run(&["ip", "addr", "add", "198.51.100.1/24", "dev", "out0"]);
        laptop.run(&["ip", "addr", "add", "2001:db8:5::1/64", "dev", "out0", "nodad"]);
        laptop.run(&["nsenter", &at, "ip", "link", "set", "in0", "up"]);
        laptop.run(&["nsenter", &at, "ip", "addr", "add", "198.51.100.2/24", "dev", "in0"]);
        laptop.run(&["nsenter", &at, "ip", "addr", "add", "2001:db8:5::2/64", "dev", "in0", "nodad"]);
        let server = laptop
            .command(&["nsenter", &at, env!("CARGO_BIN_EXE_daymark"), "web", "--port", "80"])
            .spawn()
            .expect("a server outside");
        Self { _server: Killed(server), namespace }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.namespace, nix::mount::MntFlags::MNT_DETACH);
    }
}

const URL: &str = "http://198.51.100.2/clientip";
const URL_V6: &str = "http://[2001:db8:5::2]/clientip";
const FORWARDS_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

fn pod(laptop: &Laptop) {
    laptop.kubectl("run client --image=daymark/web:v1");
    laptop.kubectl("wait --for=condition=Ready pod/client --timeout=60s");
}

#[test]
fn pods_reach_the_outside_under_the_hosts_address() {
    let laptop = Laptop::new();
    let outside = Outside::new(&laptop);
    // The test's own resolv.conf would name a server that must not be asked.
    laptop.daymark(&["up"]);
    pod(&laptop);
    let cluster = support::Cluster { laptop: &laptop };
    let seen = eventually("the outside answers", || cluster.exec("client", &["/daymark", "web", "get", URL]));
    assert!(seen.contains("198.51.100.1"), "{seen}");
    let far = format!("--net={}", outside.namespace.display());
    laptop.run(&["nsenter", &far, "ip", "route", "add", "10.244.0.0/16", "via", "198.51.100.1"]);
    let ip = laptop.kubectl("get pod client -o jsonpath={.status.podIP}");
    let into = laptop.output(&["nsenter", &far, "curl", "-sS", "--max-time", "2", &format!("http://{ip}/")]);
    assert!(!into.status.success(), "a pod was reached from outside");
    let rules = laptop.run(&["nft", "list", "tables"]);
    assert!(rules.contains("daymark_"), "{rules}");
    laptop.daymark(&["down"]);
    assert_eq!(laptop.run(&["nft", "list", "tables"]), "");
}

#[test]
fn pods_get_out_over_ipv6_where_the_host_forwards_it() {
    let laptop = Laptop::new();
    let outside = Outside::new(&laptop);
    laptop.run(&["sh", "-c", &format!("echo 1 > {FORWARDS_V6}")]);
    laptop.daymark(&["up", "--ip-family", "dual"]);
    pod(&laptop);
    let cluster = support::Cluster { laptop: &laptop };
    for (url, host) in [(URL, "198.51.100.1"), (URL_V6, "2001:db8:5::1")] {
        let seen = eventually("the outside answers", || {
            cluster.exec("client", &["/daymark", "web", "get", "--timeout", "3", url])
        });
        assert_eq!(seen.trim(), host);
    }
    let far = format!("--net={}", outside.namespace.display());
    laptop.run(&["nsenter", &far, "ip", "route", "add", "fd00:10:244::/56", "via", "2001:db8:5::1"]);
    let ip = laptop.kubectl("get pod client -o jsonpath={.status.podIPs[1].ip}");
    let into =
        laptop.output(&["nsenter", &far, "curl", "-sS", "--max-time", "2", &format!("http://[{ip}]/")]);
    assert!(!into.status.success(), "a pod was reached from outside");
    laptop.daymark(&["down"]);
    assert_eq!(laptop.run(&["nft", "list", "tables"]), "");
}

#[test]
fn a_host_that_does_not_forward_ipv6_stays_so() {
    let laptop = Laptop::new();
    let _outside = Outside::new(&laptop);
    laptop.daymark(&["up", "--ip-family", "dual"]);
    pod(&laptop);
    let cluster = support::Cluster { laptop: &laptop };
    eventually("the outside answers", || cluster.exec("client", &["/daymark", "web", "get", URL]));
    let why = cluster.exec("client", &["/daymark", "web", "get", "--timeout", "2", URL_V6]);
    assert!(why.is_err(), "{why:?}");
    let status = laptop.daymark(&["status"]);
    assert!(status.contains("on (IPv4)"), "{status}");
    assert_eq!(laptop.run(&["cat", FORWARDS_V6]).trim(), "0");
}

#[test]
fn without_egress_pods_reach_the_lan_alone() {
    let laptop = Laptop::new();
    let _outside = Outside::new(&laptop);
    let cluster = laptop.up();
    pod(&laptop);
    let why = cluster.exec("client", &["/daymark", "web", "get", "--timeout", "2", URL]);
    check(why.is_err(), format!("{why:?}")).expect("no way out");
    assert_eq!(laptop.run(&["nft", "list", "tables"]), "");
}

#[test]
fn in_the_foreground_a_signal_stops_the_cluster_and_keeps_its_data() {
    let laptop = Laptop::new();
    let up = laptop
        .command(&[env!("CARGO_BIN_EXE_daymark"), "up", "--no-egress", "--foreground"])
        .spawn()
        .expect("daymark");
    let mut up = Killed(up);
    eventually("the API answers", || {
        let done = laptop.output(&["kubectl", "create", "configmap", "kept", "--from-literal=a=b"]);
        check(done.status.success(), support::text(&done.stderr))
    });
    std::thread::sleep(std::time::Duration::from_secs(1));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(up.0.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    assert!(up.0.wait().expect("its end").success());
    assert!(laptop.daymark(&["status"]).contains("stopped"));
    laptop.daymark(&["start"]);
    assert_eq!(laptop.kubectl("get configmap kept -o jsonpath={.data.a}"), "b");
}
