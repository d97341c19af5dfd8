//! RuntimeClasses: what a pod's runtime takes, and where its pods may run.

use serde_json::{Value, json};

use super::amounts::Amounts;
use crate::error::ApiError;
use crate::kinds::value::{at, list, members, text};

pub fn refuse(pod: &Value, why: &str) -> ApiError {
    ApiError::forbidden("", "pods", text(pod, "metadata.name"), &format!("pod rejected: {why}"))
}

/// Gives a new pod what its class says; `class` is `None` for a pod that names none.
pub fn complete(class: Option<&Value>, pod: &mut Value) -> Result<(), ApiError> {
    let own = at(pod, "spec.overhead").cloned();
    match class.and_then(|class| at(class, "overhead")) {
        None if own.is_some() => {
            return Err(refuse(pod, "Pod Overhead set without corresponding RuntimeClass defined Overhead"));
        }
        None => {}
        Some(overhead) => {
            let fixed = Amounts::read(overhead.get("podFixed"));
            let given = Amounts::read(own.as_ref());
            if !given.is_empty() && given.to_value() != fixed.to_value() {
                return Err(refuse(pod, "Pod's Overhead doesn't match RuntimeClass's defined Overhead"));
            }
            pod["spec"]["overhead"] = fixed.to_value();
        }
    }
    let Some(class) = class else { return Ok(()) };
    for (label, value) in members(class, "scheduling.nodeSelector") {
        let (wanted, own) =
            (value.as_str().unwrap_or_default(), pod["spec"]["nodeSelector"][label.as_str()].as_str());
        if let Some(own) = own.filter(|own| *own != wanted) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{label}] = {wanted}; pod.spec.nodeSelector[{label}] = {own}"
            );
            return Err(ApiError::forbidden("", "pods", text(pod, "metadata.name"), &why));
        }
        pod["spec"]["nodeSelector"][label.as_str()] = value.clone();
    }
    let mut tolerations = list(pod, "spec.tolerations").to_vec();
    for toleration in list(class, "scheduling.tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if !tolerations.is_empty() {
        pod["spec"]["tolerations"] = json!(tolerations);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_gives_overhead_and_places() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {
            "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "slow", "operator": "Exists"}]}});
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {}});
        complete(Some(&class), &mut pod).unwrap();
        assert_eq!(
            pod["spec"],
            json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "slow", "operator": "Exists"}]})
        );
        let done = pod.clone();
        complete(Some(&class), &mut pod).unwrap();
        assert_eq!(pod, done);
        assert!(complete(None, &mut pod).unwrap_err().message.contains("without corresponding RuntimeClass"));
        pod["spec"]["overhead"] = json!({"cpu": "1"});
        assert!(complete(Some(&class), &mut pod).unwrap_err().message.contains("doesn't match"));
        pod["spec"] = json!({"nodeSelector": {"disk": "slow"}});
        assert!(complete(Some(&class), &mut pod).unwrap_err().message.contains("conflict: "));
    }
}
