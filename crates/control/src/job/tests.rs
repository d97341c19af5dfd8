//! What the Job controller decides.

use serde_json::{Value, json};

use super::*;
use crate::object::Kind;
use crate::testing::{self, words};

const TEMPLATE: &str = "template: {metadata: {labels: {job: j}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}";
const INDEXED: &str = "completionMode: Indexed, ";

fn job(spec: &str, status: &str) -> String {
    format!(
        "
kind: Job
metadata: {{namespace: shop, name: sum, uid: j, generation: 1}}
spec: {{{spec}selector: {{matchLabels: {{job: j}}}}, {TEMPLATE}}}
status: {{startTime: '2026-01-01T00:00:00Z', ready: 0, terminating: 0, uncountedTerminatedPods: {{}}{status}}}
"
    )
}

/// Pods in words: name, how they are, and what more there is: `i3` an index, `f2` failures of the index before it,
/// `x7` the exit code, `free` if it has been let go.
fn pods(all: &str) -> String {
    all.split_whitespace().map(pod).collect()
}

fn pod(text: &str) -> String {
    let mut parts = text.split(':');
    let (name, how) = (parts.next().unwrap(), parts.next().unwrap());
    let (mut annotations, mut finalizers, mut code) = (String::new(), format!("[{TRACKING}]"), "1");
    for more in parts {
        match more.split_at(1) {
            ("i", n) => annotations += &format!("{}: '{n}', ", pods::INDEX),
            ("f", "ree") => finalizers = "[]".into(),
            ("f", n) => annotations += &format!("{}: '{n}', ", pods::FAILURES),
            ("x", n) => code = n,
            _ => panic!("{text}"),
        }
    }
    let ended = |phase: &str, code: &str| {
        format!(
            "{{phase: {phase}, containerStatuses: [{{name: c, image: i, imageID: i, ready: false, restartCount: 0, state: {{terminated: {{exitCode: {code}, finishedAt: '2026-01-01T00:09:55Z'}}}}}}]}}"
        )
    };
    let status = match how {
        "runs" | "ending" => "{phase: Running, conditions: [{type: Ready, status: 'True'}]}".into(),
        "waits" => "{phase: Pending}".into(),
        "done" => ended("Succeeded", "0"),
        "failed" => ended("Failed", code),
        "restarted" => "{phase: Running, containerStatuses: [{name: c, image: i, imageID: i, ready: true, restartCount: 3}]}".into(),
        other => panic!("{other}"),
    };
    let ending = if how == "ending" { "deletionTimestamp: '2026-01-01T00:00:00Z', " } else { "" };
    format!(
        "
---
kind: Pod
metadata: {{namespace: shop, name: {name}, {ending}labels: {{job: j}}, annotations: {{{annotations}}}, finalizers: {finalizers}, ownerReferences: [{{apiVersion: batch/v1, kind: Job, name: sum, uid: j, controller: true}}]}}
spec: {{containers: []}}
status: {status}"
    )
}

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/sum")
}

/// What happens to pods: `+` is created (`+3` for an index), `-a` deleted, `~a` let go.
fn steps(decision: &Decision) -> String {
    let step = |a: &Action| match a {
        Action::Create { kind: Kind::Pod, body, .. } => {
            Some(format!("+{}", body["metadata"]["annotations"][pods::INDEX].as_str().unwrap_or_default()))
        }
        Action::Delete { kind: Kind::Pod, key, .. } => Some(format!("-{}", key.name)),
        Action::Update { kind: Kind::Pod, key, patch, .. } if patch["metadata"]["finalizers"].is_null() => {
            Some(format!("~{}", key.name))
        }
        _ => None,
    };
    decision.actions.iter().filter_map(step).collect::<Vec<_>>().join(" ")
}

fn status(decision: &Decision) -> Value {
    let find = |a: &Action| match a {
        Action::Update { subresource: "status", patch, .. } => Some(patch["status"].clone()),
        _ => None,
    };
    decision.actions.iter().find_map(find).unwrap_or_default()
}

