//! The cluster's DNS zone: what each name holds, per the DNS specification for Kubernetes 1.1.0.
//!
//! A [`Zone`] is a snapshot: cloning it costs a few reference counts. [`ZoneBuilder`] keeps one up to date,
//! Service by Service. Names here are without the closing dot; lookups take lower-case labels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use daymark_model::Protocol;

mod builder;
mod shards;

pub use builder::ZoneBuilder;
use shards::Shards;

/// The version of the specification, served as TXT of `dns-version`.
pub const SCHEMA_VERSION: &str = "1.1.0";
const NAME_SERVER: &str = "kube-dns.kube-system.svc";
const HOSTMASTER: &str = "hostmaster";

/// One record at a name. Target names are absolute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordData {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Srv { priority: u16, weight: u16, port: u16, target: String },
    Ptr(String),
    Txt(String),
    Ns(String),
    Soa(Soa),
}

/// The start of authority. Its minimum is always 0: that a name does not exist may change at any moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Soa {
    pub name_server: String,
    pub hostmaster: String,
    pub serial: u32,
}

/// What a name holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// NXDOMAIN.
    NoSuchName,
    /// All records at the name. None of the asked type: NODATA.
    Name(Vec<RecordData>),
}

/// A snapshot of the cluster's zone.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Arc<str>,
    synced: bool,
    serial: u32,
    /// By `service.namespace`.
    services: Shards<Arc<ServiceRecords>>,
    /// Absolute names by the address that they stand for.
    reverse: Shards<Arc<BTreeSet<Box<str>>>>,
    /// How many Services with names each namespace has.
    namespaces: Arc<BTreeMap<Arc<str>, u32>>,
}

