//! Roles and bindings at work: what they allow, what they let others hand on, and what reviews tell.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use support::{Client, Cluster};

const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": user}]})
}

fn pods(verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": ["pods"], "verbs": verbs})
}

impl Cluster {
    /// Gives a user a role of its own in `default`.
    async fn grant(&self, user: &str, rules: Value) {
        let path = format!("{GROUP}/namespaces/default");
        self.admin.post(&format!("{path}/roles"), &role(user, rules)).await.ok();
        self.admin.post(&format!("{path}/rolebindings"), &binding(user, "Role", user, user)).await.ok();
    }
}

async fn review(client: &Client, kind: &str, spec: Value) -> Value {
    let path = format!("/apis/authorization.k8s.io/v1/{}s", kind.to_lowercase());
    client.post(&path, &json!({"spec": spec})).await.ok()["status"].clone()
}

#[tokio::test]
async fn a_role_counts_from_the_moment_it_is_bound() {
    let cluster = Cluster::start().await;
    let jane = cluster.client("jane", "dev");
    assert_eq!(
        jane.get(PODS).await.message(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    cluster.grant("jane", json!([pods(&["get", "list"])])).await;
    jane.get(PODS).await.ok();
    assert_eq!(jane.get(&format!("{PODS}/p")).await.code, 404);
    assert_eq!(jane.get("/api/v1/pods").await.code, 403, "not in all namespaces");
    assert_eq!(jane.get("/api/v1/namespaces/kube-system/pods").await.code, 403);
    assert_eq!(
        jane.delete(&format!("{PODS}/p"), &json!(null)).await.message(),
        "pods \"p\" is forbidden: User \"jane\" cannot delete resource \"pods\" in API group \"\" in the namespace \
         \"default\""
    );
    assert_eq!(
        jane.post(&format!("{PODS}/p/exec"), &json!({})).await.message(),
        "pods \"p\" is forbidden: User \"jane\" cannot create resource \"pods/exec\" in API group \"\" in the namespace \
         \"default\""
    );
    let path = format!("{GROUP}/namespaces/default/rolebindings/jane");
    let mut changed = cluster.admin.get(&path).await.ok();
    changed["roleRef"]["name"] = "other".into();
    let refused = cluster.admin.put(&path, &changed).await;
    assert_eq!(refused.failure(), (422, "Invalid"));
    assert!(refused.message().contains("cannot change roleRef"), "{}", refused.message());
    cluster.admin.delete(&format!("{GROUP}/namespaces/default/roles/jane"), &json!(null)).await.ok();
    assert_eq!(
        jane.get(PODS).await.message(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\": \
         RBAC: role.rbac.authorization.k8s.io \"jane\" not found"
    );
}

#[tokio::test]
async fn nobody_hands_on_what_they_do_not_have() {
    let cluster = Cluster::start().await;
    let jane = cluster.client("jane", "dev");
    let roles = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"],
        "verbs": ["create", "update", "patch", "get"]});
    cluster.grant("jane", json!([pods(&["get"]), roles])).await;
    let path = format!("{GROUP}/namespaces/default/roles");
    jane.post(&path, &role("held", json!([pods(&["get"])]))).await.ok();
    let refused = jane.post(&path, &role("more", json!([pods(&["get", "list", "watch"])]))).await;
    assert_eq!(refused.failure(), (403, "Forbidden"));
    assert_eq!(
        refused.message(),
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"dev\" \"system:authenticated\"]) \
         is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}"
    );
    let widened = json!({"rules": [pods(&["*"])]});
    assert_eq!(jane.patch(&format!("{path}/held"), "merge", &widened).await.code, 403);
    let apply = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "new"},
        "rules": [pods(&["*"])]});
    assert_eq!(jane.patch(&format!("{path}/new?fieldManager=t"), "apply", &apply).await.code, 403);

    let path = format!("{GROUP}/namespaces/default/rolebindings");
    jane.post(&path, &binding("held", "Role", "held", "joe")).await.ok();
    let admin = binding("admin", "ClusterRole", "cluster-admin", "joe");
    let refused = jane.post(&path, &admin).await;
    assert!(
        refused.message().ends_with(
            "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"
        ),
        "{}",
        refused.message()
    );
    let missing = jane.post(&path, &binding("x", "Role", "nothing", "joe")).await;
    assert_eq!(missing.failure(), (404, "NotFound"));

    let bind = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"],
        "resourceNames": ["cluster-admin"]});
    let escalate =
        json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]});
    let rules = json!({"rules": [pods(&["get"]), roles, bind, escalate]});
    cluster.admin.patch(&format!("{GROUP}/namespaces/default/roles/jane"), "merge", &rules).await.ok();
    jane.post(&path, &admin).await.ok();
    jane.patch(&format!("{GROUP}/namespaces/default/roles/held"), "merge", &widened).await.ok();
}

