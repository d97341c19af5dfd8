//! The cluster's certificate authority and the certificates it issues, made once and kept.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::spec::{ClusterSpec, Controllers};

/// A certificate and its key, PEM encoded.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// Who a certificate is for; the name of its files.
#[derive(Clone, Debug)]
pub enum Holder {
    /// Serves the API.
    ApiServer,
    /// The API server as a client of the nodes.
    KubeletClient,
    Controllers,
    /// The user's own kube-controller-manager, and their kube-scheduler.
    ControllerManager,
    Scheduler,
    Admin,
    /// A node, as server of the kubelet API and as client of the API server.
    Node(String),
}

impl Holder {
    /// The name of its files.
    pub fn file(&self) -> String {
        match self {
            Holder::ApiServer => "apiserver".into(),
            Holder::KubeletClient => "apiserver-kubelet-client".into(),
            Holder::Controllers => "controllers".into(),
            Holder::ControllerManager => "kube-controller-manager".into(),
            Holder::Scheduler => "kube-scheduler".into(),
            Holder::Admin => "admin".into(),
            Holder::Node(name) => format!("node-{name}"),
        }
    }

    /// Common name and organization: user and group, as Kubernetes reads client certificates.
    fn identity(&self) -> (String, &'static str) {
        match self {
            Holder::ApiServer => ("kube-apiserver".into(), "daymark"),
            Holder::KubeletClient => ("kube-apiserver-kubelet-client".into(), "system:masters"),
            Holder::Controllers => ("daymark:controllers".into(), "daymark"),
            Holder::ControllerManager => ("system:kube-controller-manager".into(), "daymark"),
            Holder::Scheduler => ("system:kube-scheduler".into(), "daymark"),
            Holder::Admin => ("kubernetes-admin".into(), "system:masters"),
            Holder::Node(name) => (format!("system:node:{name}"), "system:nodes"),
        }
    }

