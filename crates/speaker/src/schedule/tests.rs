//! Announcements over simulated time.

use super::*;

const VIP: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 200);
const PERIOD: Duration = Duration::from_secs(30);

/// The milliseconds at which something was sent until `end`, with whether it probed.
fn run(schedule: &mut Schedule, start: Instant, end: Duration) -> Vec<(u128, bool)> {
    let mut sent = Vec::new();
    while let Some(next) = schedule.next().filter(|next| *next <= start + end) {
        for announcement in schedule.due(next) {
            sent.push((next.duration_since(start).as_millis(), announcement.probe));
        }
    }
    sent
}

#[test]
fn a_new_address_is_announced_at_once_several_times_then_periodically() {
    let start = Instant::now();
    let mut schedule = Schedule::new(PERIOD);
    schedule.set(&BTreeSet::from([VIP]), start);
    let sent = run(&mut schedule, start, Duration::from_secs(70));
    let expected =
        [(0, false), (100, false), (1000, true), (2000, true), (5000, true), (35_000, true), (65_000, true)];
    assert_eq!(sent, expected);
}

#[test]
fn setting_the_same_addresses_again_announces_nothing_and_removal_ends_it() {
    let start = Instant::now();
    let mut schedule = Schedule::new(PERIOD);
    schedule.set(&BTreeSet::from([VIP]), start);
    assert_eq!(schedule.due(start).len(), 1);
    schedule.set(&BTreeSet::from([VIP]), start);
    assert!(schedule.due(start).is_empty());
    schedule.set(&BTreeSet::new(), start);
    assert_eq!(schedule.next(), None);
}

#[test]
fn a_claim_is_answered_at_most_every_ten_seconds() {
    let start = Instant::now();
    let mut schedule = Schedule::new(PERIOD);
    schedule.set(&BTreeSet::from([VIP]), start);
    run(&mut schedule, start, Duration::from_secs(6));
    schedule.defend(VIP, start + Duration::from_secs(6));
    assert!(schedule.due(start + Duration::from_secs(6)).is_empty(), "announced a second ago");
    schedule.defend(VIP, start + Duration::from_secs(16));
    assert_eq!(schedule.due(start + Duration::from_secs(16)).len(), 1);
    schedule.defend(Ipv4Addr::new(172, 30, 0, 201), start);
}
