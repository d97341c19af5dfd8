//! Who owns what comes out as with Kubernetes' own library; garbage never panics.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{apply, track};
use crate::error::ApiError;
use crate::schema::Gvk;

const NOW: &str = "2026-01-02T03:04:05Z";
const CONFIG_MAP: Gvk<'_> = Gvk { group: "", version: "v1", kind: "ConfigMap" };
const DEPLOYMENT: Gvk<'_> = Gvk { group: "apps", version: "v1", kind: "Deployment" };

/// What comparing must not see: nulls, and the times and order of entries (all were made in one second).
fn comparable(mut obj: Value) -> Value {
    super::drop_nulls(&mut obj);
    if let Some(Value::Array(entries)) = obj.pointer_mut("/metadata/managedFields") {
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries.sort_by_key(|entry| format!("{}{}", entry["operation"], entry["manager"]));
    }
    obj
}

fn step(gvk: Gvk<'_>, live: &mut Option<Value>, step: &Value) -> Result<(), ApiError> {
    let manager = step["manager"].as_str().expect("it names a manager");
    let object = &step["object"];
    if step["op"] == "apply" {
        *live = Some(apply(gvk, live.as_ref(), object, manager, step["force"] == true, "", NOW)?);
    } else {
        let mut new = object.clone();
        track(gvk, live.as_ref(), &mut new, manager, "", NOW);
        *live = Some(new);
    }
    Ok(())
}

#[test]
fn scenarios_agree_with_kubernetes() {
    for line in include_str!("../../tests/golden/apply.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("the file holds JSON lines");
        let text = |i: usize| case["gvk"][i].as_str().expect("it names a kind");
        let gvk = Gvk { group: text(0), version: text(1), kind: text(2) };
        let mut live = None;
        for (i, wanted) in case["steps"].as_array().expect("it has steps").iter().enumerate() {
            let place = format!("{}, step {}", case["name"], i + 1);
            match (step(gvk, &mut live, wanted), wanted.get("error")) {
                (Ok(()), None) => {
                    let live = live.clone().expect("there is an object now");
                    assert_eq!(comparable(live), comparable(wanted["result"].clone()), "{place}");
                }
                (Err(error), Some(message)) => {
                    assert_eq!(Some(error.message.as_str()), message.as_str(), "{place}");
                    if let Some(causes) = wanted.get("causes") {
                        // Kubernetes lists them in no order.
                        let sorted = |causes: &Value| {
                            let mut texts: Vec<String> =
                                causes.as_array().into_iter().flatten().map(Value::to_string).collect();
                            texts.sort();
                            texts
                        };
                        let got = error.details.expect("a conflict");
                        assert_eq!(sorted(&got["causes"]), sorted(causes), "{place}");
                        assert_eq!((error.code, error.reason), (409, "Conflict"));
                    }
                }
                (got, want) => panic!("{place}: got {got:?}, Kubernetes says {want:?}"),
            }
        }
    }
}

fn entries(obj: &Value) -> Vec<(String, String, Option<String>)> {
    let text = |entry: &Value, key: &str| entry[key].as_str().map(str::to_owned);
    let list = obj["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|e| {
            (
                text(e, "manager").unwrap_or_default(),
                text(e, "operation").unwrap_or_default(),
                text(e, "time"),
            )
        })
        .collect()
}

#[test]
fn a_no_op_apply_leaves_the_time_alone() {
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"x": "1"}});
    let first = apply(CONFIG_MAP, None, &config, "a", false, "", NOW).expect("it applies");
    let second =
        apply(CONFIG_MAP, Some(&first), &config, "a", false, "", "2030-01-01T00:00:00Z").expect("again");
    assert_eq!(first, second);
    assert_eq!(entries(&first), [("a".to_owned(), "Apply".to_owned(), Some(NOW.to_owned()))]);
}

#[test]
fn subresources_have_entries_of_their_own() {
    let old = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1}});
    let mut live = old;
    track(DEPLOYMENT, None, &mut live, "kubectl", "", NOW);
    let before = live.clone();
    live["status"] = json!({"replicas": 1});
    track(DEPLOYMENT, Some(&before), &mut live, "controller", "status", NOW);
    let list = &live["metadata"]["managedFields"];
    assert_eq!((&list[0]["manager"], &list[0]["subresource"]), (&json!("controller"), &json!("status")));
    assert_eq!(list[0]["fieldsV1"], json!({"f:status": {".": {}, "f:replicas": {}}}));
    assert_eq!(list[1]["manager"], "kubectl");
    assert!(list[1].get("subresource").is_none());
}

