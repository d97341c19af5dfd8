//! The API server that feeds everything: the real kube-apiserver with etcd, or the embedded one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::lan::{HOST_IP, SERVICE_CIDR};
use crate::space::{Running, Space, run};

/// How many requests are under way at once while objects are made.
const PARALLEL: usize = 24;

/// Of kube-apiserver's administrator.
pub const TOKEN: &str = "secret";

/// What is behind the API; all of it ends with this value.
enum Server {
    Kubernetes {
        etcd: Running,
        api: Running,
    },
    /// The embedded one in a process of its own.
    Alone(Running),
}

pub struct Api {
    client: kube::Client,
    pub config: kube::Config,
    runtime: Runtime,
    /// Of an administrator, good on every node.
    pub kubeconfig: PathBuf,
    /// What it is, for the report.
    pub name: &'static str,
    server: Server,
}

impl Api {
    /// kube-apiserver and etcd from the folder of the peers.
    pub fn kubernetes(peers: &Path, dir: &Path) -> Result<Self> {
        let server = kube_apiserver(peers, dir)?;
        let kubeconfig = dir.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: b, cluster: {{server: 'https://{HOST_IP}:6443', insecure-skip-tls-verify: true}}}}]\nusers: [{{name: b, user: {{token: {TOKEN}}}}}]\ncontexts: [{{name: b, context: {{cluster: b, user: b}}}}]\ncurrent-context: b\n"
        );
        std::fs::write(&kubeconfig, text)?;
        Self::open(kubeconfig, "kube-apiserver + etcd", server)
    }

    /// The embedded server in a process of its own: no controllers, no nodes.
    pub fn alone(dir: &Path) -> Result<Self> {
        let server = crate::embedded::start(dir)?;
        let kubeconfig = dir.join("kubeconfig");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !kubeconfig.exists() {
            ensure!(Instant::now() < deadline, "the embedded API server does not start; see its log");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self::open(kubeconfig, "embedded API server", Server::Alone(server))
    }

    fn open(kubeconfig: PathBuf, name: &'static str, server: Server) -> Result<Self> {
        let runtime = Runtime::new()?;
        let (client, config) = runtime.block_on(async {
            let read = Kubeconfig::read_from(&kubeconfig)?;
            let mut config =
                kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
            config.proxy_url = None;
            Ok::<_, anyhow::Error>((kube::Client::try_from(config.clone())?, config))
        })?;
        let api = Self { client, config, runtime, kubeconfig, name, server };
        let deadline = Instant::now() + Duration::from_secs(90);
        while let Err(why) = api.send("GET", "/api/v1/namespaces/default", None) {
            ensure!(Instant::now() < deadline, "the API server does not come up: {why:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(api)
    }

    /// Seconds of processor time that its processes have used, where they are ours to look at.
    pub fn cpu_seconds(&self) -> Result<Vec<(&'static str, f64)>> {
        self.processes().into_iter().map(|(name, process)| Ok((name, process.cpu_seconds()?))).collect()
    }

    /// Resident memory of its processes in MiB, where they are ours to look at.
    pub fn resident_mib(&self) -> Result<Vec<(&'static str, f64)>> {
        self.processes().into_iter().map(|(name, process)| Ok((name, process.resident_mib()?))).collect()
    }

    fn processes(&self) -> Vec<(&'static str, &Running)> {
        match &self.server {
            Server::Kubernetes { etcd, api } => vec![("kube-apiserver", api), ("etcd", etcd)],
            Server::Alone(server) => vec![("API server", server)],
        }
    }

    /// One request; a body is a merge patch if the method is PATCH.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.runtime.block_on(send(&self.client, method, path, body))
    }

    /// Makes objects, many at a time, each after those before it in its group.
    pub fn create(&self, groups: impl Iterator<Item = Vec<(String, Value)>>) -> Result<()> {
        use futures::{StreamExt, TryStreamExt};
        let made = futures::stream::iter(groups).map(|group| {
            let client = self.client.clone();
            async move {
                for (path, object) in group {
                    send(&client, "POST", &path, Some(&object)).await?;
                }
                Ok::<_, anyhow::Error>(())
            }
        });
        self.runtime.block_on(made.buffer_unordered(PARALLEL).try_collect::<Vec<_>>()).map(drop)
    }

    /// Sends requests, many at a time, and returns the answers in their order.
    pub fn send_all(&self, method: &str, requests: Vec<(String, Value)>) -> Result<Vec<Value>> {
        use futures::{StreamExt, TryStreamExt};
        let sent = futures::stream::iter(requests).map(|(path, body)| {
            let client = self.client.clone();
            async move { send(&client, method, &path, Some(&body)).await }
        });
        self.runtime.block_on(sent.buffered(PARALLEL).try_collect())
    }

    pub fn client(&self) -> (&kube::Client, &Runtime) {
        (&self.client, &self.runtime)
    }

    /// Sends merge patches at a rate, as a change of one object each; returns how many were answered by a
    /// failure, and how long all took.
    pub fn patch_at_rate(&self, patches: Vec<(String, Value)>, per_second: u32) -> (usize, Duration) {
        let began = Instant::now();
        let failed = self.runtime.block_on(async {
            let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
            let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(4 * PARALLEL));
            let mut tasks = tokio::task::JoinSet::new();
            let mut failed = 0;
            for (path, patch) in patches {
                tick.tick().await;
                let (client, pass) = (self.client.clone(), gate.clone().acquire_owned().await);
                tasks.spawn(async move {
                    let _pass = pass;
                    send(&client, "PATCH", &path, Some(&patch)).await.is_ok()
                });
                while let Some(done) = tasks.try_join_next() {
                    failed += usize::from(!done.unwrap_or(false));
                }
            }
            while let Some(done) = tasks.join_next().await {
                failed += usize::from(!done.unwrap_or(false));
            }
            failed
        });
        (failed, began.elapsed())
    }

    /// Registers a node with its address, as its kubelet would.
    pub fn register(&self, name: &str, ip: &str) -> Result<()> {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.send("POST", "/api/v1/nodes", Some(&node))?;
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": ip}]}});
        self.send("PATCH", &format!("/api/v1/nodes/{name}/status"), Some(&status)).map(drop)
    }
}

