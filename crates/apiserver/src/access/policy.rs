//! Roles and bindings, indexed by whom they are for: a decision looks at the bindings of one user and
//! its groups alone, and parses nothing.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::Attributes;
use super::identity::{Identity, account_user};
use super::rule::Rule;
use crate::registry::object::text;

/// Where a role lies: the namespace of a Role, `""` for ClusterRoles, and the name.
pub type RoleKey = (String, String);

/// A RoleBinding, or with an empty namespace a ClusterRoleBinding.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding {
    pub namespace: String,
    pub name: String,
    /// `Role` or `ClusterRole`.
    role_kind: String,
    role: RoleKey,
    subjects: Vec<Subject>,
}

#[derive(Debug, PartialEq, Eq)]
struct Subject {
    is_group: bool,
    /// The user or group that requests come from.
    who: String,
    /// As reasons name it.
    described: String,
}

impl Binding {
    pub fn of(object: &Value) -> Self {
        let namespace = text(object, "/metadata/namespace").to_owned();
        let role_kind = text(object, "/roleRef/kind").to_owned();
        let home = if role_kind == "Role" { namespace.clone() } else { String::new() };
        let subjects = object.get("subjects").and_then(Value::as_array).into_iter().flatten();
        let subjects = subjects.filter_map(|s| Subject::of(s, &namespace)).collect();
        let role = (home, text(object, "/roleRef/name").to_owned());
        Self { name: text(object, "/metadata/name").to_owned(), role_kind, role, subjects, namespace }
    }

    fn described(&self, subject: usize) -> String {
        let (kind, name) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.name.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.name)),
        };
        let subject = self.subjects.get(subject).map_or("", |s| s.described.as_str());
        format!("{kind} {name:?} of {} {:?} to {subject}", self.role_kind, self.role.1)
    }
}

impl Subject {
    /// `None` for subjects that nobody can be.
    fn of(subject: &Value, namespace: &str) -> Option<Self> {
        let (kind, name) = (text(subject, "/kind"), text(subject, "/name"));
        if kind != "ServiceAccount" {
            let is_group = kind == "Group";
            let known = is_group || kind == "User";
            return known.then(|| Self {
                is_group,
                who: name.to_owned(),
                described: format!("{kind} {name:?}"),
            });
        }
        let own = text(subject, "/namespace");
        let home = if own.is_empty() { namespace } else { own };
        (!home.is_empty()).then(|| Self {
            is_group: false,
            who: account_user(home, name),
            described: format!("{kind} {:?}", format!("{name}/{home}")),
        })
    }
}

/// That a binding names somebody, by its subject of this number.
type Grant = (Arc<Binding>, usize);

#[derive(Debug, Default)]
struct Grants {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Grants {
    fn of(&mut self, subject: &Subject) -> &mut Vec<Grant> {
        let map = if subject.is_group { &mut self.groups } else { &mut self.users };
        map.entry(subject.who.clone()).or_default()
    }

    fn to(&self, identity: &Identity) -> impl Iterator<Item = &Grant> {
        let groups = identity.groups.iter().filter_map(|g| self.groups.get(g));
        self.users.get(&identity.user).into_iter().chain(groups).flatten()
    }
}

/// All roles and bindings.
#[derive(Debug, Default)]
pub struct Policy {
    roles: HashMap<RoleKey, Arc<[Rule]>>,
    /// By namespace; `""` are the ClusterRoleBindings.
    grants: HashMap<String, Grants>,
}

/// What was decided, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
}

impl Policy {
    pub fn put_role(&mut self, key: RoleKey, rules: Vec<Rule>) {
        self.roles.insert(key, rules.into());
    }

    pub fn remove_role(&mut self, key: &RoleKey) {
        self.roles.remove(key);
    }

    pub fn put_binding(&mut self, binding: &Arc<Binding>) {
        let grants = self.grants.entry(binding.namespace.clone()).or_default();
        for (i, subject) in binding.subjects.iter().enumerate() {
            let list = grants.of(subject);
            let at = list.partition_point(|(other, _)| other.name <= binding.name);
            list.insert(at, (binding.clone(), i));
        }
    }

    pub fn remove_binding(&mut self, binding: &Arc<Binding>) {
        let Some(grants) = self.grants.get_mut(&binding.namespace) else { return };
        for subject in &binding.subjects {
            let list = grants.of(subject);
            list.retain(|(other, _)| !Arc::ptr_eq(other, binding));
            if list.is_empty() {
                let map = if subject.is_group { &mut grants.groups } else { &mut grants.users };
                map.remove(&subject.who);
            }
        }
    }

    /// Bindings that count in a namespace: those of the cluster, then its own.
    fn bindings<'a>(&'a self, identity: &'a Identity, namespace: &'a str) -> impl Iterator<Item = &'a Grant> {
        let own = (!namespace.is_empty()).then_some(namespace);
        std::iter::once("").chain(own).filter_map(|n| self.grants.get(n)).flat_map(|g| g.to(identity))
    }

    /// The rules of a role.
    ///
    /// # Errors
    /// When there is no such role, in Kubernetes' words.
    pub fn rules_of(&self, kind: &str, key: &RoleKey) -> Result<&Arc<[Rule]>, String> {
        let missing = || match kind {
            "Role" | "ClusterRole" => {
                format!("{}.rbac.authorization.k8s.io {:?} not found", kind.to_lowercase(), key.1)
            }
            other => format!("unsupported role reference kind: {other:?}"),
        };
        self.roles.get(key).ok_or_else(missing)
    }

    pub fn decide(&self, identity: &Identity, asked: &Attributes<'_>) -> Decision {
        if identity.is_master() {
            return Decision { allowed: true, reason: String::new() };
        }
        let mut errors = Vec::new();
        for (binding, subject) in self.bindings(identity, asked.namespace) {
            match self.rules_of(&binding.role_kind, &binding.role) {
                Ok(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                    let reason = format!("RBAC: allowed by {}", binding.described(*subject));
                    return Decision { allowed: true, reason };
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        Decision { allowed: false, reason: aggregate("RBAC: ", errors) }
    }

    /// Everything that somebody may do in a namespace, and what went wrong in finding out.
    pub fn rules_for(&self, identity: &Identity, namespace: &str) -> (Vec<Rule>, String) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        let mut seen: Vec<*const Binding> = Vec::new();
        for (binding, _) in self.bindings(identity, namespace) {
            let this = Arc::as_ptr(binding);
            if seen.contains(&this) {
                continue;
            }
            seen.push(this);
            match self.rules_of(&binding.role_kind, &binding.role) {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(error) => errors.push(error),
            }
        }
        (rules, aggregate("", errors))
    }
}

/// Several errors as one, each once.
fn aggregate(prefix: &str, mut errors: Vec<String>) -> String {
    let mut seen = Vec::new();
    errors.retain(|e| {
        !seen.contains(e) && {
            seen.push(e.clone());
            true
        }
    });
    match errors.as_slice() {
        [] => String::new(),
        [one] => format!("{prefix}{one}"),
        many => format!("{prefix}[{}]", many.join(", ")),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