#[tokio::test]
async fn the_default_roles_are_there_and_come_back() {
    let cluster = Cluster::start().await;
    let view = cluster.admin.get(&format!("{GROUP}/clusterroles/view")).await.ok();
    assert_eq!(view["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"], "true");
    let user = format!("{GROUP}/clusterroles/system:basic-user");
    let discovery = format!("{GROUP}/clusterrolebindings/system:discovery");
    cluster.admin.patch(&user, "merge", &json!({"rules": []})).await.ok();
    cluster.admin.delete(&discovery, &json!(null)).await.ok();
    assert_eq!(cluster.client("jane", "dev").get("/apis").await.code, 403);
    let count = |list: &Value| list["items"].as_array().unwrap().len();
    let before = count(&cluster.admin.get(&format!("{GROUP}/clusterroles")).await.ok());
    cluster.server.shutdown().await;
    let config = cluster.pki.config(cluster.dir.path(), "127.0.0.1:0".parse().unwrap());
    let server = daymark_apiserver::Server::start(config).await.unwrap();
    let client = |user, group| Client::new(&cluster.pki, server.addresses()[0], Some((user, group)));
    assert_eq!(client("jane", "dev").get("/apis").await.code, 200);
    let admin = client("admin", "system:masters");
    assert!(admin.get(&user).await.ok()["rules"].to_string().contains("selfsubjectrulesreviews"));
    assert_eq!(count(&admin.get(&format!("{GROUP}/clusterroles")).await.ok()), before);
    server.shutdown().await;
}

#[tokio::test]
async fn reviews_tell_what_the_roles_say() {
    let cluster = Cluster::start().await;
    let jane = cluster.client("jane", "dev");
    cluster.grant("jane", json!([pods(&["list"])])).await;
    let list = json!({"namespace": "default", "verb": "list", "resource": "pods"});
    let own = json!({"resourceAttributes": list});
    assert_eq!(
        review(&jane, "SelfSubjectAccessReview", own.clone()).await,
        json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"jane/default\" of Role \"jane\" to User \"jane\""})
    );
    assert_eq!(review(&cluster.admin, "SelfSubjectAccessReview", own).await, json!({"allowed": true}));
    let other = json!({"resourceAttributes": list, "user": "joe", "groups": ["dev"]});
    assert_eq!(review(&cluster.admin, "SubjectAccessReview", other.clone()).await, json!({"allowed": false}));
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(jane.post(path, &json!({"spec": other})).await.code, 403, "not of others");
    let nothing = cluster.admin.post(path, &json!({"spec": {}})).await;
    assert_eq!(nothing.failure(), (422, "Invalid"));
    assert_eq!(
        nothing.message(),
        "SubjectAccessReview.authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: null: \
         exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \
         \"\": at least one of user or group must be specified]"
    );
    let health = json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}});
    assert_eq!(review(&jane, "SelfSubjectAccessReview", health).await["allowed"], true);
    let rules = review(&jane, "SelfSubjectRulesReview", json!({"namespace": "default"})).await;
    assert!(rules["resourceRules"].as_array().unwrap().contains(&pods(&["list"])), "{rules}");
    assert!(rules["nonResourceRules"].to_string().contains("/openapi/*"));
    let me = jane.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.ok();
    assert_eq!(me["status"]["userInfo"]["username"], "jane");
    assert_eq!(me["status"]["userInfo"]["groups"], json!(["dev", "system:authenticated"]));
}

#[tokio::test]
async fn whoever_may_acts_as_somebody_else() {
    let cluster = Cluster::start().await;
    cluster.grant("jane", json!([pods(&["list"])])).await;
    cluster.admin.get_for(PODS, "jane").await.ok();
    assert_eq!(cluster.admin.get_for("/api/v1/nodes", "jane").await.code, 403);
    let joe = cluster.client("joe", "dev");
    let refused = joe.get_for(PODS, "jane").await;
    assert_eq!(refused.failure(), (403, "Forbidden"));
    assert_eq!(
        refused.message(),
        "pods is forbidden: User \"joe\" cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    let impersonate = json!([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["jane"]}]);
    cluster.admin.post(&format!("{GROUP}/clusterroles"), &role("janes", impersonate)).await.ok();
    let bound = binding("joe", "ClusterRole", "janes", "joe");
    cluster.admin.post(&format!("{GROUP}/clusterrolebindings"), &bound).await.ok();
    joe.get_for(PODS, "jane").await.ok();
    assert_eq!(joe.get_for(PODS, "admin").await.code, 403);
    let with_group = [("impersonate-user", "jane"), ("impersonate-group", "system:masters")];
    assert_eq!(joe.call(Method::GET, PODS, &with_group, Bytes::new()).await.code, 403);
    let nobody = [("impersonate-group", "dev")];
    assert_eq!(cluster.admin.call(Method::GET, PODS, &nobody, Bytes::new()).await.code, 400);
}

#[tokio::test]
async fn roles_and_bindings_are_checked() {
    let cluster = Cluster::start().await;
    let path = format!("{GROUP}/namespaces/default");
    let bad = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": []},
        {"nonResourceURLs": ["/x"], "verbs": ["get"]},
        {"verbs": ["get"]},
    ]);
    let refused = cluster.admin.post(&format!("{path}/roles"), &role("bad", bad)).await;
    let causes = refused.body["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes.iter().map(|c| c["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        ["rules[0].verbs", "rules[1].nonResourceURLs", "rules[2].apiGroups", "rules[2].resources"]
    );
    let bad = json!({"metadata": {"name": "bad"}, "roleRef": {"kind": "Role", "name": "x"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot"}]});
    let refused = cluster.admin.post(&format!("{GROUP}/clusterrolebindings"), &bad).await;
    let causes = refused.body["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes.iter().map(|c| c["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["roleRef.kind", "subjects[0].namespace"]);
}
