//! Numbered places of which each has at most one owner: node ports, and the addresses of a CIDR.
//!
//! Dynamic allocation is random and takes from the upper band first, so that low numbers stay free for
//! those who ask for one (KEP-3668 for ports, KEP-3070 for addresses).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;
use rand::Rng;

/// Why a place was not given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("range is full")]
    Full,
    #[error("taken")]
    Taken,
    #[error("outside")]
    Outside,
}

/// Places `0..size`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    size: u64,
    /// Places below this are given dynamically only when nothing else is left.
    reserved: u64,
    used: BTreeSet<u64>,
}

impl Places {
    fn take(&mut self, place: u64) -> Result<(), PoolError> {
        if self.used.insert(place) { Ok(()) } else { Err(PoolError::Taken) }
    }

    fn take_any(&mut self, rng: &mut impl Rng) -> Result<u64, PoolError> {
        let place =
            self.free_in(self.reserved..self.size, rng).or_else(|| self.free_in(0..self.reserved, rng));
        let place = place.ok_or(PoolError::Full)?;
        self.used.insert(place);
        Ok(place)
    }

    /// The first free place from a random start, wrapping round.
    fn free_in(&self, band: std::ops::Range<u64>, rng: &mut impl Rng) -> Option<u64> {
        if band.is_empty() {
            return None;
        }
        let start = rng.random_range(band.clone());
        self.first_free(start..band.end).or_else(|| self.first_free(band.start..start))
    }

    fn first_free(&self, range: std::ops::Range<u64>) -> Option<u64> {
        let mut candidate = range.start;
        for &used in self.used.range(range.clone()) {
            if used != candidate {
                break;
            }
            candidate += 1;
        }
        (candidate < range.end).then_some(candidate)
    }
}

/// `min(max(16, size/step), max)`, or nothing for ranges of 16 and fewer.
fn reserved(size: u64, step: u64, max: u64) -> u64 {
    if size <= 16 { 0 } else { (size / step).clamp(16, max) }
}

/// Node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    range: RangeInclusive<u16>,
    places: Places,
}

impl Ports {
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let size = range.len() as u64;
        Self { places: Places { size, reserved: reserved(size, 32, 128), used: BTreeSet::new() }, range }
    }

    fn place(&self, port: u16) -> Option<u64> {
        self.range.contains(&port).then(|| u64::from(port - self.range.start()))
    }

    pub fn take(&mut self, port: u16) -> Result<(), PoolError> {
        let place = self.place(port).ok_or(PoolError::Outside)?;
        self.places.take(place)
    }

    pub fn take_any(&mut self, rng: &mut impl Rng) -> Result<u16, PoolError> {
        let place = self.places.take_any(rng)?;
        Ok(self.range.start() + u16::try_from(place).expect("places of a port range are ports"))
    }

    pub fn free(&mut self, port: u16) {
        if let Some(place) = self.place(port) {
            self.places.used.remove(&place);
        }
    }

    /// `30000-32767`
    pub fn shown(&self) -> String {
        format!("{}-{}", self.range.start(), self.range.end())
    }
}

/// The addresses of one service CIDR: without the network's own, and for IPv4 without the broadcast address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub cidr: IpNet,
    places: Places,
}

impl Addresses {
    pub fn new(cidr: IpNet) -> Self {
        let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
        let total = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
        let size = total.saturating_sub(if matches!(cidr, IpNet::V4(_)) { 2 } else { 1 });
        let reserved = reserved(total, 16, 256).min(size);
        Self { cidr: cidr.trunc(), places: Places { size, reserved, used: BTreeSet::new() } }
    }

