//! The two versions of HorizontalPodAutoscaler: the old one knows one metric, the use of CPU.

use serde_json::{Value, json};

const TARGET: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";

/// The form that is stored.
pub(super) fn to_v2(mut object: Value) -> Value {
    object["apiVersion"] = "autoscaling/v2".into();
    for (part, old, list, field) in
        [("spec", TARGET, "metrics", "target"), ("status", CURRENT, "currentMetrics", "current")]
    {
        let Some(map) = object.get_mut(part).and_then(Value::as_object_mut) else { continue };
        let Some(percent) = map.shift_remove(old) else { continue };
        let mut measure = json!({"averageUtilization": percent});
        if field == "target" {
            measure["type"] = "Utilization".into();
        }
        let mut resource = json!({"name": "cpu"});
        resource[field] = measure;
        map.insert(list.to_owned(), json!([{"type": "Resource", "resource": resource}]));
    }
    object
}

/// The old form; metrics that it has no word for are left out.
pub(super) fn to_v1(mut object: Value) -> Value {
    object["apiVersion"] = "autoscaling/v1".into();
    for (part, old, list, field) in
        [("spec", TARGET, "metrics", "target"), ("status", CURRENT, "currentMetrics", "current")]
    {
        let Some(map) = object.get_mut(part).and_then(Value::as_object_mut) else { continue };
        let metrics = map.shift_remove(list).unwrap_or_default();
        let cpu = metrics.as_array().into_iter().flatten().find(|metric| metric["resource"]["name"] == "cpu");
        if let Some(percent) = cpu.and_then(|metric| metric["resource"][field].get("averageUtilization")) {
            map.insert(old.to_owned(), percent.clone());
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_cpu_survives_both_ways() {
        let old = json!({
            "apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 5, TARGET: 80}, "status": {CURRENT: 40},
        });
        let new = to_v2(old.clone());
        assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(new["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"], 40);
        assert_eq!(to_v1(new), old);
    }
}
