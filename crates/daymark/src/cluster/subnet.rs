//! Choosing subnets that do not collide with what the host already reaches.

use std::net::{Ipv4Addr, Ipv6Addr};

use daymark_model::{AddressFamily, HasFamily};
use ipnet::IpNet;
use miette::{Result, miette};

use super::spec::digits_as_hex;

/// A network that the host already uses, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub net: IpNet,
    /// e.g. `route through eth0`.
    pub by: String,
}

/// What a subnet is for; it decides where the search starts and what the user is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Lan,
    Pods,
    Services,
}

impl Purpose {
    pub fn flag(self) -> &'static str {
        match self {
            Purpose::Lan => "--lan",
            Purpose::Pods => "--pod-cidr",
            Purpose::Services => "--service-cidr",
        }
    }

    /// The IPv6 networks show the digits of the IPv4 ones, in the range for local use (RFC 4193).
    fn candidates(self, family: AddressFamily) -> Box<dyn Iterator<Item = IpNet>> {
        let net = move |[a, b, c]: [u8; 3], v4_length, v6_length| match family {
            AddressFamily::Ipv4 => IpNet::new_assert(Ipv4Addr::new(a, b, c, 0).into(), v4_length),
            AddressFamily::Ipv6 => {
                let [a, b, c] = [a, b, c].map(digits_as_hex);
                IpNet::new_assert(Ipv6Addr::new(0xfd00, a, b, c, 0, 0, 0, 0).into(), v6_length)
            }
        };
        match self {
            Purpose::Lan => Box::new((0..=255).map(move |i| net([172, 30, i], 24, 64))),
            Purpose::Pods => Box::new((244..=255).chain(128..244).map(move |i| net([10, i, 0], 16, 56))),
            Purpose::Services => Box::new((96..=127).map(move |i| net([10, i, 0], 16, 112))),
        }
    }

    /// Prefix lengths that leave room for what lives in the subnet.
    fn lengths(self, family: AddressFamily) -> std::ops::RangeInclusive<u8> {
        match (self, family) {
            (Purpose::Lan, AddressFamily::Ipv4) => 16..=24,
            (Purpose::Pods, AddressFamily::Ipv4) => 8..=16,
            (Purpose::Services, AddressFamily::Ipv4) => 12..=24,
            (Purpose::Lan, AddressFamily::Ipv6) => 64..=64,
            (Purpose::Pods, AddressFamily::Ipv6) => 16..=56,
            (Purpose::Services, AddressFamily::Ipv6) => 108..=120,
        }
    }
}

/// The asked subnet if it is free and large enough, else the first free candidate.
///
/// # Errors
/// Names the collision and the flag; choosing again with another value helps.
pub fn choose(
    purpose: Purpose,
    family: AddressFamily,
    asked: Option<IpNet>,
    taken: &[Taken],
) -> Result<IpNet> {
    if let Some(net) = asked {
        return check(purpose, net, taken).map(|()| net.trunc());
    }
    purpose.candidates(family).find(|c| collision(*c, taken).is_none()).ok_or_else(|| {
        miette!(
            help = format!("name one with {} that nothing on this host uses", purpose.flag()),
            "no free subnet is left among the usual ones"
        )
    })
}

fn check(purpose: Purpose, net: IpNet, taken: &[Taken]) -> Result<()> {
    let (flag, lengths) = (purpose.flag(), purpose.lengths(net.family()));
    if !lengths.contains(&net.prefix_len()) {
        return Err(miette!(
            help = format!("its prefix length must be from /{} to /{}", lengths.start(), lengths.end()),
            "{flag} {net} has a prefix length that does not fit"
        ));
    }
    match collision(net, taken) {
        None => Ok(()),
        Some(t) => Err(miette!(
            help = "choose another subnet, or leave the flag out and a free one is chosen",
            "{flag} {net} collides with {} ({})",
            t.net,
            t.by
        )),
    }
}

fn collision(net: IpNet, taken: &[Taken]) -> Option<&Taken> {
    taken.iter().find(|t| t.net.prefix_len() > 0 && (t.net.contains(&net) || net.contains(&t.net)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: AddressFamily = AddressFamily::Ipv4;

    fn taken(net: &str) -> Taken {
        Taken { net: net.parse().unwrap(), by: "route through eth0".into() }
    }

    #[test]
    fn a_default_route_is_no_collision() {
        let taken = [taken("0.0.0.0/0"), taken("::/0")];
        let lan = |family| choose(Purpose::Lan, family, None, &taken).unwrap().to_string();
        assert_eq!(lan(AddressFamily::Ipv4), "172.30.0.0/24");
        assert_eq!(lan(AddressFamily::Ipv6), "fd00:172:30::/64");
    }

    #[test]
    fn subnets_of_each_family_are_chosen_by_themselves() {
        let taken = [taken("10.244.0.0/16"), taken("fd00:10:244::/48"), taken("fd00:10:245:7::/64")];
        let pods = |family| choose(Purpose::Pods, family, None, &taken).unwrap().to_string();
        assert_eq!(pods(AddressFamily::Ipv4), "10.245.0.0/16");
        assert_eq!(pods(AddressFamily::Ipv6), "fd00:10:246::/56");
        let wide = Some("fd00:10:96::/64".parse().unwrap());
        let why = choose(Purpose::Services, AddressFamily::Ipv6, wide, &taken).unwrap_err();
        assert!(why.help().unwrap().to_string().contains("/108 to /120"), "{why:?}");
    }

    #[test]
    fn candidates_in_use_are_passed_over() {
        let lan = choose(Purpose::Lan, V4, None, &[taken("172.30.0.0/23"), taken("172.30.2.7/32")]).unwrap();
        assert_eq!(lan.to_string(), "172.30.3.0/24");
    }

    #[test]
    fn an_asked_subnet_that_collides_is_refused_and_the_route_named() {
        let e = choose(Purpose::Pods, V4, Some("10.0.0.0/8".parse().unwrap()), &[taken("10.3.0.0/16")]);
        let text = e.unwrap_err().to_string();
        assert!(
            text.contains("--pod-cidr 10.0.0.0/8 collides with 10.3.0.0/16 (route through eth0)"),
            "{text}"
        );
    }

    #[test]
    fn an_asked_subnet_too_small_is_refused() {
        assert!(choose(Purpose::Lan, V4, Some("172.30.0.0/29".parse().unwrap()), &[]).is_err());
    }
}
