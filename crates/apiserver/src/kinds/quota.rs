//! Checks of ResourceQuotas.

use serde_json::Value;

use super::field::{Errors, Path};
use super::format;
use super::value::{at, list, members, strings, text};
use crate::schema::quantity::Quantity;

/// Resources that quotas know without a domain.
const COUNTED: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
/// Of those, what scopes of pods may be about.
const OF_PODS: [&str; 7] =
    ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
/// Scopes that a pod has or has not.
const PLAIN: [&str; 5] =
    ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub fn check(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    for (resource, amount) in members(obj, "spec.hard") {
        check_limit(resource, amount, &path.child("hard").key(resource), errors);
    }
    let scopes = strings(obj, "spec.scopes");
    let shown = Value::from(scopes.clone());
    let own = path.child("scopes");
    for scope in &scopes {
        check_scope(obj, scope, &own, (&own, &shown), &shown, errors);
    }
    if OPPOSITES.iter().any(|pair| pair.iter().all(|scope| scopes.contains(scope))) {
        errors.invalid(&own, shown.clone(), "conflicting scopes");
    }
    if at(obj, "spec.scopeSelector").is_some() {
        check_selector(obj, &path.child("scopeSelector").child("matchExpressions"), errors);
    }
    let sorted = |mut scopes: Vec<&str>| {
        scopes.sort_unstable();
        scopes.dedup();
        scopes.join(",")
    };
    if old.is_some_and(|old| sorted(strings(old, "spec.scopes")) != sorted(scopes)) {
        errors.invalid(&own, shown, "field is immutable");
    }
}

fn check_limit(resource: &str, amount: &Value, path: &Path, errors: &mut Errors) {
    errors.invalid_each(path, resource, &format::qualified_name(resource));
    let plain = !resource.contains('/');
    let huge = resource.strip_prefix("requests.").unwrap_or(resource).starts_with("hugepages-");
    if plain && !huge && !COUNTED.contains(&resource) {
        if resource != "storage" {
            errors.invalid(path, resource, "must be a standard resource type or fully qualified");
        }
        errors.invalid(path, resource, "must be a standard resource for quota");
    }
    let shown = amount.as_str().unwrap_or_default();
    let Some(amount) = Quantity::parse(shown) else { return };
    if amount.millis() < 0 {
        errors.invalid(path, shown, "must be greater than or equal to 0");
    }
    let counted =
        plain && !["cpu", "memory", "storage"].iter().any(|measure| resource.ends_with(measure)) && !huge;
    if counted && amount.millis() % 1000 != 0 {
        errors.invalid(path, shown, "must be an integer");
    }
}

/// `unknown` is where and how a scope that does not exist is told.
fn check_scope(
    obj: &Value,
    scope: &str,
    path: &Path,
    unknown: (&Path, &Value),
    shown: &Value,
    errors: &mut Errors,
) {
    let valid: &dyn Fn(&str) -> bool = match scope {
        "BestEffort" => &|name| name == "pods",
        "VolumeAttributesClass" => &|name| matches!(name, "persistentvolumeclaims" | "requests.storage"),
        scope if PLAIN.contains(&scope) || scope == "PriorityClass" => &|name| OF_PODS.contains(&name),
        _ => {
            errors.invalid(unknown.0, unknown.1.clone(), "unsupported scope");
            &|_| true
        }
    };
    for (name, _) in members(obj, "spec.hard").filter(|(name, _)| COUNTED.contains(&name.as_str())) {
        if !valid(name) {
            errors.invalid(path, shown.clone(), "unsupported scope applied to resource");
        }
    }
}

fn check_selector(obj: &Value, path: &Path, errors: &mut Errors) {
    let selector = &obj["spec"]["scopeSelector"];
    let mut seen = Vec::new();
    for wanted in list(selector, "matchExpressions") {
        let (scope, operator) = (text(wanted, "scopeName"), text(wanted, "operator"));
        let values = strings(wanted, "values");
        check_scope(obj, scope, path, (&path.child("scopeName"), &scope.into()), selector, errors);
        if PLAIN.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                       ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&path.child("operator"), operator, why);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), values, why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        seen.push(scope);
    }
    if OPPOSITES.iter().any(|pair| pair.iter().all(|scope| seen.contains(scope))) {
        errors.invalid(path, Value::from(strings(obj, "spec.scopes")), "conflicting scopes");
    }
}
