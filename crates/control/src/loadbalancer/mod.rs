//! Addresses of LoadBalancer Services, from pools.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::action::{Action, Decision, EventNote};
use crate::config::AddressRange;
use crate::meta::{annotation, seconds};
use crate::view::View;

const COMPONENT: &str = "daymark-load-balancer";
const CLASS: &str = "daymark.dev/lb";
/// Annotations that ask for addresses (a comma-separated list), the first that is present counts.
const REQUESTS: [&str; 3] =
    ["daymark.dev/load-balancer-ips", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];
const CONDITION: &str = "daymark.dev/LoadBalancerAddress";

/// Looks at all Services, for they share the pools:
/// 1. addresses that are assigned and still right stay, whatever changes around them;
/// 2. Services that ask for addresses get those, if they are in a pool and free;
/// 3. others get the lowest free address of each of their families; if there is none, they are told;
/// 4. Services that are no longer of the type or class lose what we assigned.
pub fn decide(view: &View<'_>, _: &ObjectName) -> Decision {
    let pools = &view.config.load_balancer_pools;
    let mut decision = Decision::default();
    let mut ours: Vec<&Arc<Service>> = Vec::new();
    for service in view.state.services.iter() {
        if is_ours(service) {
            ours.push(service);
        } else if assigned(service).iter().any(|ip| contains(pools, *ip)) && !is_foreign(service) {
            decision.push(assign(service, &[], None));
        }
    }
    // The older keeps what two claim.
    ours.sort_by_key(|s| (s.metadata.creation_timestamp.clone(), s.metadata.uid.clone()));
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    let mut waiting = Vec::new();
    for service in ours {
        let have = assigned(service);
        let keeps = !have.is_empty()
            && have.iter().all(|ip| contains(pools, *ip) && !taken.contains(ip))
            && match requested(service) {
                Some(wish) => wish.is_ok_and(|wish| wish == have),
                None => served(service, pools).is_ok_and(|six| have.iter().map(IpAddr::is_ipv6).eq(six)),
            };
        if keeps {
            taken.extend(have);
        } else {
            waiting.push(service);
        }
    }
    for service in waiting {
        match choose(service, pools, &taken) {
            Ok(ips) => {
                taken.extend(&ips);
                let told = ips.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
                decision.push(assign(service, &ips, None));
                let message = format!("Assigned IP [{told}]");
                decision.push(Action::Event(EventNote::normal(
                    COMPONENT,
                    &**service,
                    "IPAllocated",
                    message,
                )));
            }
            Err(why) => refuse(view, service, &why, &mut decision),
        }
    }
    decision
}

fn is_balanced(service: &Service) -> bool {
    let kind = service.spec.as_ref().and_then(|s| s.type_.as_deref());
    kind == Some("LoadBalancer") && service.metadata.deletion_timestamp.is_none()
}

fn class(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.load_balancer_class.as_deref()
}

fn is_ours(service: &Service) -> bool {
    is_balanced(service) && class(service).is_none_or(|c| c == CLASS)
}

/// Another implementation looks after it.
fn is_foreign(service: &Service) -> bool {
    is_balanced(service) && class(service).is_some_and(|c| c != CLASS)
}

/// The addresses in the status.
fn assigned(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|i| i.ip.as_ref()?.parse().ok()).collect()
}

/// The addresses that the Service asks for, if it does; an error if they are nonsense.
fn requested(service: &Service) -> Option<Result<Vec<IpAddr>, String>> {
    let field = service.spec.as_ref().and_then(|s| s.load_balancer_ip.as_deref()).filter(|ip| !ip.is_empty());
    let text = REQUESTS.iter().find_map(|key| annotation(&service.metadata, key)).or(field)?;
    let parse = |part: &str| part.trim().parse().map_err(|_| format!("\"{part}\" is not an IP address"));
    Some(text.split(',').map(parse).collect())
}

