//! What a pod asks for as a whole, and what scopes of quotas ask about it.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::amounts::Amounts;
use crate::kinds::value::{at, int, list, text};

/// `requests` or `limits` of the whole pod: its containers run together, init containers before them one at a time, but for
/// those that stay (sidecars).
pub fn total(pod: &Value, of: &str) -> Amounts {
    let own = |container: &Value| Amounts::read(container["resources"].get(of));
    let mut sum = Amounts::default();
    for container in list(pod, "spec.containers") {
        sum.add(&own(container));
    }
    let (mut staying, mut starting) = (Amounts::default(), Amounts::default());
    for container in list(pod, "spec.initContainers") {
        let mut needed = own(container);
        if text(container, "restartPolicy") == "Always" {
            sum.add(&needed);
            staying.add(&needed);
            needed = staying.clone();
        } else {
            needed.add(&staying);
        }
        starting.raise(&needed);
    }
    sum.raise(&starting);
    for (name, amount) in Amounts::read(at(pod, "spec.resources").and_then(|r| r.get(of))).iter() {
        if matches!(name, "cpu" | "memory") {
            sum.set(name, amount);
        }
    }
    sum
}

/// As [`total`], with the overhead of the pod's runtime.
pub fn total_with_overhead(pod: &Value, of: &str) -> Amounts {
    let mut sum = total(pod, of);
    let overhead = Amounts::read(at(pod, "spec.overhead"));
    // A limit that nobody set is none, whatever the overhead.
    let known = sum.clone();
    sum.add(&overhead.only(|name| of == "requests" || known.get(name).is_some()));
    sum
}

/// Whether a pod is counted: it is neither done nor overdue to be gone.
pub fn is_charged(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, "status.phase"), "Failed" | "Succeeded") {
        return false;
    }
    let deadline: Option<Timestamp> = text(pod, "metadata.deletionTimestamp").parse().ok();
    let grace = SignedDuration::from_secs(int(pod, "metadata.deletionGracePeriodSeconds"));
    let overdue = deadline.and_then(|deadline| deadline.saturating_add(grace).ok());
    overdue.is_none_or(|overdue| now <= overdue)
}

/// The pod ends by itself.
pub fn is_terminating(pod: &Value) -> bool {
    at(pod, "spec.activeDeadlineSeconds").is_some()
}

pub fn reaches_other_namespaces(pod: &Value) -> bool {
    let of_term =
        |term: &Value| !list(term, "namespaces").is_empty() || at(term, "namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let terms = |when: &str| list(pod, &format!("spec.affinity.{kind}.{when}"));
        terms("requiredDuringSchedulingIgnoredDuringExecution").iter().any(of_term)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| of_term(&weighted["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}, "limits": {"memory": "1Gi"}}})
    }

    #[test]
    fn init_containers_count_while_they_are_more() {
        let mut pod = json!({"spec": {"containers": [container("1"), container("500m")],
            "initContainers": [container("2"), container("1")], "overhead": {"cpu": "10m", "memory": "1Mi"}}});
        assert_eq!(total(&pod, "requests").shown(), "cpu=2");
        assert_eq!(total(&pod, "limits").shown(), "memory=2Gi");
        assert_eq!(total_with_overhead(&pod, "requests").shown(), "cpu=2010m,memory=1Mi");
        assert_eq!(total_with_overhead(&pod, "limits").shown(), "memory=2049Mi");
        pod["spec"]["initContainers"][0]["restartPolicy"] = "Always".into();
        assert_eq!(total(&pod, "requests").shown(), "cpu=3500m", "a sidecar runs beside the containers");
        pod["spec"]["resources"] = json!({"requests": {"cpu": "8"}});
        assert_eq!(total(&pod, "requests").shown(), "cpu=8");
    }

    #[test]
    fn what_is_done_or_overdue_is_not_counted() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let gone =
            |at: &str| json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}});
        assert!(is_charged(&json!({"status": {"phase": "Running"}}), now));
        assert!(!is_charged(&json!({"status": {"phase": "Failed"}}), now));
        assert!(is_charged(&gone("2026-01-01T00:00:30Z"), now));
        assert!(!is_charged(&gone("2026-01-01T00:00:29Z"), now));
    }
}
