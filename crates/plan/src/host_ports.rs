//! Compiles the host ports of a pod: an entry for each of its container ports, whose only backend is the pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use daymark_model::{AddressFamily, HostPorts};

use crate::compile::{CompiledEntry, CompiledService, EntryKey, WantedFrontend};
use crate::tables::{FrontendKey, FrontendKind, ServiceEntry, Slot};
use crate::view::NodeView;

/// What a pod of this node wants. A `hostIP` that is not the node's is served nowhere.
pub fn compile(view: &NodeView, pod: &HostPorts) -> CompiledService {
    let node = view.own_ips();
    let mut entries: Vec<CompiledEntry> = Vec::new();
    let mut taken = BTreeSet::new();
    for address in &pod.addresses {
        let family = AddressFamily::of(address);
        for port in &pod.ports {
            let wanted =
                |ip: &&IpAddr| AddressFamily::of(ip) == family && port.ip.is_none_or(|own| own == **ip);
            let key =
                EntryKey { service: pod.name.clone(), port: port.target, protocol: port.protocol, family };
            let frontends = node.iter().filter(wanted).map(|ip| WantedFrontend {
                key: FrontendKey { ip: *ip, port: port.port, protocol: port.protocol },
                kind: FrontendKind::HostPort,
                local_only: true,
                source_checked: false,
            });
            // The first container port that asks for a host port gets it.
            let frontends: Vec<WantedFrontend> =
                frontends.filter(|frontend| taken.insert(frontend.key)).collect();
            match entries.iter_mut().find(|entry| entry.key == key) {
                Some(entry) => entry.frontends.extend(frontends),
                None => entries.push(CompiledEntry {
                    key,
                    entry: to_pod(Slot { ip: *address, port: port.target, local: true }),
                    frontends,
                    source_ranges: None,
                }),
            }
        }
    }
    entries.retain(|entry| !entry.frontends.is_empty());
    CompiledService { entries, ..CompiledService::default() }
}

fn to_pod(slot: Slot) -> ServiceEntry {
    ServiceEntry { slots: vec![slot], n_local: 1, ..ServiceEntry::default() }
}
