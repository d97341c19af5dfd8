//! What a Job says about which failures count, and when it has succeeded early.

use k8s_openapi::api::batch::v1::{
    Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, SuccessPolicy,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;
use crate::meta::key;

/// What a failed pod means for its Job.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It counts towards the back-off limit.
    Counts,
    Ignored,
    /// The Job fails, for this reason.
    FailsJob(String),
    /// Its index fails.
    FailsIndex,
}

/// The verdict of the first rule that matches.
pub fn verdict(job: &Job, pod: &Pod) -> Verdict {
    let rules = job.spec.as_ref().and_then(|s| s.pod_failure_policy.as_ref()).map(|p| p.rules.as_slice());
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        let why = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => exit_code(pod, codes),
            (None, Some(patterns)) => condition(pod, patterns),
            (None, None) => None,
        };
        let Some(why) = why else { continue };
        match rule.action.as_str() {
            "Ignore" => return Verdict::Ignored,
            "Count" => return Verdict::Counts,
            "FailIndex" => return Verdict::FailsIndex,
            "FailJob" => {
                return Verdict::FailsJob(format!("{why} matching FailJob rule at index {index}"));
            }
            _ => {}
        }
    }
    Verdict::Counts
}

fn exit_code(pod: &Pod, wanted: &PodFailurePolicyOnExitCodesRequirement) -> Option<String> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let mut all = lists.into_iter().flat_map(|list| list.iter().flatten());
    let code_of = |c: &ContainerStatus| c.state.as_ref()?.terminated.as_ref().map(|t| t.exit_code);
    let matches = |c: &&ContainerStatus| {
        let named = wanted.container_name.as_ref().is_none_or(|name| *name == c.name);
        named
            && code_of(c).is_some_and(|code| {
                let listed = wanted.values.contains(&code);
                code != 0 && if wanted.operator == "In" { listed } else { !listed }
            })
    };
    let found = all.find(matches)?;
    let code = code_of(found)?;
    Some(format!("Container {} for pod {} failed with exit code {code}", found.name, key(pod)))
}

fn condition(pod: &Pod, wanted: &[PodFailurePolicyOnPodConditionsPattern]) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let matches = |kind: &str, status: &str| {
        wanted.iter().any(|p| p.type_ == kind && p.status.as_deref().unwrap_or("True") == status)
    };
    let found = conditions.iter().find(|c| matches(&c.type_, &c.status))?;
    Some(format!("Pod {} has condition {}", key(pod), found.type_))
}

/// The message of the first rule of a success policy that these indexes meet.
pub fn success(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    if succeeded.len() == 0 {
        return None;
    }
    let met = policy?.rules.iter().position(|rule| {
        let Some(text) = &rule.succeeded_indexes else {
            return rule.succeeded_count.is_some_and(|count| succeeded.len() >= count);
        };
        let required = Indexes::parse(text, completions);
        let has = required.overlap(succeeded);
        required.len() > 0
            && (has == required.len() || rule.succeeded_count.is_some_and(|count| has >= count))
    })?;
    Some(format!("Matched rules at index {met}"))
}
