//! Labels of nodes that have newer names.

use serde_json::Value;

use crate::kinds::field::Path;
use crate::kinds::format::label_value;
use crate::kinds::value::{list, text};

/// What to say of a deprecated label.
pub fn deprecated(label: &str) -> Option<&'static str> {
    Some(match label {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// Of one term of a selector of nodes.
pub fn check_term(path: &Path, term: &Value, values_too: bool, found: &mut Vec<String>) {
    for (i, expression) in list(term, "matchExpressions").iter().enumerate() {
        let (path, key) = (path.child("matchExpressions").index(i), text(expression, "key"));
        if let Some(why) = deprecated(key) {
            found.push(format!("{}: {key} is {why}", path.child("key")));
        }
        for (n, value) in list(expression, "values").iter().enumerate().filter(|_| values_too) {
            let value = value.as_str().unwrap_or_default();
            for why in label_value(value) {
                found.push(format!("{}: {value} is invalid, {why}", path.child("values").index(n)));
            }
        }
    }
}
