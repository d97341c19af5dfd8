//! `pods/eviction`: a deletion that asks the pod's disruption budget first.

use serde_json::{Value, json};

use super::object::{child, is_being_deleted, resource_version, text, time};
use super::update::Tracking;
use super::{Call, DeleteOptions, Registry};
use crate::error::ApiError;
use crate::http::request::Target;
use crate::schema::{Resource, schema};
use crate::selector::LabelSelector;

/// A budget remembers at most so many pods whose eviction it allowed.
const MOST_DISRUPTED: usize = 2000;

/// What a budget says about an eviction.
#[derive(Debug, PartialEq)]
enum Answer {
    /// It counts as a disruption.
    Granted,
    /// The pod is not healthy, so it does not count; but only as it is now.
    Unhealthy,
}

impl Registry {
    /// Evicts the pod if its budget leaves room.
    pub async fn evict(&self, target: &Target, eviction: &Value, call: &Call) -> Result<Value, ApiError> {
        let name = text(eviction, "/metadata/name");
        if !name.is_empty() && name != target.name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut options = DeleteOptions::from_value(eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
        let main = Target { subresource: String::new(), ..target.clone() };
        let pod = self.get(&main)?;
        let mut call = call.clone();
        call.dry_run |= options.dry_run;
        if !needs_no_budget(&pod) && self.ask_budget(&main, &pod, &mut call).await? == Answer::Unhealthy {
            options.resource_version.get_or_insert_with(|| resource_version(&pod).to_owned());
        }
        self.delete_evicted(&main, options, &mut call).await?;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }

    /// Finds the pod's budget and takes one disruption from it.
    async fn ask_budget(&self, target: &Target, pod: &Value, call: &mut Call) -> Result<Answer, ApiError> {
        let Some(resource) = schema().resource("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Answer::Unhealthy);
        };
        let mut budgets = self.budgets_of(resource, target, pod)?;
        let Some(budget) = budgets.pop() else { return Ok(Answer::Granted) };
        if !budgets.is_empty() {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::new(500, "InternalError", message));
        }
        if !is_ready(pod) && spares_unhealthy(&budget) {
            return Ok(Answer::Unhealthy);
        }
        let of_budget = Target {
            resource: resource.clone(),
            namespace: target.namespace.clone(),
            name: text(&budget, "/metadata/name").to_owned(),
            subresource: "status".to_owned(),
            rest: String::new(),
        };
        let now = time(call.now);
        let take = |old: &Value, _: &mut Call| Ok((granted(old, &target.name, &now)?, Tracking::Update));
        self.modify(&of_budget, call, take).await?;
        Ok(Answer::Granted)
    }

    fn budgets_of(&self, resource: &Resource, target: &Target, pod: &Value) -> Result<Vec<Value>, ApiError> {
        let mut found = Vec::new();
        for stored in self.store.all(&super::storage::prefix(resource, &target.namespace)) {
            let budget = super::object::parse(&stored.bytes)?;
            let selector = budget.pointer("/spec/selector").unwrap_or(&Value::Null);
            // A budget without a selector selects nothing.
            if !selector.is_null() && LabelSelector::from_object(selector).matches(pod) {
                found.push(budget);
            }
        }
        Ok(found)
    }

    /// Says on the pod why it goes, and deletes it.
    async fn delete_evicted(
        &self,
        target: &Target,
        mut options: DeleteOptions,
        call: &mut Call,
    ) -> Result<(), ApiError> {
        let status = Target { subresource: "status".to_owned(), ..target.clone() };
        let (now, wanted) = (time(call.now), options.clone());
        let mark = |old: &Value, _: &mut Call| {
            super::delete::check_preconditions(target, &wanted, old)?;
            Ok((marked(old, &now), Tracking::Update))
        };
        let pod = self.modify(&status, call, mark).await?;
        if options.resource_version.is_some() && !call.dry_run {
            options.resource_version = Some(resource_version(&pod).to_owned());
        }
        self.delete(target, &options, call).await.map(drop)
    }
}

