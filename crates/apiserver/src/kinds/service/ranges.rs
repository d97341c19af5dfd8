//! The ranges that cluster IPs come from: those that the server was started with, and those of further
//! ServiceCIDRs. Ranges may overlap; an address has one owner whatever ranges it is in.

use std::net::IpAddr;

use ipnet::IpNet;
use rand::Rng;

use super::pool::{Addresses, PoolError};

#[derive(Clone, Debug)]
struct Range {
    addresses: Addresses,
    /// Nothing more is given from it.
    closing: bool,
    /// It is there whatever ServiceCIDRs say.
    fixed: bool,
}

/// All ranges, the primary first.
#[derive(Clone, Debug)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    pub fn new(cidrs: Vec<IpNet>) -> Self {
        let fixed = |cidr| Range { addresses: Addresses::new(cidr), closing: false, fixed: true };
        Self(cidrs.into_iter().map(fixed).collect())
    }

    /// The families that there are addresses of, the default one first.
    pub fn families(&self) -> Vec<&'static str> {
        let mut unique = Vec::new();
        for family in self.0.iter().map(|r| r.addresses.family()) {
            if !unique.contains(&family) {
                unique.push(family);
            }
        }
        unique
    }

    /// The first range of a family, as errors name it.
    pub fn shown(&self, family: &str) -> Option<IpNet> {
        self.0.iter().map(|r| &r.addresses).find(|a| a.family() == family).map(|a| a.cidr)
    }

    /// Takes an address from whatever open range has it.
    pub fn take(&mut self, ip: IpAddr) -> Result<(), PoolError> {
        let mut outcome = Err(PoolError::Outside);
        for range in &self.0 {
            match range.addresses.is_free(ip) {
                Err(PoolError::Outside) => {}
                Ok(()) if range.closing => {}
                Ok(()) => outcome = Ok(()),
                taken => {
                    outcome = taken;
                    break;
                }
            }
        }
        if outcome.is_ok() {
            self.mark(ip);
        }
        outcome
    }

    /// As [`Ranges::take`], of a Service that had it before: closing ranges count.
    pub fn retake(&mut self, ip: IpAddr) -> Result<(), PoolError> {
        let mut known =
            self.0.iter().map(|r| r.addresses.is_free(ip)).filter(|o| *o != Err(PoolError::Outside));
        known.next().unwrap_or(Err(PoolError::Outside))?;
        self.mark(ip);
        Ok(())
    }

    fn mark(&mut self, ip: IpAddr) {
        for range in &mut self.0 {
            // Outside or taken: both are fine.
            let _ = range.addresses.take(ip);
        }
    }

    /// Takes any address of a family, from the first open range that is not full.
    pub fn take_any(&mut self, family: &str, rng: &mut impl Rng) -> Result<IpAddr, PoolError> {
        let open = self.0.iter_mut().filter(|r| !r.closing && r.addresses.family() == family);
        let ip =
            open.map(|r| r.addresses.take_any(rng)).find(Result::is_ok).unwrap_or(Err(PoolError::Full))?;
        self.mark(ip);
        Ok(ip)
    }

    pub fn free(&mut self, ip: IpAddr) {
        self.0.iter_mut().for_each(|range| range.addresses.free(ip));
    }

    /// Makes the further ranges these; those that are said to be closing give nothing more.
    pub fn set_further(&mut self, wanted: &[(IpNet, bool)]) {
        let used: Vec<IpAddr> = self.0.iter().flat_map(|r| r.addresses.used()).collect();
        // What the ServiceCIDRs with this range say about its closing.
        let asked = |cidr: IpNet| -> Vec<bool> {
            wanted.iter().filter(|(w, _)| w.trunc() == cidr).map(|(_, closing)| *closing).collect()
        };
        self.0.retain(|r| r.fixed || !asked(r.addresses.cidr).is_empty());
        for range in self.0.iter_mut().filter(|r| !r.fixed) {
            range.closing = !asked(range.addresses.cidr).contains(&false);
        }
        for (cidr, closing) in wanted {
            if self.0.iter().any(|r| r.addresses.cidr == cidr.trunc()) {
                continue;
            }
            let mut addresses = Addresses::new(*cidr);
            used.iter().for_each(|ip| drop(addresses.take(*ip)));
            self.0.push(Range { addresses, closing: *closing, fixed: false });
        }
    }

    /// Whether an address of this range is in use that no other range has.
    pub fn is_needed(&self, cidr: IpNet) -> bool {
        let others =
            |ip: IpAddr| self.0.iter().any(|r| !r.closing && r.addresses.cidr != cidr && r.addresses.has(ip));
        let own = self.0.iter().find(|r| r.addresses.cidr == cidr.trunc());
        own.is_some_and(|r| r.fixed || r.addresses.used().any(|ip| !others(ip)))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a CIDR")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn further_ranges_widen_the_pool_and_are_kept_while_needed() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut ranges = Ranges::new(vec![net("10.0.0.0/30")]);
        let both = [ranges.take_any("IPv4", &mut rng), ranges.take_any("IPv4", &mut rng)];
        assert!(both.iter().all(Result::is_ok));
        assert_eq!(ranges.take_any("IPv4", &mut rng), Err(PoolError::Full));
        assert_eq!(ranges.take(ip("10.1.0.1")), Err(PoolError::Outside));
        ranges.set_further(&[(net("10.1.0.0/30"), false)]);
        assert_eq!(ranges.take(ip("10.1.0.1")), Ok(()));
        assert!(ranges.is_needed(net("10.1.0.0/30")));
        ranges.set_further(&[(net("10.1.0.0/30"), true)]);
        assert_eq!(ranges.take(ip("10.1.0.2")), Err(PoolError::Outside), "it is closing");
        assert_eq!(ranges.retake(ip("10.1.0.2")), Ok(()), "but what was given stays");
        ranges.free(ip("10.1.0.1"));
        ranges.free(ip("10.1.0.2"));
        assert!(!ranges.is_needed(net("10.1.0.0/30")));
        ranges.set_further(&[]);
        assert_eq!(ranges.retake(ip("10.1.0.2")), Err(PoolError::Outside));
        assert_eq!(ranges.families(), ["IPv4"]);
    }

    #[test]
    fn an_address_of_two_ranges_has_one_owner() {
        let mut ranges = Ranges::new(vec![net("10.0.0.0/24"), net("fd00::/112")]);
        assert_eq!(ranges.take(ip("10.0.0.9")), Ok(()));
        ranges.set_further(&[(net("10.0.0.0/16"), false)]);
        assert_eq!(ranges.take(ip("10.0.0.9")), Err(PoolError::Taken));
        assert_eq!(ranges.take(ip("10.0.9.9")), Ok(()));
        assert!(ranges.is_needed(net("10.0.0.0/16")));
        ranges.free(ip("10.0.9.9"));
        assert!(!ranges.is_needed(net("10.0.0.0/16")), "10.0.0.9 is in the other range, too");
        assert_eq!(ranges.families(), ["IPv4", "IPv6"]);
        assert_eq!(ranges.shown("IPv6"), Some(net("fd00::/112")));
    }
}