/// The conditions in the new status, `Type=Reason`.
fn conditions(decision: &Decision) -> String {
    let all = status(decision)["conditions"].as_array().cloned().unwrap_or_default();
    let said = |c: &Value| format!("{}={}", c["type"].as_str().unwrap(), c["reason"].as_str().unwrap_or("-"));
    all.iter().map(said).collect::<Vec<_>>().join(" ")
}

#[test]
fn as_many_run_as_are_asked_for() {
    let cases = [
        // (spec, status, pods, steps)
        ("completions: 1, parallelism: 1, ", "", "", "+"),
        ("completions: 5, parallelism: 2, ", "", "", "+ +"),
        ("completions: 5, parallelism: 2, ", "", "a:runs", "+"),
        ("completions: 5, parallelism: 2, ", "", "a:runs b:waits", ""),
        ("completions: 5, parallelism: 2, ", "", "a:runs b:done", "+ ~b"),
        ("completions: 5, parallelism: 3, ", ", succeeded: 4", "a:runs", ""),
        ("completions: 5, parallelism: 1, ", "", "a:runs b:waits", "~b -b"),
        ("parallelism: 2, ", "", "", "+ +"),
        ("parallelism: 2, ", "", "a:done b:runs", "~a"),
        ("completions: 1, parallelism: 0, ", "", "a:runs", "~a -a"),
        ("completions: 2, parallelism: 2, suspend: true, ", "", "a:runs b:done", "~a -a ~b"),
        // The next waits for 10 s after a failure, 20 s after two; these failed 5 s ago.
        ("completions: 1, parallelism: 1, ", "", "a:failed", "~a"),
        ("completions: 1, parallelism: 1, ", "", "a:ending", "+ ~a"),
        ("completions: 1, parallelism: 1, podReplacementPolicy: Failed, ", "", "a:ending", ""),
        ("completions: 3, parallelism: 2, completionMode: Indexed, ", "", "", "+0 +1"),
        ("completions: 3, parallelism: 2, completionMode: Indexed, ", "", "a:runs:i0 b:done:i1", "+2 ~b"),
        (
            "completions: 3, parallelism: 3, completionMode: Indexed, ",
            ", completedIndexes: '0,2', succeeded: 2",
            "",
            "+1",
        ),
        (
            "completions: 3, parallelism: 3, completionMode: Indexed, ",
            "",
            "a:runs:i0 b:waits:i0 c:runs:i9 d:runs",
            "~d -d ~c -c ~b -b",
        ),
    ];
    for (spec, status, has, wanted) in cases {
        let mut found: Vec<_> =
            steps(&decide(&(job(spec, status) + &pods(has)))).split(' ').map(str::to_owned).collect();
        let mut wanted: Vec<_> = wanted.split(' ').map(str::to_owned).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{spec}{status} | {has}");
    }
}

#[test]
fn after_failures_it_waits() {
    let waiting = decide(&(job("completions: 1, parallelism: 1, ", "") + &pods("a:failed:free")));
    assert_eq!(waiting.again, Some(Duration::from_secs(5)));
    let twice = decide(&(job("completions: 1, parallelism: 1, ", "") + &pods("a:failed:free b:failed:free")));
    assert_eq!(twice.again, Some(Duration::from_secs(15)));
    let well = decide(&(job("completions: 2, parallelism: 1, ", "") + &pods("a:failed:free b:done:free")));
    assert_eq!((steps(&well).as_str(), well.again), ("+", None), "the success was not before the failure");
}

