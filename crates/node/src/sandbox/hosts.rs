//! `/etc/hosts` of a pod, as kubelet writes it. Pure.

use std::net::IpAddr;

use daymark_model::PerFamily;

use crate::runtime::SandboxSpec;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const STANDARD: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// The file's text. `node` is the node's own file, which pods in the host network see.
pub fn text(spec: &SandboxSpec, ips: PerFamily<IpAddr>, node: &str) -> String {
    let mut text = if spec.host_network {
        format!("# Kubernetes-managed hosts file (host network).\n{node}")
    } else {
        let names = match &spec.domain {
            Some(domain) => format!("{}.{domain}\t{}", spec.hostname, spec.hostname),
            None => spec.hostname.clone(),
        };
        let own: String = ips.iter().map(|ip| format!("{ip}\t{names}\n")).collect();
        format!("{HEADER}{STANDARD}{own}")
    };
    if !spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for (ip, names) in &spec.host_aliases {
            text.push_str(&format!("{ip}\t{}\n", names.join("\t")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_itself_and_its_aliases() {
        let spec = SandboxSpec {
            hostname: "web-0".into(),
            domain: Some("web.default.svc.cluster.local".into()),
            host_aliases: vec![("192.0.2.1".into(), vec!["a".into(), "b".into()])],
            ..SandboxSpec::default()
        };
        let ips = ["10.244.1.2", "fd00:10:244:1::2"].map(|ip| ip.parse().expect("address"));
        let text = text(&spec, PerFamily::from_list(ips).expect("two families"), "");
        for ip in ips {
            assert!(text.contains(&format!("{ip}\tweb-0.web.default.svc.cluster.local\tweb-0\n")), "{text}");
        }
        assert!(text.ends_with("# Entries added by HostAliases.\n192.0.2.1\ta\tb\n"), "{text}");
    }

    #[test]
    fn the_host_network_sees_the_nodes_file() {
        let spec = SandboxSpec { host_network: true, ..SandboxSpec::default() };
        let ip: IpAddr = "192.0.2.9".parse().expect("address");
        let text = text(&spec, ip.into(), "192.0.2.9\tnode\n");
        assert!(text.ends_with("192.0.2.9\tnode\n"));
    }
}
