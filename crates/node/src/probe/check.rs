//! One attempt of a probe, from the node to the pod.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::{Outcome, grpc, http};

/// Runs a program inside the container that is probed.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Exit code and what it printed (at most 10 KiB), or why it could not run.
    async fn run(&self, argv: &[String]) -> Result<(i32, String), String>;
}

/// What a probe is aimed at.
#[derive(Clone)]
pub struct Target {
    pub ip: IpAddr,
    pub container: Arc<Container>,
    pub exec: Arc<dyn Exec>,
}

/// Performs one attempt within the probe's timeout.
pub async fn check(probe: &Probe, target: &Target) -> Outcome {
    let secs = probe.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let timeout = Duration::from_secs(secs.unwrap_or(1));
    if let Some(action) = &probe.exec {
        return exec(action.command.as_deref().unwrap_or_default(), target, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return match resolve_port(&action.port, &target.container) {
            Ok(port) => http::get(action, target.ip, port, "kube-probe/1.36", timeout).await,
            Err(cause) => Outcome::Failed(cause),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        return match resolve_port(&action.port, &target.container) {
            Ok(port) => tcp(action.host.as_deref(), target.ip, port, timeout).await,
            Err(cause) => Outcome::Failed(cause),
        };
    }
    if let Some(action) = &probe.grpc {
        return grpc::check(action, target.ip, timeout).await;
    }
    Outcome::Failed("missing probe handler".into())
}

/// A port number, or the number behind a container port's name.
pub fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match (named, name.parse()) {
                (Some(port), _) => port.container_port,
                (None, Ok(number)) => number,
                (None, Err(_)) => return Err(format!("couldn't find container port {name:?}")),
            }
        }
    };
    u16::try_from(number).ok().filter(|p| *p > 0).ok_or(format!("invalid port number: {number}"))
}

async fn exec(argv: &[String], target: &Target, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, target.exec.run(argv)).await {
        Ok(Ok((0, _))) => Outcome::Passed,
        Ok(Ok((_, output))) => Outcome::Failed(output),
        Ok(Err(cause)) => Outcome::Failed(cause),
        Err(_) => {
            Outcome::Failed(format!("command timed out: {argv:?} timed out after {}s", timeout.as_secs()))
        }
    }
}

async fn tcp(host: Option<&str>, ip: IpAddr, port: u16, timeout: Duration) -> Outcome {
    let host = host.filter(|h| !h.is_empty()).map_or_else(|| ip.to_string(), str::to_owned);
    let shown = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    };
    match tokio::time::timeout(timeout, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => Outcome::Passed,
        Ok(Err(e)) => Outcome::Failed(format!("dial tcp {shown}: connect: {}", cause(&e))),
        Err(_) => Outcome::Failed(format!("dial tcp {shown}: i/o timeout")),
    }
}

/// An I/O error in the words of the C library, without the number.
pub(crate) fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
