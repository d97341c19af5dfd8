//! Schedules in cron's format: five fields, or words like `@hourly` and `@every 90m`.

use cronexpr::{Crontab, parse_crontab};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A schedule that was read.
#[derive(Debug)]
pub enum Schedule {
    Cron(Box<Crontab>),
    Every(SignedDuration),
}

const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Schedule {
    /// Reads a schedule; times are of this zone, or UTC.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        if let Some(interval) = text.strip_prefix("@every ") {
            let interval: SignedDuration = interval.trim().parse().map_err(|e| format!("{e}"))?;
            if interval < SignedDuration::from_secs(1) {
                return Err("the interval is shorter than a second".into());
            }
            return Ok(Self::Every(interval));
        }
        let fields = WORDS.iter().find(|(word, _)| *word == text).map_or(text, |(_, fields)| fields);
        let fields = fields.replace('?', "*");
        let zone = zone.filter(|z| !z.is_empty()).unwrap_or("UTC");
        let crontab = parse_crontab(&format!("{fields} {zone}")).map_err(|e| e.to_string())?;
        Ok(Self::Cron(Box::new(crontab)))
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => after.checked_add(*interval).ok(),
            Self::Cron(crontab) => crontab.find_next(after).ok().map(|zoned| zoned.timestamp()),
        }
    }

    /// The last time after `since` that has come, and about how many there were.
    pub fn latest(&self, since: Timestamp, now: Timestamp) -> Option<(Timestamp, i64)> {
        let first = self.next(since).filter(|t| *t <= now)?;
        let Some(second) = self.next(first).filter(|t| *t <= now) else { return Some((first, 1)) };
        // Most schedules are even: what lies long ago need not be gone through.
        let step = second.duration_since(first).as_secs().max(1);
        let missed = now.duration_since(first).as_secs() / step + 1;
        let skipped = SignedDuration::from_secs((missed - 2).max(0).saturating_mul(step));
        let mut latest = first;
        let mut candidate = self.next(first.saturating_add(skipped).unwrap_or(first));
        while let Some(time) = candidate.filter(|t| *t <= now) {
            latest = time;
            candidate = self.next(time);
        }
        Some((latest, missed))
    }
}

/// A time as it is shown in a zone.
pub fn shown(time: Timestamp, zone: Option<&str>) -> String {
    let zone = zone.and_then(|z| TimeZone::get(z).ok()).unwrap_or(TimeZone::UTC);
    let zoned = time.to_zoned(zone.clone());
    if zone == TimeZone::UTC {
        return zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    }
    zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
