//! Who a client is, by its certificate, and what it may do.

use crate::error::ApiError;

use super::request::Verb;

/// A user and its groups, as Kubernetes reads them from a client certificate: the subject's common
/// name and its organizations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

const ANONYMOUS: &str = "system:anonymous";
/// Members may do everything; finer rules come with RBAC.
const TRUSTED_GROUPS: [&str; 3] = ["system:masters", "system:nodes", "system:controllers"];
const TRUSTED_USERS: [&str; 3] =
    ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"];
const OPEN_PATHS: [&str; 4] = ["/livez", "/readyz", "/healthz", "/version"];

impl Identity {
    pub fn anonymous() -> Self {
        Self { user: ANONYMOUS.into(), groups: vec!["system:unauthenticated".into()] }
    }

    /// Reads the subject of a certificate in DER that has already been verified.
    ///
    /// # Errors
    /// 401 when the certificate names nobody.
    pub fn from_certificate(der: &[u8]) -> Result<Self, ApiError> {
        let unauthorized = || ApiError::new(401, "Unauthorized", "Unauthorized");
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| unauthorized())?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok());
        let user = user.filter(|u| !u.is_empty()).ok_or_else(unauthorized)?.to_owned();
        let mut groups: Vec<String> =
            subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
        groups.push("system:authenticated".into());
        Ok(Self { user, groups })
    }

    pub fn is_anonymous(&self) -> bool {
        self.user == ANONYMOUS
    }

    /// Whether everything is allowed.
    pub fn is_trusted(&self) -> bool {
        TRUSTED_USERS.contains(&self.user.as_str())
            || self.user.starts_with("system:controller:")
            || self.groups.iter().any(|g| TRUSTED_GROUPS.contains(&g.as_str()))
    }

    /// Whether a path outside the resources may be read.
    pub fn may_read_path(&self, path: &str) -> bool {
        let open = OPEN_PATHS
            .iter()
            .any(|p| path == *p || path.strip_prefix(p).is_some_and(|rest| rest.starts_with('/')));
        let discovery = ["/api", "/apis", "/openapi", "/"];
        let discovers =
            discovery.iter().any(|p| path == *p || (p.len() > 1 && path.starts_with(&format!("{p}/"))));
        open || self.is_trusted() || (!self.is_anonymous() && discovers)
    }

    /// Reviews of oneself are open to everyone who is known.
    pub fn may_use(&self, resource: &str) -> bool {
        self.is_trusted() || (!self.is_anonymous() && resource.starts_with("selfsubject"))
    }

    pub fn refuse_path(&self, verb: &str, path: &str) -> ApiError {
        let message = format!("forbidden: User \"{}\" cannot {verb} path \"{path}\"", self.user);
        ApiError::new(403, "Forbidden", message).with_details(serde_json::json!({}))
    }

    /// The refusal of a request for a resource.
    pub fn refuse(&self, verb: Verb, group: &str, resource: &str, namespace: &str, name: &str) -> ApiError {
        let scope = match namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let user = &self.user;
        let why = format!(
            "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{group}\" {scope}",
            verb.as_str()
        );
        ApiError::forbidden(group, resource, name, &why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(group: &str) -> Identity {
        Identity { user: "someone".into(), groups: vec![group.into(), "system:authenticated".into()] }
    }

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
    }

    #[test]
    fn anonymous_sees_health_and_version_only() {
        let nobody = Identity::anonymous();
        for path in ["/livez", "/readyz", "/readyz/store", "/healthz", "/version"] {
            assert!(nobody.may_read_path(path), "{path}");
        }
        for path in ["/", "/api", "/apis/apps", "/openapi/v3", "/livezz"] {
            assert!(!nobody.may_read_path(path), "{path}");
        }
        assert!(!nobody.may_use("selfsubjectreviews"));
    }

    #[test]
    fn trust_is_by_group_or_controller_name() {
        assert!(member("system:masters").may_use("pods"));
        assert!(member("system:nodes").may_use("pods"));
        assert!(!member("dev").may_use("pods"));
        assert!(member("dev").may_use("selfsubjectaccessreviews"));
        assert!(member("dev").may_read_path("/apis/apps/v1"));
    }

    #[test]
    fn a_refusal_says_who_what_and_where() {
        let refusal = member("dev").refuse(Verb::List, "apps", "deployments", "default", "");
        assert_eq!(
            refusal.message,
            "deployments.apps \"\" is forbidden: User \"someone\" cannot list resource \"deployments\" \
             in API group \"apps\" in the namespace \"default\""
        );
    }
}