async fn send(client: &kube::Client, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let request =
        http::Request::builder().method(method).uri(path).header("Content-Type", content).body(bytes)?;
    client.request::<Value>(request).await.with_context(|| format!("{method} {path}"))
}

fn kube_apiserver(peers: &Path, dir: &Path) -> Result<Server> {
    let host = Space::own()?;
    let path = |name: &str| dir.join(name).display().to_string();
    run(Command::new("openssl").args(["genrsa", "-out", &path("sa.key"), "2048"]))?;
    std::fs::write(dir.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    let etcd = host.start(
        Command::new(peers.join("etcd")).args([
            "--data-dir",
            &path("etcd"),
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--quota-backend-bytes=8000000000",
            "--log-level=error",
        ]),
        &dir.join("etcd.log"),
    )?;
    let api = host.start(
        Command::new(peers.join("kube-apiserver")).args([
            "--etcd-servers=http://127.0.0.1:2379",
            &format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            "--authorization-mode=AlwaysAllow",
            "--secure-port=6443",
            &format!("--advertise-address={HOST_IP}"),
            "--service-account-issuer=https://kubernetes.default",
            "--disable-admission-plugins=ServiceAccount",
            "--enable-priority-and-fairness=false",
            &format!("--service-account-key-file={}", path("sa.key")),
            &format!("--service-account-signing-key-file={}", path("sa.key")),
            &format!("--token-auth-file={}", path("tokens.csv")),
            &format!("--cert-dir={}", path("certs")),
        ]),
        &dir.join("kube-apiserver.log"),
    )?;
    Ok(Server::Kubernetes { etcd, api })
}
