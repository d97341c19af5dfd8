//! A laptop of its own for each test: a network namespace with no way out, in which `daymark up` makes
//! a cluster that only this test sees. Everything is removed at the end, also when the test fails.
//!
//! To look inside while a test runs: `nsenter --net=/tmp/daymark-test-*/laptop bash`, then
//! `export KUBECONFIG=/tmp/daymark-test-*/kubeconfig`.

#![allow(dead_code, reason = "each test file uses its own part of it")]

pub mod alone;
pub mod feed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// How long something that should happen by itself may take.
pub const SOON: Duration = Duration::from_secs(60);

/// A host without a way out.
pub struct Laptop {
    dir: tempfile::TempDir,
    /// Of the cluster; unique on the machine.
    pub name: String,
}

impl Laptop {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("daymark-test-").tempdir().expect("a temporary folder");
        let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = dir.path().join("laptop");
        fs::write(&namespace, "").expect("a file to hold the namespace");
        let target = namespace.clone();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            let from = Some("/proc/thread-self/ns/net");
            mount(from, &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind mount");
        })
        .join()
        .expect("a network namespace");
        let laptop = Self { dir, name };
        laptop.run(&["ip", "link", "set", "lo", "up"]);
        laptop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command on the laptop, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path("laptop").display())).arg("--").args(words);
        command
            .env("DAYMARK_STATE_ROOT", self.path("state"))
            .env("DAYMARK_RUN_ROOT", self.path("run"))
            .env("DAYMARK_CLUSTER", &self.name)
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("HOME", self.dir.path())
            .env("NO_PROXY", "*")
            .stdin(Stdio::null());
        command
    }

    pub fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap_or_else(|e| panic!("cannot run {words:?}: {e}"))
    }

    /// Runs to success and returns what it printed.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let done = self.output(words);
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert!(done.status.success(), "{words:?} failed:\n{out}{err}\n{}", self.logs());
        out
    }

    /// Runs to failure and returns what it complained.
    #[track_caller]
    pub fn fails(&self, words: &[&str]) -> String {
        let done = self.output(words);
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert!(!done.status.success(), "{words:?} should have failed, but printed:\n{out}{err}");
        format!("{out}{err}")
    }

    pub fn daymark(&self, args: &[&str]) -> String {
        self.run(&[&[env!("CARGO_BIN_EXE_daymark")], args].concat())
    }

    pub fn daymark_fails(&self, args: &[&str]) -> String {
        self.fails(&[&[env!("CARGO_BIN_EXE_daymark")], args].concat())
    }

    /// Starts a cluster of two nodes that cannot reach the outside.
    pub fn up(&self) -> Cluster<'_> {
        self.up_with(&[])
    }

    /// As [`Laptop::up`], with more flags.
    pub fn up_with(&self, flags: &[&str]) -> Cluster<'_> {
        self.daymark(&[&["up", "--no-egress"], flags].concat());
        Cluster { laptop: self }
    }

    /// Starts a program that runs until the test ends; what it says goes to the file `NAME.log`.
    pub fn start(&self, name: &str, words: &[&str]) -> Killed {
        let log = fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = self.command(words);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        Killed(command.spawn().unwrap_or_else(|e| panic!("cannot run {words:?}: {e}")))
    }

    /// What a started program has said.
    pub fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    #[track_caller]
    pub fn kubectl(&self, args: &str) -> String {
        let words: Vec<&str> = std::iter::once("kubectl").chain(args.split_whitespace()).collect();
        self.run(&words)
    }

    /// Applies a manifest given as text.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let file = self.path(&format!("manifest-{}.yml", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::write(&file, manifest).expect("a manifest");
        self.run(&["kubectl", "apply", "-f", &file.display().to_string()])
    }

    /// What the cluster's processes logged, for a failing test to show.
    pub fn logs(&self) -> String {
        let dir = self.path("state").join(&self.name).join("logs");
        let mut all = String::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            all += &format!("--- {}\n{}\n", entry.path().display(), tail.join("\n"));
        }
        all
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let _ = self.output(&[env!("CARGO_BIN_EXE_daymark"), "down"]);
        let _ = umount2(&self.path("laptop"), MntFlags::MNT_DETACH);
    }
}

