//! ResourceQuotas: what a write adds to the usage of its namespace, and whether that is still allowed.
//!
//! Usage is counted anew from the store for each write that a quota concerns, so it is never out of date; the quota's status is
//! for users.

use jiff::Timestamp;
use serde_json::Value;

use super::amounts::Amounts;
use super::{pod, scope, usage};
use crate::error::ApiError;
use crate::http::request::Target;
use crate::registry::object::text;
use crate::schema::Resource;

/// Whether a write can change what its object counts.
pub fn counts(target: &Target, old: Option<&Value>, new: &Value) -> bool {
    let resource = &target.resource;
    if resource.plural == "events" {
        return false;
    }
    match (resource.group, resource.plural, target.subresource.as_str(), old) {
        (_, _, "", None) => true,
        ("", "services" | "persistentvolumeclaims", "", Some(_)) => true,
        ("", "pods", "", Some(old)) => pod::is_terminating(old) != pod::is_terminating(new),
        ("", "pods", "resize", Some(_)) => true,
        _ => false,
    }
}

/// Refuses a write that takes more than a quota has left. `used` counts what is there under some names.
pub fn check(
    quota: &Value,
    resource: &Resource,
    old: Option<&Value>,
    new: &Value,
    now: Timestamp,
    used: impl Fn(&Amounts) -> Result<Amounts, ApiError>,
) -> Result<(), ApiError> {
    let hard = Amounts::read(quota.pointer("/spec/hard")).only(|name| usage::concerns(resource, name));
    if hard.is_empty() || !scope::takes(quota, resource, new) {
        return Ok(());
    }
    let refuse = |why: String| {
        Err(ApiError::forbidden(resource.group, resource.plural, text(new, "/metadata/name"), &why))
    };
    let name = text(quota, "/metadata/name");
    if let Some(missing) = usage::missing(resource, &hard, new) {
        return refuse(format!("failed quota: {name}: {missing}"));
    }
    let before = old.filter(|old| scope::takes(quota, resource, old));
    let before = before.map(|old| usage::of(resource, old, now)).unwrap_or_default();
    let asked = usage::of(resource, new, now).above(&before).only(|name| hard.get(name).is_some());
    if asked.is_empty() {
        return Ok(());
    }
    let used = used(&hard)?;
    let exceeded = |name: &str| {
        let mut sum = used.only(|own| own == name);
        sum.add(&asked.only(|own| own == name));
        sum.get(name).zip(hard.get(name)).is_some_and(|(sum, most)| sum.exceeds(&most))
    };
    let failed = asked.only(exceeded);
    if failed.is_empty() {
        return Ok(());
    }
    let mut shown = Amounts::default();
    for name in failed.names() {
        shown.set(name, used.get(name).unwrap_or(crate::schema::quantity::Quantity::ZERO));
    }
    refuse(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        failed.shown(),
        shown.shown(),
        hard.only(|name| failed.get(name).is_some()).shown()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::schema;

    fn outcome(hard: Value, plural: &str, old: Option<Value>, new: Value, used: Value) -> String {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
        let resource = schema().resource("", "v1", plural).unwrap();
        let used = |_: &Amounts| Ok(Amounts::read(Some(&used)));
        match check(&quota, resource, old.as_ref(), &new, Timestamp::UNIX_EPOCH, used) {
            Ok(()) => "fits".to_owned(),
            Err(refusal) => refusal.message,
        }
    }

    #[test]
    fn a_pod_that_is_one_too_many_is_refused() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        let hard = json!({"pods": "2", "configmaps": "1"});
        assert_eq!(outcome(hard.clone(), "pods", None, pod.clone(), json!({"pods": "1"})), "fits");
        assert_eq!(
            outcome(hard, "pods", None, pod.clone(), json!({"pods": "2"})),
            "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
        );
        assert_eq!(
            outcome(json!({"limits.cpu": "2", "memory": "1Gi"}), "pods", None, pod, json!({})),
            "pods \"p\" is forbidden: failed quota: q: must specify limits.cpu for: c; memory for: c"
        );
    }

    #[test]
    fn a_change_counts_for_what_it_adds() {
        let service = |of: &str| json!({"metadata": {"name": "s"}, "spec": {"type": of, "ports": [{}, {}]}});
        let hard = json!({"services": "1", "services.nodeports": "1"});
        let used = json!({"services": "1"});
        let refusal =
            outcome(hard.clone(), "services", Some(service("ClusterIP")), service("NodePort"), used.clone());
        assert_eq!(
            refusal,
            "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: \
             services.nodeports=0, limited: services.nodeports=1"
        );
        assert_eq!(outcome(hard, "services", Some(service("NodePort")), service("ClusterIP"), used), "fits");
    }

    #[test]
    fn scopes_leave_others_alone() {
        let quota = |scope: &str| json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}, "scopes": [scope]}});
        let resource = schema().resource("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        let refused = |scope: &str| {
            let used = |_: &Amounts| Ok(Amounts::default());
            check(&quota(scope), resource, None, &pod, Timestamp::UNIX_EPOCH, used).is_err()
        };
        assert!(refused("BestEffort") && refused("NotTerminating"));
        assert!(!refused("NotBestEffort") && !refused("Terminating") && !refused("PriorityClass"));
    }
}
