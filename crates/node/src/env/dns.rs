//! How a pod resolves names: `/etc/resolv.conf` per `dnsPolicy` and `dnsConfig`, host name and domain.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::pod::spec;

const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    /// Name and value.
    pub options: Vec<(String, Option<String>)>,
}

impl Resolver {
    /// Reads a resolv.conf; what it does not know it leaves out.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => found.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => found.searches = words.map(str::to_owned).collect(),
                Some("options") => found.options.extend(words.map(|w| match w.split_once(':') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (w.to_owned(), None),
                })),
                _ => {}
            }
        }
        found
    }

    /// As the text of a resolv.conf.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            let word = |(name, value): &(String, Option<String>)| match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            };
            let words: Vec<String> = self.options.iter().map(word).collect();
            text.push_str(&format!("options {}\n", words.join(" ")));
        }
        text
    }

    fn add(&mut self, config: &PodDNSConfig) {
        append_new(&mut self.nameservers, config.nameservers.iter().flatten());
        append_new(&mut self.searches, config.searches.iter().flatten());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            self.options.retain(|(known, _)| known != name);
            self.options.push((name.clone(), option.value.clone()));
        }
    }
}

fn append_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// What a pod's resolver is told. `host` is the node's own configuration.
pub fn resolver(pod: &Pod, dns_ip: IpAddr, domain: &str, host: &Resolver) -> Resolver {
    let policy = pod.spec.as_ref().and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !spec::host_network(pod),
        _ => false,
    };
    let mut found = match policy {
        "None" => Resolver::default(),
        _ if cluster_first => cluster(spec::namespace(pod), dns_ip, domain, host),
        _ => host.clone(),
    };
    if let Some(config) = pod.spec.as_ref().and_then(|s| s.dns_config.as_ref()) {
        found.add(config);
    }
    found.nameservers.truncate(MOST_NAMESERVERS);
    found.searches.truncate(MOST_SEARCHES);
    found
}

fn cluster(namespace: &str, dns_ip: IpAddr, domain: &str, host: &Resolver) -> Resolver {
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    append_new(&mut searches, host.searches.iter().filter(|s| s.as_str() != "."));
    Resolver {
        nameservers: vec![dns_ip.to_string()],
        searches,
        options: vec![("ndots".to_owned(), Some("5".to_owned()))],
    }
}

/// A pod's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// What `hostname` prints.
    pub hostname: String,
    /// `subdomain.namespace.svc.DOMAIN`, if it has a subdomain.
    pub domain: Option<String>,
}

/// The pod's host name and domain, or why it cannot have them.
pub fn names(pod: &Pod, domain: &str, node: &str) -> Result<Names, String> {
    let spec_of = pod.spec.as_ref();
    if let Some(name) = spec_of.and_then(|s| s.hostname_override.clone()).filter(|n| !n.is_empty()) {
        return Ok(Names { hostname: name, domain: None });
    }
    if spec::host_network(pod) {
        return Ok(Names { hostname: node.to_owned(), domain: None });
    }
    let wanted = spec_of.and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty());
    let short = wanted.map_or_else(|| cut(spec::name(pod)), str::to_owned);
    let subdomain = spec_of.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty());
    let full = subdomain.map(|s| format!("{s}.{}.svc.{domain}", spec::namespace(pod)));
    let as_fqdn = spec_of.and_then(|s| s.set_hostname_as_fqdn).unwrap_or(false);
    let hostname = match &full {
        Some(full) if as_fqdn => format!("{short}.{full}"),
        _ => short,
    };
    if hostname.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {hostname} is too long \
             (64 characters is the max, {} characters requested)",
            hostname.len()
        ));
    }
    Ok(Names { hostname, domain: full })
}

/// A pod name as a host name: at most 63 bytes, not ending in `-` or `.`.
fn cut(name: &str) -> String {
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
