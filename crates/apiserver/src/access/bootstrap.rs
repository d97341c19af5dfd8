//! The roles and bindings that every cluster has: Kubernetes' own, and those of our processes. At every
//! start what is missing of them is put back, unless an object's annotation says to leave it alone.

use serde_json::{Map, Value, json};

use super::cover;
use super::rule::Rule;
use crate::error::ApiError;
use crate::http::request::Target;
use crate::registry::object::text;
use crate::registry::{Call, DeleteOptions, Registry};
use crate::schema::schema;

const TABLES: [&str; 2] = [include_str!("../../schema/rbac.txt"), include_str!("../../schema/rbac-own.txt")];
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const MANAGER: &str = "daymark-apiserver";

/// Makes what is missing and mends what lost something.
pub async fn run(registry: &Registry) -> Result<(), ApiError> {
    let objects = objects();
    // Side by side: the store then writes them all with a few syncs.
    let writes = objects.into_iter().map(|object| reconcile(registry, object));
    futures::future::try_join_all(writes).await.map(drop)
}

/// The objects of both tables.
pub fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in TABLES.iter().flat_map(|table| table.lines()).filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), objects.last_mut()) {
            ([kind @ ("ClusterRole" | "Role"), place @ ..], _) => {
                objects.push(head(kind, place));
            }
            ([kind, place @ .., role], _) if kind.ends_with("Binding") => {
                let mut binding = head(kind, place);
                let (kind, name) = role.split_once('/').unwrap_or(("ClusterRole", role));
                binding["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": name});
                objects.push(binding);
            }
            (words, Some(object)) => add(object, words),
            _ => panic!("rbac.txt: {line:?} belongs to nothing"),
        }
    }
    objects
}

