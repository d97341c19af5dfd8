//! Which addresses of the node's pod CIDR are free. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Addresses of one node's pods.
#[derive(Clone, Debug)]
pub struct Pool {
    cidr: Ipv4Net,
    used: BTreeSet<Ipv4Addr>,
    /// Where the search goes on, so that an address isn't given out again soon.
    next: u32,
}

impl Pool {
    /// A pool in which nothing is used.
    pub fn new(cidr: Ipv4Net) -> Self {
        Self { cidr, used: BTreeSet::new(), next: 0 }
    }

    /// How many pods can have an address: all but network address, `.1` and the last.
    pub fn size(&self) -> usize {
        (self.span() as usize).saturating_sub(3)
    }

    /// Takes the next free address after the one given out last.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        let size = self.size() as u32;
        for step in 0..size {
            let position = (self.next + step) % size;
            let address = Ipv4Addr::from(u32::from(self.cidr.network()) + 2 + position);
            if self.used.insert(address) {
                self.next = position + 1;
                return Some(address);
            }
        }
        None
    }

    /// Takes a certain address; false if it is used.
    pub fn take_this(&mut self, address: Ipv4Addr) -> bool {
        if self.cidr.contains(&address) {
            self.next = u32::from(address).saturating_sub(u32::from(self.cidr.network()) + 1);
        }
        self.used.insert(address)
    }

    /// Gives an address back.
    pub fn free(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }

    fn span(&self) -> u64 {
        1 << (32 - u64::from(self.cidr.prefix_len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(cidr: &str) -> Pool {
        Pool::new(cidr.parse().expect("cidr"))
    }

    #[test]
    fn reserved_addresses_are_not_given_out() {
        let mut pool = pool("10.244.1.0/29");
        let all = std::iter::from_fn(|| pool.take()).map(|a| a.to_string()).collect::<Vec<_>>();
        assert_eq!(all, ["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"]);
    }

    #[test]
    fn a_freed_address_comes_back_last() {
        let mut pool = pool("10.244.1.0/29");
        let first = pool.take().expect("free");
        pool.free(first);
        assert_ne!(pool.take(), Some(first));
    }

    #[test]
    fn tiny_networks_have_no_room() {
        for cidr in ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/32"] {
            let mut pool = pool(cidr);
            assert_eq!(std::iter::from_fn(|| pool.take()).count(), pool.size(), "{cidr}");
        }
    }

    proptest! {
        #[test]
        fn no_address_is_ever_given_out_twice(steps in proptest::collection::vec(any::<bool>(), 1..200)) {
            let mut pool = pool("10.244.1.0/27");
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
