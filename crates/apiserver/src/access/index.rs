//! The policy as the store has it: brought up to date when a role or binding was written since, and
//! then only with the objects that changed. A write counts from the moment it is acknowledged.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::policy::{Binding, Decision, Policy};
use super::rule::Rule;
use super::{Attributes, Identity};
use crate::registry::object::text;
use crate::store::{Object, Store};

const PREFIXES: [&str; 4] = [
    "rbac.authorization.k8s.io/clusterroles/",
    "rbac.authorization.k8s.io/clusterrolebindings/",
    "rbac.authorization.k8s.io/roles/",
    "rbac.authorization.k8s.io/rolebindings/",
];

/// When each of the four kinds was last written.
type Moments = [u64; PREFIXES.len()];

/// Decides by the roles and bindings in the store.
#[derive(Default)]
pub struct Index(RwLock<Known>);

#[derive(Default)]
struct Known {
    policy: Policy,
    /// `None` before the first look.
    at: Option<Moments>,
    loaded: HashMap<Arc<str>, Loaded>,
}

/// One object, at the revision that is in the policy.
struct Loaded {
    revision: u64,
    /// `None` for roles.
    binding: Option<Arc<Binding>>,
}

impl Index {
    /// Looks at the policy as of now.
    pub fn with<T>(&self, store: &Store, look: impl FnOnce(&Policy) -> T) -> T {
        // Read before the objects are: what comes in between is looked at again.
        let now = PREFIXES.map(|prefix| store.newest(prefix));
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if known.at == Some(now) {
                return look(&known.policy);
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.catch_up(store, now);
        look(&known.policy)
    }

    pub fn decide(&self, store: &Store, identity: &Identity, asked: &Attributes<'_>) -> Decision {
        if identity.is_master() {
            return Decision { allowed: true, reason: String::new() };
        }
        self.with(store, |policy| policy.decide(identity, asked))
    }
}

impl Known {
    fn catch_up(&mut self, store: &Store, now: Moments) {
        for (i, prefix) in PREFIXES.into_iter().enumerate() {
            if self.at.is_some_and(|at| at[i] >= now[i]) {
                continue;
            }
            let present = store.entries(prefix);
            let keys: HashSet<&Arc<str>> = present.iter().map(|(key, _)| key).collect();
            let gone = self.loaded.keys().filter(|key| key.starts_with(prefix) && !keys.contains(key));
            for key in gone.cloned().collect::<Vec<_>>() {
                self.forget(&key);
            }
            for (key, object) in &present {
                if self.loaded.get(key).is_none_or(|l| l.revision != object.modified) {
                    self.load(key, object);
                }
            }
        }
        self.at = Some(now);
    }

    fn load(&mut self, key: &Arc<str>, object: &Object) {
        self.forget(key);
        let Ok(value) = serde_json::from_slice::<Value>(&object.bytes) else {
            // Nothing unreadable is ever stored; if it were, it would grant nothing.
            return tracing::error!(%key, "a role or binding cannot be read");
        };
        let binding = key.contains("bindings/").then(|| Arc::new(Binding::of(&value)));
        match &binding {
            Some(binding) => self.policy.put_binding(binding),
            None => {
                let place = |pointer| text(&value, pointer).to_owned();
                let role = (place("/metadata/namespace"), place("/metadata/name"));
                self.policy.put_role(role, Rule::all_of(&value));
            }
        }
        self.loaded.insert(key.clone(), Loaded { revision: object.modified, binding });
    }

    fn forget(&mut self, key: &Arc<str>) {
        match self.loaded.remove(key) {
            None => {}
            Some(Loaded { binding: Some(binding), .. }) => self.policy.remove_binding(&binding),
            Some(_) => {
                let rest = key.splitn(3, '/').nth(2).unwrap_or_default();
                let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
                self.policy.remove_role(&(namespace.to_owned(), name.to_owned()));
            }
        }
    }
}
