//! Slices as a [`crate::World`] keeps them: some ten bytes an endpoint, since there may be half a million.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::world::HashMap;
use crate::{AddressFamily, Endpoint, Hints, ObjectName, Slice, SlicePort};

const READY: u8 = 1;
const SERVING: u8 = 2;
const TERMINATING: u8 = 4;
const IPV6: u8 = 8;
const ON_NODE: u8 = 16;

/// A slice of a Service that whoever has this knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedSlice {
    pub name: Arc<str>,
    family: AddressFamily,
    ports: Arc<[SlicePort]>,
    /// One after the other: flags, address, and the number of the node if there is one.
    endpoints: Box<[u8]>,
    /// What few endpoints have: of every endpoint, or of none.
    extras: Option<Box<[Extra]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Extra {
    hostname: Option<Arc<str>>,
    hints: Option<Arc<Hints>>,
}

/// Numbers for the names of nodes. They are kept for good: nodes are few.
#[derive(Clone, Debug, Default)]
pub struct NodeNumbers {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl NodeNumbers {
    fn number(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        number
    }
}

impl PackedSlice {
    pub fn pack(slice: Slice, ports: Arc<[SlicePort]>, nodes: &mut NodeNumbers) -> Self {
        let mut bytes = Vec::with_capacity(slice.endpoints.len() * 9);
        let mut last: Option<(&Arc<str>, u32)> = None;
        for endpoint in &slice.endpoints {
            let flag = |set: bool, flag: u8| if set { flag } else { 0 };
            bytes.push(
                flag(endpoint.ready, READY)
                    | flag(endpoint.serving, SERVING)
                    | flag(endpoint.terminating, TERMINATING)
                    | flag(endpoint.address.is_ipv6(), IPV6)
                    | flag(endpoint.node.is_some(), ON_NODE),
            );
            match endpoint.address {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
            if let Some(node) = &endpoint.node {
                let number = match last {
                    Some((same, number)) if same == node => number,
                    _ => nodes.number(node),
                };
                last = Some((node, number));
                bytes.extend(number.to_ne_bytes());
            }
        }
        let has_extra = |endpoint: &Endpoint| endpoint.hostname.is_some() || endpoint.hints.is_some();
        let extras = slice.endpoints.iter().any(has_extra).then(|| {
            let extra = |endpoint: Endpoint| Extra { hostname: endpoint.hostname, hints: endpoint.hints };
            slice.endpoints.into_iter().map(extra).collect()
        });
        Self { name: slice.name.name, family: slice.family, ports, endpoints: bytes.into(), extras }
    }

    pub fn unpack(&self, service: &ObjectName, nodes: &NodeNumbers) -> Slice {
        let view = self.view(nodes);
        let mut endpoints = Vec::with_capacity(self.endpoints.len() / 5);
        for (index, endpoint) in view.endpoints().enumerate() {
            let extra = self.extras.as_ref().and_then(|extras| extras.get(index));
            endpoints.push(Endpoint {
                address: endpoint.address,
                ready: endpoint.ready,
                serving: endpoint.serving,
                terminating: endpoint.terminating,
                node: endpoint.node.cloned(),
                hostname: extra.and_then(|extra| extra.hostname.clone()),
                hints: extra.and_then(|extra| extra.hints.clone()),
            });
        }
        Slice {
            name: ObjectName { namespace: service.namespace.clone(), name: self.name.clone() },
            service: service.name.clone(),
            family: self.family,
            ports: self.ports.to_vec(),
            endpoints,
        }
    }

    pub fn view<'a>(&'a self, nodes: &'a NodeNumbers) -> SliceView<'a> {
        SliceView { packed: self, nodes }
    }
}

/// A slice where it is kept.
#[derive(Clone, Copy, Debug)]
pub struct SliceView<'a> {
    packed: &'a PackedSlice,
    nodes: &'a NodeNumbers,
}

/// An endpoint of a [`SliceView`]; its hostname aside.
#[derive(Clone, Copy, Debug)]
pub struct EndpointView<'a> {
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<&'a Arc<str>>,
    pub hints: Option<&'a Hints>,
}

impl<'a> SliceView<'a> {
    pub fn name(&self) -> &'a Arc<str> {
        &self.packed.name
    }

    pub fn family(&self) -> AddressFamily {
        self.packed.family
    }

    pub fn ports(&self) -> &'a [SlicePort] {
        &self.packed.ports
    }

    /// At least as many as there are endpoints.
    pub fn room(&self) -> usize {
        self.packed.endpoints.len() / 5
    }

    pub fn endpoints(&self) -> impl Iterator<Item = EndpointView<'a>> + use<'a> {
        let Self { packed, nodes } = *self;
        let mut rest = &*packed.endpoints;
        let mut extras = packed.extras.iter().flatten();
        std::iter::from_fn(move || {
            let endpoint = take_endpoint(&mut rest, nodes)?;
            let extra = extras.next();
            Some(EndpointView { hints: extra.and_then(|extra| extra.hints.as_deref()), ..endpoint })
        })
    }
}

/// Takes the next endpoint off the front, without its hints; `None` at the end.
fn take_endpoint<'a>(rest: &mut &[u8], nodes: &'a NodeNumbers) -> Option<EndpointView<'a>> {
    let flags = take::<1>(rest)?[0];
    let address = match flags & IPV6 {
        0 => Ipv4Addr::from(take::<4>(rest)?).into(),
        _ => Ipv6Addr::from(take::<16>(rest)?).into(),
    };
    let node = match flags & ON_NODE {
        0 => None,
        _ => nodes.names.get(u32::from_ne_bytes(take(rest)?) as usize),
    };
    Some(EndpointView {
        address,
        ready: flags & READY != 0,
        serving: flags & SERVING != 0,
        terminating: flags & TERMINATING != 0,
        node,
        hints: None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    #[test]
    fn what_is_packed_comes_out_as_it_went_in() {
        let plain = |address: &str| Endpoint::ready(address.parse().expect("an address"));
        let hints = Hints { zones: vec!["a".into()], nodes: Vec::new() };
        let endpoints = [
            plain("10.0.0.1"),
            Endpoint { node: Some("n1".into()), ready: false, ..plain("10.0.0.2") },
            Endpoint { node: Some("n2".into()), terminating: true, ..plain("fd00::1") },
            Endpoint { hostname: Some("db-0".into()), serving: false, ..plain("10.0.0.3") },
            Endpoint { hints: Some(hints.into()), node: Some("n1".into()), ..plain("fd00::2") },
        ];
        let service = ObjectName::new("shop", "web");
        let slice = |endpoints: &[Endpoint]| Slice {
            name: ObjectName::new("shop", "web-1"),
            service: service.name.clone(),
            family: AddressFamily::Ipv6,
            ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }],
            endpoints: endpoints.to_vec(),
        };
        let mut nodes = NodeNumbers::default();
        for count in 0..=endpoints.len() {
            let slice = slice(&endpoints[..count]);
            let packed = PackedSlice::pack(slice.clone(), slice.ports.clone().into(), &mut nodes);
            assert_eq!(packed.unpack(&service, &nodes), slice);
        }
        assert_eq!(nodes.names.len(), 2);
    }
}
