//! What programs know beside the tables, compared with a configuration: networks, and the settings of the node.

use std::collections::{BTreeMap, BTreeSet};

use crate::abi;
use crate::config::Config;
use crate::networks::flatten;

/// Something that programs do not know as a configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misknown {
    /// A network, or what is set.
    pub what: String,
    pub have: String,
    pub want: String,
}

/// Something that is set, in words.
type Fact = fn(&abi::Settings) -> String;

/// Pure.
pub(crate) fn compare(
    networks: &BTreeMap<abi::NetworkKey, u32>,
    settings: &abi::Settings,
    config: &Config,
) -> Vec<Misknown> {
    let wanted = flatten(&config.networks());
    let keys: BTreeSet<_> = networks.keys().chain(wanted.keys()).collect();
    let mut found = Vec::new();
    for key in keys {
        let (have, want) = (networks.get(key), wanted.get(key));
        if have != want {
            let network = abi::network_from_words(key.prefix_bits, key.ip);
            let what = network.map_or_else(|| format!("{key:?}"), |network| network.to_string());
            found.push(Misknown { what, have: in_words(have), want: in_words(want) });
        }
    }
    let want = config.settings(settings.uplink, settings.netns_cookie);
    let facts: [(&str, Fact); 4] = [
        ("the node's IPv4 address", |s| address(s.node_ipv4)),
        ("the node's IPv6 address", |s| address(s.node_ipv6)),
        ("ports of translated connections", |s| format!("{}-{}", s.first_port, s.last_port)),
        ("networks of pods alone", pod_networks),
    ];
    for (what, fact) in facts {
        let (have, want) = (fact(settings), fact(&want));
        if have != want {
            found.push(Misknown { what: what.to_owned(), have, want });
        }
    }
    found
}

fn in_words(flags: Option<&u32>) -> String {
    let Some(flags) = flags else { return "nothing".to_owned() };
    let names = [
        (abi::NETWORK_POD, "pods"),
        (abi::NETWORK_CLUSTER, "the cluster"),
        (abi::NETWORK_SERVICE, "Services"),
        (abi::NETWORK_THIS_NODE, "this node"),
    ];
    let set: Vec<&str> = names.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect();
    set.join(", ")
}

fn address(words: [u32; 4]) -> String {
    if words == [0; 4] { "none".to_owned() } else { abi::ip_from_words(words).to_string() }
}

fn pod_networks(settings: &abi::Settings) -> String {
    let count = settings.pod_networks_count as usize;
    let (networks, _) = settings.pod_networks.as_chunks::<8>();
    let network = |words: &[u32; 8]| {
        let ([ip, mask], _) = words.as_chunks::<4>() else { return String::new() };
        let bits: u32 = mask.iter().map(|word| word.count_ones()).sum();
        abi::network_from_words(bits, *ip).map_or_else(String::new, |network| network.to_string())
    };
    let networks: Vec<String> = networks.iter().take(count).map(network).collect();
    if networks.is_empty() { "none".to_owned() } else { networks.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(node: &str, pods: &str) -> Config {
        let mut config = Config::new("/nowhere");
        config.node_ips = vec![node.parse().expect("an address")];
        config.pod_cidrs = vec![pods.parse().expect("CIDR")];
        config.service_cidrs = vec!["10.96.0.0/16".parse().expect("CIDR")];
        config
    }

    #[test]
    fn what_differs_is_told_with_both() {
        let have = config("192.0.2.11", "10.244.0.0/16");
        let (networks, settings) = (flatten(&have.networks()), have.settings(2, 7));
        assert_eq!(compare(&networks, &settings, &have), []);
        let found = compare(&networks, &settings, &config("192.0.2.12", "10.0.0.0/8"));
        let told: Vec<String> =
            found.iter().map(|m| format!("{}: {} / {}", m.what, m.have, m.want)).collect();
        assert_eq!(
            told,
            [
                "10.0.0.0/8: nothing / pods",
                "10.96.0.0/16: Services / pods, Services",
                "10.244.0.0/16: pods / nothing",
                "192.0.2.11/32: this node / nothing",
                "192.0.2.12/32: nothing / this node",
                "the node's IPv4 address: 192.0.2.11 / 192.0.2.12",
                "networks of pods alone: 10.244.0.0/16 / none",
            ]
        );
    }
}
