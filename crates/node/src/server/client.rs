//! Who may use the kubelet API: the API server, by the name or group of its certificate. Certificates that the
//! cluster's authority gave to others are no way around the API server's rules.

use x509_parser::parse_x509_certificate;

const API_SERVER: &str = "kube-apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// Whether the holder of a certificate, in DER and verified, is let in; otherwise who it is.
pub fn admit(der: Option<&[u8]>) -> Result<(), String> {
    let Some((_, certificate)) = der.and_then(|der| parse_x509_certificate(der).ok()) else {
        return Err("system:anonymous".into());
    };
    let subject = certificate.subject();
    let user = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default();
    let mut groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
    if user == API_SERVER || groups.any(|group| group == ADMINISTRATORS) {
        Ok(())
    } else {
        Err(user.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_api_server_and_administrators_are_let_in() {
        let verdict = |user: &str, group: &str| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, user);
            params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
            admit(Some(params.self_signed(&key).expect("a certificate").der()))
        };
        assert_eq!(verdict(API_SERVER, "x"), Ok(()));
        assert_eq!(verdict("kubernetes-admin", ADMINISTRATORS), Ok(()));
        assert_eq!(verdict("jane", "dev"), Err("jane".into()));
        assert_eq!(verdict("system:node:node2", "system:nodes"), Err("system:node:node2".into()));
        assert_eq!(admit(None), Err("system:anonymous".into()));
        assert_eq!(admit(Some(b"rubbish")), Err("system:anonymous".into()));
    }
}
