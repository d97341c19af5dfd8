//! Custom resources as stock kubectl users know them.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use serde_json::{Value, json};
use support::kubectl::{Kubectl, has};

const DEFINITION: &str = include_str!("data/crontab.yml");
const CRONTAB: &str = "
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: my}
spec: {cronSpec: '* * * * */5', parts: [{name: a, value: x}], raw: {a: {b: c}}}
";
const READY: &str = "wait --for condition=established crd/crontabs.stable.example.com --timeout=20s";

async fn start() -> Option<Kubectl> {
    let k = Kubectl::start().await?;
    has(&k.with("apply -f -", DEFINITION).await, &["crontabs.stable.example.com created"]);
    has(&k.run(READY).await, &["condition met"]);
    Some(k)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_makes_a_kind_that_kubectl_knows() {
    let Some(k) = start().await else { return };
    has(&k.run("get crd").await, &["CREATED AT", "crontabs.stable.example.com"]);
    has(&k.with("apply -f -", CRONTAB).await, &["crontab.stable.example.com/my created"]);
    has(&k.run("get ct").await, &["SPEC", "REPLICAS", "AGE", "* * * * */5"]);
    has(&k.run("get all").await, &["crontab.stable.example.com/my"]);
    let live = k.run("get crontab my -o yaml").await;
    has(&live, &["image: nginx", "maxReplicas: 5", "replicas: 1", "b: c"]);
    has(&k.run("explain ct.spec").await, &["cronSpec\t<string> -required-", "when it runs"]);
    has(&k.run("scale ct my --replicas=3").await, &["scaled"]);
    assert_eq!(k.run("get ct my -o jsonpath={.spec.replicas}").await, "3");
    has(&k.fails("scale ct my --replicas=9", "").await, &["spec: Invalid value: too many replicas"]);
    has(&k.run("get ct --field-selector spec.image=nginx").await, &["my"]);
    has(&k.fails("get ct --field-selector spec.mode=a", "").await, &["field label not supported: spec.mode"]);
    let strategic = k.fails("patch ct my -p '{\"spec\":{\"replicas\":2}}'", "").await;
    has(&strategic, &["application/strategic-merge-patch+json is not supported"]);
    has(&k.run("patch ct my --type=merge -p '{\"spec\":{\"replicas\":2}}'").await, &["patched"]);
    let unknown = CRONTAB.replace("raw:", "spare: 1, raw:");
    has(&k.fails("create -f -", &unknown).await, &["strict decoding error: unknown field \"spec.spare\""]);
    has(
        &k.run("api-resources --api-group=stable.example.com").await,
        &["ct", "stable.example.com/v1", "CronTab"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_forbids_is_refused_with_each_cause() {
    let Some(k) = start().await else { return };
    let path = "/apis/stable.example.com/v1/namespaces/default/crontabs";
    let spec = json!({"cronSpec": "x", "replicas": 20, "mode": "z"});
    let object = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab",
                        "metadata": {"name": "bad"}, "spec": spec});
    let refused = k.cluster.admin.post(path, &object).await;
    assert_eq!(refused.failure(), (422, "Invalid"));
    let fields: Vec<&Value> =
        refused.body["details"]["causes"].as_array().unwrap().iter().map(|cause| &cause["field"]).collect();
    assert_eq!(fields, ["spec.cronSpec", "spec.replicas", "spec.mode", "<nil>"]);
    let mut broken: Value = serde_yaml::from_str(DEFINITION).unwrap();
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["x"] =
        json!({});
    broken["metadata"]["name"] = "others.stable.example.com".into();
    let refused =
        k.cluster.admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &broken).await;
    assert_eq!(refused.failure(), (422, "Invalid"));
    has(
        refused.message(),
        &[
            "metadata.name: Invalid value: \"others.stable.example.com\": must be spec.names.plural",
            "openAPIV3Schema.properties[spec].properties[x].type: Required value: must not be empty for specified object fields",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_knows_the_lists_of_a_schema() {
    let Some(k) = start().await else { return };
    has(&k.with("apply --server-side -f -", CRONTAB).await, &["serverside-applied"]);
    let other =
        CRONTAB.replace("{name: a, value: x}", "{name: b, value: z}").replace(", raw: {a: {b: c}}", "");
    has(&k.with("apply --server-side --field-manager=other -f -", &other).await, &["serverside-applied"]);
    let names = k.run("get ct my -o jsonpath={.spec.parts[*].name}").await;
    assert_eq!(names, "a b");
    let conflicting = CRONTAB.replace("value: x", "value: q");
    let refused = k.fails("apply --server-side --field-manager=other -f -", &conflicting).await;
    has(&refused, &["conflict with \"kubectl\"", ".spec.parts[name=\"a\"].value"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_converted_and_deletion_takes_the_instances() {
    let Some(k) = start().await else { return };
    k.with("apply -f -", CRONTAB).await;
    let old = k.run("get --raw /apis/stable.example.com/v1beta1/namespaces/default/crontabs/my").await;
    has(&old, &["\"apiVersion\":\"stable.example.com/v1beta1\"", "\"cronSpec\":\"* * * * */5\""]);
    let mut lines = k.cluster.admin.watch("/apis/stable.example.com/v1/crontabs?watch=1").await;
    assert_eq!(lines.next_name().await, ("ADDED".into(), "my".into()));
    has(&k.run("delete crd crontabs.stable.example.com --timeout=30s").await, &["deleted"]);
    assert_eq!(lines.next_name().await, ("DELETED".into(), "my".into()));
    has(&k.fails("get ct", "").await, &["(NotFound)", "the server could not find the requested resource"]);
    has(&k.with("apply -f -", DEFINITION).await, &["created"]);
    has(&k.run(READY).await, &["condition met"]);
    has(&k.run("get ct").await, &["No resources found"]);
}
