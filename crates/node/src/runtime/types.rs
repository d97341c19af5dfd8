//! What callers hand to the pod runtime and what they get back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

pub use daymark_model::PerFamily;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::image::{ImageInfo, PullPolicy, PullSecrets, RegistryConfig};

/// How a node's runtime is set up.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Name of the node; part of error messages and of the cgroup paths.
    pub node_name: String,
    /// Survives restarts: pod records, container states, logs, writable layers.
    pub state_dir: PathBuf,
    /// Gone after a reboot: sockets of the shims.
    pub run_dir: PathBuf,
    /// The image store, shared by all nodes of the machine.
    pub images_dir: PathBuf,
    /// The node's own directory in the cgroup v2 tree (absolute path, e.g.
    /// `/sys/fs/cgroup/unified/daymark/default/node1`). Pods become `pod<uid>` below it.
    pub cgroup_v2_dir: PathBuf,
    /// The same place in every other hierarchy, relative to its root (e.g. `/daymark/default/node1`).
    pub cgroup_path: PathBuf,
    /// Addresses that pods of this node get, one of each family. The network address, the one after it
    /// and the last are not handed out.
    pub pod_cidrs: PerFamily<IpNet>,
    /// The node's own addresses: those of pods in the host network.
    pub node_ips: PerFamily<IpAddr>,
    /// MTU of the node's uplink in bytes; pods' links get the same.
    pub mtu: u32,
    /// Program and first arguments that start a shim, e.g. `["/proc/self/exe", "shim"]`.
    pub shim_command: Vec<OsString>,
    /// Runtime in the host's network namespace: image pulls run there.
    pub host: tokio::runtime::Handle,
    /// Mirrors and plain-HTTP registries.
    pub registries: RegistryConfig,
    /// Told of pods' links before the first container starts and again at adoption.
    pub links: Option<Arc<dyn PodLinks>>,
}

/// A future that a [`PodLinks`] implementation returns.
pub type LinkFuture<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Hears of the node-side interfaces of pods, so that programs are attached before a packet flows.
pub trait PodLinks: Send + Sync + 'static {
    /// A pod's link is up; called before its first container starts, and at adoption. Must be idempotent.
    fn attached<'a>(&'a self, link: &'a PodLink) -> LinkFuture<'a>;
    /// A pod's link is about to go. Must be idempotent.
    fn detached<'a>(&'a self, link: &'a PodLink) -> LinkFuture<'a>;
}

/// The node side of a pod's veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLink {
    /// Interface name in the node's network namespace; starts with `dm`.
    pub name: String,
    /// Interface index in the node's network namespace.
    pub ifindex: u32,
    /// The pod's addresses behind it.
    #[serde(alias = "ip", with = "super::addresses")]
    pub ips: PerFamily<IpAddr>,
}

/// What a pod needs before its containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// UID of the pod; names the sandbox.
    pub uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Hostname inside the pod (at most 63 bytes).
    pub hostname: String,
    /// `subdomain.namespace.svc.cluster.local` where the pod has a subdomain: `/etc/hosts` names it.
    pub domain: Option<String>,
    /// Text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `spec.hostAliases`: address and its names, appended to the generated `/etc/hosts`.
    pub host_aliases: Vec<(String, Vec<String>)>,
    /// The pod shares the node's network namespace.
    pub host_network: bool,
    /// `spec.securityContext.sysctls`; only names below `net.`, and `kernel.shm*`/`kernel.msg*`/`kernel.sem`.
    pub sysctls: BTreeMap<String, String>,
    /// Most processes the whole pod may have; `None` is unlimited.
    pub pids_limit: Option<i64>,
    /// Bytes kept for the caller (for example the pod's manifest), returned on adoption.
    #[serde(default)]
    pub annotation: String,
}

