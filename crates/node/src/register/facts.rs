//! What the machine is, read from the kernel.

use std::fs;
use std::path::Path;

/// Facts about the machine that the Node object shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of the file system that holds the node's state.
    pub storage: u64,
    pub storage_free: u64,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
}

impl Facts {
    /// Reads what can be read; what cannot is empty or zero.
    pub fn read(state_dir: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let disk = nix::sys::statvfs::statvfs(state_dir).ok();
        let bytes = |blocks: u64| disk.as_ref().map_or(0, |d| blocks * d.fragment_size());
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory: memory_total(&text("/proc/meminfo")),
            storage: disk.as_ref().map_or(0, |d| bytes(d.blocks())),
            storage_free: disk.as_ref().map_or(0, |d| bytes(d.blocks_available())),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: pretty_name(&text("/etc/os-release")),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
        }
    }

    /// `amd64`, `arm64`: the architecture as Go and container images call it.
    pub fn architecture() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}

fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn pretty_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        assert_eq!(memory_total("MemFree: 1 kB\nMemTotal:        4000 kB\n"), 4_096_000);
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(pretty_name(""), "Linux");
        let here = Facts::read(Path::new("/"));
        assert!(here.cpus > 0 && here.memory > 0 && here.storage > 0 && !here.kernel.is_empty());
    }
}
