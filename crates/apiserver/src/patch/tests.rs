//! Patches give what Kubernetes' own library gives, word for word where they fail; garbage never panics.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{json_patch, merge_patch, strategic};
use crate::schema::{Gvk, schema};

const DEPLOYMENT: Gvk<'_> = Gvk { group: "apps", version: "v1", kind: "Deployment" };

#[test]
fn strategic_vectors_agree_with_kubernetes() {
    for line in include_str!("../../tests/golden/strategic.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("the file holds JSON lines");
        let name = &case["name"];
        let text = |i: usize| case["gvk"][i].as_str().expect("it names a kind");
        let gvk = Gvk { group: text(0), version: text(1), kind: text(2) };
        let got = strategic(gvk, &case["original"], case["patch"].to_string().as_bytes());
        match (got, case.get("error")) {
            (Ok(got), None) => assert_eq!(got, case["result"], "{name}"),
            (Err(got), Some(want)) => {
                assert_eq!(got.code, 400, "{name}");
                assert_eq!(Some(got.message.as_str()), want.as_str(), "{name}");
            }
            (got, want) => panic!("{name}: got {got:?}, Kubernetes says {want:?}"),
        }
    }
}

#[test]
fn directives_leave_no_trace_in_what_is_new() {
    let patch = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a"}]}}}});
    let got = strategic(DEPLOYMENT, &json!({}), patch.to_string().as_bytes()).expect("it merges");
    assert_eq!(got, json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}));
}

#[test]
fn merge_patches_follow_the_rfc() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (doc, patch, want) in cases {
        assert_eq!(merge_patch(&doc, patch.to_string().as_bytes()), Ok(want));
    }
    for body in [&b"[]"[..], b"1", b"{", b""] {
        assert_eq!(merge_patch(&json!({}), body).expect_err("it is no merge patch").code, 400);
    }
}

#[test]
fn json_patches_apply_whole_or_not_at_all() {
    let doc = json!({"spec": {"replicas": 1, "list": [1, 2]}});
    let good = json!([{"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "add", "path": "/spec/list/-", "value": 3}, {"op": "remove", "path": "/spec/list/0"}]);
    assert_eq!(
        json_patch(&doc, good.to_string().as_bytes()),
        Ok(json!({"spec": {"replicas": 3, "list": [2, 3]}}))
    );
    let failing = json!([{"op": "test", "path": "/spec/replicas", "value": 2}]);
    assert_eq!(json_patch(&doc, failing.to_string().as_bytes()).expect_err("the test fails").code, 422);
    let missing = json!([{"op": "remove", "path": "/nope"}]);
    assert_eq!(json_patch(&doc, missing.to_string().as_bytes()).expect_err("no such path").code, 422);
    let unknown = json_patch(&doc, br#"[{"op":"explode","path":"/a"}]"#);
    assert_eq!(unknown.expect_err("no such operation").code, 422);
    for body in [&b"{}"[..], b"[1]", b"["] {
        assert_eq!(json_patch(&doc, body).expect_err("it is no patch").code, 400);
    }
}

#[test]
fn copies_cannot_blow_a_document_up() {
    let doc = json!({"a": "x".repeat(1000)});
    let operations: Vec<Value> = std::iter::once(json!({"op": "add", "path": "/l", "value": []}))
        .chain((0..60).map(|_| json!({"op": "copy", "from": "", "path": "/l/-"})))
        .collect();
    let error = json_patch(&doc, Value::Array(operations).to_string().as_bytes()).expect_err("too much");
    assert_eq!(error.code, 422);
}

/// JSON with the words that mean something to patches, in all places.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "replace|delete|merge|name|web|x".prop_map(Value::from),
    ];
    let keys = "spec|template|containers|name|env|ports|metadata|finalizers|labels|strategy|\\$patch|\\$retainKeys|\\$setElementOrder/containers|\\$setElementOrder/finalizers|\\$deleteFromPrimitiveList/finalizers|managedFields";
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((keys, inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_json_never_panics(doc in any_json(), patch in any_json()) {
        let body = patch.to_string();
        for gvk in [DEPLOYMENT, Gvk { group: "", version: "v1", kind: "Pod" }] {
            let _ = strategic(gvk, &doc, body.as_bytes());
            let mut obj = doc.clone();
            let _ = schema().check_fields(gvk.group, gvk.version, gvk.kind, &mut obj);
            schema().normalise(gvk, &mut obj);
        }
        let _ = merge_patch(&doc, body.as_bytes());
        let _ = json_patch(&doc, body.as_bytes());
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = strategic(DEPLOYMENT, &json!({}), &body);
        let _ = merge_patch(&json!({}), &body);
        let _ = json_patch(&json!({}), &body);
    }
}
