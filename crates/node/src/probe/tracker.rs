//! Thresholds: how many attempts in a row change the verdict, and when the next attempt is due.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

use super::ProbeKind;

/// Counts attempts of one probe of one container.
#[derive(Clone, Debug)]
pub struct Tracker {
    kind: ProbeKind,
    success_threshold: u32,
    failure_threshold: u32,
    period: Duration,
    passes: u32,
    failures: u32,
    attempts: u32,
    verdict: Option<bool>,
}

/// A probe that has not passed yet is repeated quickly at first, so that a container which comes up
/// fast is noticed fast.
const FIRST_RETRY: Duration = Duration::from_millis(10);

impl Tracker {
    pub fn new(kind: ProbeKind, probe: &Probe) -> Self {
        let at_least_one = |v: Option<i32>, default: u32| {
            v.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Self {
            kind,
            success_threshold: at_least_one(probe.success_threshold, 1),
            failure_threshold: at_least_one(probe.failure_threshold, 3),
            period: Duration::from_secs(u64::from(at_least_one(probe.period_seconds, 10))),
            passes: 0,
            failures: 0,
            attempts: 0,
            verdict: None,
        }
    }

    /// Takes in one attempt; returns the verdict when it is new.
    pub fn record(&mut self, passed: bool) -> Option<bool> {
        self.attempts = self.attempts.saturating_add(1);
        if passed {
            self.passes = self.passes.saturating_add(1);
            self.failures = 0;
        } else {
            // Early attempts come faster than the period and must not use up the threshold.
            self.failures = self.failures.saturating_add(u32::from(!self.early()));
            self.passes = 0;
        }
        let reached = if passed {
            self.passes >= self.success_threshold
        } else {
            self.failures >= self.failure_threshold
        };
        if !reached || self.verdict == Some(passed) {
            return None;
        }
        self.verdict = Some(passed);
        Some(passed)
    }

    fn early(&self) -> bool {
        self.verdict.is_none() && self.eager() && self.ramp(self.attempts) < self.period
    }

    /// Liveness has nothing to gain from an early pass.
    fn eager(&self) -> bool {
        self.kind != ProbeKind::Liveness
    }

    fn ramp(&self, attempt: u32) -> Duration {
        FIRST_RETRY.saturating_mul(1 << attempt.clamp(1, 16).saturating_sub(1))
    }

    /// The pause before the next attempt: 10 ms, 20 ms, 40 ms, … up to the period until the first pass.
    pub fn pause(&self) -> Duration {
        if self.verdict.is_none() && self.passes == 0 && self.eager() {
            return self.ramp(self.attempts).min(self.period);
        }
        self.period
    }

    /// Whether a failure is worth an event: those of the quick start are not.
    pub fn worth_telling(&self) -> bool {
        !self.early()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(kind: ProbeKind, success: i32, failure: i32, period: i32) -> Tracker {
        let probe = Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            period_seconds: Some(period),
            ..Probe::default()
        };
        Tracker::new(kind, &probe)
    }

    #[test]
    fn readiness_is_noticed_early_and_lost_at_the_threshold() {
        let mut t = tracker(ProbeKind::Readiness, 1, 2, 1);
        assert_eq!(t.record(false), None);
        assert_eq!(t.pause(), Duration::from_millis(10));
        assert_eq!(t.record(false), None);
        assert_eq!(t.pause(), Duration::from_millis(20));
        assert_eq!(t.record(true), Some(true));
        assert_eq!(t.pause(), Duration::from_secs(1));
        assert_eq!(t.record(true), None);
        assert_eq!(t.record(false), None);
        assert_eq!(t.record(false), Some(false));
        assert_eq!(t.record(true), Some(true));
    }

    #[test]
    fn quick_attempts_do_not_use_up_the_failure_threshold() {
        let mut t = tracker(ProbeKind::Startup, 1, 2, 1);
        let failures = (0..).position(|_| t.record(false) == Some(false)).expect("fails in the end");
        // 10, 20, 40, … ms reach the period at the eighth attempt, and two count from there.
        assert_eq!(failures + 1, 9);
    }

    #[test]
    fn liveness_keeps_to_its_period() {
        let mut t = tracker(ProbeKind::Liveness, 1, 3, 5);
        assert_eq!(t.pause(), Duration::from_secs(5));
        assert_eq!([t.record(false), t.record(false), t.record(false)], [None, None, Some(false)]);
        assert_eq!(t.record(false), None);
    }

    #[test]
    fn several_successes_may_be_wanted() {
        let mut t = tracker(ProbeKind::Readiness, 3, 1, 1);
        assert_eq!([t.record(true), t.record(true), t.record(true)], [None, None, Some(true)]);
        let mut t = tracker(ProbeKind::Readiness, 2, 1, 1);
        assert_eq!(
            [t.record(true), t.record(false), t.record(true), t.record(true)],
            [None, None, None, Some(true)]
        );
    }

    #[test]
    fn thresholds_default_to_one_and_three() {
        let mut t = Tracker::new(ProbeKind::Liveness, &Probe::default());
        assert_eq!(t.pause(), Duration::from_secs(10));
        assert_eq!([t.record(false), t.record(false), t.record(false)], [None, None, Some(false)]);
    }
}
