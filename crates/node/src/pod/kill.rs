//! Performs the stopping of one container: preStop, the stop signal, and SIGKILL at the deadline.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::context::Context;
use super::hooks;
use super::state::Exit;
use crate::runtime::{ContainerId, ContainerState, signal_number};

/// What a container has left after its preStop hook, even if the hook used up the grace period.
const AFTER_HOOK: Duration = Duration::from_secs(2);
/// How often a container that was killed is looked at when no event tells of its end.
const LOOK: Duration = Duration::from_secs(1);

/// Stops a container. Ends when it is gone and no event told so (then returns its exit), or when the
/// caller, who heard of the exit, drops the task. The deadline may move closer meanwhile.
pub async fn stop(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    container: Container,
    id: ContainerId,
    ip: Option<IpAddr>,
    mut deadline: watch::Receiver<Instant>,
) -> Exit {
    let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let (Some(hook), Some(ip)) = (hook, ip)
        && !passed(&deadline)
    {
        tokio::select! {
            done = hooks::run(&ctx, hook, &container, &id, ip) => {
                if let Err(cause) = done {
                    tracing::debug!(container = container.name, "preStop: {cause}");
                    ctx.warn(&pod, Some(&container.name), "FailedPreStopHook", "PreStopHook failed".into());
                }
            }
            () = expiry(&mut deadline) => {}
        }
        let least = Instant::now() + AFTER_HOOK;
        signal(&ctx, &container, &id).await;
        tokio::select! {
            () = async { expiry(&mut deadline).await; sleep_until(least).await } => {}
            exit = gone(&ctx, &id) => return exit,
        }
    } else if !passed(&deadline) {
        signal(&ctx, &container, &id).await;
        tokio::select! {
            () = expiry(&mut deadline) => {}
            exit = gone(&ctx, &id) => return exit,
        }
    }
    loop {
        if let Err(e) = ctx.backend.kill_container(&id, libc::SIGKILL).await {
            tracing::warn!(container = %id, "cannot kill a container: {e}");
        }
        if let Ok(exit) = tokio::time::timeout(2 * LOOK, gone(&ctx, &id)).await {
            return exit;
        }
    }
}

fn passed(deadline: &watch::Receiver<Instant>) -> bool {
    *deadline.borrow() <= Instant::now()
}

/// Ends at the deadline, wherever it has moved.
async fn expiry(deadline: &mut watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() {
                return sleep_until(at).await;
            },
        }
    }
}

async fn signal(ctx: &Context, container: &Container, id: &ContainerId) {
    let wished = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    let number = match wished.and_then(signal_number) {
        Some(number) => number,
        None => ctx.backend.stop_signal(id).await.unwrap_or(libc::SIGTERM),
    };
    if let Err(e) = ctx.backend.kill_container(id, number).await {
        tracing::debug!(container = %id, "cannot signal a container: {e}");
    }
}

/// Ends when the runtime says that the container doesn't run any more. Events are faster; this is for
/// those that got lost.
async fn gone(ctx: &Context, id: &ContainerId) -> Exit {
    loop {
        sleep(LOOK).await;
        match ctx.backend.container(id).await {
            Ok(c) => {
                if let ContainerState::Exited(exit) = c.state {
                    return super::adopt::runtime_exit(&id.0, &exit);
                }
            }
            Err(crate::runtime::RuntimeError::NoContainer { .. }) => return vanished(ctx, id),
            Err(_) => {}
        }
    }
}

fn vanished(ctx: &Context, id: &ContainerId) -> Exit {
    let now = ctx.clock.now();
    Exit {
        container_id: id.0.clone(),
        code: 137,
        signal: Some(libc::SIGKILL),
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the pod was terminated".into(),
        started_at: None,
        finished_at: now,
        seen_at: now,
    }
}
