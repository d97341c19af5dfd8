//! A throw-away cluster CA with certificates for a server on loopback and its clients.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine;
use daymark_apiserver::Config;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};

/// A CA and what it signs.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pub ca_pem: String,
    account_key_pem: String,
}

impl Pki {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        let certificate = params.self_signed(&key).expect("the parameters are complete");
        let account_key_pem = KeyPair::generate().expect("ring makes keys").serialize_pem();
        Self { ca_pem: certificate.pem(), issuer: Issuer::new(params, key), account_key_pem }
    }

    /// A client certificate and key in PEM.
    pub fn client(&self, user: &str, group: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// A certificate and key in PEM for a server on 127.0.0.1.
    pub fn server(&self) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a plain name");
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are complete");
        (certificate.pem(), key.serialize_pem())
    }

    /// A server's configuration on loopback.
    pub fn config(&self, data_dir: &Path, listen: SocketAddr) -> Config {
        let (server_cert_pem, server_key_pem) = self.server();
        let (kubelet_client_cert_pem, kubelet_client_key_pem) =
            self.client("system:apiserver", "system:masters");
        Config {
            data_dir: data_dir.to_owned(),
            listen: vec![listen],
            // Loopback is refused as an endpoint; this address is for documentation.
            advertise: SocketAddr::from(([192, 0, 2, 1], 6443)),
            ca_pem: self.ca_pem.clone(),
            front_proxy_ca_pem: self.ca_pem.clone(),
            server_cert_pem,
            server_key_pem,
            kubelet_client_cert_pem,
            kubelet_client_key_pem,
            service_account_key_pem: self.account_key_pem.clone(),
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            pods_need_accounts: false,
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a CIDR")],
            dns_ip: "10.96.0.10".parse().expect("an address"),
            node_port_range: 30000..=32767,
        }
    }

    /// A kubeconfig of a user for the server at `address`.
    pub fn kubeconfig(&self, address: SocketAddr, user: &str, group: &str) -> String {
        let (certificate, key) = self.client(user, group);
        let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: \
             https://{address}\n    certificate-authority-data: {}\ncontexts:\n- name: test\n  context:\n    \
             cluster: test\n    user: test\nusers:\n- name: test\n  user:\n    client-certificate-data: {}\n    \
             client-key-data: {}\n",
            encode(&self.ca_pem),
            encode(&certificate),
            encode(&key)
        )
    }
}
