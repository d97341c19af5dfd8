//! LimitRanges: what containers get that say nothing, and what they, pods and claims may ask for.

use serde_json::{Value, json};

use super::amounts::Amounts;
use super::pod;
use crate::kinds::value::{items_mut, list, text};
use crate::schema::quantity::Quantity;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Gives the containers of a new pod what a LimitRange has for those that say nothing.
pub fn complete(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Amounts::default(), Amounts::default());
    for limit in list(range, "spec.limits").iter().filter(|limit| text(limit, "type") == "Container") {
        for (name, amount) in Amounts::read(limit.get("defaultRequest")).iter() {
            requests.set(name, amount);
        }
        for (name, amount) in Amounts::read(limit.get("default")).iter() {
            limits.set(name, amount);
        }
    }
    let mut told = Vec::new();
    for (field, kind) in [("spec.containers", "container"), ("spec.initContainers", "init container")] {
        for container in items_mut(pod, field).filter(|container| container.is_object()) {
            let name = text(container, "name").to_owned();
            for (of, word, amounts) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                let filled = fill(container, of, amounts);
                if !filled.is_empty() {
                    told.push(format!("{} {word} for {kind} {name}", filled.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let metadata = crate::registry::object::metadata(pod);
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", told.join("; ")).into();
    }
}

/// Sets the amounts that a container does not have, and answers their names.
fn fill(container: &mut Value, of: &str, amounts: &Amounts) -> Vec<String> {
    let present = Amounts::read(container["resources"].get(of));
    let mut filled = Vec::new();
    for (name, amount) in amounts.iter().filter(|(name, _)| present.get(name).is_none()) {
        container["resources"][of][name] = amount.canonical().into();
        filled.push(name.to_owned());
    }
    filled
}

/// What a pod asks for against a LimitRange.
pub fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut mistakes = Vec::new();
    for limit in list(range, "spec.limits") {
        match text(limit, "type") {
            "Container" => {
                let containers = list(pod, "spec.containers").iter().chain(list(pod, "spec.initContainers"));
                for container in containers {
                    let of = |kind: &str| Amounts::read(container["resources"].get(kind));
                    Asked { requests: of("requests"), limits: of("limits") }.check(limit, &mut mistakes);
                }
            }
            "Pod" => {
                let asked =
                    Asked { requests: pod::total(pod, "requests"), limits: pod::total(pod, "limits") };
                asked.check(limit, &mut mistakes);
            }
            _ => {}
        }
    }
    mistakes
}

/// The same of a claim, of which only what it requests counts.
pub fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    let mut mistakes = Vec::new();
    let requests = Amounts::read(claim.pointer("/spec/resources/requests"));
    let asked = Asked { requests, limits: Amounts::default() };
    let limits = list(range, "spec.limits").iter();
    for limit in limits.filter(|limit| text(limit, "type") == "PersistentVolumeClaim") {
        for (name, least) in Amounts::read(limit.get("min")).iter() {
            mistakes.extend(asked.at_least("PersistentVolumeClaim", name, least));
        }
        for (name, most) in Amounts::read(limit.get("max")).iter() {
            let start = format!("maximum {name} usage per PersistentVolumeClaim is {}", most.canonical());
            match asked.requests.get(name) {
                None => mistakes.push(format!("{start}.  No request is specified")),
                Some(own) if own.exceeds(&most) => {
                    mistakes.push(format!("{start}, but request is {}", own.canonical()));
                }
                Some(_) => {}
            }
        }
    }
    mistakes
}

/// What is asked for by one container or pod.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn check(&self, limit: &Value, mistakes: &mut Vec<String>) {
        let of = text(limit, "type");
        for (name, least) in Amounts::read(limit.get("min")).iter() {
            mistakes.extend(self.at_least(of, name, least));
        }
        for (name, most) in Amounts::read(limit.get("max")).iter() {
            mistakes.extend(self.at_most(of, name, most));
        }
        for (name, most) in Amounts::read(limit.get("maxLimitRequestRatio")).iter() {
            mistakes.extend(self.in_ratio(of, name, most));
        }
    }

    fn at_least(&self, of: &str, name: &str, least: Quantity) -> Option<String> {
        let start = format!("minimum {name} usage per {of} is {}", least.canonical());
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{start}.  No request is specified"));
        };
        if least.exceeds(&request) {
            return Some(format!("{start}, but request is {}", request.canonical()));
        }
        let limit = self.limits.get(name).filter(|limit| least.exceeds(limit))?;
        Some(format!("{start}, but limit is {}", limit.canonical()))
    }

    fn at_most(&self, of: &str, name: &str, most: Quantity) -> Option<String> {
        let start = format!("maximum {name} usage per {of} is {}", most.canonical());
        let Some(limit) = self.limits.get(name) else {
            return Some(format!("{start}.  No limit is specified"));
        };
        if limit.exceeds(&most) {
            return Some(format!("{start}, but limit is {}", limit.canonical()));
        }
        let request = self.requests.get(name).filter(|request| request.exceeds(&most))?;
        Some(format!("{start}, but request is {}", request.canonical()))
    }

    fn in_ratio(&self, of: &str, name: &str, most: Quantity) -> Option<String> {
        let start = format!("{name} max limit to request ratio per {of} is {}", most.canonical());
        let given = |amounts: &Amounts| amounts.get(name).filter(|amount| !amount.is_zero());
        let Some(request) = given(&self.requests) else {
            return Some(format!("{start}, but no request is specified or request is 0"));
        };
        let Some(limit) = given(&self.limits) else {
            return Some(format!("{start}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.ratio(&request);
        // Compared in thousandths, as there.
        (ratio * 1000.0 > most.millis() as f64).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Value {
        json!({"spec": {"limits": [
            {"type": "Container", "default": {"cpu": "300m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"},
                "min": {"cpu": "50m"}, "max": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "4"}},
            {"type": "Pod", "max": {"memory": "1536Mi"}},
        ]}})
    }

    #[test]
    fn silent_containers_get_defaults_and_it_is_told() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"},
            {"name": "b", "resources": {"requests": {"cpu": "200m"}, "limits": {"memory": "1Mi", "cpu": "1"}}}]}});
        complete(&range(), &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "300m", "memory": "1Gi"}})
        );
        assert_eq!(pod["spec"]["containers"][1]["resources"]["requests"], json!({"cpu": "200m"}));
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a"
        );
        let done = pod.clone();
        complete(&range(), &mut pod);
        assert_eq!(pod, done);
    }

    #[test]
    fn what_is_out_of_range_is_told() {
        let check = |requests: Value, limits: Value| {
            let pod = json!({"spec": {"containers": [{"name": "a",
                "resources": {"requests": requests, "limits": limits}}]}});
            check_pod(&range(), &pod)
        };
        assert!(check(json!({"cpu": "100m"}), json!({"cpu": "400m", "memory": "1Gi"})).is_empty());
        assert_eq!(
            check(json!({"cpu": "10m"}), json!({"cpu": "600m"})),
            [
                "minimum cpu usage per Container is 50m, but request is 10m",
                "maximum cpu usage per Container is 500m, but limit is 600m",
                "cpu max limit to request ratio per Container is 4, but provided ratio is 60.000000",
                "maximum memory usage per Pod is 1536Mi.  No limit is specified",
            ]
        );
        let claim = json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}});
        let of_claims = json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"},
            "max": {"storage": "5Gi"}}]}});
        assert_eq!(
            check_claim(&of_claims, &claim),
            ["minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi"]
        );
    }
}