#[test]
fn nobody_owns_what_a_request_cannot_write() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1}, "status": {"replicas": 1}});
    let applied = apply(DEPLOYMENT, None, &deployment, "a", false, "", NOW).expect("it applies");
    assert_eq!(applied["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert!(applied.get("status").is_none());
    let mut created = deployment;
    track(DEPLOYMENT, None, &mut created, "a", "", NOW);
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(fields, &json!({"f:spec": {".": {}, "f:replicas": {}}}));
}

#[test]
fn conditions_are_told_apart_by_type() {
    let node = Gvk { group: "", version: "v1", kind: "Node" };
    let state = |ready: &str| json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    let mut live = state("True");
    track(node, None, &mut live, "kubelet", "status", NOW);
    let mut new = state("Unknown");
    track(node, Some(&live), &mut new, "controller", "status", NOW);
    let list = &new["metadata"]["managedFields"];
    assert_eq!(
        list[0]["fieldsV1"],
        json!({"f:status": {"f:conditions": {"k:{\"type\":\"Ready\"}": {"f:status": {}}}}})
    );
    let left = &list[1]["fieldsV1"]["f:status"]["f:conditions"]["k:{\"type\":\"Ready\"}"];
    assert_eq!(left, &json!({".": {}, "f:type": {}}));
}

#[test]
fn an_untracked_object_stays_untracked_until_it_is_applied() {
    let old = json!({"metadata": {"name": "n", "uid": "u"}, "data": {"x": "1"}});
    let mut new = json!({"metadata": {"name": "n", "uid": "u"}, "data": {"x": "2"}});
    track(CONFIG_MAP, Some(&old), &mut new, "edit", "", NOW);
    assert!(entries(&new).is_empty());
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"y": "1"}});
    let applied = apply(CONFIG_MAP, Some(&new), &config, "a", false, "", NOW).expect("no conflict");
    let names: Vec<String> = entries(&applied).into_iter().map(|(manager, ..)| manager).collect();
    assert_eq!(names, ["a", "before-first-apply"]);
}

#[test]
fn kinds_without_a_schema_merge_by_name() {
    let gvk = Gvk { group: "example.com", version: "v1", kind: "Widget" };
    let widget = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let first =
        apply(gvk, None, &widget(json!({"a": 1, "l": [1, 2]})), "a", false, "", NOW).expect("it applies");
    let both = apply(gvk, Some(&first), &widget(json!({"b": 1})), "b", false, "", NOW).expect("no conflict");
    assert_eq!(both["spec"], json!({"a": 1, "l": [1, 2], "b": 1}));
    let error =
        apply(gvk, Some(&both), &widget(json!({"l": [3]})), "b", false, "", NOW).expect_err("a conflict");
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.l");
}

#[test]
fn many_updaters_are_folded() {
    let mut live = json!({"metadata": {"name": "n"}, "data": {}});
    for i in 0..15 {
        let before = live.clone();
        live["data"][format!("k{i}")] = "v".into();
        track(
            CONFIG_MAP,
            Some(&before),
            &mut live,
            &format!("m{i}"),
            "",
            &format!("2026-01-01T00:00:{i:02}Z"),
        );
    }
    let names: Vec<String> = entries(&live).into_iter().map(|(manager, ..)| manager).collect();
    assert_eq!(names.len(), 10);
    assert_eq!((names[0].as_str(), names[9].as_str()), ("ancient-changes", "m14"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "Apply|Update|FieldsV1|a|b|web".prop_map(Value::from),
    ];
    let keys = "metadata|managedFields|spec|data|template|containers|name|finalizers|labels|fieldsV1|manager|operation|f:data|k:\\{\\}|v:1|\\.";
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
    fn arbitrary_json_never_panics(live in any_json(), config in any_json(), force in any::<bool>()) {
        for gvk in [CONFIG_MAP, DEPLOYMENT, Gvk { group: "example.com", version: "v1", kind: "Widget" }] {
            let _ = apply(gvk, Some(&live), &config, "a", force, "", NOW);
            let _ = apply(gvk, None, &config, "a", force, "status", NOW);
            let mut new = config.clone();
            track(gvk, Some(&live), &mut new, "b", "", NOW);
            track(gvk, None, &mut new, "b", "", NOW);
        }
    }

    #[test]
    fn applying_again_changes_nothing(data in proptest::collection::btree_map("[a-d]", "[a-c]", 0..4),
                                      other in proptest::collection::btree_map("[a-d]", "[a-c]", 0..4)) {
        let config = |data| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": data});
        let one = apply(CONFIG_MAP, None, &config(json!(other)), "b", false, "", NOW).expect("nothing in the way");
        let two = apply(CONFIG_MAP, Some(&one), &config(json!(data)), "a", true, "", NOW).expect("forced");
        for (key, value) in &data {
            prop_assert_eq!(&two["data"][key], &json!(value));
        }
        let three = apply(CONFIG_MAP, Some(&two), &config(json!(data)), "a", false, "", "2031-01-01T00:00:00Z");
        prop_assert_eq!(three.expect("no conflict with itself"), two);
    }
}
