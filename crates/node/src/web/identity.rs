//! Which pod this is.

use serde::Serialize;

/// What the page says about the pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Identity {
    /// Name of the pod.
    pub pod: String,
    /// Its namespace; empty if unknown.
    pub namespace: String,
    /// Name of the node; empty if unknown.
    pub node: String,
    /// The pod's address.
    pub ip: String,
    /// `v1`, `v2`, …
    pub version: String,
}

impl Identity {
    /// Asks the environment (downward API), then the system.
    pub fn find() -> Self {
        let env =
            |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok()).filter(|v| !v.is_empty());
        let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let hostname = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        Self {
            pod: env(&["POD_NAME"]).or_else(|| hostname().ok()).unwrap_or_else(|| "unknown".into()),
            namespace: env(&["POD_NAMESPACE", "DAYMARK_NAMESPACE"])
                .or_else(|| namespace_of(&resolv_conf))
                .unwrap_or_default(),
            node: env(&["NODE_NAME", "DAYMARK_NODE"]).unwrap_or_default(),
            ip: env(&["POD_IP"]).or_else(own_address).unwrap_or_default(),
            version: env(&["WEB_VERSION"]).unwrap_or_else(|| "v1".into()),
        }
    }

    /// ` on NODE`, if it is known.
    pub fn on_node(&self) -> String {
        if self.node.is_empty() { String::new() } else { format!(" on {}", self.node) }
    }
}

/// A pod's first search domain is `NAMESPACE.svc.DOMAIN`.
fn namespace_of(resolv_conf: &str) -> Option<String> {
    let search = resolv_conf.lines().find_map(|line| line.strip_prefix("search "))?;
    let (namespace, rest) = search.split_whitespace().next()?.split_once('.')?;
    rest.starts_with("svc.").then(|| namespace.to_owned())
}

/// The address that the kernel would use towards elsewhere. Nothing is sent.
fn own_address() -> Option<String> {
    [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].into_iter().find_map(|(any, elsewhere)| {
        let socket = std::net::UdpSocket::bind(any).ok()?;
        socket.connect(elsewhere).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_in_the_search_path() {
        let text = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n";
        assert_eq!(namespace_of(text), Some("shop".into()));
        assert_eq!(namespace_of("search example.com\n"), None);
    }
}
