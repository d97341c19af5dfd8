//! `daymark agent` on a laptop that is a node, beside whatever API server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::{Killed, Laptop, check, text};

/// The node's address.
pub const ADDRESS: &str = "172.31.9.1";

/// Gives the laptop an uplink with [`ADDRESS`], and no way to cluster IPs but the agent's.
pub fn become_node(laptop: &Laptop) {
    laptop.run(&["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "far"]);
    laptop.run(&["ip", "addr", "add", &format!("{ADDRESS}/24"), "dev", "lan0"]);
    laptop.run(&["ip", "link", "set", "lan0", "up"]);
    laptop.run(&["ip", "link", "set", "far", "up"]);
    laptop.run(&["ip", "route", "add", "unreachable", "10.0.0.0/8"]);
}

/// The agent of Node `real-node`, whose pods are processes of a cgroup.
pub struct Alone<'a> {
    laptop: &'a Laptop,
    cgroup: Cgroup,
    agent: Option<Killed>,
}

impl<'a> Alone<'a> {
    /// By the laptop's kubeconfig.
    pub fn start(laptop: &'a Laptop) -> Self {
        let cgroup = Cgroup::new(&laptop.name);
        let agent = laptop
            .command(&[
                env!("CARGO_BIN_EXE_daymark"),
                "agent",
                "--kubeconfig",
                &laptop.path("kubeconfig").display().to_string(),
                "--node",
                "real-node",
                "--bpf",
                &laptop.path("bpf").display().to_string(),
                "--cgroup",
                &cgroup.0.display().to_string(),
                "--service-cidr",
                "10.0.0.0/24",
            ])
            .env("DAYMARK_LOG", "info,daymark_control=debug")
            .stderr(fs::File::create(laptop.path("agent.log")).expect("a log"))
            .spawn()
            .expect("the agent");
        Self { laptop, cgroup, agent: Some(Killed(agent)) }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.laptop.path("agent.log")).unwrap_or_default()
    }

    pub fn kill(&mut self) {
        self.agent = None;
    }

    /// Dials a cluster IP as a process of the cgroup.
    pub fn ask(&self, ip: &str) -> Result<String, String> {
        let procs = self.cgroup.0.join("cgroup.procs");
        let script =
            format!("echo $$ > {}; exec curl -sS --http0.9 --max-time 2 http://{ip}/", procs.display());
        let done = self.laptop.output(&["sh", "-c", &script]);
        check(done.status.success(), text(&done.stderr)).map(|()| text(&done.stdout))
    }

    /// Exit code and output of `daymark verify`.
    pub fn verify(&self, flags: &[&str]) -> (i32, String) {
        let bpf = self.laptop.path("bpf").display().to_string();
        let kubeconfig = self.laptop.path("kubeconfig").display().to_string();
        let words = ["verify", "--bpf", &bpf, "--kubeconfig", &kubeconfig, "--node", "real-node"];
        let done = self.laptop.output(&[&[env!("CARGO_BIN_EXE_daymark")], &words[..], flags].concat());
        (done.status.code().unwrap_or(-1), text(&done.stdout) + &text(&done.stderr))
    }

    /// Resident memory of the agent in MiB.
    pub fn resident_mib(&self) -> u64 {
        let agent = &self.agent.as_ref().expect("it runs").0;
        // The child is nsenter, which became the agent.
        let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.kill();
        let _ = self.laptop.output(&["umount", "-l", &self.laptop.path("bpf").display().to_string()]);
    }
}

/// A backend on the laptop's address that answers every connection.
pub fn serve(laptop: &Laptop) {
    let namespace = fs::File::open(laptop.path("laptop")).expect("the namespace");
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("the laptop");
        let listener = TcpListener::bind((ADDRESS, 8080)).expect("the backend");
        let _ = ready.send(());
        for mut stream in listener.incoming().flatten() {
            // Unread bytes would turn the close into a reset.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"served");
        }
    });
    is_ready.recv().expect("the backend");
}

struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let line = mounts.lines().find(|l| l.contains(" cgroup2 ")).expect("cgroup v2");
        let dir =
            Path::new(line.split(' ').nth(1).expect("a mount point")).join(format!("daymark-test-{name}"));
        fs::create_dir_all(&dir).expect("a cgroup");
        Self(dir)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
