//! Jobs: failure and success policies, what may change later, and what a status may say.

use serde_json::{Value, json};

use super::{
    common,
    field::{Errors, Path},
    format,
    value::{at, copy_key, int, list, present, strings, text, truth},
};

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// A condition of a failure policy is meant to be true unless it says otherwise.
pub fn default_policies(spec: &mut Value) {
    for rule in super::value::items_mut(spec, "podFailurePolicy.rules") {
        for pattern in super::value::items_mut(rule, "onPodConditions") {
            super::value::fill(pattern, "status", "True");
        }
    }
}

pub fn check_policies(spec: &Value, path: &Path, errors: &mut Errors) {
    if present(spec, "maxFailedIndexes") && !present(spec, "backoffLimitPerIndex") {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    let indexed = text(spec, "completionMode") == "Indexed";
    if indexed && int(spec, "parallelism") > 100_000 {
        let why = "must be less than or equal to 100000 when completion mode is Indexed";
        errors.invalid(&path.child("parallelism"), int(spec, "parallelism"), why);
    }
    if let Some(policy) = at(spec, "podFailurePolicy") {
        check_failure_policy(spec, policy, &path.child("podFailurePolicy").child("rules"), errors);
        if text(spec, "template.spec.restartPolicy") == "OnFailure" {
            let path = path.child("template").child("spec").child("restartPolicy");
            errors.invalid(
                &path,
                "OnFailure",
                "only \"Never\" is supported when podFailurePolicy is specified",
            );
        }
    }
    if let Some(policy) = at(spec, "successPolicy") {
        let path = path.child("successPolicy");
        if indexed {
            check_success_policy(spec, policy, &path.child("rules"), errors);
        } else {
            errors.invalid(&path, policy.clone(), "requires indexed completion mode");
        }
    }
    let replacement = text(spec, "podReplacementPolicy");
    let allowed: &[&str] =
        if present(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if !replacement.is_empty() && !allowed.contains(&replacement) {
        errors.not_supported(&path.child("podReplacementPolicy"), replacement, allowed);
    }
}

fn check_failure_policy(spec: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    let rules = list(policy, "rules");
    if rules.len() > MOST_RULES {
        errors.too_many(path, rules.len(), MOST_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        match text(rule, "action") {
            "" => errors.required(
                &path.child("action"),
                "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            ),
            "FailIndex" if !present(spec, "backoffLimitPerIndex") => {
                let why = "requires the backoffLimitPerIndex to be set";
                errors.invalid(&path.child("action"), "FailIndex", why);
            }
            action if !ACTIONS.contains(&action) => {
                errors.not_supported(&path.child("action"), action, &ACTIONS);
            }
            _ => {}
        }
        let conditions = list(rule, "onPodConditions");
        match (at(rule, "onExitCodes"), conditions.is_empty()) {
            (Some(codes), true) => check_exit_codes(spec, codes, &path.child("onExitCodes"), errors),
            (None, false) => check_conditions(conditions, &path.child("onPodConditions"), errors),
            (Some(_), false) => {
                let why = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.invalid_whole(&path, why);
            }
            (None, true) => {
                let why = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.invalid_whole(&path, why);
            }
        }
    }
}

fn check_exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut Errors) {
    let operator = text(codes, "operator");
    common::check_one_of(operator, &OPERATORS, &path.child("operator"), errors);
    if let Some(name) = at(codes, "containerName") {
        let pod = &spec["template"]["spec"];
        let mut all = list(pod, "containers").iter().chain(list(pod, "initContainers"));
        if !all.any(|c| c.get("name") == Some(name)) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.child("containerName"), name.clone(), why);
        }
    }
    let (values, path) = (list(codes, "values"), path.child("values"));
    if values.is_empty() {
        errors.invalid(&path, json!(values), "at least one value is required");
    } else if values.len() > MOST_CODES {
        errors.too_many(&path, values.len(), MOST_CODES);
    }
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && value.as_i64() == Some(0) {
            errors.invalid(&path.index(i), 0, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(&path.index(i), value.clone());
        }
    }
    if values.windows(2).any(|w| w[0].as_i64() > w[1].as_i64()) {
        errors.invalid(&path, json!(values), "must be ordered");
    }
}

fn check_conditions(patterns: &[Value], path: &Path, errors: &mut Errors) {
    if patterns.len() > MOST_RULES {
        errors.too_many(path, patterns.len(), MOST_RULES);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let (path, kind) = (path.index(i), text(pattern, "type"));
        errors.invalid_each(&path.child("type"), kind, &format::qualified_name(kind));
        common::check_one_of(text(pattern, "status"), &STATUSES, &path.child("status"), errors);
    }
}

fn check_success_policy(spec: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    let rules = list(policy, "rules");
    if rules.is_empty() {
        errors.required(path, "at least one rules must be specified when the successPolicy is specified");
    } else if rules.len() > MOST_RULES {
        errors.too_many(path, rules.len(), MOST_RULES);
    }
    let completions = int(spec, "completions");
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        let (indexes, count) = (at(rule, "succeededIndexes"), at(rule, "succeededCount"));
        if indexes.is_none() && count.is_none() {
            errors.required(&path, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = None;
        if let Some(text) = indexes.and_then(Value::as_str) {
            match count_indexes(text, completions) {
                Ok(n) => total = Some(n),
                Err(why) => {
                    let why = format!("error parsing succeededIndexes: {why}");
                    errors.invalid(&path.child("succeededIndexes"), text, &why);
                }
            }
        }
        let Some(count) = count.and_then(Value::as_i64) else { continue };
        let path = path.child("succeededCount");
        common::check_nonnegative(count, &path, errors);
        if count > completions {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&path, count, &why);
        }
        if let Some(total) = total.filter(|t| count > *t) {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&path, count, &why);
        }
    }
}

