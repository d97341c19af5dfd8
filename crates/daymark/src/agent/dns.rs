//! Cluster DNS on a node: serving it, and telling the cluster so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use daymark_model::{Protocol, Service, ServiceType, Touched, World};
use daymark_plan::Zone;
use miette::{IntoDiagnostic, Result, WrapErr};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Seconds that answers of cluster names may be kept.
const DNS_TTL: u32 = 5;
/// How often the DNS server's EndpointSlice is made sure of, and how soon after a failure.
const DNS_PUBLISHED: Duration = Duration::from_secs(60);
const DNS_RETRY: Duration = Duration::from_millis(100);
/// Cluster DNS, as this node serves it.
pub struct Dns {
    pub domain: String,
    pub upstreams: Vec<SocketAddr>,
    /// Where upstreams are reached: the host's network namespace.
    pub outside: tokio::runtime::Handle,
}

/// Serves DNS on the node's addresses and tells the cluster that it does.
pub async fn serve(
    dns: Dns,
    node: &str,
    addresses: &[IpAddr],
    zones: watch::Receiver<Arc<Zone>>,
    client: kube::Client,
    stop: CancellationToken,
) -> Result<()> {
    let listen = addresses.iter().map(|ip| SocketAddr::new(*ip, 53)).collect();
    let config = daymark_dns::Config {
        listen,
        ttl: DNS_TTL,
        upstreams: dns.upstreams,
        upstream_runtime: Some(dns.outside),
    };
    let server = daymark_dns::Server::bind(config).into_diagnostic().wrap_err("cannot serve DNS")?;
    tokio::spawn(server.run(zones.clone(), stop));
    if let Some(ip) = addresses.first().copied() {
        let node = node.to_owned();
        tokio::spawn(publish_dns(client, node, ip, zones));
    }
    Ok(())
}

/// Makes this node's DNS server an endpoint of the DNS Service once it can answer, and sees to it that it
/// stays one.
async fn publish_dns(client: kube::Client, node: String, ip: IpAddr, mut zones: watch::Receiver<Arc<Zone>>) {
    if zones.wait_for(|zone| zone.is_synced()).await.is_err() {
        return;
    }
    let mut retry = DNS_RETRY;
    loop {
        match daymark_control::publish_dns(&client, &node, ip, None).await {
            Ok(()) => {
                retry = DNS_RETRY;
                tokio::time::sleep(DNS_PUBLISHED).await;
            }
            Err(why) => {
                tracing::warn!("cannot publish this node's DNS server: {why}");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(DNS_PUBLISHED);
            }
        }
    }
}

/// The name servers that this host uses, as the system's resolver would read them.
pub fn upstreams() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    name_servers(&text).into_iter().map(|ip| SocketAddr::new(ip, 53)).collect()
}

fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let words = resolv_conf.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|w| w.first() == Some(&"nameserver")).filter_map(|w| w.get(1)?.parse().ok()).collect()
}

/// What, of everything, anybody but the zone looks at: most Services have nothing but an address and a name.
pub fn beside_names(mut all: Touched, world: &World) -> Touched {
    let is_more = |service: &Service| {
        service.service_type == ServiceType::LoadBalancer
            || !service.load_balancer_ips.is_empty()
            || service.ports.iter().any(|port| port.protocol == Protocol::Sctp)
    };
    all.services.retain(|name| world.service(name).is_some_and(is_more));
    all
}

#[cfg(test)]
mod tests {
    use daymark_model::{Change, Node, ObjectName, ServicePort};

    use super::*;

    #[test]
    fn services_that_are_but_names_and_addresses_concern_the_zone_alone() {
        let port = |protocol| ServicePort { name: "".into(), protocol, port: 80, node_port: None };
        let with = |name: &str, service_type: ServiceType, protocol: Protocol| Service {
            service_type,
            ports: vec![port(protocol)],
            ..Service::new(ObjectName::new("default", name))
        };
        let mut world = World::new();
        for service in [
            with("plain", ServiceType::ClusterIp, Protocol::Tcp),
            with("on-nodes", ServiceType::NodePort, Protocol::Udp),
            with("balanced", ServiceType::LoadBalancer, Protocol::Tcp),
            with("calls", ServiceType::ClusterIp, Protocol::Sctp),
        ] {
            world.apply(Change::Service(service));
        }
        world.apply(Change::Node(Node::new("n1")));
        let left = beside_names(world.everything(), &world);
        let names: Vec<&str> = left.services.iter().map(|name| &*name.name).collect();
        assert_eq!(names, ["balanced", "calls"]);
        assert_eq!(left.nodes.len(), 1);
    }
}
