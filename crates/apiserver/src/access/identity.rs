//! A user, its groups and what else is known of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::ApiError;

pub const ANONYMOUS: &str = "system:anonymous";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Its members may do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Who sends a request, as Kubernetes' `user.Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    /// Empty for users that have none.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// 401, as for every credential that is no good.
pub fn unauthorized() -> ApiError {
    ApiError::new(401, "Unauthorized", "Unauthorized")
}

impl Identity {
    pub fn anonymous() -> Self {
        Self { user: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// Reads the subject of a certificate in DER that has already been verified: its common name is the
    /// user, its organizations are the groups.
    ///
    /// # Errors
    /// 401 when the certificate names nobody.
    pub fn from_certificate(der: &[u8]) -> Result<Self, ApiError> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| unauthorized())?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok());
        let user = user.filter(|u| !u.is_empty()).ok_or_else(unauthorized)?.to_owned();
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned);
        let mut groups: Vec<String> = groups.collect();
        groups.push(AUTHENTICATED.into());
        let digest: String = Sha256::digest(der).iter().map(|b| format!("{b:02x}")).collect();
        let extra = [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")])].into();
        Ok(Self { user, uid: String::new(), groups, extra })
    }

    pub fn is_anonymous(&self) -> bool {
        self.user == ANONYMOUS
    }

    /// Whether everything is allowed, whatever the roles say.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|g| g == MASTERS)
    }

    /// `authentication.k8s.io/v1 UserInfo`.
    pub fn user_info(&self) -> Value {
        let mut info = json!({"username": self.user});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

const ACCOUNT: &str = "system:serviceaccount:";

/// Namespace and name of a ServiceAccount from its user name.
pub fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT)?.split_once(':')?;
    let plain = |part: &str| !part.is_empty() && !part.contains([':', '/']);
    (plain(namespace) && plain(name)).then_some((namespace, name))
}

pub fn account_user(namespace: &str, name: &str) -> String {
    format!("{ACCOUNT}{namespace}:{name}")
}

pub fn account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_user_and_groups_from_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "dev");
        let identity = Identity::from_certificate(params.self_signed(&key).unwrap().der()).unwrap();
        assert_eq!(identity.user, "jane");
        assert_eq!(identity.groups, ["dev", "system:authenticated"]);
        assert!(identity.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert!(!identity.is_master() && !identity.is_anonymous());
    }

    #[test]
    fn account_names_go_both_ways() {
        assert_eq!(account_of(&account_user("ns", "robot")), Some(("ns", "robot")));
        for user in
            ["system:serviceaccount:ns", "system:serviceaccount:a:b:c", "jane", "system:serviceaccount::x"]
        {
            assert_eq!(account_of(user), None, "{user}");
        }
    }
}