/// A running cluster of two nodes.
pub struct Cluster<'a> {
    pub laptop: &'a Laptop,
}

impl Cluster<'_> {
    /// The addresses of node1 and node2 on the LAN.
    pub fn node_ips(&self) -> Vec<String> {
        let out = self.laptop.kubectl(
            "get nodes -o jsonpath={range.items[*]}{.status.addresses[?(@.type==\"InternalIP\")].address}{\"\\n\"}{end}",
        );
        out.lines().map(str::to_owned).collect()
    }

    /// `curl` from the laptop; the body, or what curl said.
    pub fn curl(&self, url: &str) -> Result<String, String> {
        curl(self.laptop.command(&["curl", "-sS", "--max-time", "5", url]))
    }

    /// Runs a command in a pod by `kubectl exec`.
    pub fn exec(&self, pod: &str, words: &[&str]) -> Result<String, String> {
        curl(self.laptop.command(&[&["kubectl", "exec", pod, "--"], words].concat()))
    }

    /// Runs a command in a node's network namespace.
    #[track_caller]
    pub fn inside_node(&self, node: &str, words: &[&str]) -> String {
        let namespace = self.laptop.path("run").join(&self.laptop.name).join("netns").join(node);
        self.laptop.run(&[&["nsenter", &format!("--net={}", namespace.display()), "--"], words].concat())
    }

    /// Runs a shell command as a process of a node: in its network and below its cgroup.
    #[track_caller]
    pub fn as_process_of(&self, node: &str, command: &str) -> String {
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let unified = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let unified = unified.into_iter().find(|f| f.get(2) == Some(&"cgroup2")).expect("cgroup v2")[1];
        let cgroup = format!("{unified}/daymark/{}/{node}/by-hand", self.laptop.name);
        let script = format!("mkdir -p {cgroup} && echo $$ > {cgroup}/cgroup.procs && {command}");
        self.inside_node(node, &["sh", "-c", &script])
    }

    /// The laptop's example files.
    #[track_caller]
    pub fn create_example(&self, file: &str) -> String {
        let path = example(file);
        self.laptop.run(&["kubectl", "create", "-f", &path.display().to_string()])
    }
}

fn curl(mut command: Command) -> Result<String, String> {
    let done = command.output().map_err(|e| e.to_string())?;
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stdout) + &text(&done.stderr)) }
}

pub fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(file)
}

/// Tries until it succeeds; fails with the last complaint.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if Instant::now() > deadline => panic!("{what}: still not after {SOON:?}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A condition that should come true by itself.
pub fn check(ok: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if ok { Ok(()) } else { Err(otherwise.into()) }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program of that name in `KUBEBUILDER_ASSETS`, which `scripts/peers` builds; says so where it is missing.
pub fn peer(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| Path::new(&dir).join(name));
    let found = found.filter(|program| program.exists());
    if found.is_none() {
        eprintln!(
            "\n!!! SKIPPED: KUBEBUILDER_ASSETS names no folder with {name} (`scripts/peers {name}` builds it)\n"
        );
    }
    found
}

/// A process that ends with the test.
pub struct Killed(pub std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Packs Debian packages into an image archive; once per machine, as it takes a while.
pub fn debian_image(file: &str, name: &str, packages: &str, entrypoint: &[&str]) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    if !out.exists() {
        let part = out.with_extension(format!("{}.part", std::process::id()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/debian-image");
        let done = Command::new(script)
            .arg(&part)
            .args([name, packages])
            .args(entrypoint)
            .status()
            .expect("the script");
        assert!(done.success(), "cannot pack {packages}");
        std::fs::rename(part, &out).expect("the archive");
    }
    out
}

/// A pod with curl and busybox.
pub fn toolbox(laptop: &Laptop) {
    let archive = debian_image(
        "toolbox.tar",
        "example/toolbox:debian",
        "curl busybox-static",
        &["/bin/busybox", "sleep", "infinity"],
    );
    laptop.daymark(&["image", "load", &archive.display().to_string()]);
    laptop.kubectl("run toolbox --image=example/toolbox:debian --image-pull-policy=Never");
    laptop.kubectl("wait --for=condition=Ready pod/toolbox --timeout=60s");
}
