//! Starting and stopping the server.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::accounts::Issuer;
use crate::admission::quota_status;
use crate::custom::keeper;
use crate::http::listen::{self, bind, read_pair, roots, server_tls};
use crate::http::route::App;
use crate::kinds::AllocatorConfig;
use crate::proxy::Nodes;
use crate::registry::Registry;
use crate::store::{Options, Store};
use crate::{addresses, bootstrap, upkeep};

/// What a server needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the store; made if it is missing.
    pub data_dir: PathBuf,
    pub listen: Vec<SocketAddr>,
    /// Where nodes and pods reach the server: the endpoint of the Service `kubernetes`.
    pub advertise: SocketAddr,
    /// Certificates in PEM of the CA that signs clients and nodes.
    pub ca_pem: String,
    /// The CA of proxies that name users in headers, for other servers to know; empty if there is none.
    pub front_proxy_ca_pem: String,
    pub server_cert_pem: String,
    pub server_key_pem: String,
    /// The certificate that nodes' kubelet APIs ask of the server.
    pub kubelet_client_cert_pem: String,
    pub kubelet_client_key_pem: String,
    /// The private key, PKCS #8 in PEM, that signs tokens of ServiceAccounts.
    pub service_account_key_pem: String,
    /// In whose name it does, an HTTPS URL.
    pub service_account_issuer: String,
    /// Refuses pods without a ServiceAccount and mounts its token into the others. For clusters whose
    /// controllers make accounts.
    pub pods_need_accounts: bool,
    pub service_cidrs: Vec<IpNet>,
    /// The cluster IP of the Service `kube-dns`.
    pub dns_ip: IpAddr,
    pub node_port_range: RangeInclusive<u16>,
}

/// A running server.
pub struct Server {
    app: Arc<App>,
    tasks: TaskTracker,
    addresses: Vec<SocketAddr>,
}

/// How long connections may take to end.
const DRAIN: Duration = Duration::from_secs(2);

impl Server {
    /// Opens the store, makes the objects that every cluster has, and listens. Requests are answered
    /// when this returns.
    ///
    /// # Errors
    /// A store that is damaged or in use, an address that is taken, unusable certificates; each says
    /// what to do.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let roots = roots(&config.ca_pem)?;
        let server = read_pair(&config.server_cert_pem, &config.server_key_pem, "server certificate")?;
        let client = read_pair(
            &config.kubelet_client_cert_pem,
            &config.kubelet_client_key_pem,
            "kubelet client certificate",
        )?;
        let issuer = Issuer::new(&config.service_account_key_pem, config.service_account_issuer.clone())?;
        let tls = server_tls(roots.clone(), server)?;
        let mut listeners = Vec::new();
        for address in &config.listen {
            listeners.push(bind(*address).await?);
        }
        let path = config.data_dir.join("store.redb");
        let store = tokio::task::spawn_blocking(move || Store::open(Options::new(path))).await??;
        let allocation = AllocatorConfig {
            service_cidrs: config.service_cidrs.clone(),
            further_cidrs: Vec::new(),
            node_port_range: config.node_port_range.clone(),
        };
        let registry = Registry::new(store, allocation, issuer, config.pods_need_accounts)?;
        bootstrap::run(&registry, &config).await.context("the first objects could not be made")?;
        let shutdown = CancellationToken::new();
        let app = Arc::new(App {
            registry,
            nodes: Nodes::new(roots, client)?,
            address: config.advertise.to_string(),
            shutdown: shutdown.clone(),
        });
        let tasks = TaskTracker::new();
        let mut addresses = Vec::new();
        for listener in listeners {
            addresses.push(listener.local_addr()?);
            tasks.spawn(listen::serve(listener, tls.clone(), app.clone(), tasks.clone()));
        }
        tasks.spawn(upkeep::run(app.registry.store.clone(), shutdown.clone()));
        tasks.spawn(keeper::run(app.clone(), shutdown.clone()));
        tasks.spawn(quota_status::run(app.clone(), shutdown.clone()));
        tasks.spawn(addresses::run(app.clone(), config, shutdown));
        tasks.close();
        tracing::info!(?addresses, revision = app.registry.store.revision(), "the API server listens");
        Ok(Self { app, tasks, addresses })
    }

    /// The addresses that are listened on, in the order of `Config::listen`.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns when the server has stopped.
    pub async fn wait(&self) {
        self.tasks.wait().await;
    }

    /// Ends watches and streams, lets running requests finish for a moment, and stops.
    pub async fn shutdown(self) {
        self.app.shutdown.cancel();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::debug!("some connections were still open at shutdown");
        }
    }
}
