//! Lifecycle hooks: postStart and preStop.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::context::Context;
use crate::probe::{Outcome, check, http};
use crate::runtime::ContainerId;

/// HTTP hooks have no timeout of their own; the caller's grace period ends them.
const HTTP_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a hook to its end.
pub async fn run(
    ctx: &Context,
    hook: &LifecycleHandler,
    container: &Container,
    id: &ContainerId,
    ip: IpAddr,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let argv = exec.command.as_deref().unwrap_or_default();
        return match ctx.backend.run(id, argv).await {
            Ok((0, _)) => Ok(()),
            Ok((code, output)) => Err(format!("command {argv:?} exited with {code}: {}", output.trim())),
            Err(e) => Err(e.to_string()),
        };
    }
    if let Some(get) = &hook.http_get {
        let port = check::resolve_port(&get.port, container)?;
        return match http::get(get, ip, port, "kube-lifecycle/1.36", HTTP_TIMEOUT).await {
            Outcome::Failed(cause) => Err(cause),
            Outcome::Passed | Outcome::Warned(_) => Ok(()),
        };
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("invalid handler: exec, httpGet or sleep is needed".into())
}
