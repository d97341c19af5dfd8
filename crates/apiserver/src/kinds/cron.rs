//! Schedules of CronJobs: whether they can be read.

use serde_json::Value;

use super::{
    field::{Errors, Path},
    value::{at, text},
};

const WORDS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

pub fn check_schedule(spec: &Value, path: &Path, errors: &mut Errors) {
    let schedule = text(spec, "schedule");
    let here = path.child("schedule");
    if schedule.is_empty() {
        errors.required(&here, "");
    } else if schedule.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(&here, schedule, why);
    } else if let Err(why) = read(schedule) {
        errors.invalid(&here, schedule, &why);
    }
    let Some(zone) = at(spec, "timeZone").and_then(Value::as_str) else { return };
    let here = path.child("timeZone");
    if zone.is_empty() {
        errors.invalid(&here, zone, "timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("local") {
        errors.invalid(
            &here,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    } else if jiff::tz::TimeZone::get(zone).is_err() {
        errors.invalid(&here, zone, &format!("unknown time zone {zone}"));
    }
}

fn read(schedule: &str) -> Result<(), String> {
    if let Some(interval) = schedule.strip_prefix("@every ") {
        let parsed = interval.trim().parse::<jiff::SignedDuration>();
        return parsed.map(drop).map_err(|_| format!("failed to parse duration {schedule}"));
    }
    if schedule.starts_with('@') {
        let known = WORDS.contains(&schedule);
        return if known { Ok(()) } else { Err(format!("unrecognized descriptor: {schedule}")) };
    }
    let fields = schedule.split_whitespace().count();
    if fields != 5 {
        return Err(format!("expected exactly 5 fields, found {fields}: [{schedule}]"));
    }
    let crontab = format!("{} UTC", schedule.replace('?', "*"));
    // The first line says what is wrong; the others show where.
    let first = |e: cronexpr::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    cronexpr::parse_crontab(&crontab).map(drop).map_err(first)
}