#[test]
fn pods_are_noted_then_let_go_then_counted() {
    let spec = "completions: 2, parallelism: 1, ";
    let first = decide(&(job(spec, "") + &pods("a:done b:failed c:runs")));
    assert_eq!(steps(&first), "~a ~b");
    assert_eq!(
        status(&first)["uncountedTerminatedPods"],
        json!({"succeeded": ["a-uid"], "failed": ["b-uid"]})
    );
    assert_eq!(status(&first)["succeeded"], Value::Null, "not yet");
    assert!(
        matches!(&first.actions[0], Action::Update { subresource: "status", .. }),
        "noted before it is let go"
    );
    let noted = ", uncountedTerminatedPods: {succeeded: [a-uid], failed: [b-uid]}";
    let noted = job(spec, "").replace(", uncountedTerminatedPods: {}", noted);
    let again = decide(&(noted.clone() + &pods("a:done b:failed c:runs")));
    assert_eq!(steps(&again), "~a ~b", "once more, if that had failed");
    let second = decide(&(noted.clone() + &pods("a:done:free b:failed:free c:runs")));
    assert_eq!((&status(&second)["succeeded"], &status(&second)["failed"]), (&1.into(), &1.into()));
    assert_eq!(status(&second)["uncountedTerminatedPods"], json!({"succeeded": null, "failed": null}));
    let gone = decide(&(noted + &pods("c:runs")));
    assert_eq!(status(&gone)["succeeded"], 1, "a pod that is gone was let go");
}

#[test]
fn it_ends_when_all_is_counted() {
    let spec = "completions: 1, parallelism: 1, ";
    let done = decide(&(job(spec, "") + &pods("a:done")));
    assert_eq!(conditions(&done), "SuccessCriteriaMet=CompletionsReached");
    let met =
        ", conditions: [{type: SuccessCriteriaMet, status: 'True', reason: CompletionsReached, message: m}]";
    let noted = job(spec, met).replace("Pods: {}", "Pods: {succeeded: [a-uid]}");
    let counted = decide(&(noted + &pods("a:done:free")));
    assert_eq!(conditions(&counted), "SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached");
    assert_eq!(status(&counted)["succeeded"], 1);
    assert_eq!(status(&counted)["completionTime"], testing::NOW);
    assert!(words(&counted).contains(&"event Completed Job completed".to_owned()));
    let ending = decide(&(job(spec, &format!("{met}, succeeded: 1")) + &pods("a:done:free b:ending:free")));
    assert_eq!(conditions(&ending), "", "not while a pod is ending");
}

#[test]
fn reasons_to_fail() {
    let policy =
        |rule: &str| format!("completions: 2, parallelism: 2, podFailurePolicy: {{rules: [{rule}]}}, ");
    let codes =
        |action: &str| policy(&format!("{{action: {action}, onExitCodes: {{operator: In, values: [7]}}}}"));
    let cases = [
        // (spec, status, pods, condition and its reason)
        ("completions: 1, backoffLimit: 0, ".into(), "", "a:failed", "BackoffLimitExceeded"),
        ("completions: 1, backoffLimit: 2, ".into(), ", failed: 2", "a:failed", "BackoffLimitExceeded"),
        ("completions: 1, backoffLimit: 3, ".into(), ", failed: 2", "a:failed", ""),
        ("completions: 1, activeDeadlineSeconds: 60, ".into(), "", "a:runs", "DeadlineExceeded"),
        ("completions: 1, activeDeadlineSeconds: 601, ".into(), "", "a:runs", ""),
        (codes("FailJob"), "", "a:failed:x7", "PodFailurePolicy"),
        (codes("FailJob"), "", "a:failed:x8", ""),
        (codes("Ignore") + "backoffLimit: 0, ", "", "a:failed:x7", ""),
        (codes("Ignore") + "backoffLimit: 0, ", "", "a:failed:x8", "BackoffLimitExceeded"),
        (codes("Count") + "backoffLimit: 0, ", "", "a:failed:x7", "BackoffLimitExceeded"),
        (
            INDEXED.to_owned() + "completions: 2, parallelism: 2, backoffLimit: 9, backoffLimitPerIndex: 1, ",
            ", completedIndexes: '1'",
            "a:failed:i0:f1",
            "FailedIndexes",
        ),
        (
            INDEXED.to_owned() + "completions: 2, parallelism: 2, backoffLimit: 9, backoffLimitPerIndex: 1, ",
            ", completedIndexes: '1'",
            "a:failed:i0:f0",
            "",
        ),
        (
            INDEXED.to_owned()
                + "completions: 4, parallelism: 2, backoffLimit: 9, backoffLimitPerIndex: 0, maxFailedIndexes: 1, ",
            "",
            "a:failed:i0 b:failed:i1",
            "MaxFailedIndexesExceeded",
        ),
    ];
    for (spec, before, has, reason) in cases {
        let decision = decide(&(job(&spec, before) + &pods(has)));
        let wanted = if reason.is_empty() { String::new() } else { format!("FailureTarget={reason}") };
        assert_eq!(conditions(&decision), wanted, "{spec}{before} | {has}");
    }
    let restarted =
        job("completions: 1, backoffLimit: 3, ", "").replace("Never", "OnFailure") + &pods("a:restarted");
    assert_eq!(conditions(&decide(&restarted)), "FailureTarget=BackoffLimitExceeded");
    let message = decide(&(job(&codes("FailJob"), "") + &pods("a:failed:x7")));
    assert_eq!(
        status(&message)["conditions"][0]["message"],
        "Container c for pod shop/a failed with exit code 7 matching FailJob rule at index 0"
    );
}

