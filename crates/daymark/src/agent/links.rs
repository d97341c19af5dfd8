//! Which pods' interfaces there are on this node, and how that changes.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use miette::{IntoDiagnostic, Result, WrapErr};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::mpsc;

/// A pod's interface came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    Up { index: u32, name: String },
    Gone { index: u32 },
}

/// Reports the pods' interfaces of the calling thread's network namespace: first all that exist, then
/// every change, until the receiver is dropped.
pub async fn watch(prefixes: Vec<String>, out: mpsc::Sender<LinkEvent>) -> Result<()> {
    let (connection, handle, mut messages) = new_multicast_connection(&[MulticastGroup::Link])
        .into_diagnostic()
        .wrap_err("cannot watch interfaces")?;
    tokio::spawn(connection);
    let mut known = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.into_diagnostic()? {
        if let Some(event) = came(&link, &prefixes, &mut known) {
            out.send(event).await.into_diagnostic()?;
        }
    }
    while let Some((message, _)) = messages.next().await {
        let event = match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                came(&link, &prefixes, &mut known)
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => went(&link, &mut known),
            _ => None,
        };
        if let Some(event) = event
            && out.send(event).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

fn came(link: &LinkMessage, prefixes: &[String], known: &mut BTreeMap<u32, String>) -> Option<LinkEvent> {
    let name = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let index = link.header.index;
    if !prefixes.iter().any(|p| name.starts_with(p.as_str())) || known.get(&index) == Some(&name) {
        return None;
    }
    known.insert(index, name.clone());
    Some(LinkEvent::Up { index, name })
}

fn went(link: &LinkMessage, known: &mut BTreeMap<u32, String>) -> Option<LinkEvent> {
    known.remove(&link.header.index).map(|_| LinkEvent::Gone { index: link.header.index })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::IfName(name.into()));
        link
    }

    #[test]
    fn a_pods_interface_is_reported_once_and_others_never() {
        let (prefixes, mut known) = (vec!["dm".to_owned()], BTreeMap::new());
        assert!(came(&link(2, "eth0"), &prefixes, &mut known).is_none());
        assert_eq!(
            came(&link(7, "dm1"), &prefixes, &mut known),
            Some(LinkEvent::Up { index: 7, name: "dm1".into() })
        );
        assert_eq!(came(&link(7, "dm1"), &prefixes, &mut known), None);
        assert_eq!(went(&link(2, "eth0"), &mut known), None);
        assert_eq!(went(&link(7, "dm1"), &mut known), Some(LinkEvent::Gone { index: 7 }));
    }
}
