//! A node for tests: network namespace, directories and cgroup of its own, and a small image.
#![allow(dead_code)]

pub mod pki;

use std::future::Future;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daymark_node::image::{RegistryConfig, Store};
use daymark_node::runtime::*;
use sha2::{Digest, Sha256};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A node's directories; dropping it kills what still runs and removes everything.
pub struct Node {
    pub dir: TestDir,
    pub cgroup: PathBuf,
    pub name: String,
}

/// The program that plays `daymark shim` and `daymark web`.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("path of the test");
    let target = test.parent().and_then(Path::parent).expect("target directory");
    let program = target.join("examples/daymark-node-test");
    assert!(
        program.exists(),
        "{} is missing: run `cargo build -p daymark-node --examples`",
        program.display()
    );
    program
}

/// Runs a test as a node: on a thread in a network namespace of its own.
pub fn on_node<F: Future<Output = ()>>(test: impl FnOnce(Node) -> F + Send + 'static) {
    let body = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("a network namespace (are you root?)");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let within = tokio::time::timeout(Duration::from_secs(60), test(Node::new()));
            within.await.expect("the test ends within a minute");
        });
    };
    let thread = std::thread::spawn(body);
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A directory that its maker deletes.
pub enum TestDir {
    Own(tempfile::TempDir),
    Other(PathBuf),
}

impl TestDir {
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Other(dir) => dir,
        }
    }
}

impl Node {
    /// The node of another process, by its directory; its name comes by the environment.
    pub fn at(dir: &str) -> Self {
        let name = std::env::var("DAYMARK_TEST_NAME").expect("name");
        Self { dir: TestDir::Other(dir.into()), cgroup: cgroup_root().join(&name), name }
    }

    fn new() -> Self {
        let name = format!("dmtest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let dir = tempfile::Builder::new().prefix("dmt").tempdir().expect("tempdir");
        Self { dir: TestDir::Own(dir), cgroup: cgroup_root().join(&name), name }
    }

    /// How the runtime is set up.
    pub fn config(&self) -> RuntimeConfig {
        RuntimeConfig {
            node_name: "node1".into(),
            state_dir: self.dir.path().join("state"),
            run_dir: self.dir.path().join("run"),
            images_dir: self.dir.path().join("images"),
            cgroup_v2_dir: self.cgroup.clone(),
            cgroup_path: Path::new("/").join(&self.name),
            pod_cidrs: PerFamily::single("10.244.1.0/24".parse().expect("cidr")),
            node_ips: PerFamily::single("192.0.2.11".parse().expect("address")),
            mtu: 1500,
            shim_command: vec![program().into(), "shim".into()],
            host: tokio::runtime::Handle::current(),
            registries: RegistryConfig::default(),
            links: None,
        }
    }

    /// Opens the runtime with the busybox image loaded.
    pub async fn open(&self) -> Runtime {
        let runtime = Runtime::open(self.config()).await.expect("opens");
        load_busybox(runtime.images(), &self.dir.path().join("busybox.tar"));
        runtime
    }

    /// A sandbox and the image's id.
    pub async fn pod(&self, runtime: &Runtime, uid: &str) -> SandboxStatus {
        runtime.create_sandbox(sandbox(uid)).await.expect("sandbox")
    }

    /// What is left on the machine after everything was removed: must be nothing.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for place in ["pods", "../run"] {
            for entry in
                std::fs::read_dir(self.dir.path().join("state").join(place)).into_iter().flatten().flatten()
            {
                found.push(entry.path().display().to_string());
            }
        }
        for entry in std::fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                found.push(entry.path().display().to_string());
            }
        }
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let place = controller.path().join(&self.name);
            for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    found.push(entry.path().display().to_string());
                }
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let here = self.dir.path().display().to_string();
        found.extend(mounts.lines().filter(|line| line.contains(&here)).map(str::to_owned));
        found.extend(interfaces().into_iter().filter(|name| name.starts_with("dm")));
        found
    }
}

fn cgroup_root() -> &'static Path {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.exists() { unified } else { Path::new("/sys/fs/cgroup") }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let TestDir::Other(_) = self.dir {
            return;
        }
        let _ = std::fs::write(self.cgroup.join("cgroup.kill"), "1");
        std::thread::sleep(Duration::from_millis(50));
        remove_cgroup(&self.cgroup);
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&controller.path().join(&self.name));
        }
    }
}

