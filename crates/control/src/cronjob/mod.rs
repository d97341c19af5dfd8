//! The CronJob controller: a Job each time that a schedule says so.

mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use daymark_model::ObjectName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::action::{Action, Decision, EventNote, Report};
use crate::job::{is_complete, is_finished};
use crate::meta::{controller_reference, key, reference};
use crate::view::View;
use schedule::Schedule;

const COMPONENT: &str = "cronjob-controller";
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are told of.
const MANY: i64 = 100;

/// Looks at one CronJob:
/// 1. the Jobs that it has and that run are listed in its status, finished ones beyond its limits deleted;
/// 2. if a time of its schedule has come, and its policy on Jobs that still run allows it, a Job is made. Its
///    name follows from the time, so that no time makes two.
pub fn decide(view: &View<'_>, key_: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(cron) = view.state.cron_jobs.get(key_) else { return decision };
    let spec = &cron.spec;
    let jobs: Vec<_> =
        view.state.jobs_of(cron.metadata.uid.as_deref().unwrap_or_default()).cloned().collect();
    let mut wanted = (**cron).clone();
    take_stock(&mut wanted, &jobs, &mut decision);
    if cron.metadata.deletion_timestamp.is_none() {
        tidy(spec, &jobs, &mut decision);
        if spec.suspend != Some(true) {
            start(view, cron, spec, &jobs, &mut wanted, &mut decision);
        }
    }
    decision.push(Action::update(&**cron, &wanted, "status"));
    decision
}

/// Which Jobs run, and when the last one succeeded.
fn take_stock(wanted: &mut CronJob, jobs: &[Arc<Job>], decision: &mut Decision) {
    let status = wanted.status.clone().unwrap_or_default();
    let running: Vec<_> = jobs.iter().filter(|j| !is_finished(j)).collect();
    for known in status.active.iter().flatten() {
        let name = known.name.as_deref().unwrap_or_default();
        let message = match jobs.iter().find(|j| j.metadata.uid == known.uid) {
            Some(job) if !is_finished(job) => continue,
            Some(job) => {
                let condition = if is_complete(job) { "Complete" } else { "Failed" };
                ("SawCompletedJob", format!("Saw completed job: {name}, condition: {condition}"))
            }
            None => ("MissingJob", format!("Active job went missing: {name}")),
        };
        let note = EventNote::normal(COMPONENT, wanted, message.0, message.1);
        decision.push(Action::Event(note));
    }
    let completed = jobs.iter().filter(|j| is_complete(j));
    let last = completed.filter_map(|j| j.status.as_ref()?.completion_time.clone()).max();
    let new = wanted.status.get_or_insert_default();
    let active: Vec<_> = running.into_iter().map(|job| listed(job)).collect();
    new.active = (!active.is_empty()).then_some(active);
    new.last_successful_time = new.last_successful_time.take().max(last);
}

fn listed(job: &Job) -> ObjectReference {
    let mut reference = reference(job);
    // It changes with the Job, and says nothing about the CronJob.
    reference.resource_version = None;
    reference
}

/// Deletes the oldest finished Jobs beyond the limits.
fn tidy(spec: &CronJobSpec, jobs: &[Arc<Job>], decision: &mut Decision) {
    let limits = [
        (spec.successful_jobs_history_limit.unwrap_or(3), true),
        (spec.failed_jobs_history_limit.unwrap_or(1), false),
    ];
    for (limit, succeeded) in limits {
        let finished = |j: &&Arc<Job>| {
            is_finished(j) && is_complete(j) == succeeded && j.metadata.deletion_timestamp.is_none()
        };
        let mut finished: Vec<_> = jobs.iter().filter(finished).collect();
        finished
            .sort_by_key(|j| (j.status.as_ref().and_then(|s| s.start_time.clone()), j.metadata.name.clone()));
        let surplus = finished.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        finished[..surplus].iter().for_each(|job| decision.push(Action::delete(&***job, None)));
    }
}

fn start(
    view: &View<'_>,
    cron: &CronJob,
    spec: &CronJobSpec,
    jobs: &[Arc<Job>],
    wanted: &mut CronJob,
    decision: &mut Decision,
) {
    let schedule = match Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: \"{}\" : {why}", spec.schedule);
            decision.push(Action::Event(EventNote::warning(COMPONENT, cron, "UnparseableSchedule", message)));
            return;
        }
    };
    if let Some(next) = schedule.next(view.now) {
        // A little later, so that the time has come by everybody's clock.
        let left = Duration::try_from(next.duration_since(view.now)).unwrap_or_default();
        decision.look_again(left + Duration::from_millis(100));
    }
    let last = cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).map(|t| t.0);
    let born = cron.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let mut since = last.or(born).unwrap_or(view.now);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if let Some(deadline) = deadline {
        since = since.max(view.now.saturating_sub(deadline).unwrap_or(since));
    }
    let Some((due, missed)) = schedule.latest(since, view.now) else { return };
    let tell = |warning: bool, reason: &'static str, message: String| {
        let note = EventNote::normal(COMPONENT, cron, reason, message);
        Action::Event(EventNote { warning, ..note })
    };
    if missed > MANY {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        decision.push(tell(true, "TooManyMissedTimes", message.into()));
    }
    if last == Some(due) {
        return;
    }
    let running: Vec<_> = jobs.iter().filter(|j| !is_finished(j)).collect();
    let job = job_at(cron, spec, due);
    let status = wanted.status.get_or_insert_default();
    if view.state.jobs.get(&key(&job)).is_some() {
        // It was made, and that was not written down.
        status.last_schedule_time = Some(Time(due));
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !running.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            decision.push(tell(false, "JobAlreadyActive", message.into()));
            return;
        }
        Some("Replace") => {
            let report = Report {
                about: reference(cron),
                component: COMPONENT,
                done: Some(("SuccessfulDelete", "Deleted job {}".into())),
                failed: ("FailedDelete", "Deleted job: {}".into()),
            };
            let going = running.iter().filter(|j| j.metadata.deletion_timestamp.is_none());
            going.for_each(|j| decision.push(Action::delete(&***j, Some(report.clone()))));
        }
        _ => {}
    }
    let report = Report {
        about: reference(cron),
        component: COMPONENT,
        done: Some(("SuccessfulCreate", "Created job {}".into())),
        failed: ("FailedCreate", "Error creating job: {}".into()),
    };
    decision.push(Action::create(&job, Some(report)));
    status.last_schedule_time = Some(Time(due));
}

/// The Job of a time.
fn job_at(cron: &CronJob, spec: &CronJobSpec, due: Timestamp) -> Job {
    let given = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = given.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED_AT.into(), schedule::shown(due, spec.time_zone.as_deref()));
    let name = format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), due.as_second() / 60);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.metadata.namespace.clone(),
            labels: given.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron)]),
            ..Default::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}
