//! What the server does by itself: forget old events, drop expired objects.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

const EVERY: Duration = Duration::from_secs(30);
/// Watches may start this far back, by age and by number of events; whichever is less.
const KEEP_AGE: Duration = Duration::from_secs(600);
const KEEP_EVENTS: u64 = 50_000;

pub async fn run(store: Store, shutdown: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut history: VecDeque<(Instant, u64)> = VecDeque::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        history.push_back((Instant::now(), store.revision()));
        let target = compaction_target(&mut history, Instant::now(), store.revision());
        if let Err(e) = store.compact(target).await {
            tracing::warn!("old events could not be forgotten: {e}");
        }
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        match store.expire(now).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "objects expired"),
            Err(e) => tracing::warn!("expired objects could not be removed: {e}"),
        }
    }
}

/// The newest revision that is both old enough and followed by few enough events.
fn compaction_target(history: &mut VecDeque<(Instant, u64)>, now: Instant, current: u64) -> u64 {
    let by_count = current.saturating_sub(KEEP_EVENTS);
    let mut by_age = 0;
    while let Some((_, revision)) = history.pop_front_if(|(at, _)| now.duration_since(*at) >= KEEP_AGE) {
        by_age = revision;
    }
    by_count.max(by_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compaction_goes_by_age_and_by_count() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut history = VecDeque::from([(at(0), 10), (at(300), 20), (at(600), 30)]);
        assert_eq!(compaction_target(&mut history, at(599), 40), 0);
        assert_eq!(compaction_target(&mut history, at(900), 40), 20);
        assert_eq!(compaction_target(&mut history, at(901), 40), 0, "each sample counts once");
        assert_eq!(compaction_target(&mut history, at(902), KEEP_EVENTS + 99), 99);
    }
}
