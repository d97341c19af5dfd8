//! The OCI runtime specification of a container, as containerd would write it for kubelet. Pure.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

use super::protocol::{ContainerRecord, PodDir, SandboxRecord};
use super::user::Identity;
use crate::runtime::{Mount, Resources};

/// What containers may do by default.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All capabilities, in the kernel's order.
pub const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Hierarchies of cgroup v1, which libcontainer mounts writable whatever is asked. Those that are missing are passed
/// over.
const HIERARCHIES: [&str; 15] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpu,cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
    "systemd",
];
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What only the machine can tell.
pub struct Facts {
    /// Who the program runs as.
    pub identity: Identity,
    /// Capabilities that the shim itself has; others cannot be given.
    pub available: Vec<String>,
    /// Where the PID namespace is that the container joins, if not one of its own.
    pub pid_namespace: Option<PathBuf>,
}

/// The whole `config.json`. `mounts` are the container's volumes with their sources resolved.
pub fn config(
    sandbox: &SandboxRecord,
    record: &ContainerRecord,
    pod: &PodDir<'_>,
    mounts: &[Mount],
    facts: &Facts,
) -> Value {
    let security = &record.spec.security;
    let processes = match &facts.pid_namespace {
        Some(path) => json!({"type": "pid", "path": path}),
        None => json!({"type": "pid"}),
    };
    let mut namespaces = vec![processes, json!({"type": "mount"})];
    if !security.privileged {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let masked: &[&str] = if security.privileged { &[] } else { &MASKED };
    let read_only = if security.privileged { Vec::new() } else { read_only_paths() };
    json!({
        "ociVersion": "1.0.2",
        "process": process(sandbox, record, facts),
        "root": {"path": "rootfs", "readonly": security.read_only_rootfs},
        "mounts": all_mounts(record, pod, mounts),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": sandbox.cgroup_path.join(&record.id.0),
            "resources": resources(&record.spec.resources, security.privileged),
            "maskedPaths": masked,
            "readonlyPaths": read_only,
        },
    })
}

fn read_only_paths() -> Vec<String> {
    let hierarchies = HIERARCHIES.iter().map(|name| format!("/sys/fs/cgroup/{name}"));
    let paths = READ_ONLY.iter().map(|path| (*path).to_owned()).chain(hierarchies);
    // What holds the hierarchies comes last: it is mounted over with all that is below it.
    paths.chain(["/sys/fs/cgroup".to_owned()]).collect()
}

/// The program of a container.
pub fn process(sandbox: &SandboxRecord, record: &ContainerRecord, facts: &Facts) -> Value {
    let spec = &record.spec;
    let capabilities = capabilities(record, &facts.available);
    // Like containerd: a user other than root gets them in the bounding set, and has to gain them.
    let root = facts.identity.uid == 0;
    let effective: &[String] = if root { &capabilities } else { &[] };
    json!({
        "terminal": spec.tty,
        "user": {
            "uid": facts.identity.uid,
            "gid": facts.identity.gid,
            "additionalGids": facts.identity.groups,
        },
        "args": args(record),
        "env": env(sandbox, record, &facts.identity),
        "cwd": working_dir(record),
        "capabilities": {
            "bounding": capabilities,
            "effective": effective,
            "permitted": effective,
            "inheritable": Vec::<String>::new(),
            "ambient": Vec::<String>::new(),
        },
        "noNewPrivileges": spec.security.no_new_privileges,
    })
}

/// The directory that the program starts in.
pub fn working_dir(record: &ContainerRecord) -> String {
    let given = record.spec.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let dir = given.unwrap_or(&record.image.working_dir);
    if dir.starts_with('/') { dir.to_owned() } else { format!("/{dir}") }
}

/// Kubernetes' rule: `command` replaces entrypoint and arguments of the image, `args` only the latter.
pub fn args(record: &ContainerRecord) -> Vec<String> {
    let given = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let (command, args) = (given(&record.spec.command), given(&record.spec.args));
    let image = &record.image;
    match (command, args) {
        (Some(command), args) => command.into_iter().chain(args.unwrap_or_default()).collect(),
        (None, Some(args)) => image.entrypoint.iter().cloned().chain(args).collect(),
        (None, None) => image.entrypoint.iter().chain(&image.cmd).cloned().collect(),
    }
}

