//! What is compared: Daymark's agent and kube-proxy, each on a node of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nix::mount::{MntFlags, umount2};

use crate::lan::{Node, POD_CIDR, SERVICE_CIDR};
use crate::space::Running;

/// The agent's pins; its programs are detached when this is dropped.
pub struct Pins(PathBuf);

impl Pins {
    pub fn new(dir: &Path) -> Self {
        Self(dir.join("bpf"))
    }

    /// Forgets everything that an agent left.
    pub fn clear(&self) {
        // The links first: with them go the programs.
        let _ = std::fs::remove_dir_all(self.0.join("links"));
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.clear();
    }
}

pub fn agent(node: &Node, kubeconfig: &Path, pins: &Pins, dir: &Path) -> Result<Running> {
    let beside = std::env::current_exe()?.with_file_name("daymark");
    let mut command = Command::new(beside);
    command.arg("agent").arg("--kubeconfig").arg(kubeconfig);
    command.args(["--node", node.name, "--cluster-cidr", POD_CIDR, "--service-cidr", SERVICE_CIDR]);
    command.args(["--uplink", "eth0", "--pod-interface-prefix", "dm"]);
    command.arg("--bpf").arg(&pins.0).arg("--cgroup").arg(&node.cgroup).env("NO_PROXY", "*");
    node.space.start(&mut command, &dir.join("agent.log"))
}

/// kube-proxy in the mode that the node is named after.
pub fn kube_proxy(node: &Node, kubeconfig: &Path, peers: &Path, dir: &Path) -> Result<Running> {
    let config = dir.join(format!("{}.yml", node.name));
    // The limits of conntrack belong to the first network namespace of a machine: 0 leaves them alone.
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n\
         hostnameOverride: {mode}\nclusterCIDR: {POD_CIDR}\ndetectLocalMode: ClusterCIDR\n\
         clientConnection: {{kubeconfig: {kubeconfig}}}\n\
         conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n\
         healthzBindAddress: 127.0.0.1:10256\nmetricsBindAddress: 127.0.0.1:10249\n",
        mode = node.name,
        kubeconfig = kubeconfig.display(),
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(peers.join("kube-proxy"));
    command.arg("--config").arg(config).env("NO_PROXY", "*");
    node.space.start(&mut command, &dir.join(format!("{}.log", node.name)))
}
