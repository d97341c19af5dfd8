//! Decisions over small sets of roles and bindings.

use serde_json::json;

use super::*;

/// Puts objects in as the index does.
fn policy(objects: &[Value]) -> Policy {
    let mut policy = Policy::default();
    for object in objects {
        if object["kind"].as_str().is_some_and(|k| k.ends_with("Role")) {
            let key = (text(object, "/metadata/namespace").into(), text(object, "/metadata/name").into());
            policy.put_role(key, Rule::all_of(object));
        } else {
            policy.put_binding(&Arc::new(Binding::of(object)));
        }
    }
    policy
}

fn role(namespace: &str, name: &str, resource: &str) -> Value {
    let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
    json!({"kind": kind, "metadata": {"namespace": namespace, "name": name},
        "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]})
}

fn binding(namespace: &str, name: &str, role: &str, subjects: Value) -> Value {
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let (role_kind, role) = role.split_once('/').unwrap();
    json!({"kind": kind, "metadata": {"namespace": namespace, "name": name},
        "roleRef": {"kind": role_kind, "name": role}, "subjects": subjects})
}

fn who(user: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|g| (*g).to_owned()).collect();
    Identity { user: user.into(), groups, ..Identity::default() }
}

#[test]
fn bindings_reach_as_far_as_their_kind() {
    let policy = policy(&[
        role("", "nodes", "nodes"),
        role("", "pods", "pods"),
        role("a", "secrets", "secrets"),
        role("b", "secrets", "configmaps"),
        binding("", "everywhere", "ClusterRole/nodes", json!([{"kind": "User", "name": "jane"}])),
        binding("a", "here", "ClusterRole/pods", json!([{"kind": "Group", "name": "dev"}])),
        binding("a", "own", "Role/secrets", json!([{"kind": "ServiceAccount", "name": "robot"}])),
        binding(
            "b",
            "other",
            "Role/secrets",
            json!([{"kind": "ServiceAccount", "name": "robot", "namespace": "a"}]),
        ),
    ]);
    let (jane, dev) = (who("jane", &[]), who("joe", &["dev"]));
    let robot = who("system:serviceaccount:a:robot", &[]);
    for (identity, resource, namespace, reason) in [
        (
            &jane,
            "nodes",
            "",
            Some("ClusterRoleBinding \"everywhere\" of ClusterRole \"nodes\" to User \"jane\""),
        ),
        (
            &jane,
            "nodes",
            "b",
            Some("ClusterRoleBinding \"everywhere\" of ClusterRole \"nodes\" to User \"jane\""),
        ),
        (&jane, "pods", "a", None),
        (&dev, "pods", "a", Some("RoleBinding \"here/a\" of ClusterRole \"pods\" to Group \"dev\"")),
        (&dev, "pods", "b", None),
        (&dev, "pods", "", None),
        (
            &robot,
            "secrets",
            "a",
            Some("RoleBinding \"own/a\" of Role \"secrets\" to ServiceAccount \"robot/a\""),
        ),
        (&robot, "secrets", "b", None),
        (
            &robot,
            "configmaps",
            "b",
            Some("RoleBinding \"other/b\" of Role \"secrets\" to ServiceAccount \"robot/a\""),
        ),
        (&who("robot", &[]), "secrets", "a", None),
    ] {
        let decision = policy.decide(identity, &Attributes::about("get", "", resource, namespace, "x"));
        let expected = reason.map(|r| format!("RBAC: allowed by {r}")).unwrap_or_default();
        assert_eq!(
            decision,
            Decision { allowed: reason.is_some(), reason: expected },
            "{identity:?} {resource}"
        );
    }
}

#[test]
fn a_missing_role_is_told_and_masters_need_none() {
    let everyone = json!([{"kind": "Group", "name": "dev"}, {"kind": "User", "name": "joe"}]);
    let policy = policy(&[
        binding("", "one", "ClusterRole/gone", everyone.clone()),
        binding("a", "two", "Role/lost", everyone),
        role("", "pods", "pods"),
    ]);
    let asked = Attributes::about("get", "", "pods", "a", "");
    assert_eq!(
        policy.decide(&who("joe", &["dev"]), &asked).reason,
        "RBAC: [clusterrole.rbac.authorization.k8s.io \"gone\" not found, role.rbac.authorization.k8s.io \"lost\" not found]"
    );
    assert_eq!(
        policy.decide(&who("x", &["system:masters"]), &asked),
        Decision { allowed: true, reason: String::new() }
    );
    assert_eq!(policy.decide(&who("x", &[]), &asked), Decision::default());
}

#[test]
fn bindings_go_and_rules_are_listed_once() {
    let mut policy = policy(&[role("", "pods", "pods"), role("", "nodes", "nodes")]);
    let both = json!([{"kind": "User", "name": "joe"}, {"kind": "Group", "name": "dev"}]);
    let one = Arc::new(Binding::of(&binding("", "one", "ClusterRole/pods", both.clone())));
    let two = Arc::new(Binding::of(&binding("a", "two", "ClusterRole/nodes", both)));
    policy.put_binding(&one);
    policy.put_binding(&two);
    let joe = who("joe", &["dev"]);
    assert_eq!(policy.rules_for(&joe, "a").0.len(), 2);
    assert_eq!(policy.rules_for(&joe, "b").0.len(), 1);
    policy.remove_binding(&one);
    assert_eq!(policy.rules_for(&joe, "a").0.len(), 1);
    policy.remove_role(&(String::new(), "nodes".into()));
    let (rules, error) = policy.rules_for(&joe, "a");
    assert!(rules.is_empty());
    assert_eq!(error, "clusterrole.rbac.authorization.k8s.io \"nodes\" not found");
}
