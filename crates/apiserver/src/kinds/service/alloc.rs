//! Allocation of cluster IPs, node ports and health check node ports for Services: all or nothing.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    allocates_node_ports, families, has_node_ports, is_headless, needs_cluster_ip, needs_health_check,
    pool::{PoolError, Ports},
    ranges::Ranges,
    strategy,
};
use crate::{
    error::ApiError,
    kinds::{
        field::{Errors, Path},
        value::{int, list, set, strings, text},
    },
};

/// What may be given out.
#[derive(Clone, Debug)]
pub struct AllocatorConfig {
    /// One CIDR, or one per family; the first is the default family.
    pub service_cidrs: Vec<IpNet>,
    /// Those of ServiceCIDRs, and whether each is on its way out.
    pub further_cidrs: Vec<(IpNet, bool)>,
    pub node_port_range: RangeInclusive<u16>,
}

/// Cluster IPs and ports in use; rebuilt from the stored Services at start.
#[derive(Debug)]
pub struct Allocator {
    addresses: Ranges,
    ports: Ports,
    rng: StdRng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Address(IpAddr),
    Port(u16),
}

/// What one write took and will give back; hand it to `commit` or `rollback`.
#[derive(Debug, Default)]
#[must_use = "commit or roll back"]
pub struct Reservation {
    taken: Vec<Held>,
    released: Vec<Held>,
}