#[test]
fn a_failed_job_takes_its_pods_with_it() {
    let spec = "completions: 2, parallelism: 2, backoffLimit: 0, ";
    let first = decide(&(job(spec, "") + &pods("a:failed b:runs")));
    assert_eq!(
        (steps(&first).as_str(), conditions(&first).as_str()),
        ("-b ~a", "FailureTarget=BackoffLimitExceeded")
    );
    let target =
        ", conditions: [{type: FailureTarget, status: 'True', reason: BackoffLimitExceeded, message: m}]";
    let second = decide(&(job(spec, target) + &pods("a:failed:free b:ending")));
    assert_eq!(steps(&second), "~b");
    assert_eq!(status(&second)["uncountedTerminatedPods"]["failed"], json!(["b-uid"]), "it counts as failed");
    let last = decide(&(job(spec, &format!("{target}, failed: 2")) + &pods("a:failed:free")));
    assert_eq!(conditions(&last), "FailureTarget=BackoffLimitExceeded Failed=BackoffLimitExceeded");
    assert!(words(&last).contains(&"event BackoffLimitExceeded m".to_owned()), "{:?}", words(&last));
}

#[test]
fn indexes_are_told_to_pods_and_remembered() {
    let spec = INDEXED.to_owned() + "completions: 3, parallelism: 1, ";
    let decision = decide(&job(&spec, ""));
    let Some(Action::Create { body, .. }) =
        decision.actions.iter().find(|a| matches!(a, Action::Create { .. }))
    else {
        panic!("a creation")
    };
    assert_eq!(body["metadata"]["generateName"], "sum-0-");
    assert_eq!(body["metadata"]["labels"][pods::INDEX], "0");
    assert_eq!(body["metadata"]["finalizers"], json!([TRACKING]));
    assert_eq!(body["spec"]["hostname"], "sum-0");
    let env = &body["spec"]["containers"][0]["env"][0];
    assert_eq!(env["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(env["valueFrom"]["fieldRef"]["fieldPath"], format!("metadata.labels['{}']", pods::INDEX));
    let counted =
        decide(&(job(&spec, ", completedIndexes: '0', succeeded: 1") + &pods("a:done:i1 b:runs:i2")));
    assert_eq!(
        (&status(&counted)["completedIndexes"], &status(&counted)["succeeded"]),
        (&"0,1".into(), &2.into())
    );
}

#[test]
fn an_index_is_tried_again_with_its_failures() {
    let spec =
        INDEXED.to_owned() + "completions: 2, parallelism: 2, backoffLimit: 9, backoffLimitPerIndex: 3, ";
    let waiting = decide(&(job(&spec, "") + &pods("a:failed:i0:f0")));
    assert_eq!((steps(&waiting).as_str(), waiting.again), ("+1", Some(Duration::from_secs(5))));
    let later = pods("a:failed:i0:f0").replace("00:09:55", "00:09:00");
    let again = decide(&(job(&spec, "") + &later));
    assert_eq!(steps(&again), "+0 +1", "and the failed pod stays until then");
    let Some(Action::Create { body, .. }) = again.actions.iter().find(|a| matches!(a, Action::Create { .. }))
    else {
        panic!("a creation")
    };
    assert_eq!(body["metadata"]["annotations"][pods::FAILURES], "1");
    let replaced = decide(&(job(&spec, "") + &later + &pods("b:runs:i0:f1 c:runs:i1:f0")));
    assert_eq!(steps(&replaced), "~a");
    let failed = decide(&(job(&spec, "") + &pods("a:failed:i0:f3 c:runs:i1:f0")));
    assert_eq!(status(&failed)["failedIndexes"], "0");
}

#[test]
fn a_success_policy_ends_early() {
    let spec = |rule: &str| {
        INDEXED.to_owned() + &format!("completions: 5, parallelism: 5, successPolicy: {{rules: [{rule}]}}, ")
    };
    let cases = [
        ("{succeededIndexes: '0,2'}", "a:done:i0 b:done:i2 c:runs:i1", true),
        ("{succeededIndexes: '0,2'}", "a:done:i0 b:done:i1", false),
        ("{succeededIndexes: '0-3', succeededCount: 2}", "a:done:i0 b:done:i3", true),
        ("{succeededCount: 3}", "a:done:i0 b:done:i3", false),
    ];
    for (rule, has, met) in cases {
        let said = conditions(&decide(&(job(&spec(rule), "") + &pods(has))));
        assert_eq!(said == "SuccessCriteriaMet=SuccessPolicy", met, "{rule} {has}: {said}");
    }
}

#[test]
fn suspending_and_resuming_is_told() {
    let suspended = decide(&job("completions: 1, suspend: true, ", ""));
    assert_eq!(conditions(&suspended), "Suspended=JobSuspended");
    let before = ", conditions: [{type: Suspended, status: 'True', reason: JobSuspended}]";
    let resumed = decide(&job("completions: 1, ", before));
    assert_eq!(conditions(&resumed), "Suspended=JobResumed");
    assert_eq!(status(&resumed)["startTime"], testing::NOW, "the deadline counts anew");
    let never = decide(
        &job("completions: 1, suspend: true, ", "").replace("startTime: '2026-01-01T00:00:00Z', ", ""),
    );
    assert_eq!(status(&never)["startTime"], Value::Null);
}

#[test]
fn finished_and_foreign_jobs_are_left_alone_but_expire() {
    let finished =
        ", conditions: [{type: Complete, status: 'True', lastTransitionTime: '2026-01-01T00:09:00Z'}]";
    assert_eq!(words(&decide(&job("ttlSecondsAfterFinished: 30, ", finished))), ["delete Job sum"]);
    let later = decide(&job("ttlSecondsAfterFinished: 100, ", finished));
    assert_eq!((words(&later).len(), later.again), (0, Some(Duration::from_secs(40))));
    assert_eq!(words(&decide(&job("managedBy: x.example/y, completions: 1, ", ""))), Vec::<String>::new());
    let orphan =
        |yaml: String| words(&testing::decide(&testing::state(&yaml), decide_orphan, "shop/a")).len();
    assert_eq!(orphan(pods("a:done")), 1, "its Job is gone");
    assert_eq!(orphan(job("", "") + &pods("a:done")), 0, "its Job will count it");
    assert_eq!(orphan(job("", finished) + &pods("a:done")), 1);
    assert_eq!(orphan(pods("a:done:free")), 0);
}

#[test]
fn orphans_are_adopted_and_tracked() {
    let orphan = "\n---\nkind: Pod\nmetadata: {namespace: shop, name: lone, labels: {job: j}}\n";
    let decision = decide(&(job("completions: 1, ", "") + orphan));
    let [Action::Update { patch, .. }] = &decision.actions[..] else { panic!("{:?}", words(&decision)) };
    assert_eq!(patch["metadata"]["finalizers"], json!([TRACKING]));
    assert_eq!(patch["metadata"]["ownerReferences"][0]["uid"], "j");
    let lost = pods("a:runs").replace("labels: {job: j}", "labels: {job: k}");
    let said = words(&decide(&(job("completions: 1, ", "") + &lost)));
    assert!(said[0].contains(r#""finalizers":null"#), "{said:?}");
}
