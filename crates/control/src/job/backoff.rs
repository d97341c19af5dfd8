//! How long a Job waits before it replaces pods that failed: 10 s, doubling to 10 min.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Sync;
use super::pods::{failures, finished_at, is_failed, is_tracked};
use crate::meta::pod_phase;
use k8s_openapi::api::core::v1::Pod;

const FIRST: u64 = 10;
const LONGEST: u64 = 600;

/// What is left of the wait after so many failures in a row, the last of them at `last`.
fn left(now: Timestamp, failures: u32, last: Timestamp) -> Option<Duration> {
    if failures == 0 {
        return None;
    }
    let wait = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST);
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    Duration::from_secs(wait).checked_sub(passed).filter(|left| !left.is_zero())
}

impl Sync<'_> {
    /// Counts the failures since the last success.
    pub(super) fn back_off(&self) -> Option<Duration> {
        let success = self.pods.iter().filter(|p| pod_phase(p) == "Succeeded").map(|p| finished_at(p)).max();
        // Those that are deleted because they are too many have been let go first, and have not failed.
        let counts = |p: &&Arc<Pod>| is_tracked(p) || p.metadata.deletion_timestamp.is_none();
        let failed =
            self.pods.iter().filter(|p| is_failed(self.job, p)).filter(counts).map(|p| finished_at(p));
        let since: Vec<_> = failed.filter(|at| success.is_none_or(|s| *at > s)).collect();
        let last = since.iter().copied().max()?;
        left(self.view.now, u32::try_from(since.len()).unwrap_or(u32::MAX), last)
    }

    /// The same for one index, whose last failed pod is `pod`.
    pub(super) fn back_off_of_index(&self, pod: Option<&Pod>) -> Option<Duration> {
        let pod = pod?;
        let (counted, ignored) = failures(pod);
        let all = u32::try_from(counted + ignored + 1).unwrap_or(1);
        left(self.view.now, all, finished_at(pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_ends() {
        let last: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |seconds: i64| last.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
        let seconds = |failures, passed| left(after(passed), failures, last).map(|d| d.as_secs());
        assert_eq!(seconds(0, 0), None);
        assert_eq!(seconds(1, 0), Some(10));
        assert_eq!(seconds(1, 4), Some(6));
        assert_eq!(seconds(1, 10), None);
        assert_eq!(seconds(3, 0), Some(40));
        assert_eq!(seconds(40, 0), Some(600));
    }
}
