//! How an agent makes its DNS server an endpoint of the cluster's DNS Service.

use std::net::IpAddr;

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use daymark_model::ObjectName;

use crate::endpointslice::{MANAGED_BY, SERVICE_NAME};
use crate::object::Kind;
use crate::runner::write::send;

/// The Service that pods resolve names at, in `kube-system`.
const SERVICE: &str = "kube-dns";
const NAMESPACE: &str = "kube-system";
const MANAGER: &str = "agent.daymark.dev";

/// Creates or corrects the EndpointSlice `kube-dns-NODE` in `kube-system`, whose one endpoint is this
/// node's DNS server on `node_ip`:53. Its hint makes pods prefer the server of their own node. Harmless
/// to call again, and meant to be: whenever the address or zone changes, or the slice was removed.
///
/// # Errors
/// When the API server refuses or is away; the caller tries again.
pub async fn publish_dns(
    client: &Client,
    node_name: &str,
    node_ip: IpAddr,
    zone: Option<&str>,
) -> anyhow::Result<()> {
    let slice = slice(node_name, node_ip, zone);
    let key = ObjectName::new(NAMESPACE, format!("{SERVICE}-{node_name}"));
    let path = Kind::EndpointSlice.path(&key, "");
    let collection = Kind::EndpointSlice.path(&ObjectName::new(NAMESPACE, ""), "");
    for _ in 0..5 {
        let known = match send(client, Method::GET, &path, "", None).await {
            Ok(text) => Some(serde_json::from_str::<Value>(&text)?),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => return Err(error.into()),
        };
        let answer = match &known {
            None => send(client, Method::POST, &collection, "application/json", Some(&slice)).await,
            Some(known) if is_right(known, &slice) => return Ok(()),
            // The address type cannot change in place.
            Some(known) if known["addressType"] != slice["addressType"] => {
                send(client, Method::DELETE, &path, "application/json", Some(&json!({}))).await?;
                continue;
            }
            Some(_) => send(client, Method::PATCH, &path, "application/merge-patch+json", Some(&slice)).await,
        };
        match answer {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("EndpointSlice {key} keeps changing while it is written")
}

fn slice(node_name: &str, node_ip: IpAddr, zone: Option<&str>) -> Value {
    let mut endpoint = json!({
        "addresses": [node_ip.to_string()],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": node_name,
        "hints": {"forNodes": [{"name": node_name}]},
    });
    if let Some(zone) = zone {
        endpoint["zone"] = zone.into();
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{SERVICE}-{node_name}"),
            "namespace": NAMESPACE,
            "labels": {SERVICE_NAME: SERVICE, MANAGED_BY: MANAGER},
        },
        "addressType": if node_ip.is_ipv6() { "IPv6" } else { "IPv4" },
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": 53},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53},
        ],
        "endpoints": [endpoint],
    })
}

fn is_right(known: &Value, wanted: &Value) -> bool {
    let label = |key: &str| known["metadata"]["labels"][key] == wanted["metadata"]["labels"][key];
    ["addressType", "endpoints"].iter().all(|field| known[field] == wanted[field])
        && label(SERVICE_NAME)
        && label(MANAGED_BY)
        && known["ports"].as_array().map(Vec::len) == Some(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_right_only_if_it_says_what_we_would() {
        let ip = "172.30.0.11".parse().unwrap();
        let ours = slice("n1", ip, None);
        assert_eq!(ours["metadata"]["name"], "kube-dns-n1");
        assert_eq!(ours["endpoints"][0]["hints"]["forNodes"][0]["name"], "n1");
        assert!(is_right(&ours, &ours));
        assert!(!is_right(&ours, &slice("n1", "172.30.0.12".parse().unwrap(), None)));
        assert!(!is_right(&ours, &slice("n1", ip, Some("z1"))));
    }
}
