//! What this machine must have before anything is made on it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

/// Capabilities by bit number (`linux/capability.h`) that the nodes and pods cannot do without.
const NEEDED: [(u8, &str); 6] = [
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (18, "CAP_SYS_CHROOT"),
    (21, "CAP_SYS_ADMIN"),
    (27, "CAP_MKNOD"),
    (2, "CAP_DAC_READ_SEARCH"),
];

/// Checks who we are and what the kernel can do.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(miette!(
            help = "run it as root, e.g. `sudo daymark up`",
            "daymark needs root: it makes network namespaces, cgroups and BPF programs"
        ));
    }
    let status = std::fs::read_to_string("/proc/self/status").into_diagnostic()?;
    let missing = missing_capabilities(&status);
    if !missing.is_empty() {
        return Err(miette!(
            help = "in a container, start it with `--privileged`",
            "daymark lacks {}",
            missing.join(", ")
        ));
    }
    cgroup2_mount()?;
    daymark_dataplane::probe().map_err(|e| {
        miette!(
            help = "daymark needs Linux 6.6 or newer with BPF and cgroup v2",
            "this kernel cannot run the data plane: {e}"
        )
    })
}

/// Fails on a kernel that speaks no IPv6 at all.
pub fn ipv6() -> Result<()> {
    if Path::new("/proc/sys/net/ipv6/conf").exists() {
        return Ok(());
    }
    Err(miette!(
        help = "boot without `ipv6.disable=1`, or use `--ip-family ipv4`",
        "this kernel has no IPv6, which `--ip-family` asks for"
    ))
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        .unwrap_or(0);
    NEEDED.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

/// Where cgroup v2 is mounted: alone or, on hybrid machines, beside v1.
pub fn cgroup2_mount() -> Result<PathBuf> {
    let mounts =
        std::fs::read_to_string("/proc/self/mounts").into_diagnostic().wrap_err("cannot read mounts")?;
    cgroup2_in(&mounts).ok_or_else(|| {
        miette!(
            help =
                "mount it: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
            "cgroup v2 is not mounted, and the data plane attaches to it"
        )
    })
}

fn cgroup2_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// Fails if somebody else has the API port.
pub fn port_free(port: u16) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(e) => Err(miette!(
            help = "end what listens there (`ss -ltnp`), or choose another with `--api-port`",
            "the API server cannot listen on {address}: {e}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(missing_capabilities("CapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(missing_capabilities("CapEff:\t000001ffffdfffff\n"), ["CAP_SYS_ADMIN"]);
    }

    #[test]
    fn cgroup2_is_found_alone_and_beside_v1() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_in("tmpfs /tmp tmpfs rw 0 0\n"), None);
    }

    #[test]
    fn a_taken_port_is_refused_with_the_address() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(port_free(port).unwrap_err().to_string().contains(&format!("127.0.0.1:{port}")));
    }
}
