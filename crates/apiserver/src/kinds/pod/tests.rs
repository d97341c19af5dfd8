//! The quality of service class, which follows from requests and limits alone.

use serde_json::json;

use super::resources::qos_class;

#[test]
fn quality_of_service_classes() {
    let limits =
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
    let cases = [
        (json!([{}]), "BestEffort"),
        (json!([{"resources": {"limits": {"cpu": "0"}}}]), "BestEffort"),
        (json!([{"resources": limits}]), "Guaranteed"),
        (json!([{"resources": limits}, {}]), "Burstable"),
        (json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable"),
        (json!([{"resources": {"limits": {"cpu": "1"}}}]), "Burstable"),
        (json!([{"resources": {"limits": {"example.com/gpu": "1"}}}]), "BestEffort"),
    ];
    for (containers, wanted) in cases {
        let pod = json!({"spec": {"containers": containers}});
        assert_eq!(qos_class(&pod), wanted, "{containers}");
    }
}
