//! One node's process: its pods and its agent, in the node's network namespace.
//!
//! Image pulls and DNS questions for the outside leave from the host, so they run on a runtime of their
//! own, whose threads stay there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daymark_node::config::NodeConfig;
use daymark_node::image::RegistryConfig;
use daymark_node::runtime::RuntimeConfig;

use miette::{IntoDiagnostic, Result, WrapErr};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::cluster::pki::Holder;
use crate::cluster::process::{self, Readiness};
use crate::cluster::spec::NodeSpec;
use crate::cluster::{Cluster, preflight};
use crate::daemon::from_anyhow;
use crate::lan::{build::UPLINK, netns};
use crate::{agent, interrupt};

/// Bytes; the bridge's and the veths' default.
const MTU: u32 = 1500;
const KUBELET_PORT: u16 = 10250;
/// Quicker than Kubernetes' 10 s, as a node's death shall be noticed within the grace of 5 s.
const LEASE_INTERVAL: Duration = Duration::from_secs(1);
/// Quicker than Kubernetes' 10 s as well: a node that comes back must say so again before its pods are evicted.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
const MAX_PODS: u32 = 110;
/// After this the process has loaded what it needs.
const SETTLED: Duration = Duration::from_secs(2);
const REGISTRIES: &str = "/etc/daymark/registries.yml";
/// The DNS servers that the host uses.
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

pub fn run(cluster: &str, node: &str, readiness: Readiness) -> Result<()> {
    match start(cluster, node) {
        Ok((cluster, node, outside, inside, _alive)) => {
            inside.block_on(work(&cluster, &node, outside.handle(), readiness))
        }
        Err(why) => {
            readiness.failed(&crate::one_line(&why));
            Err(why)
        }
    }
}

fn start(cluster: &str, node: &str) -> Result<(Cluster, NodeSpec, Runtime, Runtime, process::Alive)> {
    let cluster = Cluster::open(cluster)?;
    let node = cluster.spec.node_named(node)?;
    let alive = process::claim(&cluster.paths.lock(&node.name))?;
    let outside = runtime_in(Path::new("/proc/self/ns/net"), 1)?;
    let namespace = cluster.paths.netns(&node.name);
    let inside = runtime_in(&namespace, 2)?;
    netns::enter(&namespace)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot enter {}", namespace.display()))?;
    Ok((cluster, node, outside, inside, alive))
}

/// A runtime whose threads, the blocking ones too, all live in one network namespace.
fn runtime_in(namespace: &Path, threads: usize) -> Result<Runtime> {
    let file = std::fs::File::open(namespace)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot open network namespace {}", namespace.display()))?;
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .on_thread_start(move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("the namespace is open");
        })
        .enable_all()
        .build()
        .into_diagnostic()
}

async fn work(cluster: &Cluster, node: &NodeSpec, outside: &Handle, readiness: Readiness) -> Result<()> {
    let stop = CancellationToken::new();
    let client = cluster.client(&Holder::Node(node.name.clone()), true).await?;
    let agent = agent::run(agent_config(cluster, node, outside)?, client.clone(), stop.clone());
    let pods = daymark_node::run(pods_config(cluster, node, outside)?, client, stop.clone());
    readiness.ready();
    let settled = async {
        tokio::time::sleep(SETTLED).await;
        give_back_memory();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = settled => Ok(()),
        signal = interrupt::requested() => {
            tracing::info!(signal, "stopping; pods run on");
            stop.cancel();
            Ok(())
        }
        ended = agent => ended.wrap_err("the agent ended"),
        ended = pods => ended.map_err(from_anyhow).wrap_err("the pod runtime ended"),
    }
}

/// Returns to the kernel what was needed for a while, e.g. for loading programs and images: malloc keeps it otherwise,
/// and code that only the start needed stays mapped.
pub fn give_back_memory() {
    // SAFETY: malloc_trim takes no pointer and locks what it works on.
    unsafe { nix::libc::malloc_trim(0) };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (from, length) in maps.lines().filter_map(code) {
        // SAFETY: nobody writes to code, so what is run again is read from its file again.
        unsafe { nix::libc::madvise(from as *mut nix::libc::c_void, length, nix::libc::MADV_DONTNEED) };
    }
}

