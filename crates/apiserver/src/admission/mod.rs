//! What Kubernetes' stock admission plugins do to a write beyond its kind's own rules: LimitRanges, ResourceQuotas,
//! PriorityClasses, RuntimeClasses.
//!
//! A new object goes through [`Registry::complete`], which fills in what others decided for it, and, once it is valid,
//! [`Registry::admit`]; a changed one through the latter.

mod amounts;
mod limits;
mod pod;
mod priority;
mod quota;
pub mod quota_status;
mod runtime_class;
mod scope;
mod usage;

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::error::ApiError;
use crate::http::request::Target;
use crate::registry::object::{self, is_being_deleted, text};
use crate::registry::{Registry, storage};
use crate::schema::{Resource, schema};

pub use priority::system_classes;

/// Writes that quotas count come one after the other, those of a namespace at least.
#[derive(Default)]
pub struct Turns([Mutex<()>; 16]);

impl Turns {
    async fn of(&self, namespace: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        self.0[hasher.finish() as usize % self.0.len()].lock().await
    }
}

/// Held until what was admitted is stored.
#[must_use]
pub struct Admitted<'a>(#[allow(dead_code, reason = "it is there to be dropped")] Option<MutexGuard<'a, ()>>);

fn is_core(target: &Target, plural: &str) -> bool {
    target.resource.group.is_empty() && target.resource.plural == plural && target.subresource.is_empty()
}

impl Registry {
    /// Gives a new pod its priority, before its defaults.
    pub fn resolve_priority(&self, target: &Target, object: &mut Value) -> Result<(), ApiError> {
        match is_core(target, "pods") && object["spec"].is_object() {
            true => priority::resolve(&self.objects("scheduling.k8s.io", "priorityclasses", "")?, object),
            false => Ok(()),
        }
    }

    /// Fills in what LimitRanges and a RuntimeClass decide for a new pod.
    pub fn complete(&self, target: &Target, object: &mut Value) -> Result<(), ApiError> {
        if !is_core(target, "pods") || !object["spec"].is_object() {
            return Ok(());
        }
        for range in self.objects("", "limitranges", &target.namespace)? {
            limits::complete(&range, object);
        }
        let class = text(object, "/spec/runtimeClassName");
        let class = match class {
            "" => None,
            name => Some(self.object("node.k8s.io", "runtimeclasses", name)?.ok_or_else(|| {
                runtime_class::refuse(object, &format!("RuntimeClass \"{name}\" not found"))
            })?),
        };
        runtime_class::complete(class.as_ref(), object)
    }

    /// Refuses what is valid and yet more than the namespace allows, or a second default.
    pub async fn admit(
        &self,
        target: &Target,
        old: Option<&Value>,
        new: &Value,
        now: Timestamp,
    ) -> Result<Admitted<'_>, ApiError> {
        if target.resource.plural == "priorityclasses" && target.subresource.is_empty() {
            priority::check_default(&self.objects("scheduling.k8s.io", "priorityclasses", "")?, new)?;
        }
        if !target.resource.namespaced {
            return Ok(Admitted(None));
        }
        self.check_limits(target, old, new)?;
        Ok(Admitted(self.charge(target, old, new, now).await?))
    }

    fn check_limits(&self, target: &Target, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
        let (pod, claim) = (is_core(target, "pods"), is_core(target, "persistentvolumeclaims"));
        if !(pod && old.is_none() || claim) || old.is_some_and(is_being_deleted) {
            return Ok(());
        }
        for range in self.objects("", "limitranges", &target.namespace)? {
            let found = if pod { limits::check_pod(&range, new) } else { limits::check_claim(&range, new) };
            let mut mistakes: Vec<String> = Vec::new();
            for mistake in found {
                if !mistakes.contains(&mistake) {
                    mistakes.push(mistake);
                }
            }
            let why = match mistakes.as_slice() {
                [] => continue,
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            return Err(ApiError::forbidden("", target.resource.plural, text(new, "/metadata/name"), &why));
        }
        Ok(())
    }

    async fn charge(
        &self,
        target: &Target,
        old: Option<&Value>,
        new: &Value,
        now: Timestamp,
    ) -> Result<Option<MutexGuard<'_, ()>>, ApiError> {
        let Some(quotas) = schema().resource("", "v1", "resourcequotas") else { return Ok(None) };
        let none = || self.store.count(&storage::prefix(quotas, &target.namespace)) == 0;
        if !quota::counts(target, old, new) || none() {
            return Ok(None);
        }
        let turn = self.turns().of(&target.namespace).await;
        for quota in self.objects("", "resourcequotas", &target.namespace)? {
            let used =
                |names: &amounts::Amounts| self.used(&quota, &target.resource, &target.namespace, names, now);
            quota::check(&quota, &target.resource, old, new, now, used)?;
        }
        Ok(Some(turn))
    }

    /// What the objects of one resource use of a quota, under these names.
    fn used(
        &self,
        quota: &Value,
        resource: &Resource,
        namespace: &str,
        names: &amounts::Amounts,
        now: Timestamp,
    ) -> Result<amounts::Amounts, ApiError> {
        let prefix = storage::prefix(resource, namespace);
        let wanted = |name: &str| names.get(name).is_some();
        let scoped = !scope::is_open(quota);
        if usage::is_uniform(resource) {
            let count = if scoped { 0 } else { self.store.count(&prefix) };
            return Ok(usage::uniform(resource, count).only(wanted));
        }
        let mut used = amounts::Amounts::default();
        for stored in self.store.all(&prefix) {
            let object = object::parse(&stored.bytes)?;
            if scope::takes(quota, resource, &object) {
                used.add(&usage::of(resource, &object, now).only(wanted));
            }
        }
        Ok(used)
    }

    fn objects(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, ApiError> {
        let Some(resource) = schema().resource(group, "v1", plural) else { return Ok(Vec::new()) };
        let stored = self.store.all(&storage::prefix(resource, namespace));
        stored.iter().map(|object| object::parse(&object.bytes)).collect()
    }

    /// One object of a resource without namespaces.
    fn object(&self, group: &str, plural: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let Some(resource) = schema().resource(group, "v1", plural) else { return Ok(None) };
        let stored = self.store.get(&storage::key(resource, "", name));
        stored.map(|object| object::parse(&object.bytes)).transpose()
    }
}
