//! Nobody gives what they do not have: writes of roles and bindings are checked against the rules of who
//! writes, unless they may `escalate` or `bind`.

use serde_json::{Value, json};

use super::identity::Identity;
use super::policy::Policy;
use super::rule::Rule;
use super::{Attributes, cover};
use crate::error::ApiError;
use crate::http::request::Target;
use crate::registry::object::text;
use crate::registry::{Call, Registry};

const GROUP: &str = "rbac.authorization.k8s.io";

impl Registry {
    /// Refuses the write of a role or binding that would give away more than its writer has.
    pub(crate) fn check_escalation(
        &self,
        target: &Target,
        old: Option<&Value>,
        new: &Value,
        call: &Call,
    ) -> Result<(), ApiError> {
        let Some(identity) = call.identity.as_ref().filter(|i| !i.is_master()) else { return Ok(()) };
        let resource = &target.resource;
        if resource.group != GROUP || old.is_some_and(|old| only_bookkeeping(old, new)) {
            return Ok(());
        }
        let request = Request { identity, target, new };
        self.policy(|policy| match resource.plural {
            "roles" | "clusterroles" => request.check_role(policy, old),
            "rolebindings" | "clusterrolebindings" => request.check_binding(policy),
            _ => Ok(()),
        })
    }
}

/// What the garbage collector must be able to change.
fn only_bookkeeping(old: &Value, new: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["ownerReferences", "finalizers", "managedFields"] {
                metadata.shift_remove(field);
            }
        }
        object
    };
    bare(old) == bare(new)
}

fn is_aggregated(role: &Value) -> bool {
    role.pointer("/aggregationRule/clusterRoleSelectors")
        .and_then(Value::as_array)
        .is_some_and(|s| !s.is_empty())
}

struct Request<'a> {
    identity: &'a Identity,
    target: &'a Target,
    new: &'a Value,
}

impl Request<'_> {
    fn may(&self, policy: &Policy, verb: &str, resource: &str, name: &str) -> bool {
        let asked = Attributes::about(verb, GROUP, resource, &self.target.namespace, name);
        policy.decide(self.identity, &asked).allowed
    }

    fn check_role(&self, policy: &Policy, old: Option<&Value>) -> Result<(), ApiError> {
        // A request that creates names nothing.
        let name = if old.is_some() { self.target.name.as_str() } else { "" };
        if self.may(policy, "escalate", self.target.resource.plural, name) {
            return Ok(());
        }
        self.check_held(policy, &Rule::all_of(self.new))?;
        if is_aggregated(self.new) || old.is_some_and(is_aggregated) {
            let everything = Rule::all_of(&json!({"rules": [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
                {"verbs": ["*"], "nonResourceURLs": ["*"]},
            ]}));
            let refused = |_| self.refusal("must have cluster-admin privileges to use the aggregationRule");
            self.check_held(policy, &everything).map_err(refused)?;
        }
        Ok(())
    }

    fn check_binding(&self, policy: &Policy) -> Result<(), ApiError> {
        let (kind, name) = (text(self.new, "/roleRef/kind"), text(self.new, "/roleRef/name"));
        let (plural, home) = match kind {
            "ClusterRole" => ("clusterroles", ""),
            "Role" => ("roles", self.target.namespace.as_str()),
            // Validation says what is wrong with it.
            _ => return Ok(()),
        };
        if self.may(policy, "bind", plural, name) {
            return Ok(());
        }
        let found = policy.rules_of(kind, &(home.to_owned(), name.to_owned()));
        let rules = found.map_err(|_| ApiError::not_found(GROUP, self.target.resource.plural, name))?.clone();
        self.check_held(policy, &rules)
    }

    fn check_held(&self, policy: &Policy, given: &[Rule]) -> Result<(), ApiError> {
        let Identity { user, groups, .. } = self.identity;
        let (held, errors) = policy.rules_for(self.identity, &self.target.namespace);
        let missing = cover::uncovered(&held, given);
        if missing.is_empty() {
            return Ok(());
        }
        let (groups, missing) = (cover::quoted(groups), cover::describe(missing));
        let mut why = format!(
            "user {user:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{missing}"
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{errors}]"));
        }
        Err(self.refusal(&why))
    }

    fn refusal(&self, why: &str) -> ApiError {
        ApiError::forbidden(GROUP, self.target.resource.plural, text(self.new, "/metadata/name"), why)
    }
}
