//! Which addresses are pods, cluster members, Services, and this node: a prefix table whose most
//! specific entry says everything about an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::abi;
use crate::error::MapError;
use crate::map::Map;

/// Flags of each prefix: its own and those of all prefixes that contain it, since only the most specific
/// is found. Pure.
pub(crate) fn flatten(networks: &[(IpNet, u32)]) -> BTreeMap<abi::NetworkKey, u32> {
    networks
        .iter()
        .map(|(network, _)| {
            let flags =
                networks.iter().filter(|(outer, _)| outer.contains(network)).fold(0, |all, (_, f)| all | f);
            let (prefix_bits, ip) = abi::network_words(*network);
            (abi::NetworkKey { prefix_bits, ip }, flags)
        })
        .collect()
}

/// The prefix of one address.
pub(crate) fn host(ip: IpAddr) -> IpNet {
    IpNet::from(ip)
}

#[derive(Debug)]
pub(crate) struct Networks {
    map: Map<abi::NetworkKey, u32>,
}

impl Networks {
    pub fn open(maps: &Path) -> Result<Self, MapError> {
        Ok(Self { map: Map::open(maps, "networks")? })
    }

    /// Who belonged to the cluster when the table was last written.
    pub fn members(&self) -> Result<Vec<IpNet>, MapError> {
        let all = self.read()?;
        let members = all.iter().filter(|(_, flags)| **flags & abi::NETWORK_CLUSTER != 0);
        Ok(members.filter_map(|(key, _)| abi::network_from_words(key.prefix_bits, key.ip)).collect())
    }

    /// Every prefix and its flags.
    pub fn read(&self) -> Result<BTreeMap<abi::NetworkKey, u32>, MapError> {
        let mut found = BTreeMap::new();
        for key in self.map.keys()? {
            found.extend(self.map.get(&key)?.map(|flags| (key, flags)));
        }
        Ok(found)
    }

    /// Makes the table so. Writes before it deletes, so that no member is taken for a stranger meanwhile.
    pub fn set(&self, networks: &[(IpNet, u32)]) -> Result<(), MapError> {
        let wanted = flatten(networks);
        let have: BTreeSet<_> = self.map.keys()?.into_iter().collect();
        for (key, flags) in &wanted {
            self.map.put(key, flags)?;
        }
        have.iter().filter(|key| !wanted.contains_key(key)).try_for_each(|key| self.map.delete(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("CIDR")
    }

    #[test]
    fn inner_prefix_inherits_from_outer_ones() {
        let table = flatten(&[
            (net("10.0.0.0/8"), 1),
            (net("10.1.0.0/16"), 2),
            (net("10.1.0.5/32"), 4),
            (net("10.1.0.5/32"), 8),
            (net("fd00::/8"), 16),
        ]);
        let flags = |text: &str| {
            let (prefix_bits, ip) = abi::network_words(net(text));
            table.get(&abi::NetworkKey { prefix_bits, ip }).copied()
        };
        assert_eq!(flags("10.0.0.0/8"), Some(1));
        assert_eq!(flags("10.1.0.0/16"), Some(3));
        assert_eq!(flags("10.1.0.5/32"), Some(15));
        assert_eq!(flags("fd00::/8"), Some(16));
    }

    #[test]
    fn networks_survive_their_spelling() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "fd00:1::/32", "::/0"] {
            let (bits, words) = abi::network_words(net(text));
            assert_eq!(abi::network_from_words(bits, words), Some(net(text)));
        }
    }
}
