//! What the host already reaches, so that new subnets do not collide with it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use miette::{IntoDiagnostic, Result};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::cluster::subnet::Taken;

/// Every IPv4 route of this network namespace, with the interface it leads through.
pub async fn taken(handle: &Handle) -> Result<Vec<Taken>> {
    let names = interface_names(handle).await?;
    let dump = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = handle.route().get(dump).execute();
    let mut taken = Vec::new();
    while let Some(route) = routes.try_next().await.into_diagnostic()? {
        let destination = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
            _ => None,
        });
        let link = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => names.get(index),
            _ => None,
        });
        let Some(ip) = destination else { continue };
        let Ok(net) = Ipv4Net::new(ip, route.header.destination_prefix_length) else { continue };
        let by = link.map_or_else(|| "a route".to_owned(), |name| format!("route through {name}"));
        taken.push(Taken { net: net.trunc(), by });
    }
    Ok(taken)
}

async fn interface_names(handle: &Handle) -> Result<BTreeMap<u32, String>> {
    let mut links = handle.link().get().execute();
    let mut names = BTreeMap::new();
    while let Some(link) = links.try_next().await.into_diagnostic()? {
        let name = link.attributes.iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        names.insert(link.header.index, name.unwrap_or_default());
    }
    Ok(names)
}
