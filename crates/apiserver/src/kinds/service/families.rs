//! IP families of Services: the defaults that follow the cluster's CIDRs, and what goes together.

use serde_json::{Value, json};

use super::{NONE, family_of, is_headless, kind, needs_cluster_ip, strategy::is_free_headless};
use crate::kinds::{
    field::{Errors, Path},
    ip,
    value::{at, int, list, present, strings, text},
};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills in `ipFamilyPolicy` and `ipFamilies`, or says why what the client asked for cannot be.
/// `configured` are the cluster's families, the default first.
pub fn init(configured: &[&'static str], old: Option<&Value>, svc: &mut Value) -> Result<(), Errors> {
    if !needs_cluster_ip(svc) || old.is_some_and(|old| unchanged_prefer_dual(old, svc)) {
        return Ok(());
    }
    if !present(svc, "spec.ipFamilyPolicy") {
        let inherited = old.map(|o| text(o, "spec.ipFamilyPolicy")).filter(|p| !p.is_empty());
        let policy = inherited.unwrap_or(if is_free_headless(svc) { REQUIRE } else { SINGLE });
        svc["spec"]["ipFamilyPolicy"] = json!(policy);
    }
    fails(|errors| check_cluster_ips(svc, old, errors))?;
    if let Some(old) = old {
        release_secondary(old, svc)?;
    }
    infer_from_addresses(configured, svc)?;
    complete(configured, svc)
}

fn fails(check: impl FnOnce(&mut Errors)) -> Result<(), Errors> {
    let mut errors = Errors::default();
    check(&mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn policy(svc: &Value) -> &str {
    text(svc, "spec.ipFamilyPolicy")
}

/// Such a Service stays as it is even if the cluster's families changed since.
pub fn unchanged_prefer_dual(old: &Value, new: &Value) -> bool {
    kind(old) == kind(new)
        && matches!(kind(new), "ClusterIP" | "NodePort" | "LoadBalancer")
        && policy(new) == PREFER
        && (policy(old) == PREFER || policy(old).is_empty())
        && ["spec.clusterIPs", "spec.ipFamilies"].iter().all(|path| list(old, path) == list(new, path))
}

/// Under `SingleStack` the second address and family go; under other policies they may not.
fn release_secondary(old: &Value, svc: &mut Value) -> Result<(), Errors> {
    let what = [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")];
    let single = policy(svc) == SINGLE;
    let mut errors = Errors::default();
    for (key, noun) in what {
        let path = format!("spec.{key}");
        let (before, now) = (list(old, &path), list(svc, &path));
        if single && before == now && now.len() > 1 {
            svc["spec"][key] = json!([now[0]]);
        } else if !single && !now.is_empty() && now.len() < before.len() {
            errors.invalid(
                &Path::new("spec.ipFamilyPolicy"),
                policy(svc),
                &format!("must be 'SingleStack' to release the secondary {noun}"),
            );
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Addresses that the client gave say which families it wants.
fn infer_from_addresses(configured: &[&'static str], svc: &mut Value) -> Result<(), Errors> {
    let mut errors = Errors::default();
    if policy(svc) == SINGLE {
        for (key, noun) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if list(svc, &format!("spec.{key}")).len() == 2 {
                errors.invalid(
                    &Path::new("spec.ipFamilyPolicy"),
                    policy(svc),
                    &format!(
                        "must be 'RequireDualStack' or 'PreferDualStack' when multiple {noun} are specified"
                    ),
                );
            }
        }
    }
    let addresses: Vec<String> = strings(svc, "spec.clusterIPs").into_iter().map(str::to_owned).collect();
    let mut families = list(svc, "spec.ipFamilies").to_vec();
    for (i, address) in addresses.iter().enumerate().skip(families.len()) {
        if address == NONE {
            break;
        }
        let family = family_of(address).unwrap_or("unknown");
        if configured.contains(&family) {
            families.push(json!(family));
        } else {
            let path = Path::new("spec.clusterIPs").index(i);
            errors.invalid(&path, json!(addresses), &format!("{family} is not configured on this cluster"));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if !families.is_empty() {
        svc["spec"]["ipFamilies"] = json!(families);
    }
    Ok(())
}

fn complete(configured: &[&'static str], svc: &mut Value) -> Result<(), Errors> {
    let mut families: Vec<String> = strings(svc, "spec.ipFamilies").into_iter().map(str::to_owned).collect();
    let free = is_free_headless(svc);
    if !free {
        fails(|errors| {
            if policy(svc) == REQUIRE && configured.len() < 2 {
                let path = Path::new("spec.ipFamilyPolicy");
                errors.invalid(&path, REQUIRE, "this cluster is not configured for dual-stack services");
            }
            for (i, family) in families.iter().enumerate() {
                if !configured.contains(&family.as_str()) {
                    let path = Path::new("spec.ipFamilies").index(i);
                    errors.invalid(&path, family.as_str(), "not configured on this cluster");
                }
            }
        })?;
    }
    if families.is_empty() {
        families.extend(configured.first().map(|f| (*f).to_owned()));
    }
    if families.len() == 1 && policy(svc) != SINGLE && (free || configured.len() == 2) {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    svc["spec"]["ipFamilies"] = json!(families);
    Ok(())
}

/// Checks `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` against each other.
pub fn check_cluster_ips(svc: &Value, old: Option<&Value>, errors: &mut Errors) {
    if !needs_cluster_ip(svc) {
        return;
    }
    let path = Path::new("spec.clusterIPs");
    let (first, all) = (text(svc, "spec.clusterIP"), strings(svc, "spec.clusterIPs"));
    match (first.is_empty(), all.first()) {
        (false, None) => errors.required(&path, ""),
        (false, Some(ip)) if *ip != first => {
            errors.invalid(&path, json!(all), "first value must match `clusterIP`");
        }
        (true, Some(_)) => {
            errors.invalid(&path, json!(all), "must be empty when `clusterIP` is not specified");
        }
        _ => {}
    }
    check_families(svc, errors);
    let known = old.map(|o| strings(o, "spec.clusterIPs")).unwrap_or_default();
    let before = errors.len();
    for (i, address) in all.iter().enumerate() {
        if i == 0 && *address == NONE {
            if all.len() > 1 {
                errors.invalid(&path, json!(all), "'None' must be the first and only value");
            }
        } else if !known.contains(address) {
            errors.invalid_each(&path.index(i), address, &ip::address(address));
        }
    }
    let invalid = errors.len() > before;
    if all.len() > 2 {
        errors.invalid(&path, json!(all), "may only hold up to 2 values");
    }
    if !invalid {
        check_address_families(svc, &all, &path, errors);
    }
}

fn check_families(svc: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, family) in strings(svc, "spec.ipFamilies").into_iter().enumerate() {
        let path = Path::new("spec.ipFamilies").index(i);
        if !matches!(family, "IPv4" | "IPv6") {
            errors.not_supported(&path, family, &["IPv4", "IPv6"]);
        }
        if seen.contains(&family) {
            errors.duplicate(&path, family);
        }
        seen.push(family);
    }
    if present(svc, "spec.ipFamilyPolicy") && ![SINGLE, PREFER, REQUIRE].contains(&policy(svc)) {
        let path = Path::new("spec.ipFamilyPolicy");
        errors.not_supported(&path, policy(svc), &[PREFER, REQUIRE, SINGLE]);
    }
}

fn check_address_families(svc: &Value, all: &[&str], path: &Path, errors: &mut Errors) {
    let of_addresses: Vec<_> = all.iter().map(|ip| family_of(ip)).collect();
    if all.len() > 1 {
        let (v4, v6) = (Some("IPv4"), Some("IPv6"));
        if !(of_addresses.contains(&v4) && of_addresses.contains(&v6)) || all.len() > 2 {
            errors.invalid(path, json!(all), "may specify no more than one IP for each IP family");
        }
    }
    if is_headless(svc) {
        return;
    }
    let families = strings(svc, "spec.ipFamilies");
    for (i, (family, of_address)) in families.into_iter().zip(of_addresses).enumerate() {
        if matches!(family, "IPv4" | "IPv6") && of_address.is_some_and(|f| f != family) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&path.index(i), all[i], &why);
        }
    }
}

/// `clusterIPs` and `ipFamilies` once set: the first stays, the second may come and go.
pub fn check_changes(old: &Value, new: &Value, errors: &mut Errors) {
    if !needs_cluster_ip(old) || !needs_cluster_ip(new) {
        return;
    }
    let (was_headless, headless) = (is_headless(old), is_headless(new));
    if was_headless && headless {
        return;
    }
    check_change(old, new, "clusterIPs", "clusterIP", errors);
    if was_headless == headless {
        check_change(old, new, "ipFamilies", "ipFamily", errors);
    }
}

fn check_change(old: &Value, new: &Value, key: &str, noun: &str, errors: &mut Errors) {
    let path = format!("spec.{key}");
    let (was, is) = (list(old, &path), list(new, &path));
    let path = Path::new(&path);
    let fixed = "may not change once set";
    if was.len() == is.len() {
        for i in (0..was.len()).filter(|i| was[*i] != is[*i]) {
            errors.invalid(&path.index(i), json!(is), fixed);
        }
        return;
    }
    if is.is_empty() {
        errors.invalid(&path.index(0), json!(is), &format!("primary {noun} can not be unset"));
    }
    if let (Some(before), Some(now)) = (was.first(), is.first())
        && before != now
    {
        errors.invalid(&path.index(0), json!(is), fixed);
    }
    if was.len() > is.len() && is.len() == 1 && policy(new) != SINGLE {
        errors.invalid(
            &Path::new("spec.ipFamilyPolicy"),
            at(new, "spec.ipFamilyPolicy").cloned().unwrap_or_default(),
            &format!("must be set to 'SingleStack' when releasing the secondary {noun}"),
        );
    }
}

/// `healthCheckNodePort` stays while the Service needs one.
pub fn check_health_port_change(old: &Value, new: &Value, errors: &mut Errors) {
    if super::needs_health_check(old)
        && super::needs_health_check(new)
        && int(old, "spec.healthCheckNodePort") != int(new, "spec.healthCheckNodePort")
    {
        errors.forbidden(&Path::new("spec.healthCheckNodePort"), "field is immutable");
    }
}
