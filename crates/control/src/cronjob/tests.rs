//! What the CronJob controller decides.

use serde_json::Value;

use super::*;
use crate::testing::{self, words};

/// Created at 00:00; now is 00:10.
fn cron(spec: &str, status: &str) -> String {
    format!(
        "
kind: CronJob
metadata: {{namespace: shop, name: tick, uid: c, creationTimestamp: '2026-01-01T00:00:30Z'}}
spec: {{{spec}, jobTemplate: {{metadata: {{labels: {{a: b}}}}, spec: {{template: {{spec: {{containers: []}}}}}}}}}}
status: {{{status}}}
"
    )
}

/// A Job: name, and `runs`, `done` or `failed`; the later in the list, the younger.
fn jobs(all: &str) -> String {
    let job = |(i, text): (usize, &str)| {
        let (name, how) = text.split_once(':').unwrap();
        let condition = match how {
            "done" => {
                "conditions: [{type: Complete, status: 'True'}], completionTime: '2026-01-01T00:08:00Z', "
            }
            "failed" => "conditions: [{type: Failed, status: 'True'}], ",
            _ => "",
        };
        format!(
            "\n---\nkind: Job\nmetadata: {{namespace: shop, name: {name}, ownerReferences: [{{apiVersion: batch/v1, kind: CronJob, name: tick, uid: c, controller: true}}]}}\nspec: {{template: {{}}}}\nstatus: {{{condition}startTime: '2026-01-01T00:00:0{i}Z'}}"
        )
    };
    all.split_whitespace().enumerate().map(job).collect()
}

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/tick")
}

fn steps(decision: &Decision) -> Vec<String> {
    words(decision).into_iter().filter(|w| w.starts_with("create") || w.starts_with("delete")).collect()
}

fn status(decision: &Decision) -> Value {
    let find = |a: &Action| match a {
        Action::Update { subresource: "status", patch, .. } => Some(patch["status"].clone()),
        _ => None,
    };
    decision.actions.iter().find_map(find).unwrap_or_default()
}

/// 2026-01-01T00:10:00Z in minutes.
const NOW_JOB: &str = "create Job tick-29453770";

#[test]
fn a_job_is_made_when_its_time_has_come() {
    let cases = [
        // (spec, status, jobs, steps)
        ("schedule: '*/10 * * * *'", "", "", vec![NOW_JOB]),
        ("schedule: '*/7 * * * *'", "", "", vec!["create Job tick-29453767"]),
        ("schedule: '@hourly'", "", "", vec![]),
        ("schedule: '@every 9m'", "", "", vec!["create Job tick-29453769"]),
        ("schedule: '*/10 * * * *', suspend: true", "", "", vec![]),
        ("schedule: '*/10 * * * *'", "lastScheduleTime: '2026-01-01T00:10:00Z'", "", vec![]),
        ("schedule: '*/5 * * * *', startingDeadlineSeconds: 60", "", "", vec![NOW_JOB]),
        ("schedule: '*/7 * * * *', startingDeadlineSeconds: 60", "", "", vec![]),
        ("schedule: '*/10 * * * *'", "", "tick-1:runs", vec![NOW_JOB]),
        ("schedule: '*/10 * * * *', concurrencyPolicy: Forbid", "", "tick-1:runs", vec![]),
        ("schedule: '*/10 * * * *', concurrencyPolicy: Forbid", "", "tick-1:done", vec![NOW_JOB]),
        (
            "schedule: '*/10 * * * *', concurrencyPolicy: Replace",
            "",
            "tick-1:runs",
            vec!["delete Job tick-1", NOW_JOB],
        ),
        ("schedule: '*/10 * * * *'", "", "tick-29453770:runs", vec![]),
        ("schedule: '10 1 * * *', timeZone: Europe/Berlin", "", "", vec![NOW_JOB]),
        ("schedule: 'x'", "", "", vec![]),
    ];
    for (spec, status, has, wanted) in cases {
        assert_eq!(steps(&decide(&(cron(spec, status) + &jobs(has)))), wanted, "{spec} | {status} | {has}");
    }
}

#[test]
fn the_job_carries_its_time_and_the_next_look_is_at_the_next() {
    let decision = decide(&cron("schedule: '*/10 * * * *'", ""));
    let Action::Create { body, .. } = &decision.actions[0] else { panic!("a creation") };
    assert_eq!(body["metadata"]["annotations"][SCHEDULED_AT], "2026-01-01T00:10:00Z");
    assert_eq!(body["metadata"]["labels"]["a"], "b");
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    assert_eq!(status(&decision)["lastScheduleTime"], "2026-01-01T00:10:00Z");
    assert_eq!(decision.again, Some(Duration::from_millis(600_100)));
}

#[test]
fn running_jobs_are_listed_and_old_ones_go() {
    let spec = "schedule: '@hourly', successfulJobsHistoryLimit: 2, failedJobsHistoryLimit: 1";
    let before = "active: [{name: b, uid: b-uid}, {name: gone, uid: gone-uid}]";
    let decision = decide(&(cron(spec, before) + &jobs("a:done b:done c:failed d:done e:failed f:runs")));
    assert_eq!(steps(&decision), ["delete Job a", "delete Job c"]);
    let active = status(&decision)["active"].as_array().cloned().unwrap_or_default();
    assert_eq!(active.iter().filter_map(|a| a["name"].as_str()).collect::<Vec<_>>(), ["f"]);
    assert_eq!(status(&decision)["lastSuccessfulTime"], "2026-01-01T00:08:00Z");
    let told = words(&decision);
    assert!(
        told.contains(&"event SawCompletedJob Saw completed job: b, condition: Complete".to_owned()),
        "{told:?}"
    );
    assert!(told.contains(&"event MissingJob Active job went missing: gone".to_owned()), "{told:?}");
}

#[test]
fn many_missed_times_make_one_job() {
    let decision = decide(&cron("schedule: '* * * * *'", "lastScheduleTime: '2025-12-01T00:00:00Z'"));
    assert_eq!(steps(&decision), [NOW_JOB]);
    assert!(words(&decision)[0].starts_with("event TooManyMissedTimes"), "{:?}", words(&decision));
}