/// A pod that does not run, or not for long, is no loss.
fn needs_no_budget(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed" | "Pending") || is_being_deleted(pod)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}

fn number(budget: &Value, field: &str) -> i64 {
    budget.pointer("/status").and_then(|s| s.get(field)).and_then(Value::as_i64).unwrap_or(0)
}

/// Whether a pod that is not ready may go without counting as a disruption.
fn spares_unhealthy(budget: &Value) -> bool {
    let desired = number(budget, "desiredHealthy");
    text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow"
        || (number(budget, "currentHealthy") >= desired && desired > 0)
}

/// The budget after it has allowed the eviction of a pod.
fn granted(budget: &Value, pod: &str, now: &str) -> Result<Value, ApiError> {
    let name = text(budget, "/metadata/name");
    let generation = budget.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    let refuse = |why: String| {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
        ApiError::new(429, "TooManyRequests", message).with_details(details)
    };
    if number(budget, "observedGeneration") < generation {
        let mut busy =
            refuse(format!("The disruption budget {name} is still being processed by the server."));
        if let Some(details) = &mut busy.details {
            details["retryAfterSeconds"] = 10.into();
        }
        return Err(busy);
    }
    let disrupted = budget.pointer("/status/disruptedPods").and_then(Value::as_object).map_or(0, |d| d.len());
    if disrupted > MOST_DISRUPTED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden("policy", "poddisruptionbudgets", name, why));
    }
    let allowed = number(budget, "disruptionsAllowed");
    if allowed <= 0 {
        return Err(refuse(format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(budget, "desiredHealthy"),
            number(budget, "currentHealthy")
        )));
    }
    let mut new = budget.clone();
    let status = child(&mut new, "status");
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
    pods[pod] = now.into();
    Ok(new)
}

/// The pod with the condition that tells that it is evicted.
fn marked(pod: &Value, now: &str) -> Value {
    let mut new = pod.clone();
    let conditions = child(&mut new, "status").entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        let is_ours = |c: &Value| text(c, "/type") == "DisruptionTarget";
        if list.iter().any(|c| is_ours(c) && text(c, "/status") == "True") {
            return new;
        }
        list.retain(|c| !is_ours(c));
        list.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
        }));
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 2}, "spec": {}, "status": status})
    }

    #[test]
    fn a_budget_grants_what_it_has_and_remembers_the_pod() {
        let rich = budget(json!({"observedGeneration": 2, "disruptionsAllowed": 2}));
        let new = granted(&rich, "p", "now").unwrap();
        assert_eq!(new["status"]["disruptionsAllowed"], 1);
        assert_eq!(new["status"]["disruptedPods"], json!({"p": "now"}));
        let poor = budget(json!({"observedGeneration": 2, "desiredHealthy": 3, "currentHealthy": 3}));
        let refused = granted(&poor, "p", "now").unwrap_err();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert_eq!(
            refused.details.unwrap()["causes"][0]["message"],
            "The disruption budget b needs 3 healthy pods and has 3 currently"
        );
        let unseen = granted(&budget(json!({"observedGeneration": 1, "disruptionsAllowed": 2})), "p", "now");
        assert_eq!(unseen.unwrap_err().details.unwrap()["retryAfterSeconds"], 10);
    }

    #[test]
    fn unhealthy_pods_are_spared_when_the_others_suffice() {
        let mut budget = budget(json!({"desiredHealthy": 2, "currentHealthy": 2}));
        assert!(spares_unhealthy(&budget));
        budget["status"]["currentHealthy"] = 1.into();
        assert!(!spares_unhealthy(&budget));
        budget["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
        assert!(spares_unhealthy(&budget));
        assert!(needs_no_budget(&json!({"status": {"phase": "Pending"}})));
        assert!(!needs_no_budget(&json!({"status": {"phase": "Running"}})));
    }
}
