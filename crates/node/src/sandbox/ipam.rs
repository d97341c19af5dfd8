//! Which addresses of the node's pod CIDRs are free. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use daymark_model::PerFamily;
use ipnet::IpNet;

/// More pods than this never fit on a node, however large its networks are.
const MOST: u64 = 1 << 16;
/// The first place is the network's third address.
const RESERVED: u128 = 2;

/// Addresses of one node's pods. A pod has the same place in the network of each family.
#[derive(Clone, Debug)]
pub struct Pool {
    cidrs: PerFamily<IpNet>,
    /// Places with an address in use.
    used: BTreeSet<u64>,
    /// Where the search goes on, so that an address isn't given out again soon.
    next: u64,
}

impl Pool {
    /// A pool in which nothing is used.
    pub fn new(cidrs: PerFamily<IpNet>) -> Self {
        Self { cidrs, used: BTreeSet::new(), next: 0 }
    }

    /// How many pods can have addresses: all but each network's first two and last.
    pub fn size(&self) -> usize {
        usize::try_from(self.places()).unwrap_or(usize::MAX)
    }

    fn places(&self) -> u64 {
        let room = |cidr: IpNet| {
            let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
            1_u64.checked_shl(bits).unwrap_or(u64::MAX).saturating_sub(3).min(MOST)
        };
        self.cidrs.iter().map(room).min().unwrap_or(0)
    }

    /// Takes the next free addresses after those given out last.
    pub fn take(&mut self) -> Option<PerFamily<IpAddr>> {
        let size = self.places();
        let place = (0..size).map(|step| (self.next + step) % size).find(|p| !self.used.contains(p))?;
        self.used.insert(place);
        self.next = place + 1;
        Some(self.cidrs.map(|cidr| address(cidr, place)))
    }

    /// Takes certain addresses; those outside of the networks are ignored.
    pub fn take_these(&mut self, ips: PerFamily<IpAddr>) {
        for place in self.places_of(ips) {
            self.used.insert(place);
            self.next = place + 1;
        }
    }

    /// Gives addresses back.
    pub fn free(&mut self, ips: PerFamily<IpAddr>) {
        for place in self.places_of(ips) {
            self.used.remove(&place);
        }
    }

    /// One place, unless the networks changed since the addresses were given out.
    fn places_of(&self, ips: PerFamily<IpAddr>) -> BTreeSet<u64> {
        let cidrs = self.cidrs;
        ips.iter().flat_map(|ip| cidrs.iter().filter_map(move |cidr| place(cidr, ip))).collect()
    }
}

fn address(cidr: IpNet, place: u64) -> IpAddr {
    let offset = u128::from(place) + RESERVED;
    match cidr.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + offset as u32).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + offset).into(),
    }
}

fn place(cidr: IpNet, ip: IpAddr) -> Option<u64> {
    let offset = match (cidr.network(), ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => u128::from(ip.to_bits()).checked_sub(base.to_bits().into())?,
        (IpAddr::V6(base), IpAddr::V6(ip)) => ip.to_bits().checked_sub(base.to_bits())?,
        _ => return None,
    };
    u64::try_from(offset.checked_sub(RESERVED)?).ok().filter(|_| cidr.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(cidrs: &[&str]) -> Pool {
        Pool::new(PerFamily::from_list(cidrs.iter().map(|c| c.parse().expect("cidr"))).expect("one each"))
    }

    #[test]
    fn reserved_addresses_are_not_given_out() {
        let mut pool = pool(&["10.244.1.0/29"]);
        let all = std::iter::from_fn(|| pool.take()).map(|a| a.primary().to_string()).collect::<Vec<_>>();
        assert_eq!(all, ["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"]);
    }

    #[test]
    fn both_families_give_the_same_place_and_the_smaller_network_limits() {
        let mut pool = pool(&["fd00:10:244:1::/64", "10.244.1.0/29"]);
        let first = pool.take().expect("free");
        let text = first.iter().map(|ip| ip.to_string()).collect::<Vec<_>>();
        assert_eq!(text, ["fd00:10:244:1::2", "10.244.1.2"]);
        assert_eq!(std::iter::from_fn(|| pool.take()).count(), 4);
        pool.free(first);
        assert_eq!(pool.take(), Some(first));
    }

    #[test]
    fn a_pod_from_before_the_second_family_keeps_its_place() {
        let mut pool = pool(&["10.244.1.0/29", "fd00:10:244:1::/64"]);
        pool.take_these(PerFamily::single("10.244.1.2".parse().expect("address")));
        let next = pool.take().expect("free");
        assert_eq!(next.primary().to_string(), "10.244.1.3");
        pool.take_these(PerFamily::single("192.0.2.7".parse().expect("address")));
        assert_eq!(std::iter::from_fn(|| pool.take()).count(), 3, "another network's takes no place");
    }

    #[test]
    fn a_freed_address_comes_back_last() {
        let mut pool = pool(&["10.244.1.0/29"]);
        let first = pool.take().expect("free");
        pool.free(first);
        assert_ne!(pool.take(), Some(first));
    }

    #[test]
    fn tiny_networks_have_no_room() {
        for cidr in ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"] {
            let mut pool = pool(&[cidr]);
            assert_eq!(std::iter::from_fn(|| pool.take()).count(), pool.size(), "{cidr}");
        }
    }

    proptest! {
        #[test]
        fn no_address_is_ever_given_out_twice(steps in proptest::collection::vec(any::<bool>(), 1..200)) {
            let mut pool = pool(&["10.244.1.0/27", "fd00:10:244:1::/64"]);
            let mut held = Vec::new();
            for take in steps {
                if take {
                    match pool.take() {
                        Some(address) => {
                            prop_assert!(!held.contains(&address));
                            held.push(address);
                        }
                        None => prop_assert_eq!(held.len(), pool.size()),
                    }
                } else if !held.is_empty() {
                    pool.free(held.remove(0));
                }
            }
        }
    }
}
