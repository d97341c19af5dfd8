//! Reviews: who am I, may I, is this token good. Nothing is stored.

use serde_json::{Value, json};

use super::object::text;
use crate::http::access::Identity;

/// Whether `resource` is one of the create-only reviews.
pub fn is_review(resource: &str) -> bool {
    matches!(
        resource,
        "selfsubjectreviews"
            | "selfsubjectaccessreviews"
            | "selfsubjectrulesreviews"
            | "subjectaccessreviews"
            | "localsubjectaccessreviews"
            | "tokenreviews"
    )
}

/// Fills in the status of a review by `identity`.
pub fn answer(resource: &str, identity: &Identity, mut review: Value) -> Value {
    review["status"] = match resource {
        "selfsubjectreviews" => {
            json!({"userInfo": {"username": identity.user, "groups": identity.groups}})
        }
        "selfsubjectaccessreviews" => access(identity, &review),
        "selfsubjectrulesreviews" => rules(identity),
        "tokenreviews" => json!({"authenticated": false, "error": "this server issues no tokens"}),
        _ => access(&reviewed(&review), &review),
    };
    review
}

fn reviewed(review: &Value) -> Identity {
    let groups = review.pointer("/spec/groups").and_then(Value::as_array);
    Identity {
        user: text(review, "/spec/user").to_owned(),
        groups: groups.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

fn access(identity: &Identity, review: &Value) -> Value {
    let path = review.pointer("/spec/nonResourceAttributes");
    let allowed = match path {
        Some(path) => {
            identity.is_trusted()
                || (text(path, "/verb") == "get" && identity.may_read_path(text(path, "/path")))
        }
        None => identity.may_use(text(review, "/spec/resourceAttributes/resource")),
    };
    if allowed {
        return json!({"allowed": true});
    }
    let reason = format!("user \"{}\" is in none of the groups that have access", identity.user);
    json!({"allowed": false, "reason": reason})
}

fn rules(identity: &Identity) -> Value {
    let (resources, paths) = if identity.is_trusted() {
        (
            json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
            json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]),
        )
    } else {
        (
            json!([
                {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
                 "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
                {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"],
                 "resources": ["selfsubjectreviews"]},
            ]),
            json!([{"verbs": ["get"], "nonResourceURLs": [
                "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
                "/version",
            ]}]),
        )
    };
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(group: &str) -> Identity {
        Identity { user: "jane".into(), groups: vec![group.into()] }
    }

    fn allowed(identity: &Identity, resource: &str) -> bool {
        let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": resource}}});
        answer("selfsubjectaccessreviews", identity, review)["status"]["allowed"] == true
    }

    #[test]
    fn answers_follow_the_authorizer() {
        assert!(allowed(&who("system:masters"), "pods"));
        assert!(!allowed(&who("dev"), "pods"));
        let path = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/livez"}}});
        let answered = answer("selfsubjectaccessreviews", &who("dev"), path);
        assert_eq!(answered["status"]["allowed"], true);
        let me = answer("selfsubjectreviews", &who("dev"), json!({}));
        assert_eq!(me["status"]["userInfo"], json!({"username": "jane", "groups": ["dev"]}));
    }

    #[test]
    fn another_subject_is_judged_by_its_own_groups() {
        let review = json!({"spec": {
            "user": "bob", "groups": ["system:masters"], "resourceAttributes": {"resource": "pods"},
        }});
        let answered = answer("subjectaccessreviews", &who("dev"), review);
        assert_eq!(answered["status"]["allowed"], true);
    }
}