/// Where a line of `/proc/self/maps` says that a file's code is, and how long it is.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let is_code = words.next() == Some("r-xp") && words.nth(3).is_some_and(|path| path.starts_with('/'));
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    is_code.then_some((from, to - from))
}

fn agent_config(cluster: &Cluster, node: &NodeSpec, outside: &Handle) -> Result<agent::Config> {
    let spec = &cluster.spec;
    let upstreams = if spec.egress { agent::upstreams() } else { Vec::new() };
    Ok(agent::Config {
        node: node.name.clone(),
        addresses: node.ips.iter().collect(),
        nodeport_addresses: spec.nodeport_addresses.clone(),
        uplink: UPLINK.into(),
        pod_cidrs: spec.pod_cidr.iter().collect(),
        service_cidrs: spec.service_cidr.iter().collect(),
        pod_interface_prefixes: vec!["dm".into()],
        bpf: cluster.paths.bpf().join(&node.name),
        sizes: daymark_dataplane::Sizes::default(),
        cgroup: cluster.paths.cgroup(&preflight::cgroup2_mount()?).join(&node.name),
        health: agent::health::Addresses::default(),
        host_ports: true,
        dns: Some(agent::Dns { domain: spec.domain.clone(), upstreams, outside: outside.clone() }),
    })
}

fn pods_config(cluster: &Cluster, node: &NodeSpec, outside: &Handle) -> Result<NodeConfig> {
    let (spec, paths, pki) = (&cluster.spec, &cluster.paths, cluster.pki());
    let serving = pki.pair(&Holder::Node(node.name.clone()))?;
    let cgroups = Path::new("/daymark").join(&spec.name).join(&node.name);
    let runtime = RuntimeConfig {
        node_name: node.name.clone(),
        state_dir: paths.node_state(&node.name),
        run_dir: paths.node_run(&node.name),
        images_dir: paths.images(),
        cgroup_v2_dir: paths.cgroup(&preflight::cgroup2_mount()?).join(&node.name),
        cgroup_path: cgroups,
        pod_cidrs: node.pod_cidrs,
        node_ips: node.ips,
        mtu: MTU,
        shim_command: vec!["/proc/self/exe".into(), "shim".into()],
        host: outside.clone(),
        registries: registries()?,
        links: None,
    };
    Ok(NodeConfig {
        runtime,
        dns_ip: spec.dns_ip(),
        domain: spec.domain.clone(),
        host_resolv_conf: HOST_RESOLV_CONF.into(),
        kubelet_port: KUBELET_PORT,
        kubelet_cert_pem: serving.cert,
        kubelet_key_pem: serving.key,
        client_ca_pem: pki.ca()?,
        lease_interval: LEASE_INTERVAL,
        status_interval: STATUS_INTERVAL,
        max_pods: MAX_PODS,
        labels: BTreeMap::new(),
    })
}

/// Mirrors and plain-HTTP registries that this machine's admin named; none without the file.
fn registries() -> Result<RegistryConfig> {
    let text = match std::fs::read_to_string(REGISTRIES) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(RegistryConfig::default()),
        Err(e) => return Err(e).into_diagnostic().wrap_err_with(|| format!("cannot read {REGISTRIES}")),
    };
    serde_yaml::from_str(&text)
        .into_diagnostic()
        .wrap_err_with(|| format!("{REGISTRIES} is not as the README says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_files_is_given_back() {
        assert_eq!(code("1000-3000 r-xp 00002000 fe:00 77     /usr/bin/daymark"), Some((0x1000, 0x2000)));
        for other in [
            "3000-4000 rw-p 00004000 fe:00 77     /usr/bin/daymark",
            "3000-4000 r--p 00004000 fe:00 77     /usr/bin/daymark",
            "7000-8000 r-xp 00000000 00:00 0      [vdso]",
            "7000-8000 r-xp 00000000 00:00 0",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_given_back_still_runs() {
        for _ in 0..3 {
            give_back_memory();
            assert_eq!(format!("{:?}", [1, 2, 3]), "[1, 2, 3]");
        }
    }
}
