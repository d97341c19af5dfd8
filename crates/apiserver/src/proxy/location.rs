//! Which path of the kubelet API stands for a request.

use std::net::{IpAddr, SocketAddr};

use form_urlencoded::Serializer;
use serde_json::Value;

use super::containers;
use crate::error::ApiError;
use crate::http::request::{Query, Target};
use crate::registry::object::text;

const KUBELET_PORT: u16 = 10250;

/// Where a node's status says that its kubelet API listens.
pub fn kubelet_address(node: &Value) -> Option<SocketAddr> {
    let addresses = node.pointer("/status/addresses")?.as_array()?;
    let internal = addresses.iter().find(|a| text(a, "/type") == "InternalIP")?;
    let ip: IpAddr = text(internal, "/address").parse().ok()?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(KUBELET_PORT);
    Some(SocketAddr::new(ip, port))
}

pub fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}

/// The kubelet's path and query for a pod's log, exec, attach or portforward.
pub fn of_pod(target: &Target, pod: &Value, query: &Query) -> Result<String, ApiError> {
    let (namespace, name) = (&target.namespace, &target.name);
    let mut out = Serializer::new(String::new());
    let path = match target.subresource.as_str() {
        "portforward" => {
            for port in query.all("ports").flat_map(|p| p.split(',')).chain(query.all("port")) {
                out.append_pair("port", port);
            }
            format!("/portForward/{namespace}/{name}")
        }
        "log" => {
            let passed = [
                "follow",
                "previous",
                "sinceSeconds",
                "sinceTime",
                "timestamps",
                "tailLines",
                "limitBytes",
                "stream",
            ];
            for option in passed {
                if let Some(value) = query.get(option) {
                    out.append_pair(option, value);
                }
            }
            format!("/containerLogs/{namespace}/{name}/{}", container(target, pod, query)?)
        }
        streaming => {
            for (ours, theirs) in
                [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
            {
                if query.flag(ours) {
                    out.append_pair(theirs, "1");
                }
            }
            for word in query.all("command") {
                out.append_pair("command", word);
            }
            format!("/{streaming}/{namespace}/{name}/{}", container(target, pod, query)?)
        }
    };
    Ok(with_query(&path, Some(&out.finish())))
}

/// The container that is meant: the one named, or the only one.
fn container(target: &Target, pod: &Value, query: &Query) -> Result<String, ApiError> {
    let name = &target.name;
    if let Some(wanted) = query.get("container") {
        if containers(pod).any(|c| c == wanted) {
            return Ok(wanted.to_owned());
        }
        return Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {name}")));
    }
    let regular = pod.pointer("/spec/containers").and_then(Value::as_array);
    let regular: Vec<&str> = regular.into_iter().flatten().map(|c| text(c, "/name")).collect();
    match regular.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(ApiError::bad_request(format!("pod {name} has no container"))),
        many => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            many.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::request::target;

    fn path(sub: &str, pod: &Value, query: &str) -> Result<String, String> {
        let target = target(&format!("/api/v1/namespaces/a/pods/p/{sub}")).unwrap();
        of_pod(&target, pod, &Query::parse(query)).map_err(|e| e.message)
    }

    #[test]
    fn requests_become_the_kubelets() {
        let pod = json!({"spec": {"containers": [{"name": "c"}]}});
        assert_eq!(
            path("exec", &pod, "command=sh&command=-c&command=a+b&stdin=true&stdout=true&tty=false").unwrap(),
            "/exec/a/p/c?input=1&output=1&command=sh&command=-c&command=a+b"
        );
        assert_eq!(
            path("log", &pod, "follow=true&tailLines=5&pretty=true").unwrap(),
            "/containerLogs/a/p/c?follow=true&tailLines=5"
        );
        assert_eq!(path("portforward", &pod, "ports=80,81").unwrap(), "/portForward/a/p?port=80&port=81");
        assert_eq!(path("attach", &pod, "container=c&stdout=1").unwrap(), "/attach/a/p/c?output=1");
    }

    #[test]
    fn a_container_must_be_clear() {
        let pod = json!({"spec": {"containers": [{"name": "c"}, {"name": "d"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(
            path("log", &pod, "").unwrap_err(),
            "a container name must be specified for pod p, choose one of: [c d]"
        );
        assert_eq!(path("log", &pod, "container=i").unwrap(), "/containerLogs/a/p/i");
        assert_eq!(path("log", &pod, "container=x").unwrap_err(), "container x is not valid for pod p");
    }

    #[test]
    fn a_node_says_where_it_listens() {
        let mut node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.7"},
        ]}});
        assert_eq!(kubelet_address(&node), Some("192.0.2.7:10250".parse().unwrap()));
        node["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 1234}});
        assert_eq!(kubelet_address(&node), Some("192.0.2.7:1234".parse().unwrap()));
        assert_eq!(kubelet_address(&json!({})), None);
    }
}
