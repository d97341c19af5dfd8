//! The messages that are read, with the numbers of their fields; other numbers are skipped.

use k8s_openapi::api::core::v1::{ClientIPConfig, ContainerPort, NodeAddress, PodIP, SessionAffinityConfig};
use k8s_openapi::api::discovery::v1::{EndpointHints, ForNode, ForZone};
use serde::de::IgnoredAny;

use super::{Envelope, Event, Malformed, Message, Status, TypeMeta, Value, merge, read};
use crate::wire::{
    Conditions, Container, Endpoint, EndpointPort, EndpointSlice, Kept, LoadBalancerIngress,
    LoadBalancerStatus, Metadata, Node, NodeCondition, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus,
    Service, ServicePort, ServiceSpec, ServiceStatus, Taint, asked_for, share,
};

/// Each message as `Type { number => what becomes of it, ... }`, where `m` is the message and `v` the field's value.
macro_rules! messages {
    ($($message:ty: |$m:ident, $v:ident| { $($number:literal => $take:expr,)* })*) => {$(
        impl<'a> Message<'a> for $message {
            fn take(&mut self, number: u32, $v: Value<'a>) -> Result<(), Malformed> {
                let $m = self;
                match number {
                    $($number => $take,)*
                    _ => {}
                }
                Ok(())
            }
        }
    )*};
}