/// How many indexes a text like `0,2-5` names; they ascend and are below `completions`.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, -1);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let bounds: Vec<&str> = part.split('-').collect();
        let (first, end) = match bounds[..] {
            [one] => (one, one),
            [first, end] => (first, end),
            _ => {
                return Err(format!(
                    "the fragment \"{part}\" violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| format!("cannot convert string to integer for index: \"{text}\""))
        };
        let (first, end) = (number(first)?, number(end)?);
        if first <= last {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        if end >= completions {
            return Err(format!("too large index: \"{end}\""));
        }
        if end < first {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        total += end - first + 1;
        last = end;
    }
    Ok(total)
}

/// What of a Job's spec may change: counts, and while it is suspended and nothing runs, where its pods go and
/// what they need.
pub fn check_update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        let dotted = format!("spec.{field}");
        common::check_immutable(at(old, &dotted), at(new, &dotted), &path.child(field), errors);
    }
    let (before, after) = (at(old, "spec.completions"), at(new, "spec.completions"));
    if text(new, "spec.completionMode") != "Indexed" {
        common::check_immutable(before, after, &path.child("completions"), errors);
    } else if before != after && after != at(new, "spec.parallelism") {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&path.child("completions"), after.cloned().unwrap_or_default(), why);
    }
    let is_idle = truth(old, "spec.suspend")
        && int(old, "status.active") == 0
        && (!present(old, "status.startTime") || has_condition(old, "Suspended"));
    let mut before = old["spec"]["template"].clone();
    let after = &new["spec"]["template"];
    if is_idle {
        free_template(&mut before, after);
    }
    if !super::strategy::same(Some(&before), Some(after)) {
        errors.invalid(&path.child("template"), after.clone(), "field is immutable");
    }
}

/// Takes over from `after` what may change in the template of a Job that does not run.
fn free_template(before: &mut Value, after: &Value) {
    for field in ["labels", "annotations"] {
        if let Some(metadata) = super::value::object(before, "metadata") {
            copy_key(&after["metadata"], metadata, field);
        }
    }
    let Some(spec) = super::value::at_mut(before, "spec") else { return };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        copy_key(&after["spec"], spec, field);
    }
    let affinity = &after["spec"]["affinity"];
    match (at(spec, "affinity").is_some(), affinity.is_object()) {
        (_, true) => {
            if let Some(own) = super::value::object(spec, "affinity") {
                copy_key(affinity, own, "nodeAffinity");
            }
        }
        (true, false) => {
            let others = spec["affinity"].as_object().is_some_and(|a| a.keys().any(|k| k != "nodeAffinity"));
            if !others {
                super::value::drop_key(spec, "affinity");
            }
        }
        (false, false) => {}
    }
    for field in ["containers", "initContainers"] {
        let new = list(&after["spec"], field).to_vec();
        for (own, new) in super::value::items_mut(spec, field).zip(&new) {
            if own.get("name") == new.get("name") {
                copy_key(new, own, "resources");
            }
        }
    }
}

