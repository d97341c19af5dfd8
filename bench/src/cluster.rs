//! A cluster to measure: its own network namespace, its own folders, gone when dropped.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::space::run;
use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};

/// Moves this process, and so all its children, where no packet can leave the machine.
pub fn own_network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("benchmarks need root")?;
    run(Command::new("ip").args(["link", "set", "lo", "up"])).map(drop)
}

pub struct Cluster {
    dir: tempfile::TempDir,
    name: String,
}

impl Cluster {
    /// Folders only; nothing runs yet.
    pub fn new() -> Result<Self> {
        // Inside the run's own folder, and short: sockets' paths end after 107 bytes.
        let dir = tempfile::Builder::new().prefix("c").tempdir()?;
        Ok(Self { dir, name: format!("b{}", rand::random::<u16>()) })
    }

    pub fn up() -> Result<Self> {
        let cluster = Self::new()?;
        cluster.daymark(&["up", "--no-egress"])?;
        Ok(cluster)
    }

    pub fn daymark(&self, args: &[&str]) -> Result<String> {
        let beside = std::env::current_exe()?.with_file_name("daymark");
        run(self.environment(Command::new(beside).args(args)))
    }

    pub fn kubectl(&self, args: &str) -> Result<String> {
        run(self.environment(Command::new("kubectl").args(args.split_whitespace())))
    }

    pub fn apply(&self, manifest: &str) -> Result<String> {
        let file = self.dir.path().join("manifest.yml");
        std::fs::write(&file, manifest)?;
        self.kubectl(&format!("apply -f {}", file.display()))
    }

    /// A client of the API with one connection kept open: a proxy by kubectl, on a loopback port.
    pub fn api(&self) -> Result<Proxy> {
        let port = 18001;
        let mut command = Command::new("kubectl");
        command.args(["proxy", "--port", &port.to_string()]).stdout(std::process::Stdio::null());
        self.environment(&mut command);
        let child = command.process_group(0).spawn()?;
        let proxy = Proxy { child, port };
        until("kubectl proxy", || std::net::TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(proxy)
    }

    pub fn node_ip(&self, node: &str) -> Result<String> {
        self.kubectl(&format!("get node {node} -o jsonpath={{.status.addresses[0].address}}"))
    }

    /// The host's address on the LAN, where the API listens too.
    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("DAYMARK_STATE_ROOT", self.dir.path().join("state"))
            .env("DAYMARK_RUN_ROOT", self.dir.path().join("run"))
            .env("DAYMARK_CLUSTER", &self.name)
            .env("KUBECONFIG", self.dir.path().join("kubeconfig"))
            .env("NO_PROXY", "*")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.daymark(&["down"]);
    }
}

/// `kubectl proxy`, ended when dropped.
pub struct Proxy {
    child: std::process::Child,
    pub port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries, without a pause worth mentioning, until there is a value.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = attempt() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within a minute");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}
