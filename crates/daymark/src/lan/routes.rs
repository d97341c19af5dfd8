//! What the host already reaches, so that new subnets do not collide with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use miette::{IntoDiagnostic, Result};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::cluster::subnet::Taken;

/// Every route of this network namespace, with the interface it leads through.
pub async fn taken(handle: &Handle) -> Result<Vec<Taken>> {
    let names = interface_names(handle).await?;
    let mut taken = Vec::new();
    let dumps =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    for dump in dumps {
        add_routes(handle, dump, &names, &mut taken).await?;
    }
    Ok(taken)
}

async fn add_routes(
    handle: &Handle,
    dump: RouteMessage,
    names: &BTreeMap<u32, String>,
    taken: &mut Vec<Taken>,
) -> Result<()> {
    let mut routes = handle.route().get(dump).execute();
    while let Some(route) = routes.try_next().await.into_diagnostic()? {
        let destination = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        });
        let link = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => names.get(index),
            _ => None,
        });
        let Some(ip) = destination else { continue };
        let Ok(net) = IpNet::new(ip, route.header.destination_prefix_length) else { continue };
        let by = link.map_or_else(|| "a route".to_owned(), |name| format!("route through {name}"));
        taken.push(Taken { net: net.trunc(), by });
    }
    Ok(())
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
