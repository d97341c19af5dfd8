//! Making, watching, adopting and removing sandboxes.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daymark_model::PerFamily;

use super::client::{self, Connection};
use super::pod::{Pod, lock};
use super::{Result, Runtime, RuntimeError, RuntimeEvent, SandboxSpec, SandboxStatus};
use crate::sandbox::{cgroup, hosts, link, start_shim};
use crate::shim::protocol::{PodDir, Request, Response, SandboxRecord};

/// How long a shim may take to end its containers.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Longest path of a Unix socket, in bytes.
const MAX_SOCKET: usize = 107;

impl Runtime {
    pub(super) async fn make_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus> {
        check_uid(&spec)?;
        if let Some(pod) = self.find(&spec.uid) {
            if pod.ready.load(Ordering::SeqCst) {
                return Ok(pod.status());
            }
            self.unmake_sandbox(&spec.uid).await?;
        }
        let ips = self.addresses(&spec)?;
        let pod = Arc::new(Pod::new(self.pod_dir(&spec.uid), self.new_record(spec, ips)));
        match self.build_sandbox(&pod).await {
            Ok(()) => {
                pod.ready.store(true, Ordering::SeqCst);
                lock(&self.inner.pods).insert(pod.record().spec.uid, Arc::clone(&pod));
                Ok(pod.status())
            }
            Err(cause) => {
                let record = pod.record();
                if let Err(error) = self.dismantle(&pod).await {
                    tracing::warn!(pod = record.spec.uid, %error, "cleaning up a sandbox that failed");
                }
                Err(RuntimeError::Sandbox { pod: full_name(&record.spec), cause })
            }
        }
    }

    fn addresses(&self, spec: &SandboxSpec) -> Result<PerFamily<IpAddr>> {
        let config = &self.inner.config;
        if spec.host_network {
            return Ok(config.node_ips);
        }
        let mut pool = lock(&self.inner.addresses);
        let size = pool.size();
        pool.take().ok_or_else(|| {
            let cidrs: Vec<String> = config.pod_cidrs.iter().map(|cidr| cidr.to_string()).collect();
            RuntimeError::NoAddress { cidr: cidrs.join(","), size }
        })
    }

    fn new_record(&self, spec: SandboxSpec, ips: PerFamily<IpAddr>) -> SandboxRecord {
        let config = &self.inner.config;
        let name = format!("pod{}", spec.uid);
        SandboxRecord {
            ips,
            created_at: jiff::Timestamp::now(),
            link: None,
            shim_pid: None,
            socket: config.run_dir.join(format!("{}.sock", spec.uid)),
            cgroup_v2_dir: config.cgroup_v2_dir.join(&name),
            cgroup_path: config.cgroup_path.join(&name),
            spec,
        }
    }

    async fn build_sandbox(&self, pod: &Arc<Pod>) -> std::result::Result<(), String> {
        let record = pod.record();
        if record.socket.as_os_str().len() > MAX_SOCKET {
            return Err(format!(
                "the path {} is too long for a socket: use a shorter run directory",
                record.socket.display()
            ));
        }
        write_files(&pod.dir, &record).map_err(|error| format!("{}: {error}", pod.dir.display()))?;
        pod.change(|_| ()).map_err(|error| format!("{}: {error}", pod.dir.display()))?;
        cgroup::create(&record.cgroup_v2_dir, &record.cgroup_path, record.spec.pids_limit)
            .map_err(|error| format!("making the cgroup {}: {error}", record.cgroup_v2_dir.display()))?;
        let shim_pid = start_shim(&self.inner.config.shim_command, &pod.dir).await?;
        let save = |error: std::io::Error| format!("saving its record: {error}");
        pod.change(|record| record.shim_pid = Some(shim_pid)).map_err(save)?;
        if !record.spec.host_network {
            let netns = PathBuf::from(format!("/proc/{shim_pid}/ns/net"));
            let config = &self.inner.config;
            let (uid, ips) = (&record.spec.uid, record.ips);
            let made = link::create(&self.inner.netlink, &netns, uid, ips, config.mtu).await?;
            pod.change(|record| record.link = Some(made.clone())).map_err(save)?;
            if let Some(links) = &config.links {
                links.attached(&made).await?;
            }
        }
        self.watch(pod).await
    }

    /// Listens to the pod's shim until one of them ends.
    async fn watch(&self, pod: &Arc<Pod>) -> std::result::Result<(), String> {
        let asked = Connection::ask(&pod.record().socket, &Request::Subscribe).await;
        let mut connection = asked.map_err(|error| format!("its shim does not answer: {error}"))?;
        match connection.next().await {
            Ok(Some(Response::States(_))) => {}
            Ok(other) => return Err(format!("its shim answered {other:?}")),
            Err(error) => return Err(format!("its shim does not answer: {error}")),
        }
        let (runtime, pod) = (self.downgrade(), Arc::clone(pod));
        tokio::spawn(async move {
            let uid = pod.record().spec.uid;
            while let Ok(Some(message)) = connection.next().await {
                let Response::Exited { id, exit } = message else { continue };
                pod.refresh(&id);
                let _ = runtime.events.send(RuntimeEvent::ContainerExited { pod_uid: uid.clone(), id, exit });
            }
            if !pod.leaving.load(Ordering::SeqCst) {
                died(&pod).await;
                for (id, exit) in pod.shim_died() {
                    let _ =
                        runtime.events.send(RuntimeEvent::ContainerExited { pod_uid: uid.clone(), id, exit });
                }
                tracing::warn!(pod = uid, "the pod's shim ended");
                let _ = runtime.events.send(RuntimeEvent::SandboxDied { pod_uid: uid });
            }
        });
        Ok(())
    }