    fn names(&self, spec: &ClusterSpec) -> Vec<String> {
        match self {
            Holder::ApiServer => [
                "kubernetes".into(),
                "kubernetes.default".into(),
                "kubernetes.default.svc".into(),
                format!("kubernetes.default.svc.{}", spec.domain),
                "localhost".into(),
                "127.0.0.1".into(),
                spec.kubernetes_ip().to_string(),
            ]
            .into_iter()
            .chain(spec.gateways().iter().map(|ip| ip.to_string()))
            .collect(),
            Holder::Node(name) => {
                let node = spec.all_nodes().into_iter().find(|n| n.name == *name);
                let ips = node.into_iter().flat_map(|n| n.ips.iter()).map(|ip| ip.to_string());
                std::iter::once(name.clone()).chain(ips).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The name of the key that signs tokens, as kubeadm names it.
const ACCOUNTS: &str = "sa";

/// As kubeadm names it, too.
const FRONT_PROXY: &str = "front-proxy-ca";

/// The folder with all of them.
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn ca(&self) -> Result<String> {
        read(&self.dir.join("ca.crt"))
    }

    /// Signs the certificate of a proxy that says in headers whose requests it passes on. There is none yet; servers
    /// beside the API server want to know its authority all the same.
    pub fn front_proxy_ca(&self) -> Result<String> {
        read(&self.dir.join(format!("{FRONT_PROXY}.crt")))
    }

    pub fn pair(&self, holder: &Holder) -> Result<Pair> {
        let file = holder.file();
        Ok(Pair {
            cert: read(&self.dir.join(format!("{file}.crt")))?,
            key: read(&self.dir.join(format!("{file}.key")))?,
        })
    }

    /// What signs the tokens of ServiceAccounts.
    pub fn service_account_key(&self) -> Result<String> {
        read(&self.dir.join(format!("{ACCOUNTS}.key")))
    }

    /// Makes whatever is missing; what exists stays as it is.
    pub fn ensure(&self, spec: &ClusterSpec) -> Result<()> {
        fs::create_dir_all(&self.dir).into_diagnostic().wrap_err("cannot make the certificate folder")?;
        self.key(ACCOUNTS)?;
        self.authority(FRONT_PROXY, &ca_params(&format!("daymark-front-proxy-ca {}", spec.name))?)?;
        let params = ca_params(&format!("daymark-ca {}", spec.name))?;
        let key = self.authority("ca", &params)?;
        let issuer = Issuer::from_params(&params, &key);
        let mut holders = vec![Holder::ApiServer, Holder::KubeletClient, Holder::Controllers, Holder::Admin];
        if spec.controllers == Controllers::None {
            holders.extend([Holder::ControllerManager, Holder::Scheduler]);
        }
        holders.extend(spec.all_nodes().into_iter().map(|n| Holder::Node(n.name)));
        for holder in holders {
            self.issue(spec, &holder, &issuer)?;
        }
        Ok(())
    }

    /// The key of an authority, with its certificate beside it.
    fn authority(&self, name: &str, params: &CertificateParams) -> Result<KeyPair> {
        let (key, path) = (self.key(name)?, self.dir.join(format!("{name}.crt")));
        if !path.exists() {
            let cert = params.self_signed(&key).into_diagnostic()?;
            write(&path, &cert.pem())?;
        }
        Ok(key)
    }

    fn issue(&self, spec: &ClusterSpec, holder: &Holder, issuer: &Issuer<'_, &KeyPair>) -> Result<()> {
        let path = self.dir.join(format!("{}.crt", holder.file()));
        if path.exists() {
            return Ok(());
        }
        let key = self.key(&holder.file())?;
        let mut params = CertificateParams::new(holder.names(spec)).into_diagnostic()?;
        let (user, group) = holder.identity();
        params.distinguished_name = distinguished_name(&user, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, issuer).into_diagnostic()?;
        write(&path, &cert.pem())
    }

    fn key(&self, name: &str) -> Result<KeyPair> {
        let path = self.dir.join(format!("{name}.key"));
        if path.exists() {
            return KeyPair::from_pem(&read(&path)?)
                .into_diagnostic()
                .wrap_err_with(|| format!("{} is not a private key", path.display()));
        }
        let key = KeyPair::generate().into_diagnostic()?;
        write(&path, &key.serialize_pem())?;
        Ok(key)
    }
}

/// Deterministic from the name, so that the issuer can be rebuilt from its key alone. The
/// validity is rcgen's (1975 to 4096): a clock that jumps must not lock anyone out.
fn ca_params(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).into_diagnostic()?;
    params.distinguished_name = distinguished_name(name, "daymark");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn distinguished_name(common: &str, organization: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name.push(DnType::OrganizationName, organization);
    name
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))
}

/// Readable by root only; whole or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    file.and_then(|mut f| f.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&part, path))
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_name_their_holder_and_survive_a_second_ensure() {
        let dir = tempfile::tempdir().unwrap();
        let spec = ClusterSpec {
            name: "t".into(),
            nodes: 1,
            lan: crate::cluster::spec::parse_cidrs("172.30.0.0/24").unwrap(),
            pod_cidr: crate::cluster::spec::parse_cidrs("10.244.0.0/16").unwrap(),
            service_cidr: crate::cluster::spec::parse_cidrs("10.96.0.0/16").unwrap(),
            domain: "cluster.local".into(),
            api_port: 6443,
            egress: false,
            controllers: Controllers::All,
            nodeport_addresses: Default::default(),
        };
        let pki = Pki::new(dir.path().join("pki"));
        pki.ensure(&spec).unwrap();
        let before = pki.pair(&Holder::Node("node1".into())).unwrap();
        pki.ensure(&spec).unwrap();
        assert_eq!(before.cert, pki.pair(&Holder::Node("node1".into())).unwrap().cert);
        let (_, pem) = x509_parser::pem::parse_x509_pem(before.cert.as_bytes()).unwrap();
        let cert = pem.parse_x509().unwrap();
        assert_eq!(cert.subject().to_string(), "CN=system:node:node1, O=system:nodes");
        assert!(cert.subject_alternative_name().unwrap().is_some());
    }
}
