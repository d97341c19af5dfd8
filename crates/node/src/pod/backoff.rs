//! Waiting longer after every failure: 10 s doubling to 5 min, forgotten after 10 min of peace.

use jiff::{SignedDuration, Timestamp};

const FORGET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// How long to wait before the next attempt, as kubelet does for restarts and image pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    first: SignedDuration,
    longest: SignedDuration,
    current: Option<(SignedDuration, Timestamp)>,
}

impl BackOff {
    /// 10 s doubling to 5 min.
    pub const fn restarts() -> Self {
        Self { first: SignedDuration::from_secs(10), longest: SignedDuration::from_secs(300), current: None }
    }

    /// The pause that follows the latest attempt; zero before the first.
    pub fn wait(&self) -> SignedDuration {
        self.current.map_or(SignedDuration::ZERO, |(wait, _)| wait)
    }

    /// When an attempt may follow a failure at `failed`: at once the first time, and at once when
    /// what failed had lived for long.
    pub fn due(&self, failed: Timestamp) -> Timestamp {
        match self.current {
            Some((wait, since)) if failed.duration_since(since) <= FORGET_AFTER => failed + wait,
            _ => failed,
        }
    }

    /// Records an attempt at `now` after a failure at the same time.
    pub fn step(&mut self, now: Timestamp) {
        self.step_after(now, now);
    }

    /// Records an attempt at `now` after a failure at `failed`; the next wait doubles unless the
    /// last attempt had held for ten minutes.
    pub fn step_after(&mut self, failed: Timestamp, now: Timestamp) {
        let wait = match self.current {
            Some((wait, since)) if failed.duration_since(since) <= FORGET_AFTER => {
                (wait * 2).min(self.longest)
            }
            _ => self.first,
        };
        self.current = Some((wait, now));
    }

    pub fn reset(&mut self) {
        self.current = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + secs).expect("in range")
    }

    #[test]
    fn the_first_restart_is_immediate_and_waits_double_to_five_minutes() {
        let mut b = BackOff::restarts();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let due = b.due(at(now));
            waits.push(due.duration_since(at(now)).as_secs());
            b.step_after(at(now), due);
            now += waits.last().expect("pushed") + 1;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_life_forgive_everything() {
        let mut b = BackOff::restarts();
        b.step_after(at(0), at(0));
        b.step_after(at(1), at(11));
        assert_eq!(b.due(at(20)), at(40));
        assert_eq!(b.due(at(11 + 601)), at(11 + 601));
        b.step_after(at(11 + 601), at(11 + 601));
        assert_eq!(b.wait().as_secs(), 10);
    }
}