impl Allocator {
    /// An allocator that knows what `existing` Services hold.
    pub fn new<'a>(cfg: AllocatorConfig, existing: impl Iterator<Item = &'a Value>) -> Self {
        Self::with_rng(cfg, existing, StdRng::from_os_rng())
    }

    /// As [`Allocator::new`], with the source of its random choices.
    pub fn with_rng<'a>(
        cfg: AllocatorConfig,
        existing: impl Iterator<Item = &'a Value>,
        rng: StdRng,
    ) -> Self {
        let mut addresses = Ranges::new(cfg.service_cidrs);
        addresses.set_further(&cfg.further_cidrs);
        let mut this = Self { addresses, ports: Ports::new(cfg.node_port_range), rng };
        for svc in existing {
            for held in holdings(svc) {
                if this.take(held).is_err() {
                    let name = text(svc, "metadata.name");
                    tracing::warn!(
                        service = name,
                        ?held,
                        "a stored Service holds what is taken or out of range"
                    );
                }
            }
        }
        this
    }

    /// Completes `svc` with families, addresses and ports; on `Err` nothing is taken. `old` is the stored
    /// object of an update. For writes of the Service itself, not of its subresources.
    pub fn allocate(&mut self, old: Option<&Value>, svc: &mut Value) -> Result<Reservation, ApiError> {
        if !svc["spec"].is_object() {
            return Ok(Reservation::default());
        }
        match old {
            None => strategy::prepare_create(svc),
            Some(old) => {
                strategy::keep_allocated(old, svc);
                strategy::normalise_cluster_ips(old, svc);
            }
        }
        let configured = self.addresses.families();
        families::init(&configured, old, svc).map_err(|errors| invalid(svc, errors))?;
        let mut reservation = Reservation::default();
        let outcome = self
            .allocate_addresses(old, svc, &mut reservation)
            .and_then(|()| self.allocate_ports(old, svc, &mut reservation))
            .and_then(|()| self.allocate_health_port(old, svc, &mut reservation));
        match outcome {
            Ok(()) => Ok(reservation),
            Err(error) => {
                self.rollback(reservation);
                Err(error)
            }
        }
    }

    /// The write succeeded: gives back what the old object no longer needs.
    pub fn commit(&mut self, reservation: Reservation) {
        reservation.released.into_iter().for_each(|held| self.free(held));
    }

    /// The write failed: gives back what was taken for it.
    pub fn rollback(&mut self, reservation: Reservation) {
        reservation.taken.into_iter().for_each(|held| self.free(held));
    }

    /// The Service is gone.
    pub fn release(&mut self, svc: &Value) {
        holdings(svc).into_iter().for_each(|held| self.free(held));
    }

    fn take(&mut self, held: Held) -> Result<(), PoolError> {
        match held {
            Held::Port(port) => self.ports.take(port),
            Held::Address(ip) => self.addresses.retake(ip),
        }
    }

    fn free(&mut self, held: Held) {
        match held {
            Held::Port(port) => self.ports.free(port),
            Held::Address(ip) => self.addresses.free(ip),
        }
    }

    /// Makes the further ranges these; those that are said to be closing give nothing more.
    pub fn set_further_ranges(&mut self, wanted: &[(IpNet, bool)]) {
        self.addresses.set_further(wanted);
    }

    /// Whether an address of this range is in use that no other range has.
    pub fn is_range_needed(&self, cidr: IpNet) -> bool {
        self.addresses.is_needed(cidr)
    }

    fn allocate_addresses(
        &mut self,
        old: Option<&Value>,
        svc: &mut Value,
        into: &mut Reservation,
    ) -> Result<(), ApiError> {
        let Some(old) = old.filter(|old| needs_cluster_ip(old)) else {
            return self.take_addresses(0, svc, into);
        };
        if families::unchanged_prefer_dual(old, svc) || is_headless(old) {
            return Ok(());
        }
        let held: Vec<Held> = addresses(old).collect();
        if !needs_cluster_ip(svc) {
            into.released.extend(held);
            return Ok(());
        }
        match (list(old, "spec.ipFamilies").len(), list(svc, "spec.ipFamilies").len()) {
            (1, 2) => self.take_addresses(1, svc, into),
            (2, 1) => {
                into.released.extend(held.into_iter().skip(1));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One address per family from the `first`-th on, the ones that the client named or any.
    fn take_addresses(
        &mut self,
        first: usize,
        svc: &mut Value,
        into: &mut Reservation,
    ) -> Result<(), ApiError> {
        if !needs_cluster_ip(svc) || is_headless(svc) {
            return Ok(());
        }
        let families: Vec<String> = strings(svc, "spec.ipFamilies").into_iter().map(str::to_owned).collect();
        let mut ips: Vec<String> = strings(svc, "spec.clusterIPs").into_iter().map(str::to_owned).collect();
        ips.resize(families.len().max(ips.len()), String::new());
        let asked = json!(strings(svc, "spec.clusterIPs"));
        for (family, ip) in families.iter().zip(&mut ips).skip(first) {
            let taken = self.take_address(family, ip, &asked, svc)?;
            into.taken.push(Held::Address(taken));
            if ip.is_empty() {
                *ip = taken.to_string();
            }
        }
        if let Some(primary) = ips.first() {
            svc["spec"]["clusterIP"] = json!(primary);
            svc["spec"]["clusterIPs"] = json!(ips);
        }
        Ok(())
    }

    fn take_address(
        &mut self,
        family: &str,
        ip: &str,
        asked: &Value,
        svc: &Value,
    ) -> Result<IpAddr, ApiError> {
        let name = text(svc, "metadata.name");
        let Self { addresses, rng, .. } = self;
        let Some(range) = addresses.shown(family) else {
            return Err(internal(&format!("no service CIDR of family {family:?} is configured")));
        };
        if ip.is_empty() {
            return addresses.take_any(family, rng).map_err(|why| {
                internal(&format!("failed to allocate a serviceIP for Service {name:?}: {why}"))
            });
        }
        let why = match ip.parse() {
            Err(_) => return Err(internal(&format!("failed to parse service IP {ip:?}"))),
            Ok(address) => match addresses.take(address) {
                Ok(()) => return Ok(address),
                Err(PoolError::Outside) => format!(
                    "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
                ),
                Err(_) => "provided IP is already allocated".to_owned(),
            },
        };
        let mut errors = Errors::default();
        let path = Path::new("spec.clusterIPs");
        errors.invalid(&path, asked.clone(), &format!("failed to allocate IP {ip}: {why}"));
        Err(invalid(svc, errors))
    }

    fn allocate_ports(
        &mut self,
        old: Option<&Value>,
        svc: &mut Value,
        into: &mut Reservation,
    ) -> Result<(), ApiError> {
        let held = old.filter(|old| has_node_ports(old)).map(strategy::node_ports).unwrap_or_default();
        if !has_node_ports(svc) {
            into.released.extend(held.iter().filter_map(|p| port_of(*p)));
            return Ok(());
        }
        let mut owned = held.clone();
        for i in 0..list(svc, "spec.ports").len() {
            let asked = self.wanted_port(old, svc, i);
            if asked == 0 && !allocates_node_ports(svc) {
                continue;
            }
            if asked == 0 {
                let any = self.ports.take_any(&mut self.rng);
                let port = any.map_err(|why| internal(&format!("failed to allocate a nodePort: {why}")))?;
                into.taken.push(Held::Port(port));
                owned.insert(i64::from(port));
                set(&mut svc["spec"]["ports"][i], "nodePort", i64::from(port));
                continue;
            }
            if !owned.contains(&asked) {
                self.take_node_port(asked, i, svc)?;
                into.taken.extend(port_of(asked));
                owned.insert(asked);
            }
            set(&mut svc["spec"]["ports"][i], "nodePort", asked);
        }
        let kept = strategy::node_ports(svc);
        into.released.extend(held.difference(&kept).filter_map(|p| port_of(*p)));
        Ok(())
    }

    /// The node port that the `i`-th port asks for, 0 for any. In a new Service the same port number under
    /// another protocol shares its node port.
    fn wanted_port(&self, old: Option<&Value>, svc: &Value, i: usize) -> i64 {
        let ports = list(svc, "spec.ports");
        let own = int(&ports[i], "nodePort");
        if own != 0 || old.is_some() || !allocates_node_ports(svc) {
            return own;
        }
        let number = int(&ports[i], "port");
        let twin = ports.iter().find(|p| int(p, "port") == number && int(p, "nodePort") != 0);
        twin.map_or(0, |p| int(p, "nodePort"))
    }

    fn take_node_port(&mut self, port: i64, i: usize, svc: &Value) -> Result<(), ApiError> {
        let why = match self.take_port(port) {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        let mut errors = Errors::default();
        errors.invalid(&Path::new("spec.ports").index(i).child("nodePort"), port, &why);
        Err(invalid(svc, errors))
    }

    fn take_port(&mut self, port: i64) -> Result<(), String> {
        let outcome = u16::try_from(port).map_err(|_| PoolError::Outside).and_then(|p| self.ports.take(p));
        outcome.map_err(|why| match why {
            PoolError::Outside => {
                let range = self.ports.shown();
                format!("provided port is not in the valid range. The range of valid ports is {range}")
            }
            _ => "provided port is already allocated".to_owned(),
        })
    }

    fn allocate_health_port(
        &mut self,
        old: Option<&Value>,
        svc: &mut Value,
        into: &mut Reservation,
    ) -> Result<(), ApiError> {
        let had = old.is_some_and(needs_health_check);
        let needs = needs_health_check(svc);
        if had && !needs {
            into.released.extend(old.and_then(|old| port_of(int(old, "spec.healthCheckNodePort"))));
        }
        if had || !needs {
            return Ok(());
        }
        let asked = int(svc, "spec.healthCheckNodePort");
        let port = if asked != 0 {
            self.take_port(asked).map_err(|why| {
                internal(&format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
            })?;
            port_of(asked)
        } else {
            let any = self.ports.take_any(&mut self.rng);
            let port =
                any.map_err(|why| internal(&format!("failed to allocate a HealthCheck NodePort 0: {why}")))?;
            svc["spec"]["healthCheckNodePort"] = json!(port);
            Some(Held::Port(port))
        };
        into.taken.extend(port);
        Ok(())
    }
}

fn port_of(number: i64) -> Option<Held> {
    u16::try_from(number).ok().filter(|n| *n != 0).map(Held::Port)
}

fn addresses(svc: &Value) -> impl Iterator<Item = Held> {
    strings(svc, "spec.clusterIPs").into_iter().filter_map(|ip| ip.parse().ok()).map(Held::Address)
}

/// Everything that a stored Service holds, each once.
fn holdings(svc: &Value) -> Vec<Held> {
    let mut out = Vec::new();
    if needs_cluster_ip(svc) {
        out.extend(addresses(svc));
    }
    out.extend(strategy::node_ports(svc).into_iter().filter_map(port_of));
    if needs_health_check(svc) {
        out.extend(port_of(int(svc, "spec.healthCheckNodePort")));
    }
    out
}

fn invalid(svc: &Value, errors: Errors) -> ApiError {
    ApiError::invalid("", "Service", text(svc, "metadata.name"), errors.into_causes())
}

fn internal(why: &str) -> ApiError {
    ApiError::internal(format!("Internal error occurred: {why}"))
}