    pub fn family(&self) -> &'static str {
        if matches!(self.cidr, IpNet::V4(_)) { "IPv4" } else { "IPv6" }
    }

    fn place(&self, ip: IpAddr) -> Option<u64> {
        let offset = match (ip, self.cidr.network()) {
            (IpAddr::V4(ip), IpAddr::V4(base)) => u128::from(u32::from(ip).checked_sub(u32::from(base))?),
            (IpAddr::V6(ip), IpAddr::V6(base)) => u128::from(ip).checked_sub(u128::from(base))?,
            _ => return None,
        };
        let place = u64::try_from(offset.checked_sub(1)?).ok()?;
        (place < self.places.size).then_some(place)
    }

    fn address(&self, place: u64) -> IpAddr {
        match self.cidr.network() {
            IpAddr::V4(base) => {
                let offset = u32::try_from(place + 1).expect("places of a v4 CIDR fit 32 bits");
                Ipv4Addr::from(u32::from(base) + offset).into()
            }
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) + u128::from(place) + 1).into(),
        }
    }

    /// Whether the CIDR has such an address.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.place(ip).is_some()
    }

    /// Whether [`Addresses::take`] would succeed.
    pub fn is_free(&self, ip: IpAddr) -> Result<(), PoolError> {
        let place = self.place(ip).ok_or(PoolError::Outside)?;
        if self.places.used.contains(&place) { Err(PoolError::Taken) } else { Ok(()) }
    }

    /// The addresses that are taken.
    pub fn used(&self) -> impl Iterator<Item = IpAddr> {
        self.places.used.iter().map(|place| self.address(*place))
    }

    pub fn take(&mut self, ip: IpAddr) -> Result<(), PoolError> {
        let place = self.place(ip).ok_or(PoolError::Outside)?;
        self.places.take(place)
    }

    pub fn take_any(&mut self, rng: &mut impl Rng) -> Result<IpAddr, PoolError> {
        let place = self.places.take_any(rng)?;
        Ok(self.address(place))
    }

    pub fn free(&mut self, ip: IpAddr) {
        if let Some(place) = self.place(ip) {
            self.places.used.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn small_ranges_are_given_out_completely_and_then_full() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut ports = Ports::new(30000..=30019);
        let mut given: Vec<u16> = (0..20).map(|_| ports.take_any(&mut rng).expect("one is left")).collect();
        assert!(given[..4].iter().all(|p| *p >= 30016), "the upper band comes first: {given:?}");
        given.sort_unstable();
        assert_eq!(given, (30000..=30019).collect::<Vec<u16>>());
        assert_eq!(ports.take_any(&mut rng), Err(PoolError::Full));
        ports.free(30007);
        assert_eq!(ports.take_any(&mut rng), Ok(30007));
        assert_eq!(ports.take(30007), Err(PoolError::Taken));
        assert_eq!(ports.take(29999), Err(PoolError::Outside));
    }

    #[test]
    fn addresses_leave_out_network_and_broadcast() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut pool = Addresses::new("10.0.0.0/30".parse().expect("a CIDR"));
        let mut given =
            [pool.take_any(&mut rng), pool.take_any(&mut rng)].map(|r| r.expect("free").to_string());
        given.sort();
        assert_eq!(given, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(pool.take_any(&mut rng), Err(PoolError::Full));
        for outside in ["10.0.0.0", "10.0.0.3", "10.0.1.1", "fd00::1"] {
            assert_eq!(pool.take(outside.parse().expect("an IP")), Err(PoolError::Outside), "{outside}");
        }
        let mut six = Addresses::new("fd00::/16".parse().expect("a CIDR"));
        let given = six.take_any(&mut rng).expect("plenty");
        assert!(six.cidr.contains(&given));
        assert_eq!(six.take("fd00::1".parse().expect("an IP")), Ok(()));
    }

    #[test]
    fn bands_have_kubernetes_sizes() {
        assert_eq!(reserved(2768, 32, 128), 86);
        assert_eq!(reserved(16, 32, 128), 0);
        assert_eq!(reserved(20, 32, 128), 16);
        assert_eq!(reserved(65536, 16, 256), 256);
        assert_eq!(reserved(1024, 16, 256), 64);
    }

    proptest! {
        #[test]
        fn no_place_has_two_owners(seed: u64, ops in proptest::collection::vec((any::<bool>(), 0u16..40), 0..200)) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut pool = Ports::new(100..=131);
            let mut owned = BTreeSet::new();
            for (free, pick) in ops {
                if free {
                    pool.free(100 + pick);
                    owned.remove(&(100 + pick));
                } else if let Ok(port) = pool.take_any(&mut rng) {
                    prop_assert!(owned.insert(port));
                    prop_assert!(port >= 116 || (116..=131).all(|p| owned.contains(&p)));
                } else {
                    prop_assert_eq!(owned.len(), 32);
                }
            }
        }
    }
}