fn remove_cgroup(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

/// Names of the interfaces in this thread's network namespace.
pub fn interfaces() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("interfaces");
    table
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(|name| name.trim().to_owned())
        .collect()
}

/// A plain pod.
pub fn sandbox(uid: &str) -> SandboxSpec {
    SandboxSpec {
        uid: uid.into(),
        namespace: "default".into(),
        name: format!("pod-{uid}"),
        hostname: format!("pod-{uid}"),
        resolv_conf: "nameserver 10.96.0.10\n".into(),
        ..SandboxSpec::default()
    }
}

/// A container of the busybox image that runs a shell script.
pub fn shell(name: &str, image: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image_id: image.into(),
        command: Some(vec!["sh".into(), "-c".into(), script.into()]),
        ..ContainerSpec::default()
    }
}

/// Makes and starts a container.
pub async fn run(runtime: &Runtime, uid: &str, spec: ContainerSpec) -> ContainerId {
    let id = runtime.create_container(uid, spec).await.expect("creates");
    runtime.start_container(&id).await.expect("starts");
    id
}

/// Waits for a container's end.
pub async fn ended(runtime: &Runtime, id: &ContainerId) -> Exit {
    for _ in 0..1500 {
        if let ContainerState::Exited(exit) = runtime.container(id).await.expect("known").state {
            return exit;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("container {id} does not end");
}

/// The text of a container's log without times.
pub async fn log(runtime: &Runtime, id: &ContainerId) -> String {
    let path = runtime.log_path(id).await.expect("known");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| format!("{rest}\n")).collect()
}

/// Runs a script to its end and gives its output and exit.
pub async fn output(runtime: &Runtime, uid: &str, spec: ContainerSpec) -> (String, Exit) {
    let id = run(runtime, uid, spec).await;
    let exit = ended(runtime, &id).await;
    (log(runtime, &id).await, exit)
}

/// Loads an image with busybox in it, as `test/busybox:latest`.
pub fn load_busybox(store: &Store, at: &Path) {
    if store.find("test/busybox").expect("store").is_some() {
        return;
    }
    std::fs::write(at, archive("amd64", &busybox_layer(), &["test/busybox:latest"])).expect("writes");
    store.load(at).expect("loads");
}

/// The id of the busybox image.
pub fn busybox(runtime: &Runtime) -> String {
    runtime.images().find("test/busybox").expect("store").expect("loaded").id
}

/// A layer with busybox (Debian's `busybox-static`) and its most used names.
pub fn busybox_layer() -> Vec<u8> {
    let binary = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    let binary = binary.expect("busybox: install the package busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["bin/", "etc/", "tmp/", "home/"] {
        entry(&mut tar, tar::EntryType::Directory, name, 0o755, &[]);
    }
    entry(&mut tar, tar::EntryType::Regular, "bin/busybox", 0o755, &binary);
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000:w:/home:/bin/sh\n";
    entry(&mut tar, tar::EntryType::Regular, "etc/passwd", 0o644, passwd);
    entry(
        &mut tar,
        tar::EntryType::Regular,
        "etc/group",
        0o644,
        b"root:x:0:\nworker:x:1000:\nextra:x:2000:worker\n",
    );
    for name in [
        "sh", "cat", "echo", "sleep", "id", "ls", "hostname", "ip", "ping", "touch", "env", "pwd", "tty",
        "stty", "kill", "seq", "dd", "wc", "mount", "grep", "nc", "true", "arp", "head", "tail",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").expect("link");
    }
    tar.into_inner().expect("tar")
}

/// Adds a member to a tar archive.
pub fn entry(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, name, content).expect("member");
}

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A configuration file for one layer.
pub fn image_config(architecture: &str, layer: &[u8]) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "StopSignal": "SIGUSR1"},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    });
    config.to_string().into_bytes()
}

/// A docker archive of one layer.
pub fn archive(architecture: &str, layer: &[u8], names: &[&str]) -> Vec<u8> {
    let config = image_config(architecture, layer);
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, tar::EntryType::Regular, "layer.tar", 0o644, layer);
    entry(&mut tar, tar::EntryType::Regular, "config.json", 0o644, &config);
    entry(&mut tar, tar::EntryType::Regular, "manifest.json", 0o644, manifest.to_string().as_bytes());
    tar.into_inner().expect("tar")
}

/// Compresses as gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compresses");
    encoder.finish().expect("compresses")
}

/// Inode of a file, to see whether it is shared.
pub fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).expect("exists").ino()
}
