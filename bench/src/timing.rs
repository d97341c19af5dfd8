//! How long things take: a cluster, a pod, a change.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, until};
use crate::row;
use crate::stats::{median, percentile};

const WEB: &str = include_str!("web.yml");
const PODS: usize = 20;

/// From exec to a Service with a running pod that answers, cold files once and warm after.
pub fn up() -> Result<()> {
    for round in ["cold", "warm"] {
        let cluster = Cluster::new()?;
        let began = Instant::now();
        cluster.daymark(&["up", "--no-egress"])?;
        let ready = began.elapsed();
        cluster.apply(WEB)?;
        let created = began.elapsed();
        let address: SocketAddr = format!("{}:30008", cluster.node_ip("node1")?).parse()?;
        until("the Service answers", || hostname(address))?;
        let answered = began.elapsed();
        row(&format!("up, {round}: API, DNS and nodes ready"), &seconds(ready), "2 nodes");
        row(
            &format!("up, {round}: + Service and pod answer"),
            &seconds(answered),
            &format!(
                "{} of it in kubectl apply, {} from then on",
                seconds(created - ready),
                seconds(answered - created)
            ),
        );
        memory(&cluster)?;
    }
    Ok(())
}

fn memory(cluster: &Cluster) -> Result<()> {
    std::thread::sleep(Duration::from_secs(3));
    let status: serde_json::Value = serde_json::from_str(&cluster.daymark(&["status", "-o", "json"])?)?;
    for process in status["processes"].as_array().into_iter().flatten() {
        let bytes = process["residentBytes"].as_u64().unwrap_or(0);
        let name = process["process"].as_str().unwrap_or_default();
        row(&format!("resident memory: {name}"), &format!("{} MiB", bytes >> 20), "idle, 1 pod");
    }
    Ok(())
}

/// From apply to Ready, one pod after another.
pub fn pods() -> Result<()> {
    let cluster = Cluster::up()?;
    let api = cluster.api()?;
    let mut took = Vec::new();
    for i in 0..PODS {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p{i}"}},"spec":{{"containers":[{{"name":"c","image":"daymark/web:v1","readinessProbe":{{"tcpSocket":{{"port":80}},"periodSeconds":1}}}}]}}}}"#
        );
        let began = Instant::now();
        http(api.port, "POST", "/api/v1/namespaces/default/pods", "application/json", &body)?;
        until("the pod is ready", || {
            let pod = http(api.port, "GET", &format!("/api/v1/namespaces/default/pods/p{i}"), "", "").ok()?;
            let pod: serde_json::Value = serde_json::from_str(&pod).ok()?;
            let conditions = pod["status"]["conditions"].as_array()?;
            conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True").then_some(())
        })?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    row("pod start, apply → Ready, p50", &millis(median(&took)), &format!("{PODS} pods, readiness probe"));
    row("pod start, apply → Ready, p95", &millis(percentile(&took, 0.95)), "");
    Ok(())
}

fn hostname(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    stream.write_all(b"GET /hostname HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let body = answer.split("\r\n\r\n").nth(1)?;
    answer.starts_with("HTTP/1.").then(|| body.trim().to_owned())
}

/// One request to the proxy, over a connection of its own on loopback.
fn http(port: u16, method: &str, path: &str, content: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    let start = answer.find("\r\n\r\n").context("no body")?;
    let body = &answer[start + 4..];
    let json = body.find('{').and_then(|from| body.rfind('}').map(|to| &body[from..=to]));
    Ok(json.unwrap_or(body).to_owned())
}

fn seconds(d: Duration) -> String {
    format!("{:.2} s", d.as_secs_f64())
}

fn millis(ms: f64) -> String {
    format!("{ms:.1} ms")
}