messages! {
    Event<'a>: |m, v| {
        1 => m.what = v.str()?,
        2 => m.object = v.message::<RawExtension<'a>>()?.raw,
    }
    RawExtension<'a>: |m, v| {
        1 => m.raw = v.bytes()?,
    }
    Envelope<'a>: |m, v| {
        1 => m.type_meta = v.message()?,
        2 => m.raw = v.bytes()?,
    }
    TypeMeta<'a>: |m, v| {
        2 => m.kind = v.str()?,
    }
    Status<'a>: |m, v| {
        3 => m.message = v.str()?,
        4 => m.reason = v.str()?,
        6 => m.code = v.int32()?,
    }
    Metadata<'a>: |m, v| {
        1 => m.name = v.filled_text()?,
        3 => m.namespace = v.filled_str()?.map(share),
        6 => m.resource_version = v.filled_text()?,
        // The empty message is no time.
        9 => m.deletion_timestamp = (!v.bytes()?.is_empty()).then_some(IgnoredAny),
        11 => keep(&mut m.labels, v)?,
        12 => keep(&mut m.annotations, v)?,
    }
    Pair<'a>: |m, v| {
        1 => m.key = v.str()?,
        2 => m.value = v.str()?,
    }

    Service<'a>: |m, v| {
        1 => merge(&mut m.metadata, v.bytes()?)?,
        2 => v.merge_into(&mut m.spec)?,
        3 => v.merge_into(&mut m.status)?,
    }
    ServiceSpec<'a>: |m, v| {
        1 => v.push_to(&mut m.ports)?,
        3 => m.cluster_ip = v.filled_text()?,
        4 => m.type_ = v.filled_text()?,
        5 => v.push_text_to(&mut m.external_ips)?,
        7 => m.session_affinity = v.filled_text()?,
        9 => v.push_text_to(&mut m.load_balancer_source_ranges)?,
        10 => m.external_name = v.filled_text()?,
        11 => m.external_traffic_policy = v.filled_text()?,
        12 => m.health_check_node_port = v.filled_int32()?,
        13 => m.publish_not_ready_addresses = v.filled_bool()?,
        14 => v.merge_into(&mut m.session_affinity_config)?,
        18 => v.push_text_to(&mut m.cluster_ips)?,
        22 => m.internal_traffic_policy = Some(v.text()?),
        23 => m.traffic_distribution = Some(v.text()?),
    }
    ServicePort<'a>: |m, v| {
        1 => m.name = v.filled_str()?.map(share),
        2 => m.protocol = v.filled_text()?,
        3 => m.port = v.int32()?,
        5 => m.node_port = v.filled_int32()?,
    }
    SessionAffinityConfig: |m, v| {
        1 => v.merge_into(&mut m.client_ip)?,
    }
    ClientIPConfig: |m, v| {
        1 => m.timeout_seconds = Some(v.int32()?),
    }
    ServiceStatus<'a>: |m, v| {
        1 => v.merge_into(&mut m.load_balancer)?,
    }
    LoadBalancerStatus<'a>: |m, v| {
        1 => v.push_to(&mut m.ingress)?,
    }
    LoadBalancerIngress<'a>: |m, v| {
        1 => m.ip = v.filled_text()?,
        3 => m.ip_mode = Some(v.text()?),
    }

    EndpointSlice<'a>: |m, v| {
        1 => merge(&mut m.metadata, v.bytes()?)?,
        2 => v.push_to(&mut m.endpoints)?,
        3 => v.push_to(&mut m.ports)?,
        4 => m.address_type = v.text()?,
    }
    Endpoint<'a>: |m, v| {
        1 => if m.address.is_none() {
            m.address = Some(v.text()?);
        },
        2 => v.merge_into(&mut m.conditions)?,
        3 => m.hostname = Some(v.text()?),
        6 => m.node_name = Some(share(v.str()?)),
        8 => v.merge_into(&mut m.hints)?,
    }
    Conditions: |m, v| {
        1 => m.ready = Some(v.bool()?),
        2 => m.serving = Some(v.bool()?),
        3 => m.terminating = Some(v.bool()?),
    }
    EndpointHints: |m, v| {
        1 => v.push_to(&mut m.for_zones)?,
        2 => v.push_to(&mut m.for_nodes)?,
    }
    ForZone: |m, v| {
        1 => m.name = v.text()?,
    }
    ForNode: |m, v| {
        1 => m.name = v.text()?,
    }
    EndpointPort<'a>: |m, v| {
        1 => m.name = Some(share(v.str()?)),
        2 => m.protocol = Some(v.text()?),
        3 => m.port = Some(v.int32()?),
    }

    Node<'a>: |m, v| {
        1 => merge(&mut m.metadata, v.bytes()?)?,
        2 => v.merge_into(&mut m.spec)?,
        3 => v.merge_into(&mut m.status)?,
    }
    NodeSpec<'a>: |m, v| {
        1 => m.pod_cidr = v.filled_text()?,
        5 => v.push_to(&mut m.taints)?,
        7 => v.push_text_to(&mut m.pod_cidrs)?,
    }
    Taint<'a>: |m, v| {
        1 => m.key = v.text()?,
    }
    NodeStatus: |m, v| {
        4 => v.push_to(&mut m.conditions)?,
        5 => v.push_to(&mut m.addresses)?,
    }
    NodeCondition: |m, v| {
        1 => m.type_ = v.text()?,
        2 => m.status = v.text()?,
    }
    NodeAddress: |m, v| {
        1 => m.type_ = v.text()?,
        2 => m.address = v.text()?,
    }

    Pod<'a>: |m, v| {
        1 => merge(&mut m.metadata, v.bytes()?)?,
        2 => v.merge_into(&mut m.spec)?,
        3 => v.merge_into(&mut m.status)?,
    }
    PodSpec: |m, v| {
        2 => m.containers.push(v.message()?),
        11 => m.host_network = v.filled_bool()?,
        20 => v.push_to(&mut m.init_containers)?,
    }
    Container: |m, v| {
        6 => v.push_to(&mut m.ports)?,
        24 => m.restart_policy = Some(v.text()?),
    }
    ContainerPort: |m, v| {
        1 => m.name = v.filled_text()?,
        2 => m.host_port = v.filled_int32()?,
        3 => m.container_port = v.int32()?,
        4 => m.protocol = v.filled_text()?,
        5 => m.host_ip = v.filled_text()?,
    }
    PodStatus: |m, v| {
        1 => m.phase = v.filled_text()?,
        12 => v.push_to(&mut m.pod_ips)?,
    }
    PodIP: |m, v| {
        1 => m.ip = v.text()?,
    }
}

#[derive(Default)]
struct RawExtension<'a> {
    raw: &'a [u8],
}

/// An entry of a map.
#[derive(Default)]
struct Pair<'a> {
    key: &'a str,
    value: &'a str,
}

/// Keeps a label or annotation if it is asked for.
fn keep<'a>(kept: &mut Option<Kept<'a>>, entry: Value<'a>) -> Result<(), Malformed> {
    let pair: Pair<'a> = read(entry.bytes()?)?;
    let kept = kept.get_or_insert_default();
    if let Some(number) = asked_for(pair.key) {
        kept.0[number] = Some(pair.value.into());
    }
    Ok(())
}