/// The names of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ServiceRecords {
    ClusterIp { ips: Vec<IpAddr>, ports: Vec<NamedPort> },
    Headless { hosts: BTreeMap<Box<str>, BTreeSet<IpAddr>>, ports: BTreeSet<HostPort> },
    ExternalName(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedPort {
    name: Arc<str>,
    protocol: Protocol,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HostPort {
    name: Arc<str>,
    protocol: Protocol,
    port: u16,
    host: Box<str>,
}

impl Zone {
    /// A zone without names that says so: until the cluster is known, nothing can be said not to exist.
    pub fn unsynced(domain: &str) -> Self {
        Self {
            domain: domain.trim_end_matches('.').to_ascii_lowercase().into(),
            synced: false,
            serial: 1,
            services: Shards::default(),
            reverse: Shards::default(),
            namespaces: Arc::default(),
        }
    }

    /// The cluster domain, e.g. `cluster.local`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether the cluster is known; answers from a zone that is not would deny what exists.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    pub fn soa(&self) -> Soa {
        Soa {
            name_server: self.absolute(NAME_SERVER),
            hostmaster: self.absolute(HOSTMASTER),
            serial: self.serial,
        }
    }

    /// The part of a name in front of the cluster domain, if it lies within it: `[]` for the domain itself.
    /// `name` has lower-case labels, from the left.
    pub fn relative<'a, 'n>(&self, name: &'a [&'n str]) -> Option<&'a [&'n str]> {
        let depth = self.domain.split('.').count();
        let split = name.len().checked_sub(depth)?;
        let (front, back) = name.split_at(split);
        self.domain.split('.').eq(back.iter().copied()).then_some(front)
    }

    /// What the name with these labels in front of the cluster domain holds.
    pub fn resolve(&self, relative: &[&str]) -> Resolved {
        match relative {
            [] => {
                let ns = RecordData::Ns(self.absolute(NAME_SERVER));
                Resolved::Name(vec![RecordData::Soa(self.soa()), ns])
            }
            ["dns-version"] => Resolved::Name(vec![RecordData::Txt(SCHEMA_VERSION.to_owned())]),
            ["svc"] | ["pod"] | [_, "pod"] => Resolved::Name(Vec::new()),
            [namespace, "svc"] if self.namespaces.contains_key(*namespace) => Resolved::Name(Vec::new()),
            [host, _, "pod"] => match undash(host) {
                Some(ip) => Resolved::Name(vec![address(ip)]),
                None => Resolved::NoSuchName,
            },
            [front @ .., service, namespace, "svc"] => {
                let owner = format!("{service}.{namespace}");
                match self.services.get(&owner) {
                    Some(records) => self.resolve_service(records, front, &owner),
                    None => Resolved::NoSuchName,
                }
            }
            _ => Resolved::NoSuchName,
        }
    }

    /// The names of an address; `None` if it is none of the cluster's Services.
    pub fn reverse(&self, ip: IpAddr) -> Option<Vec<RecordData>> {
        let names = self.reverse.get(&ip.to_string())?;
        Some(names.iter().map(|name| RecordData::Ptr(name.to_string())).collect())
    }

    fn resolve_service(&self, records: &ServiceRecords, front: &[&str], owner: &str) -> Resolved {
        let found: Option<Vec<RecordData>> = match (records, front) {
            (ServiceRecords::ClusterIp { ips, .. }, []) => Some(ips.iter().copied().map(address).collect()),
            (ServiceRecords::ExternalName(target), []) => Some(vec![RecordData::Cname(target.to_string())]),
            (ServiceRecords::Headless { hosts, .. }, []) if !hosts.is_empty() => {
                let ips: BTreeSet<IpAddr> = hosts.values().flatten().copied().collect();
                Some(ips.into_iter().map(address).collect())
            }
            (ServiceRecords::Headless { hosts, .. }, [host]) if hosts.contains_key(*host) => {
                hosts.get(*host).map(|ips| ips.iter().copied().map(address).collect())
            }
            (_, [protocol]) => self.ports(records, protocol, None, owner).map(|_| Vec::new()),
            (_, [port, protocol]) => self.ports(records, protocol, Some(port), owner),
            _ => None,
        };
        found.map_or(Resolved::NoSuchName, Resolved::Name)
    }

    /// The SRV records of `_port._protocol`, or of any port of the protocol; `None` if there are none.
    fn ports(
        &self,
        records: &ServiceRecords,
        protocol: &str,
        port: Option<&str>,
        owner: &str,
    ) -> Option<Vec<RecordData>> {
        let protocol = protocol.strip_prefix('_')?;
        let port = match port {
            Some(port) => Some(port.strip_prefix('_')?),
            None => None,
        };
        let asked = |name: &str, of: Protocol| {
            !name.is_empty()
                && port.is_none_or(|port| port == name)
                && of.as_str().eq_ignore_ascii_case(protocol)
        };
        let found: Vec<RecordData> = match records {
            ServiceRecords::ClusterIp { ports, .. } => ports
                .iter()
                .filter(|of| asked(&of.name, of.protocol))
                .map(|of| srv(of.port, self.absolute(&format!("{owner}.svc"))))
                .collect(),
            ServiceRecords::Headless { ports, .. } => ports
                .iter()
                .filter(|of| asked(&of.name, of.protocol))
                .map(|of| srv(of.port, self.absolute(&format!("{}.{owner}.svc", of.host))))
                .collect(),
            ServiceRecords::ExternalName(_) => Vec::new(),
        };
        (!found.is_empty()).then_some(found)
    }

    fn absolute(&self, relative: &str) -> String {
        format!("{relative}.{}", self.domain)
    }
}

fn srv(port: u16, target: String) -> RecordData {
    RecordData::Srv { priority: 0, weight: 100, port, target }
}

fn address(ip: IpAddr) -> RecordData {
    match ip {
        IpAddr::V4(ip) => RecordData::A(ip),
        IpAddr::V6(ip) => RecordData::Aaaa(ip),
    }
}

/// The label that stands for an address: `1-2-3-4`, `fd00--1`.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// The address that a label stands for.
fn undash(label: &str) -> Option<IpAddr> {
    let v4 = || label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    if label.contains(['.', ':']) { None } else { v4().or_else(v6) }
}

#[cfg(test)]
mod tests;
