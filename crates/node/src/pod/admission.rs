//! What keeps this node from running a pod, whoever bound the pod to it.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::context::Settings;
use super::spec;
use super::state::Verdict;

const ANY: &str = "0.0.0.0";

/// Why this node will not run a pod beside those that are active, if so.
pub fn refuse(pod: &Pod, active: &[&Pod], settings: &Settings) -> Option<Verdict> {
    let verdict = |reason: &str, why: String| {
        Some(Verdict { reason: reason.into(), message: format!("Pod was rejected: {why}") })
    };
    let os = pod.spec.as_ref().and_then(|s| s.os.as_ref()).map(|os| os.name.as_str());
    if let Some(os) = os.filter(|os| *os != "linux") {
        let why = format!("Failed to admit pod as the OS field ({os}) doesn't match node OS (linux)");
        return verdict("PodOSNotSupported", why);
    }
    let (used, most) = (active.len(), settings.max_pods as usize);
    if used >= most {
        let why =
            format!("Node didn't have enough resource: pods, requested: 1, used: {used}, capacity: {most}");
        return verdict("OutOfpods", why);
    }
    let taken: Vec<_> = active.iter().flat_map(|other| host_ports(other)).collect();
    let clashes = |(ip, protocol, port): (&str, &str, i32)| {
        let same_ip = |other: &str| other == ip || other == ANY || ip == ANY;
        taken.iter().any(|(i, pr, po)| *pr == protocol && *po == port && same_ip(i))
    };
    if host_ports(pod).any(clashes) {
        let why = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return verdict("NodePorts", why.into());
    }
    None
}

/// Host address, protocol and port of what a pod serves on its node.
fn host_ports(pod: &Pod) -> impl Iterator<Item = (&str, &str, i32)> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let ports =
        spec::containers(pod).iter().chain(sidecars).flat_map(|c: &Container| c.ports.iter().flatten());
    ports.filter_map(|p| {
        let ip = p.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or(ANY);
        Some((ip, p.protocol.as_deref().unwrap_or("TCP"), p.host_port.filter(|n| *n > 0)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings() -> Settings {
        let ip = "172.30.0.11".parse().expect("ip");
        Settings {
            node: "node1".into(),
            node_ips: daymark_model::PerFamily::single(ip),
            dns_ip: ip,
            domain: "cluster.local".into(),
            host_resolver: crate::env::dns::Resolver::default(),
            cpu: 2000,
            memory: 1 << 30,
            max_pods: 2,
        }
    }

    fn with_port(port: Value) -> Pod {
        super::super::tests::pod(json!({"containers": [{"name": "c", "ports": [port]}]}))
    }

    #[test]
    fn one_host_port_has_one_pod() {
        let holder = with_port(json!({"containerPort": 80, "hostPort": 8080}));
        let local = with_port(json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}));
        let cases = [
            // (holder, port, clashes)
            (&holder, json!({"containerPort": 90, "hostPort": 8080}), true),
            (&holder, json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}), true),
            (&holder, json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}), false),
            (&holder, json!({"containerPort": 80, "hostPort": 8081}), false),
            (&holder, json!({"containerPort": 80}), false),
            (&local, json!({"containerPort": 80, "hostPort": 8080, "hostIP": "172.30.0.11"}), false),
            (&local, json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}), true),
            (&local, json!({"containerPort": 80, "hostPort": 8080}), true),
        ];
        for (holder, port, clashes) in cases {
            let verdict = refuse(&with_port(port.clone()), &[holder], &settings());
            assert_eq!(verdict.as_ref().is_some_and(|v| v.reason == "NodePorts"), clashes, "{port}");
        }
        let port = json!({"containerPort": 80, "hostPort": 8080});
        let sidecar = json!({"containers": [], "initContainers": [{"name": "s", "restartPolicy": "Always", "ports": [port]}]});
        assert!(refuse(&super::super::tests::pod(sidecar), &[&holder], &settings()).is_some());
        assert_eq!(refuse(&holder, &[], &settings()), None);
    }

    #[test]
    fn a_full_node_and_another_system_are_told_as_kubelet_tells_them() {
        let plain = super::super::tests::pod(json!({"containers": []}));
        assert_eq!(refuse(&plain, &[&plain], &settings()), None);
        let said = |v: Option<Verdict>| v.map(|v| format!("{} {}", v.reason, v.message)).unwrap_or_default();
        assert_eq!(
            said(refuse(&plain, &[&plain, &plain], &settings())),
            "OutOfpods Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"
        );
        let other = super::super::tests::pod(json!({"containers": [], "os": {"name": "windows"}}));
        assert!(said(refuse(&other, &[], &settings())).starts_with("PodOSNotSupported Pod was rejected:"));
    }
}
