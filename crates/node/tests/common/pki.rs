//! Certificates for the kubelet API and its client.

use std::sync::Arc;

/// An authority with a certificate for a server and one for a client.
pub struct Pki {
    pub ca: String,
    pub server: (String, String),
    pub client: (String, String),
}

/// Makes one.
pub fn pki() -> Pki {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().expect("key");
    let ca = params.self_signed(&ca_key).expect("authority").pem();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let leaf = || {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
        let cert = params.signed_by(&key, &issuer).expect("certificate");
        (cert.pem(), key.serialize_pem())
    };
    Pki { ca, server: leaf(), client: leaf() }
}

impl Pki {
    /// Connects as the client, or as nobody.
    pub fn connector(&self, with_certificate: bool) -> tokio_rustls::TlsConnector {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).expect("pem")).expect("root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = if with_certificate {
            let cert = CertificateDer::from_pem_slice(self.client.0.as_bytes()).expect("pem");
            let key = PrivateKeyDer::from_pem_slice(self.client.1.as_bytes()).expect("pem");
            builder.with_client_auth_cert(vec![cert], key).expect("client certificate")
        } else {
            builder.with_no_client_auth()
        };
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }
}