fn has_condition(job: &Value, kind: &str) -> bool {
    list(job, "status.conditions").iter().any(|c| text(c, "type") == kind && text(c, "status") == "True")
}

/// Labels and selector that tie the pods to the Job are as they were generated.
pub fn check_generated(obj: &Value, errors: &mut Errors) {
    if truth(obj, "spec.manualSelector") || !present(obj, "spec.selector") {
        return;
    }
    let path = Path::new("spec.template.metadata.labels");
    let labels = &obj["spec"]["template"]["metadata"]["labels"];
    let pairs = [("controller-uid", text(obj, "metadata.uid")), ("job-name", text(obj, "metadata.name"))];
    for (key, wanted) in pairs {
        for key in [key.to_owned(), format!("batch.kubernetes.io/{key}")] {
            match labels.get(&key).and_then(Value::as_str) {
                Some(found) if found == wanted => {}
                Some(_) => errors.invalid(&path, labels.clone(), &format!("must be '{wanted}'")),
                None => errors.required(&path.key(&key), &format!("must be '{wanted}'")),
            }
        }
    }
}

/// A status never takes back what it said, and says nothing that contradicts itself.
pub fn check_status(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        common::check_nonnegative(int(new, &format!("status.{field}")), &path.child(field), errors);
    }
    let conditions = path.child("conditions");
    let mut refuse = |is: bool, why: &str| {
        if is {
            errors.invalid_whole(&conditions, why);
        }
    };
    let has = |kind| has_condition(new, kind);
    refuse(has("Complete") && has("Failed"), "cannot set Complete=True and Failed=true conditions");
    refuse(
        has("Complete") && has("FailureTarget"),
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(
        has("SuccessCriteriaMet") && has("FailureTarget"),
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    refuse(
        has("Failed") && !has_condition(old, "Failed") && !has("FailureTarget"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        has("Complete") && !has_condition(old, "Complete") && !has("SuccessCriteriaMet"),
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    for kind in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        let taken_back = has_condition(old, kind) && !has(kind);
        refuse(taken_back, &format!("cannot disable the terminal {kind}=True condition"));
    }
    let done = has("Complete") || has("Failed");
    let time = path.child("completionTime");
    match (present(new, "status.completionTime"), has("Complete")) {
        (true, false) => {
            let value = new["status"]["completionTime"].clone();
            errors.invalid(
                &time,
                value,
                "cannot set completionTime when there is no Complete=True condition",
            );
        }
        (false, true) => errors.required(&time, "completionTime is required for Complete jobs"),
        _ => {}
    }
    for field in ["active", "terminating"] {
        let count = int(new, &format!("status.{field}"));
        if done && count > 0 {
            errors.invalid(&path.child(field), count, &format!("{field}>0 is invalid for finished job"));
        }
    }
    let ready = int(new, "status.ready");
    if ready > int(new, "status.active") {
        errors.invalid(&path.child("ready"), ready, "cannot set more ready pods than active");
    }
    let failed = int(new, "status.failed");
    if failed < int(old, "status.failed") {
        errors.invalid(&path.child("failed"), failed, "cannot decrease the failed counter");
    }
    let uncounted = |list_| strings(new, &format!("status.uncountedTerminatedPods.{list_}")).len();
    if done && uncounted("succeeded") + uncounted("failed") > 0 {
        let value = new["status"]["uncountedTerminatedPods"].clone();
        errors.invalid(&path.child("uncountedTerminatedPods"), value, "must be empty for finished job");
    }
}
