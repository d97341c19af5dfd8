//! Turns a fresh process into a pod's shim: own session, cgroup, namespaces, loopback, sysctls.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::protocol::{PodDir, SandboxRecord};

/// Sysctls of every pod's own network namespace: unprivileged low ports and ping, as other runtimes
/// allow, and no waiting for duplicate addresses.
const SYSCTLS: [(&str, &str); 5] = [
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
];

/// Sets the process up; on failure the process ends and the kernel takes everything back.
pub fn enter(record: &SandboxRecord, pod: &PodDir<'_>) -> Result<(), String> {
    // Fails for a process group leader, which already is on its own.
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| format!("becoming a subreaper: {error}"))?;
    join_cgroup(&record.cgroup_v2_dir)
        .map_err(|error| format!("joining the cgroup {}: {error}", record.cgroup_v2_dir.display()))?;
    let mut namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !record.spec.host_network {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    unshare(namespaces).map_err(|error| format!("making namespaces: {error}"))?;
    // The node's mounts still arrive here (volumes made later); ours never go back.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .map_err(|error| format!("separating mounts: {error}"))?;
    mount_shm(pod).map_err(|error| format!("mounting the pod's /dev/shm: {error}"))?;
    if !record.spec.host_network {
        nix::unistd::sethostname(&record.spec.hostname)
            .map_err(|error| format!("setting the hostname: {error}"))?;
        network(record)?;
    } else if let Some(name) = record.spec.sysctls.keys().find(|name| name.starts_with("net.")) {
        return Err(format!("sysctl {name} is not allowed with hostNetwork"));
    }
    for (name, value) in record.spec.sysctls.iter().filter(|(name, _)| !name.starts_with("net.")) {
        let allowed = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        if !allowed.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(format!("forbidden sysctl: {name:?} is not namespaced"));
        }
        sysctl(&name.replace('.', "/"), value)?;
    }
    Ok(())
}

fn join_cgroup(pod: &Path) -> io::Result<()> {
    // A leaf of its own, because a cgroup with controllers for its children can have no processes.
    let leaf = pod.join("shim");
    fs::create_dir_all(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), "0")
}

fn mount_shm(pod: &PodDir<'_>) -> io::Result<()> {
    let place = pod.shm();
    fs::create_dir_all(&place)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("shm"), &place, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))?)
}

fn network(record: &SandboxRecord) -> Result<(), String> {
    loopback_up().map_err(|error| format!("bringing loopback up: {error}"))?;
    for (name, value) in SYSCTLS {
        // Kernels without IPv6 lack some.
        if Path::new("/proc/sys").join(name).exists() {
            sysctl(name, value)?;
        }
    }
    for (name, value) in record.spec.sysctls.iter().filter(|(name, _)| name.starts_with("net.")) {
        sysctl(&name.replace('.', "/"), value)?;
    }
    Ok(())
}

fn sysctl(name: &str, value: &str) -> Result<(), String> {
    if name.split('/').any(|part| part == "..") {
        return Err(format!("bad sysctl name {name:?}"));
    }
    fs::write(Path::new("/proc/sys").join(name), value)
        .map_err(|error| format!("setting sysctl {} to {value:?}: {error}", name.replace('/', ".")))
}

fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    let name = CString::new("lo").map_err(io::Error::other)?;
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes_with_nul()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives as long as the call and names an interface.
    let result =
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS as _, &request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Names of the capabilities that this process may give to others.
pub fn available_capabilities() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bits = bits.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    super::spec::ALL_CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(number, _)| bits & (1 << number) != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}
