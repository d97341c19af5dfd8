//! The daemon: API server and controllers, joined by nothing but the Kubernetes API.

use daymark_apiserver::access::token::Key;
use daymark_apiserver::{Config, Server};
use daymark_control::{AddressRange, ControllersConfig, TokenSigner};
use miette::{IntoDiagnostic, Report, Result, miette};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::cluster::pki::Holder;
use crate::cluster::process::{self, Readiness};
use crate::cluster::spec;
use crate::interrupt;

/// The ports that NodePort Services draw from, as in Kubernetes.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

pub async fn run(name: &str, readiness: Readiness) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let _alive = process::claim(&cluster.paths.lock("daemon"))?;
    if let Err(error) = allow_files() {
        tracing::warn!(%error, "cannot raise the limit of open files; each watch takes one");
    }
    match start(&cluster).await {
        Ok((server, controllers, stop)) => {
            readiness.ready();
            serve(server, controllers, stop).await
        }
        Err(why) => {
            readiness.failed(&crate::one_line(&why));
            Err(why)
        }
    }
}

/// Every client's connection is a file, and a shell's usual 1,024 are for programs that use `select`.
fn allow_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

type Controllers = tokio::task::JoinHandle<anyhow::Result<()>>;

async fn start(cluster: &Cluster) -> Result<(Server, Controllers, CancellationToken)> {
    let server = Server::start(api_config(cluster)?).await.map_err(from_anyhow)?;
    let client = cluster.client(&Holder::Controllers, false).await?;
    let stop = CancellationToken::new();
    let settings = controllers_config(cluster)?;
    let controllers = tokio::spawn(daymark_control::run_controllers(client, settings, stop.clone()));
    Ok((server, controllers, stop))
}

async fn serve(server: Server, controllers: Controllers, stop: CancellationToken) -> Result<()> {
    let outcome = tokio::select! {
        signal = interrupt::requested() => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        ended = controllers => Err(miette!("the controllers ended: {ended:?}")),
    };
    stop.cancel();
    server.shutdown().await;
    outcome
}

fn api_config(cluster: &Cluster) -> Result<Config> {
    let (spec, pki) = (&cluster.spec, cluster.pki());
    let (server, kubelet) = (pki.pair(&Holder::ApiServer)?, pki.pair(&Holder::KubeletClient)?);
    Ok(Config {
        data_dir: cluster.paths.store(),
        listen: spec.api_listen(),
        advertise: spec.api_advertise(),
        ca_pem: pki.ca()?,
        front_proxy_ca_pem: pki.front_proxy_ca()?,
        server_cert_pem: server.cert,
        server_key_pem: server.key,
        kubelet_client_cert_pem: kubelet.cert,
        kubelet_client_key_pem: kubelet.key,
        service_account_key_pem: pki.service_account_key()?,
        service_account_issuer: format!("https://kubernetes.default.svc.{}", spec.domain),
        pods_need_accounts: true,
        service_cidrs: spec.service_cidr.iter().collect(),
        dns_ip: spec.dns_ip(),
        node_port_range: NODE_PORTS,
    })
}

fn controllers_config(cluster: &Cluster) -> Result<ControllersConfig> {
    let pool = cluster.spec.pool().map(|(first, last)| AddressRange { first, last });
    Ok(ControllersConfig {
        load_balancer_pools: pool.into_iter().collect(),
        root_ca: cluster.pki().ca()?,
        load_balancers_only: cluster.spec.controllers == spec::Controllers::None,
        signer: Some(signer(cluster)?),
        ..ControllersConfig::default()
    })
}

/// Tokens in Secrets are signed with the key that the API server checks them with.
fn signer(cluster: &Cluster) -> Result<TokenSigner> {
    let key = Key::from_pem(&cluster.pki().service_account_key()?).into_diagnostic()?;
    Ok(TokenSigner::new(move |claims| Ok(key.sign(claims)?)))
}

pub fn from_anyhow(error: anyhow::Error) -> Report {
    miette!("{error:#}")
}
