//! Choosing subnets that do not collide with what the host already reaches.

use ipnet::Ipv4Net;
use miette::{Result, miette};

/// A network that the host already uses, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub net: Ipv4Net,
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
    fn flag(self) -> &'static str {
        match self {
            Purpose::Lan => "--lan",
            Purpose::Pods => "--pod-cidr",
            Purpose::Services => "--service-cidr",
        }
    }

    fn candidates(self) -> Box<dyn Iterator<Item = Ipv4Net>> {
        let net = |a, b, c, len| Ipv4Net::new_assert([a, b, c, 0].into(), len);
        match self {
            Purpose::Lan => Box::new((0..=255).map(move |i| net(172, 30, i, 24))),
            Purpose::Pods => Box::new((244..=255).chain(128..244).map(move |i| net(10, i, 0, 16))),
            Purpose::Services => Box::new((96..=127).map(move |i| net(10, i, 0, 16))),
        }
    }

    /// Prefix lengths that leave room for what lives in the subnet.
    fn lengths(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Purpose::Lan => 16..=24,
            Purpose::Pods => 8..=16,
            Purpose::Services => 12..=24,
        }
    }
}

/// The asked subnet if it is free and large enough, else the first free candidate.
///
/// # Errors
/// Names the collision and the flag; choosing again with another value helps.
pub fn choose(purpose: Purpose, asked: Option<Ipv4Net>, taken: &[Taken]) -> Result<Ipv4Net> {
    if let Some(net) = asked {
        return check(purpose, net, taken).map(|()| net.trunc());
    }
    purpose.candidates().find(|c| collision(*c, taken).is_none()).ok_or_else(|| {
        miette!(
            help = format!("name one with {} that nothing on this host uses", purpose.flag()),
            "no free subnet is left among the usual ones"
        )
    })
}

fn check(purpose: Purpose, net: Ipv4Net, taken: &[Taken]) -> Result<()> {
    let (flag, lengths) = (purpose.flag(), purpose.lengths());
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

fn collision(net: Ipv4Net, taken: &[Taken]) -> Option<&Taken> {
    taken.iter().find(|t| t.net.prefix_len() > 0 && (t.net.contains(&net) || net.contains(&t.net)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(net: &str) -> Taken {
        Taken { net: net.parse().unwrap(), by: "route through eth0".into() }
    }

    #[test]
    fn a_default_route_is_no_collision() {
        let lan = choose(Purpose::Lan, None, &[taken("0.0.0.0/0")]).unwrap();
        assert_eq!(lan.to_string(), "172.30.0.0/24");
    }

    #[test]
    fn candidates_in_use_are_passed_over() {
        let lan = choose(Purpose::Lan, None, &[taken("172.30.0.0/23"), taken("172.30.2.7/32")]).unwrap();
        assert_eq!(lan.to_string(), "172.30.3.0/24");
    }

    #[test]
    fn an_asked_subnet_that_collides_is_refused_and_the_route_named() {
        let e = choose(Purpose::Pods, Some("10.0.0.0/8".parse().unwrap()), &[taken("10.3.0.0/16")]);
        let text = e.unwrap_err().to_string();
        assert!(
            text.contains("--pod-cidr 10.0.0.0/8 collides with 10.3.0.0/16 (route through eth0)"),
            "{text}"
        );
    }

    #[test]
    fn an_asked_subnet_too_small_is_refused() {
        assert!(choose(Purpose::Lan, Some("172.30.0.0/29".parse().unwrap()), &[]).is_err());
    }
}
