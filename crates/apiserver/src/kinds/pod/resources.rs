//! Resource requests and limits, and the quality of service class that follows from them.

use serde_json::Value;

use crate::{
    kinds::{
        field::{Errors, Path},
        format,
        value::{list, members},
    },
    schema::quantity::Quantity,
};

/// Names without a domain that containers may ask for.
const NATIVE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// In thousandths.
pub fn amount(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
    .map(|quantity| quantity.millis())
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.split_once('/').is_some_and(|(domain, _)| domain == "kubernetes.io")
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Checks the requests and limits of a container.
pub fn check(container: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("resources");
    let limits = path.child("limits");
    let requests = path.child("requests");
    let mut seen = Vec::new();
    for (name, value) in members(container, "resources.limits") {
        check_entry(name, value, &limits.key(name), errors);
        seen.push(name.as_str());
    }
    for (name, value) in members(container, "resources.requests") {
        check_entry(name, value, &requests.key(name), errors);
        seen.push(name.as_str());
        let limit = container["resources"]["limits"].get(name.as_str());
        let overcommits = is_native(name) && !is_huge_page(name);
        match limit {
            None if overcommits => {}
            None => errors.required(&limits, "Limit must be set for non overcommitable resources"),
            Some(limit) => {
                let (asked, most) = (amount(value), amount(limit));
                let shown = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
                let own = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if asked != most && !overcommits {
                    errors.invalid(&requests, own, &format!("must be equal to {name} limit of {shown}"));
                } else if asked > most {
                    let why = format!("must be less than or equal to {name} limit of {shown}");
                    errors.invalid(&requests, own, &why);
                }
            }
        }
    }
    if seen.iter().any(|n| is_huge_page(n)) && !seen.iter().any(|n| ["cpu", "memory"].contains(n)) {
        errors.forbidden(&path, "HugePages require cpu or memory");
    }
}

fn check_entry(name: &str, value: &Value, path: &Path, errors: &mut Errors) {
    errors.invalid_each(path, name, &format::qualified_name(name));
    if !name.contains('/') && !NATIVE.contains(&name) && !is_huge_page(name) {
        errors.invalid(path, name, "must be a standard resource for containers");
    }
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match amount(value) {
        Some(millis) if millis < 0 => {
            errors.invalid(path, shown, "must be greater than or equal to 0");
        }
        Some(millis) if !is_native(name) && millis % 1000 != 0 => {
            errors.invalid(path, shown, "must be an integer");
        }
        Some(_) => {}
        None => errors.invalid(path, shown, "must be a quantity, e.g. 100m or 64Mi"),
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> =
        list(pod, "spec.initContainers").iter().chain(list(pod, "spec.containers")).collect();
    let positive = |container: &Value, kind: &str, name: &str| {
        amount(&container["resources"][kind][name]).filter(|amount| *amount > 0)
    };
    let mut any = false;
    let mut guaranteed = !containers.is_empty();
    for container in &containers {
        for name in ["cpu", "memory"] {
            let (request, limit) =
                (positive(container, "requests", name), positive(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
