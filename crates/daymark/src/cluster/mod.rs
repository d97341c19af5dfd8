//! One embedded cluster: its description, its files, its certificates, its processes.

pub mod kubeconfig;
pub mod networks;
pub mod paths;
pub mod pki;
pub mod preflight;
pub mod process;
pub mod spec;
pub mod subnet;

use std::time::Duration;

use kube::config::KubeConfigOptions;
use miette::{IntoDiagnostic, Result, WrapErr, miette};

use kubeconfig::Access;
use paths::Paths;
use pki::{Holder, Pki};
use spec::ClusterSpec;

/// How long an ended process may take before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// A cluster that exists on this machine, running or not.
pub struct Cluster {
    pub spec: ClusterSpec,
    pub paths: Paths,
}

impl Cluster {
    /// # Errors
    /// No such cluster, or its description cannot be read.
    pub fn open(name: &str) -> Result<Self> {
        spec::check_name(name)?;
        let paths = Paths::new(name);
        if !paths.spec().exists() {
            let known = Paths::all_clusters();
            let help = match known.as_slice() {
                [] => "start one with `daymark up`".to_owned(),
                names => format!("there are: {}; choose with --name", names.join(", ")),
            };
            return Err(miette!(help = help, "there is no cluster \"{name}\" on this machine"));
        }
        Ok(Self { spec: ClusterSpec::load(&paths.spec())?, paths })
    }

    pub fn pki(&self) -> Pki {
        Pki::new(self.paths.pki())
    }

    /// What must follow `daymark` commands to mean this cluster.
    pub fn flag(&self) -> String {
        if self.spec.name == "default" { String::new() } else { format!(" --name {}", self.spec.name) }
    }

    /// Names of all its processes.
    pub fn processes(&self) -> Vec<String> {
        std::iter::once("daemon".to_owned())
            .chain(self.spec.all_nodes().into_iter().map(|n| n.name))
            .collect()
    }

    /// How a holder of one of our certificates reaches the API server, from this host or from the LAN.
    pub fn access(&self, holder: &Holder, from_lan: bool) -> Result<Access> {
        let server = if from_lan {
            format!("https://{}", self.spec.api_advertise())
        } else {
            format!("https://127.0.0.1:{}", self.spec.api_port)
        };
        Ok(Access { server, ca: self.pki().ca()?, client: self.pki().pair(holder)? })
    }

    pub async fn client(&self, holder: &Holder, from_lan: bool) -> Result<kube::Client> {
        let context = kubeconfig::context_name(&self.spec.name);
        let config = kubeconfig::standalone(&context, &self.access(holder, from_lan)?)?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .into_diagnostic()
            .wrap_err("cannot use the cluster's own access")?;
        kube::Client::try_from(config).into_diagnostic().wrap_err("cannot make a client of the API server")
    }
}
