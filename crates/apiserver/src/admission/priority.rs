//! PriorityClasses: the number behind a pod's class.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kinds::value::{at, int, set, text, truth};

/// What pods have where no class is the default.
const NONE: i64 = 0;
const PREEMPTS: &str = "PreemptLowerPriority";

/// The classes that every cluster has.
pub fn system_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name},
            "value": value, "description": description,
        })
    };
    [
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// Gives a pod the priority of its class, or of the default one.
pub fn resolve(classes: &[Value], pod: &mut Value) -> Result<(), ApiError> {
    let refuse = |why: String| Err(ApiError::forbidden("", "pods", text(pod, "metadata.name"), &why));
    let named = |class: &&Value, name: &str| text(class, "metadata.name") == name;
    let class = match text(pod, "spec.priorityClassName") {
        "" => lowest_default(classes),
        name => match classes.iter().find(|class| named(class, name)) {
            Some(class) => Some(class),
            None => return refuse(format!("no PriorityClass with name {name} was found")),
        },
    };
    let priority = class.map_or(NONE, |class| int(class, "value"));
    let policy =
        class.map(|class| text(class, "preemptionPolicy")).filter(|p| !p.is_empty()).unwrap_or(PREEMPTS);
    if let Some(given) = at(pod, "spec.priority").and_then(Value::as_i64).filter(|given| *given != priority) {
        return refuse(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        ));
    }
    let given = text(pod, "spec.preemptionPolicy");
    if !matches!(given, "") && given != policy {
        return refuse(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        ));
    }
    let spec = &mut pod["spec"];
    set(spec, "priority", priority);
    set(spec, "preemptionPolicy", policy);
    if let Some(class) = class {
        set(spec, "priorityClassName", text(class, "metadata.name"));
    }
    Ok(())
}

/// There should be one; of several, that with the lowest value counts.
fn lowest_default(classes: &[Value]) -> Option<&Value> {
    classes.iter().filter(|class| truth(class, "globalDefault")).min_by_key(|class| int(class, "value"))
}

/// Refuses a second default.
pub fn check_default(classes: &[Value], new: &Value) -> Result<(), ApiError> {
    let name = text(new, "metadata.name");
    let other = lowest_default(classes).filter(|class| text(class, "metadata.name") != name);
    match other.filter(|_| truth(new, "globalDefault")) {
        None => Ok(()),
        Some(other) => {
            let other = text(other, "metadata.name");
            let why =
                format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(ApiError::forbidden("scheduling.k8s.io", "priorityclasses", name, &why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<Value> {
        vec![
            json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
            json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true}),
        ]
    }

    fn resolved(spec: Value) -> Result<Value, String> {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
        resolve(&classes(), &mut pod).map(|()| pod["spec"].take()).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_class_gives_its_number_and_the_default_class_too() {
        let high = json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"});
        assert_eq!(resolved(json!({"priorityClassName": "high"})).unwrap(), high);
        assert_eq!(resolved(high.clone()).unwrap(), high);
        let usual = resolved(json!({})).unwrap();
        assert_eq!((&usual["priority"], &usual["priorityClassName"]), (&json!(7), &json!("usual")));
        let mut pod = json!({"spec": {}});
        resolve(&[], &mut pod).unwrap();
        assert_eq!(pod["spec"], json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}));
    }

    #[test]
    fn unknown_classes_and_numbers_of_ones_own_are_refused() {
        let refusal = resolved(json!({"priorityClassName": "none"})).unwrap_err();
        assert_eq!(refusal, "pods \"p\" is forbidden: no PriorityClass with name none was found");
        assert!(resolved(json!({"priority": 5})).unwrap_err().contains("computed 7 from"));
        let second = json!({"metadata": {"name": "other"}, "globalDefault": true});
        assert!(
            check_default(&classes(), &second).unwrap_err().message.ends_with("Only one default can exist")
        );
        check_default(&classes(), &classes()[1]).unwrap();
    }
}