fn head(kind: &str, place: &[&str]) -> Value {
    let mut metadata = json!({
        "annotations": {AUTO_UPDATE: "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    });
    match place {
        [namespace, name] => {
            metadata["namespace"] = (*namespace).into();
            metadata["name"] = (*name).into();
        }
        _ => metadata["name"] = place.concat().into(),
    }
    json!({"kind": kind, "apiVersion": format!("{GROUP}/v1"), "metadata": metadata})
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(|word| if word == "-" { "" } else { word }).collect()
}

fn push(object: &mut Value, key: &str, item: Value) {
    if let Some(fields) = object.as_object_mut() {
        let items = fields.entry(key).or_insert_with(|| json!([]));
        items.as_array_mut().expect("made as a list").push(item);
    }
}

fn add(object: &mut Value, words: &[&str]) {
    match *words {
        ["label", pair] => {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            object["metadata"]["labels"][key] = value.into();
        }
        ["aggregates", pair] => {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let mut rule = object.get("aggregationRule").cloned().unwrap_or_else(|| json!({}));
            push(&mut rule, "clusterRoleSelectors", json!({"matchLabels": {key: value}}));
            object["aggregationRule"] = rule;
        }
        ["url", verbs, paths] => {
            push(object, "rules", json!({"verbs": list(verbs), "nonResourceURLs": list(paths)}));
        }
        ["allow", groups, resources, verbs, ref names @ ..] => {
            let mut rule =
                json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)});
            if let [names] = names {
                rule["resourceNames"] = json!(list(names));
            }
            push(object, "rules", rule);
        }
        ["to", "ServiceAccount", place] => {
            let (namespace, name) = place.split_once('/').unwrap_or(("kube-system", place));
            push(object, "subjects", json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
        }
        ["to", kind, name] => {
            push(object, "subjects", json!({"kind": kind, "apiGroup": GROUP, "name": name}));
        }
        _ => panic!("rbac.txt: {words:?} is not understood"),
    }
}

async fn reconcile(registry: &Registry, wanted: Value) -> Result<(), ApiError> {
    let kind = text(&wanted, "/kind");
    let resource = schema().resource(GROUP, "v1", &format!("{}s", kind.to_lowercase()));
    let resource =
        resource.cloned().ok_or_else(|| ApiError::internal(format!("the schema has no {kind}")))?;
    let part = |pointer: &str| text(&wanted, pointer).to_owned();
    let target = Target {
        resource,
        namespace: part("/metadata/namespace"),
        name: part("/metadata/name"),
        subresource: String::new(),
        rest: String::new(),
    };
    let mut call = Call::new(MANAGER, jiff::Timestamp::now());
    let Ok(present) = registry.get(&target) else {
        return registry.create(&target, wanted, &[], &mut call).await.map(drop);
    };
    if present.get("roleRef").is_some_and(|role| role != &wanted["roleRef"]) && !is_protected(&present) {
        // What a binding binds cannot change.
        registry.delete(&target, &DeleteOptions::default(), &call).await?;
        return registry.create(&target, wanted, &[], &mut call).await.map(drop);
    }
    match reconciled(&present, &wanted) {
        Some(mended) => registry.update(&target, mended, &[], &mut call).await.map(drop),
        None => Ok(()),
    }
}

fn is_protected(object: &Value) -> bool {
    object["metadata"]["annotations"][AUTO_UPDATE] == "false"
}

/// The object with what it lacks of the wanted one; `None` if it lacks nothing or is not to be touched.
fn reconciled(present: &Value, wanted: &Value) -> Option<Value> {
    if is_protected(present) {
        return None;
    }
    let mut mended = present.clone();
    for field in ["labels", "annotations"] {
        let mut merged: Map<String, Value> =
            wanted["metadata"][field].as_object().cloned().unwrap_or_default();
        merged.extend(present["metadata"][field].as_object().cloned().unwrap_or_default());
        mended["metadata"][field] = merged.into();
    }
    for rule in cover::uncovered(&Rule::all_of(present), &Rule::all_of(wanted)) {
        push_into(&mut mended, "rules", rule.to_value());
    }
    let items = |object: &Value, pointer: &str| {
        object.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let lacks = |pointer: &str| {
        let have = items(present, pointer);
        items(wanted, pointer).into_iter().filter(move |item| !have.contains(item))
    };
    for subject in lacks("/subjects") {
        push_into(&mut mended, "subjects", subject);
    }
    for selector in lacks("/aggregationRule/clusterRoleSelectors") {
        let mut rule = mended.get("aggregationRule").cloned().unwrap_or_else(|| json!({}));
        push_into(&mut rule, "clusterRoleSelectors", selector);
        mended["aggregationRule"] = rule;
    }
    (mended != *present).then_some(mended)
}

/// As `push`, where the list may be null.
fn push_into(object: &mut Value, key: &str, item: Value) {
    if object.get(key).is_some_and(Value::is_null) {
        object[key] = json!([]);
    }
    push(object, key, item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Value {
        objects().into_iter().find(|o| text(o, "/metadata/name") == name).expect(name)
    }

    #[test]
    fn the_tables_hold_kubernetes_roles() {
        let objects = objects();
        assert!(objects.len() > 120, "{}", objects.len());
        let admin = named("cluster-admin");
        assert_eq!(admin["rules"][0], json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert_eq!(admin["rules"][1], json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        let edit = named("edit");
        let key = "rbac.authorization.k8s.io/aggregate-to-edit";
        assert_eq!(edit["aggregationRule"]["clusterRoleSelectors"], json!([{"matchLabels": {key: "true"}}]));
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
        let reader = named("extension-apiserver-authentication-reader");
        assert_eq!(reader["rules"][0]["resourceNames"], json!(["extension-apiserver-authentication"]));
        let signer = objects
            .iter()
            .find(|o| o["kind"] == "RoleBinding" && o["metadata"]["namespace"] == "kube-public");
        assert_eq!(signer.unwrap()["subjects"][0]["namespace"], "kube-system");
        for object in &objects {
            let role = &object["roleRef"];
            let is_there = |o: &Value| o["kind"] == role["kind"] && o["metadata"]["name"] == role["name"];
            assert!(role.is_null() || objects.iter().any(is_there), "{object}");
        }
    }

    #[test]
    fn what_somebody_took_away_comes_back_and_what_they_added_stays() {
        let wanted = named("system:basic-user");
        assert_eq!(reconciled(&wanted, &wanted), None);
        let mut present = wanted.clone();
        present["metadata"]["labels"] = json!({"own": "label"});
        present["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        let mended = reconciled(&present, &wanted).unwrap();
        assert_eq!(mended["metadata"]["labels"]["own"], "label");
        assert_eq!(mended["rules"][0], present["rules"][0]);
        assert!(cover::uncovered(&Rule::all_of(&mended), &Rule::all_of(&wanted)).is_empty());
        present["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(reconciled(&present, &wanted), None);
    }

    #[test]
    fn a_binding_gets_its_subjects_back() {
        let objects = objects();
        let wanted = objects.iter().find(|o| {
            o["kind"] == "ClusterRoleBinding" && o["metadata"]["name"] == "system:public-info-viewer"
        });
        let wanted = wanted.unwrap();
        let mut present = wanted.clone();
        present["subjects"] = json!([wanted["subjects"][1]]);
        let subjects = reconciled(&present, wanted).unwrap()["subjects"].clone();
        assert_eq!(subjects, json!([wanted["subjects"][1], wanted["subjects"][0]]));
    }
}
