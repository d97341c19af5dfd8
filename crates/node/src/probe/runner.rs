//! One task per running probe: asks, counts, and reports changes of the verdict and failures.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::time::{Instant, sleep, sleep_until};

use super::check::{Target, check};
use super::{Outcome, ProbeKind, Tracker};

/// What a runner tells its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The verdict changed.
    Verdict(bool),
    /// An attempt failed; `message` goes into an `Unhealthy` event.
    Failed(String),
    /// An attempt passed with a warning.
    Warned(String),
}

/// Probes until the task is dropped. `age` is how long the container has been running already.
pub async fn run(kind: ProbeKind, probe: Probe, target: Target, age: Duration, report: impl Fn(Report)) {
    let delay = probe.initial_delay_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
    sleep(Duration::from_secs(delay).saturating_sub(age)).await;
    let mut tracker = Tracker::new(kind, &probe);
    loop {
        let began = Instant::now();
        let outcome = check(&probe, &target).await;
        let passed = !matches!(outcome, Outcome::Failed(_));
        let verdict = tracker.record(passed);
        match outcome {
            Outcome::Failed(why) if tracker.worth_telling() => {
                report(Report::Failed(format!("{} probe failed: {why}", kind.title())));
            }
            Outcome::Warned(why) => report(Report::Warned(format!("{} probe warning: {why}", kind.title()))),
            Outcome::Failed(_) | Outcome::Passed => {}
        }
        if let Some(verdict) = verdict {
            report(Report::Verdict(verdict));
            if kind == ProbeKind::Startup {
                return;
            }
        }
        sleep_until(began + tracker.pause()).await;
    }
}
