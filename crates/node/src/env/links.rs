//! Variables that name Services (`REDIS_SERVICE_HOST`, `REDIS_PORT_6379_TCP_ADDR`, …).

/// As much of a Service as its variables need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub cluster_ip: String,
    /// Name (may be empty), number and protocol of each port.
    pub ports: Vec<(String, i32, String)>,
}

/// The variables of these Services, each in the order and spelling that Kubernetes uses.
pub fn variables<'a>(links: impl IntoIterator<Item = &'a Link>) -> Vec<(String, String)> {
    links.into_iter().flat_map(of_one).collect()
}

fn of_one(link: &Link) -> Vec<(String, String)> {
    let Some((_, first_port, first_protocol)) = link.ports.first() else { return Vec::new() };
    let name = env_name(&link.name);
    let ip = &link.cluster_ip;
    let host = bracketed(ip);
    let mut vars = vec![
        (format!("{name}_SERVICE_HOST"), ip.clone()),
        (format!("{name}_SERVICE_PORT"), first_port.to_string()),
    ];
    for (port_name, port, _) in link.ports.iter().filter(|(n, ..)| !n.is_empty()) {
        vars.push((format!("{name}_SERVICE_PORT_{}", env_name(port_name)), port.to_string()));
    }
    let url = |port: i32, protocol: &str| format!("{}://{host}:{port}", protocol.to_lowercase());
    vars.push((format!("{name}_PORT"), url(*first_port, first_protocol)));
    for (_, port, protocol) in &link.ports {
        let prefix = format!("{name}_PORT_{port}_{}", protocol.to_uppercase());
        vars.push((prefix.clone(), url(*port, protocol)));
        vars.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        vars.push((format!("{prefix}_PORT"), port.to_string()));
        vars.push((format!("{prefix}_ADDR"), ip.clone()));
    }
    vars
}

fn env_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_spelt_out_like_docker_links() {
        let link = Link {
            name: "redis-primary".into(),
            cluster_ip: "10.0.0.11".into(),
            ports: vec![("redis".into(), 6379, "TCP".into()), (String::new(), 53, "UDP".into())],
        };
        let text: Vec<String> = variables([&link]).iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "REDIS_PRIMARY_SERVICE_HOST=10.0.0.11",
                "REDIS_PRIMARY_SERVICE_PORT=6379",
                "REDIS_PRIMARY_SERVICE_PORT_REDIS=6379",
                "REDIS_PRIMARY_PORT=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp",
                "REDIS_PRIMARY_PORT_6379_TCP_PORT=6379",
                "REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.0.0.11",
                "REDIS_PRIMARY_PORT_53_UDP=udp://10.0.0.11:53",
                "REDIS_PRIMARY_PORT_53_UDP_PROTO=udp",
                "REDIS_PRIMARY_PORT_53_UDP_PORT=53",
                "REDIS_PRIMARY_PORT_53_UDP_ADDR=10.0.0.11",
            ]
        );
    }
}
