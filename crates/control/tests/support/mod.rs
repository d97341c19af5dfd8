//! A cluster without a data plane: the real API server, the controllers, and nodes that only pretend.

#![allow(dead_code, reason = "each test file uses a part")]

#[path = "../../../apiserver/tests/support/pki.rs"]
mod pki;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use daymark_apiserver::Server;
use daymark_apiserver::access::token::Key;
use daymark_control::{AddressRange, ControllersConfig, TokenSigner, run_controllers};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The cluster of one test. Everything ends with it.
pub struct Cluster {
    pub client: Client,
    pub stop: CancellationToken,
    kubeconfig: PathBuf,
    config: kube::Config,
    _server: Server,
    _dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).try_init();
        let dir = tempfile::tempdir().expect("a directory");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let pki = pki::Pki::new();
        let settings = pki.config(dir.path(), address);
        let key = Key::from_pem(&settings.service_account_key_pem).expect("a key");
        let server = Server::start(settings).await.expect("the API server starts");
        let kubeconfig = dir.path().join("kubeconfig");
        let text = pki.kubeconfig(address, "kubernetes-admin", "system:masters");
        std::fs::write(&kubeconfig, &text).expect("a file");
        let config = kube::config::Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(config, &Default::default()).await.expect("a config");
        let client = Client::try_from(config.clone()).expect("a client");
        let stop = CancellationToken::new();
        let controllers = ControllersConfig {
            root_ca: "CA".into(),
            signer: Some(TokenSigner::new(move |claims| Ok(key.sign(claims)?))),
            node_monitor_grace: Duration::from_secs(2),
            pod_eviction: Duration::from_secs(1),
            load_balancer_pools: vec![AddressRange {
                first: "172.30.0.200".parse().expect("an address"),
                last: "172.30.0.201".parse().expect("an address"),
            }],
            ..Default::default()
        };
        tokio::spawn(run_controllers(client.clone(), controllers, stop.clone()));
        Self { client, stop, kubeconfig, config, _server: server, _dir: dir }
    }

    /// A client that has a token and nothing else.
    pub fn with_token(&self, token: &str) -> Client {
        let mut config = self.config.clone();
        config.auth_info = Default::default();
        config.auth_info.token = Some(token.to_owned().into());
        Client::try_from(config).expect("a client")
    }

    /// Runs kubectl and returns what it printed; it must succeed.
    pub async fn kubectl(&self, arguments: &str) -> String {
        let output = self.try_kubectl(arguments).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "kubectl {arguments}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    pub async fn try_kubectl(&self, arguments: &str) -> Output {
        let (kubeconfig, arguments) = (self.kubeconfig.clone(), arguments.to_owned());
        let run = move || {
            // kubectl itself may wait for ever; a test must not.
            Command::new("timeout")
                .args(["60", "kubectl"])
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .args(arguments.split_whitespace())
                .output()
        };
        tokio::task::spawn_blocking(run).await.expect("no panic").expect("kubectl is installed")
    }

    /// Applies YAML.
    pub async fn apply(&self, yaml: &str) {
        let file = self.kubeconfig.with_file_name(format!("{}.yaml", yaml.len()));
        std::fs::write(&file, yaml).expect("a file");
        self.kubectl(&format!("apply -f {}", file.display())).await;
    }

    /// Waits until kubectl prints `expected`.
    pub async fn until(&self, arguments: &str, expected: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let output = self.try_kubectl(arguments).await;
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if expected(&said) {
                return said;
            }
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "kubectl {arguments} still says {said} {error}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A node that runs every pod it is given, until the token is cancelled.
    pub async fn node(&self, name: &str, number: u8) -> CancellationToken {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            },
        }))
        .expect("a node");
        Api::<Node>::all(self.client.clone()).create(&PostParams::default(), &node).await.expect("created");
        let status = json!({"status": node.status});
        let nodes = Api::<Node>::all(self.client.clone());
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("a status");
        let stop = self.stop.child_token();
        let (client, name, end) = (self.client.clone(), name.to_owned(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = pretend(client.clone(), name.clone(), number) => {}
                () = renew(client, name) => {}
            }
        });
        stop
    }
}

async fn renew(client: Client, name: String) {
    let leases = Api::<Lease>::namespaced(client, "kube-node-lease");
    loop {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name}, "spec": {"holderIdentity": name, "renewTime": now}});
        let _ = leases.patch(&name, &PatchParams::apply("test"), &Patch::Apply(lease)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Makes pods of this node running and ready, and lets go those that are deleted.
async fn pretend(client: Client, node: String, number: u8) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = pin!(watcher::watcher(Api::<Pod>::all(client.clone()), config));
    let mut last = 0_u8;
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let pods =
            Api::<Pod>::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        } else if pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).is_none() {
            last += 1;
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let ip = format!("10.244.{number}.{last}");
            let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}});
            let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
        }
    }
}