fn env(sandbox: &SandboxRecord, record: &ContainerRecord, identity: &Identity) -> Vec<String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        variables.retain(|(existing, _)| existing != name);
        variables.push((name.to_owned(), value.to_owned()));
    };
    if let Some((name, value)) = DEFAULT_PATH.split_once('=') {
        set(name, value);
    }
    set("HOSTNAME", &sandbox.spec.hostname);
    if record.spec.tty {
        set("TERM", "xterm");
    }
    if let Some(home) = &identity.home {
        set("HOME", home);
    }
    for variable in &record.image.env {
        if let Some((name, value)) = variable.split_once('=') {
            set(name, value);
        }
    }
    for (name, value) in &record.spec.env {
        set(name, value);
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn capabilities(record: &ContainerRecord, available: &[String]) -> Vec<String> {
    let security = &record.spec.security;
    let full = |name: &String| {
        let name = name.to_uppercase();
        if name.starts_with("CAP_") || name == "ALL" { name } else { format!("CAP_{name}") }
    };
    let add = security.cap_add.iter().map(full).collect::<Vec<_>>();
    let drop = security.cap_drop.iter().map(full).collect::<Vec<_>>();
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    ALL_CAPABILITIES
        .iter()
        .filter(|name| {
            let named = |list: &[String]| list.iter().any(|other| other == *name);
            let default = DEFAULT_CAPABILITIES.contains(name) && !all(&drop);
            let wanted = named(&add) || ((default || all(&add)) && !named(&drop));
            (security.privileged || wanted) && named(available)
        })
        .map(|name| (*name).to_owned())
        .collect()
}

fn resources(limits: &Resources, privileged: bool) -> Value {
    let mut cpu = serde_json::Map::new();
    if let Some(millis) = limits.cpu_request_millis {
        cpu.insert("shares".into(), json!((millis * 1024 / 1000).clamp(2, 262_144)));
    }
    if let Some(millis) = limits.cpu_limit_millis.filter(|millis| *millis > 0) {
        cpu.insert("period".into(), json!(100_000));
        cpu.insert("quota".into(), json!((millis * 100).max(1000)));
    }
    let mut resources = json!({
        "devices": if privileged { json!([{"allow": true, "access": "rwm"}]) } else { json!([{"allow": false, "access": "rwm"}]) },
    });
    if !cpu.is_empty() {
        resources["cpu"] = cpu.into();
    }
    if let Some(bytes) = limits.memory_limit.filter(|bytes| *bytes > 0) {
        resources["memory"] = json!({"limit": bytes, "swap": bytes});
    }
    if let Some(limit) = limits.pids_limit.filter(|limit| *limit > 0) {
        resources["pids"] = json!({"limit": limit});
    }
    resources
}

fn all_mounts(record: &ContainerRecord, pod: &PodDir<'_>, volumes: &[Mount]) -> Vec<Value> {
    let privileged = record.spec.security.privileged;
    let fs = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let sys_mode = if privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        fs("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        fs("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fs("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        fs("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        fs("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys_mode]),
        fs("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys_mode]),
    ];
    let mut bind = |source: &Path, target: &str, read_only: bool, recursive: bool| {
        let kind = if recursive { "rbind" } else { "bind" };
        let mode = if read_only { "ro" } else { "rw" };
        mounts.push(json!({
            "destination": target, "type": "bind", "source": source, "options": [kind, "rprivate", mode],
        }));
    };
    let covered = |target: &str| volumes.iter().any(|volume| volume.target.trim_end_matches('/') == target);
    if !covered("/dev/shm") {
        bind(&pod.shm(), "/dev/shm", false, false);
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        if !covered(&target) {
            bind(&pod.etc(name), &target, record.spec.security.read_only_rootfs, false);
        }
    }
    bind(&termination_log(record, pod), termination_target(record), false, false);
    for volume in volumes {
        bind(&volume.source, &volume.target, volume.read_only, true);
    }
    mounts
}

/// The file behind the termination message path.
pub fn termination_log(record: &ContainerRecord, pod: &PodDir<'_>) -> std::path::PathBuf {
    pod.container(&record.id).join("termination-log")
}

fn termination_target(record: &ContainerRecord) -> &str {
    match record.spec.termination_message_path.as_str() {
        "" => "/dev/termination-log",
        path => path,
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