/// Whether each family that the Service gets an address of is IPv6. A family that no pool has is left out
/// where the Service does not insist on it.
fn served(service: &Service, pools: &[AddressRange]) -> Result<Vec<bool>, String> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|s| s.ip_families.as_ref()).filter(|f| !f.is_empty());
    let wanted = families.map_or_else(|| vec![false], |f| f.iter().map(|f| f == "IPv6").collect());
    let (served, missing): (Vec<bool>, Vec<bool>) =
        wanted.into_iter().partition(|six| pools.iter().any(|pool| pool.first.is_ipv6() == *six));
    let insists = spec.and_then(|s| s.ip_family_policy.as_deref()) == Some("RequireDualStack");
    match missing.first() {
        Some(six) if insists || served.is_empty() => {
            Err(format!("no address pool has {} addresses", if *six { "IPv6" } else { "IPv4" }))
        }
        _ => Ok(served),
    }
}

fn contains(pools: &[AddressRange], ip: IpAddr) -> bool {
    pools.iter().any(|pool| pool.contains(ip))
}

fn choose(
    service: &Service,
    pools: &[AddressRange],
    taken: &BTreeSet<IpAddr>,
) -> Result<Vec<IpAddr>, String> {
    if let Some(wish) = requested(service) {
        let wish = wish?;
        for ip in &wish {
            if !contains(pools, *ip) {
                return Err(format!("[\"{ip}\"] is not allowed in config: no address pool contains it"));
            }
            if taken.contains(ip) {
                return Err(format!("address {ip} is in use by another Service"));
            }
        }
        return Ok(wish);
    }
    let mut chosen = Vec::new();
    for v6 in served(service, pools)? {
        let free = pools
            .iter()
            .flat_map(AddressRange::addresses)
            .find(|ip| ip.is_ipv6() == v6 && !taken.contains(ip))
            .ok_or("no available IPs")?;
        chosen.push(free);
    }
    Ok(chosen)
}

/// Writes the addresses; a condition tells of failure only.
fn assign(service: &Service, ips: &[IpAddr], failure: Option<Condition>) -> Option<Action> {
    let mut new = service.clone();
    let status = new.status.get_or_insert_default();
    let ingress = |ip: &IpAddr| LoadBalancerIngress {
        ip: Some(ip.to_string()),
        ip_mode: Some("VIP".into()),
        ..Default::default()
    };
    let ingress: Vec<_> = ips.iter().map(ingress).collect();
    let old = status.load_balancer.take().and_then(|b| b.ingress);
    if !(ingress.is_empty() && old.as_ref().is_none_or(|o| o.is_empty())) {
        status.load_balancer = Some(LoadBalancerStatus { ingress: (!ingress.is_empty()).then_some(ingress) });
    } else {
        status.load_balancer = service.status.as_ref().and_then(|s| s.load_balancer.clone());
    }
    let mut conditions = status.conditions.take().unwrap_or_default();
    conditions.retain(|c| c.type_ != CONDITION);
    conditions.extend(failure);
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    Action::update(service, &new, "status")
}

fn refuse(view: &View<'_>, service: &Arc<Service>, why: &str, decision: &mut Decision) {
    let known = service.status.as_ref().and_then(|s| s.conditions.as_ref());
    let known = known.into_iter().flatten().find(|c| c.type_ == CONDITION);
    if known.is_some_and(|c| c.message == why) {
        return;
    }
    let condition = Condition {
        type_: CONDITION.into(),
        status: "False".into(),
        reason: "AllocationFailed".into(),
        message: why.into(),
        last_transition_time: seconds(view.now),
        observed_generation: service.metadata.generation,
    };
    decision.push(assign(service, &[], Some(condition)));
    let name = crate::meta::key(&**service);
    let message = format!("Failed to allocate IP for \"{name}\": {why}");
    decision.push(Action::Event(EventNote::warning(COMPONENT, &**service, "AllocationFailed", message)));
}
