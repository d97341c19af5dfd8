//! The embedded API server in a process of its own, as kube-apiserver is: no controllers, no nodes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daymark_apiserver::{Config, Server};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};

use crate::lan::HOST_IP;
use crate::space::{Running, Space};

/// Where nodes reach it too.
const LISTEN: (Ipv4Addr, u16) = (HOST_IP, 7443);

/// Starts it; its kubeconfig appears in the folder.
pub fn start(dir: &Path) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("api-server").arg(dir).env("RUST_LOG", "warn");
    Space::own()?.start(&mut command, &dir.join("api-server.log"))
}

/// The process itself. It ends by being killed.
pub fn main(dir: &Path) -> Result<()> {
    let pki = Pki::new()?;
    let (server_cert_pem, server_key_pem) = pki.server()?;
    let (kubelet_client_cert_pem, kubelet_client_key_pem) = pki.client("system:apiserver")?;
    let config = Config {
        data_dir: dir.to_owned(),
        listen: vec![SocketAddr::from(LISTEN)],
        advertise: SocketAddr::from(LISTEN),
        ca_pem: pki.ca_pem.clone(),
        front_proxy_ca_pem: String::new(),
        server_cert_pem,
        server_key_pem,
        kubelet_client_cert_pem,
        kubelet_client_key_pem,
        service_account_key_pem: KeyPair::generate()?.serialize_pem(),
        service_account_issuer: "https://kubernetes.default.svc".to_owned(),
        pods_need_accounts: false,
        service_cidrs: vec![crate::lan::SERVICE_CIDR.parse()?],
        dns_ip: "10.96.0.10".parse()?,
        node_port_range: 30_000..=32_767,
    };
    tokio::runtime::Runtime::new()?.block_on(async {
        let server = Server::start(config).await?;
        std::fs::write(dir.join("kubeconfig.new"), pki.kubeconfig()?)?;
        std::fs::rename(dir.join("kubeconfig.new"), dir.join("kubeconfig"))?;
        server.wait().await;
        Ok(())
    })
}

/// A CA and what it signs.
struct Pki {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

impl Pki {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "bench-ca");
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), ca_pem })
    }

    /// A certificate and key in PEM for an administrator.
    fn client(&self, user: &str) -> Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn server(&self) -> Result<(String, String)> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(LISTEN.0.into()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn kubeconfig(&self) -> Result<String> {
        let (certificate, key) = self.client("admin")?;
        let [ca, certificate, key] = [&self.ca_pem, &certificate, &key].map(|pem| STANDARD.encode(pem));
        Ok(format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: b, cluster: {{server: 'https://{}', certificate-authority-data: {ca}}}}}]\nusers: [{{name: b, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]\ncontexts: [{{name: b, context: {{cluster: b, user: b}}}}]\ncurrent-context: b\n",
            SocketAddr::from(LISTEN)
        ))
    }
}
