//! The networks of a new cluster: what the flags ask for, completed with what is free on this host.

use daymark_model::{AddressFamily, HasFamily, PerFamily};
use ipnet::IpNet;
use miette::{Result, miette};

use super::spec::ClusterSpec;
use super::subnet::{Purpose, Taken, choose};

/// A cluster's networks, as far as somebody named them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub lan: Option<PerFamily<IpNet>>,
    pub pods: Option<PerFamily<IpNet>>,
    pub services: Option<PerFamily<IpNet>>,
}

/// A cluster's networks; all of the same families in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Networks {
    pub lan: PerFamily<IpNet>,
    pub pods: PerFamily<IpNet>,
    pub services: PerFamily<IpNet>,
}

impl Asked {
    fn each(&self) -> [(Purpose, Option<PerFamily<IpNet>>); 3] {
        [(Purpose::Services, self.services), (Purpose::Pods, self.pods), (Purpose::Lan, self.lan)]
    }

    /// The first flag that asks for something else than the cluster has.
    pub fn contradicts(&self, spec: &ClusterSpec) -> Option<&'static str> {
        let has = [spec.service_cidr, spec.pod_cidr, spec.lan];
        let differs = |asked: PerFamily<IpNet>, has: PerFamily<IpNet>| {
            asked.iter().any(|net| has.of(net.family()) != Some(net.trunc()))
        };
        self.each()
            .into_iter()
            .zip(has)
            .find(|((_, asked), has)| asked.is_some_and(|asked| differs(asked, *has)))
            .map(|((purpose, _), _)| purpose.flag())
    }

    /// Completes the networks for `families`. Of two families, the one named first in the first flag that
    /// names both is primary, otherwise the first of `families`.
    ///
    /// # Errors
    /// A network of a family that the cluster shall not have, one that collides, or none that is free.
    pub fn complete(&self, families: &[AddressFamily], taken: Vec<Taken>) -> Result<Networks> {
        for (purpose, asked) in self.each() {
            let odd =
                asked.into_iter().flat_map(|nets| nets.iter()).find(|n| !families.contains(&n.family()));
            if let Some(net) = odd {
                return Err(miette!(
                    help = "add `--ip-family dual`, or leave the network out",
                    "{} {net} is of an IP family that the cluster shall not have",
                    purpose.flag()
                ));
            }
        }
        let families = self.in_order(families)?;
        let mut taken = taken;
        let mut network = |purpose: Purpose, asked: Option<PerFamily<IpNet>>, what: &str| {
            let mut chosen = Vec::new();
            for family in &families {
                let net = choose(purpose, *family, asked.and_then(|nets| nets.of(*family)), &taken)?;
                taken.push(Taken { net, by: format!("this cluster's {what}") });
                chosen.push(net);
            }
            PerFamily::from_list(chosen).ok_or_else(|| miette!("a cluster has one or two IP families"))
        };
        Ok(Networks {
            lan: network(Purpose::Lan, self.lan, "LAN")?,
            pods: network(Purpose::Pods, self.pods, "pods")?,
            services: network(Purpose::Services, self.services, "Services")?,
        })
    }

    fn in_order(&self, families: &[AddressFamily]) -> Result<Vec<AddressFamily>> {
        let both = self.each().into_iter().filter_map(|(purpose, asked)| {
            let order: Vec<_> = asked?.families().collect();
            (order.len() > 1).then_some((purpose, order))
        });
        let both: Vec<_> = both.collect();
        let Some((first, order)) = both.first() else { return Ok(families.to_vec()) };
        match both.iter().find(|(_, other)| other != order) {
            None => Ok(order.clone()),
            Some((other, _)) => Err(miette!(
                help = "the first network of each list belongs to the cluster's primary IP family",
                "{} and {} name the IP families in different orders",
                first.flag(),
                other.flag()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::spec::{parse_cidrs, show};

    const V4: &[AddressFamily] = &[AddressFamily::Ipv4];
    const BOTH: &[AddressFamily] = &AddressFamily::BOTH;

    fn asked(pods: &str, services: &str) -> Asked {
        Asked { lan: None, pods: parse_cidrs(pods).ok(), services: parse_cidrs(services).ok() }
    }

    #[test]
    fn what_is_not_named_is_chosen_for_each_family() {
        let got = asked("", "10.99.0.0/16").complete(BOTH, Vec::new()).unwrap();
        assert_eq!(show(got.lan, ","), "172.30.0.0/24,fd00:172:30::/64");
        assert_eq!(show(got.pods, ","), "10.244.0.0/16,fd00:10:244::/56");
        assert_eq!(show(got.services, ","), "10.99.0.0/16,fd00:10:96::/112");
        let alone = asked("", "").complete(&[AddressFamily::Ipv6], Vec::new()).unwrap();
        assert_eq!(show(alone.services, ","), "fd00:10:96::/112");
    }

    #[test]
    fn the_order_of_a_list_decides_which_family_is_primary() {
        let got = asked("", "fd00:10:97::/112,10.99.0.0/16").complete(BOTH, Vec::new()).unwrap();
        assert_eq!(show(got.pods, ","), "fd00:10:244::/56,10.244.0.0/16");
        let why = asked("10.1.0.0/16,fd00:1::/48", "fd00:10:97::/112,10.99.0.0/16")
            .complete(BOTH, Vec::new())
            .unwrap_err();
        assert_eq!(why.to_string(), "--service-cidr and --pod-cidr name the IP families in different orders");
    }

    #[test]
    fn a_network_of_a_family_that_is_not_wanted_is_refused() {
        let why = asked("10.1.0.0/16,fd00:1::/48", "").complete(V4, Vec::new()).unwrap_err();
        assert!(why.to_string().starts_with("--pod-cidr fd00:1::/48 is of an IP family"), "{why}");
    }
}