/// A sandbox as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SandboxStatus {
    /// What it was made from.
    pub spec: SandboxSpec,
    /// Its addresses.
    #[serde(with = "super::addresses")]
    pub ips: PerFamily<IpAddr>,
    /// Its shim lives. A sandbox that is not ready must be removed and made anew.
    pub ready: bool,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// The node side of its link; none in the host network.
    pub link: Option<PodLink>,
    /// Opens to the pod's network namespace (for `setns`, e.g. port-forward) while it is ready.
    pub netns: PathBuf,
    /// Its containers, oldest first.
    pub containers: Vec<ContainerStatus>,
}

/// Names a container on this node: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container to make.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name of the container in its pod.
    pub name: String,
    /// Restart count: 0 for the first; names the log file.
    pub attempt: u32,
    /// [`ImageInfo::id`] of an image in the store.
    pub image_id: String,
    /// Replaces the image's entrypoint (and then its arguments too).
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments.
    pub args: Option<Vec<String>>,
    /// Set over the image's variables, in order.
    pub env: Vec<(String, String)>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Volumes, in order.
    pub mounts: Vec<Mount>,
    /// Keep stdin open for attach.
    pub stdin: bool,
    /// Close stdin when the first attached client closes it.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Who it runs as and what it may do.
    pub security: Security,
    /// 0 to 1000; negative values are left out because the node may not be allowed to set them.
    pub oom_score_adj: Option<i32>,
    /// Sees the processes of this container of the pod, and is seen by them.
    #[serde(default)]
    pub pid_of: Option<ContainerId>,
    /// Where the container may leave its last words; empty means `/dev/termination-log`.
    pub termination_message_path: String,
}

/// A directory or file of the node inside a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the node.
    pub source: PathBuf,
    /// Path below `source`, resolved without leaving it; a directory is made if missing.
    pub sub_path: Option<String>,
    /// Absolute path in the container.
    pub target: String,
    /// Refuse writes.
    pub read_only: bool,
}

/// Limits of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Requested CPU in thousandths of a core: the weight among neighbours.
    pub cpu_request_millis: Option<u64>,
    /// CPU limit in thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Most processes.
    pub pids_limit: Option<i64>,
}

/// `securityContext` of pod and container, merged by the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// `runAsUser`; otherwise the image's user.
    pub run_as_user: Option<u32>,
    /// `runAsGroup`; otherwise the image's or the user's group.
    pub run_as_group: Option<u32>,
    /// `runAsNonRoot`: refuse to run as uid 0.
    pub run_as_non_root: bool,
    /// `fsGroup` and `supplementalGroups`.
    pub supplemental_groups: Vec<u32>,
    /// All devices and capabilities.
    pub privileged: bool,
    /// `readOnlyRootFilesystem`.
    pub read_only_rootfs: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// Capabilities to add (`NET_ADMIN`, `ALL`, with or without `CAP_`).
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
}

/// A container as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// UID of its pod.
    pub pod_uid: String,
    /// What it was made from.
    pub spec: ContainerSpec,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// What it is doing.
    pub state: ContainerState,
}

/// Life of a container: `Created` → `Running` → `Exited`; a failed start goes straight to `Exited`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its program runs.
    Running {
        /// Process id in the node's PID namespace.
        pid: i32,
        /// When its program was started.
        started_at: jiff::Timestamp,
    },
    /// It ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`, as kubelet words it.
    pub reason: String,
    /// Explains a `StartError`; otherwise empty.
    pub message: String,
    /// When its program was started.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
}

/// Something happened that nobody asked for at this moment.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeEvent {
    /// A container ended; its state is on disk already.
    ContainerExited {
        /// UID of the pod.
        pod_uid: String,
        /// The container.
        id: ContainerId,
        /// How it ended.
        exit: Exit,
    },
    /// A pod's shim died and its containers with it: the sandbox must be removed and made anew.
    SandboxDied {
        /// UID of the pod.
        pod_uid: String,
    },
}

/// A program to run inside a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Give it a terminal; stderr is then part of stdout.
    pub tty: bool,
    /// Give it a stdin.
    pub stdin: bool,
}

/// Number of a signal written as `SIGTERM`, `TERM` or `15`.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}