    pub(super) async fn unmake_sandbox(&self, uid: &str) -> Result<()> {
        let Some(pod) = self.find(uid) else { return Ok(()) };
        let _busy = pod.busy.lock().await;
        let name = full_name(&pod.record().spec);
        self.dismantle(&pod).await.map_err(|cause| RuntimeError::Sandbox { pod: name, cause })?;
        lock(&self.inner.pods).remove(uid);
        lock(&self.inner.owners).retain(|_, owner| owner != uid);
        Ok(())
    }

    /// Takes everything of a pod away, in the reverse order of making it. Each step accepts that its
    /// thing isn't there.
    async fn dismantle(&self, pod: &Pod) -> std::result::Result<(), String> {
        pod.leaving.store(true, Ordering::SeqCst);
        pod.ready.store(false, Ordering::SeqCst);
        let record = pod.record();
        if let (Some(links), Some(link)) = (&self.inner.config.links, &record.link) {
            links.detached(link).await?;
        }
        let asked = client::call(&record.socket, &Request::Shutdown);
        let _ = tokio::time::timeout(SHUTDOWN, asked).await;
        if !record.spec.host_network {
            link::delete(&self.inner.netlink, &link::interface_name(&record.spec.uid)).await?;
        }
        let (dir, store, containers) = (pod.dir.clone(), self.inner.store.clone(), pod.container_ids());
        let swept = tokio::task::spawn_blocking(move || {
            let failed = |error: std::io::Error| error.to_string();
            cgroup::kill(&record.cgroup_v2_dir).map_err(failed)?;
            cgroup::remove(&record.cgroup_v2_dir, &record.cgroup_path).map_err(failed)?;
            for id in containers {
                store.release(&id.0);
            }
            let _ = fs::remove_file(&record.socket);
            remove_dir(&dir)?;
            std::result::Result::<SandboxRecord, String>::Ok(record)
        });
        let record = swept.await.map_err(|error| error.to_string())??;
        if !record.spec.host_network {
            lock(&self.inner.addresses).free(record.ips);
        }
        Ok(())
    }

    /// Takes over the pods on disk.
    pub(super) async fn adopt(&self) -> Result<()> {
        let dir = self.inner.config.state_dir.join("pods");
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Some(pod) = Pod::load(&entry.path()) else {
                // Its creation was interrupted before its record was written.
                let _ = remove_dir(&entry.path());
                continue;
            };
            let pod = Arc::new(pod);
            let record = pod.record();
            if !record.spec.host_network {
                lock(&self.inner.addresses).take_these(record.ips);
            }
            if let Err(cause) = self.adopt_one(&pod).await {
                tracing::info!(pod = record.spec.uid, cause, "found a pod without a living shim");
                died(&pod).await;
                pod.shim_died();
            }
            lock(&self.inner.pods).insert(record.spec.uid, pod);
        }
        Ok(())
    }

    async fn adopt_one(&self, pod: &Arc<Pod>) -> std::result::Result<(), String> {
        let record = pod.record();
        if record.shim_pid.is_none() || (record.link.is_none() && !record.spec.host_network) {
            return Err("its creation was interrupted".into());
        }
        self.watch(pod).await?;
        if let Some(old) = &record.link {
            let index = link::index_of(&self.inner.netlink, &old.name).await?.ok_or("its link is gone")?;
            let mut link = old.clone();
            link.ifindex = index;
            if let Some(links) = &self.inner.config.links {
                links.attached(&link).await?;
            }
            pod.change(|record| record.link = Some(link)).map_err(|error| error.to_string())?;
        }
        for id in pod.container_ids() {
            pod.refresh(&id);
        }
        pod.ready.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// A UID becomes part of paths and names.
fn check_uid(spec: &SandboxSpec) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !spec.uid.is_empty() && spec.uid.len() <= 64 && spec.uid.bytes().all(fine) {
        return Ok(());
    }
    let cause = format!("its uid {:?} is not usable as a file name", spec.uid);
    Err(RuntimeError::Sandbox { pod: full_name(spec), cause })
}

fn full_name(spec: &SandboxSpec) -> String {
    format!("{}/{}", spec.namespace, spec.name)
}

fn write_files(dir: &Path, record: &SandboxRecord) -> std::io::Result<()> {
    let pod = PodDir(dir);
    for path in [pod.containers(), pod.oci(), pod.shm()] {
        fs::create_dir_all(path)?;
    }
    if let Some(parent) = record.socket.parent() {
        fs::create_dir_all(parent)?;
    }
    let node = if record.spec.host_network {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        String::new()
    };
    fs::write(pod.etc("hosts"), hosts::text(&record.spec, record.ips, &node))?;
    fs::write(pod.etc("hostname"), format!("{}\n", record.spec.hostname))?;
    fs::write(pod.etc("resolv.conf"), &record.spec.resolv_conf)
}

/// Kills what a dead shim has left.
async fn died(pod: &Pod) {
    let dir = pod.record().cgroup_v2_dir;
    let killed = tokio::task::spawn_blocking(move || cgroup::kill(&dir)).await;
    if let Ok(Err(error)) = killed {
        tracing::error!(%error, "cannot end the processes of a dead shim");
    }
}

/// Removes a pod's directory. Mounts in it would be another's data: they are taken away first.
fn remove_dir(dir: &Path) -> std::result::Result<(), String> {
    crate::shim::unmount_below(dir);
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", dir.display()))
        }
        _ => Ok(()),
    }
}
