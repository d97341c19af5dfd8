//! Runs the case files in `cases/`: an object goes through default, allocation, strategy and validation as on
//! a write, and must come out with the expected complaints and values.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{testing::resource, *};

const FILES: &[(&str, &str)] = &[
    ("service", include_str!("cases/service.yaml")),
    ("service_update", include_str!("cases/service_update.yaml")),
    ("pod", include_str!("cases/pod.yaml")),
    ("workloads", include_str!("cases/workloads.yaml")),
    ("endpoints", include_str!("cases/endpoints.yaml")),
    ("others", include_str!("cases/others.yaml")),
];

const KINDS: &[(&str, &str, bool)] = &[
    ("", "Service", true),
    ("", "Pod", true),
    ("", "ConfigMap", true),
    ("", "Secret", true),
    ("", "Namespace", false),
    ("", "Node", false),
    ("", "Endpoints", true),
    ("", "ServiceAccount", true),
    ("", "ReplicationController", true),
    ("", "PersistentVolumeClaim", true),
    ("apps", "Deployment", true),
    ("apps", "ReplicaSet", true),
    ("apps", "DaemonSet", true),
    ("apps", "StatefulSet", true),
    ("batch", "Job", true),
    ("batch", "CronJob", true),
    ("discovery.k8s.io", "EndpointSlice", true),
    ("networking.k8s.io", "NetworkPolicy", true),
    ("networking.k8s.io", "Ingress", true),
    ("networking.k8s.io", "IPAddress", false),
    ("networking.k8s.io", "ServiceCIDR", false),
    ("policy", "PodDisruptionBudget", true),
    ("apps", "ControllerRevision", true),
    ("rbac.authorization.k8s.io", "RoleBinding", true),
    ("coordination.k8s.io", "Lease", true),
    ("example.com", "Widget", true),
];

fn kind_named(kind: &str) -> Resource {
    let (group, kind, namespaced) =
        KINDS.iter().find(|(_, k, _)| *k == kind).unwrap_or_else(|| panic!("no kind {kind} in KINDS"));
    resource(group, kind, *namespaced)
}

fn allocator(case: &Value) -> Allocator {
    let cidrs = value::strings(case, "cidrs");
    let cidrs = if cidrs.is_empty() { vec!["10.96.0.0/16"] } else { cidrs };
    let service_cidrs = cidrs.iter().map(|c| c.parse().expect("a CIDR")).collect();
    let config = AllocatorConfig { service_cidrs, further_cidrs: Vec::new(), node_port_range: 30000..=32767 };
    Allocator::with_rng(config, std::iter::empty(), StdRng::seed_from_u64(7))
}

/// One write; the object as it would be stored.
fn write(
    res: &Resource,
    sub: &str,
    allocator: &mut Allocator,
    old: Option<&Value>,
    mut obj: Value,
) -> Result<Value, ApiError> {
    if res.namespaced && value::text(&obj, "metadata.namespace").is_empty() {
        obj["metadata"]["namespace"] = json!("default");
    }
    obj["metadata"]["uid"] = json!("u-1");
    default(res, &mut obj);
    let reservation = match (res.kind, sub) {
        ("Service", "") => Some(allocator.allocate(old, &mut obj)?),
        _ => None,
    };
    let outcome = match old {
        None => {
            prepare_create(res, &mut obj);
            validate_create(res, &obj)
        }
        Some(old) => {
            prepare_update(res, sub, old, &mut obj);
            validate_update(res, sub, old, &obj)
        }
    };
    match (&outcome, reservation) {
        (Ok(()), Some(reservation)) => allocator.commit(reservation),
        (Err(_), Some(reservation)) => allocator.rollback(reservation),
        (_, None) => {}
    }
    outcome.map(|()| obj)
}

fn complaints(error: &ApiError) -> Vec<String> {
    let causes = error.details.as_ref().and_then(|d| d["causes"].as_array());
    match causes {
        Some(causes) => causes
            .iter()
            .map(|c| format!("{}: {}", value::text(c, "field"), value::text(c, "message")))
            .collect(),
        None => vec![error.message.clone()],
    }
}

/// The value at a path with slashes; what is missing is null.
fn member(obj: &Value, path: &str) -> Value {
    obj.pointer(&format!("/{path}")).cloned().unwrap_or_default()
}

/// What is wrong with the outcome of a case.
fn run(file: &str, case: &Value) -> Option<String> {
    let name = format!("{file}: {}", value::text(case, "name"));
    let res = kind_named(value::text(case, "kind"));
    let mut allocator = allocator(case);
    for earlier in value::list(case, "existing") {
        write(&res, "", &mut allocator, None, earlier.clone())
            .unwrap_or_else(|e| panic!("{name}: existing: {e}"));
    }
    let old = value::at(case, "old").map(|old| {
        write(&res, "", &mut allocator, None, old.clone()).unwrap_or_else(|e| panic!("{name}: old: {e}"))
    });
    let sub = value::text(case, "sub");
    let wanted: Vec<String> = value::strings(case, "errors").into_iter().map(str::to_owned).collect();
    match write(&res, sub, &mut allocator, old.as_ref(), case["object"].clone()) {
        Err(error) => {
            let found = complaints(&error);
            let same = found.len() == wanted.len()
                && found.iter().zip(&wanted).all(|(f, w)| match w.strip_suffix("...") {
                    Some(start) => f.starts_with(start),
                    None => f == w,
                });
            (!same).then(|| format!("{name}:\nfound  {found:#?}\nwanted {wanted:#?}"))
        }
        Ok(stored) => {
            if !wanted.is_empty() {
                return Some(format!("{name}: wanted {wanted:#?}, got no complaint"));
            }
            let differing = value::members(case, "expect").filter_map(|(path, wanted)| {
                let found = member(&stored, path);
                (found != *wanted).then(|| format!("{name}: {path}: found {found}, wanted {wanted}"))
            });
            Some(differing.collect::<Vec<_>>().join("\n")).filter(|all| !all.is_empty())
        }
    }
}

#[test]
fn case_files() {
    let mut failures = Vec::new();
    for (file, text) in FILES {
        let cases: Value = serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let cases = cases.as_array().unwrap_or_else(|| panic!("{file} is not a list"));
        failures.extend(cases.iter().filter_map(|case| run(file, case)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Every object of the case files, valid or not.
fn all_objects() -> Vec<(Resource, Value)> {
    let mut out = Vec::new();
    for (_, text) in FILES {
        let cases: Vec<Value> = serde_yaml::from_str(text).expect("valid YAML");
        for case in cases {
            let res = kind_named(value::text(&case, "kind"));
            out.extend([&case["old"], &case["object"]].into_iter().map(|o| (res.clone(), o.clone())));
        }
    }
    out
}

#[test]
fn defaulting_twice_changes_nothing_more() {
    for (res, mut obj) in all_objects() {
        default(&res, &mut obj);
        let once = obj.clone();
        default(&res, &mut obj);
        assert_eq!(obj, once, "{}", res.kind);
    }
}

/// Names that occur in real objects, so that arbitrary JSON reaches deep into the checks.
const KEYS: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "ports",
    "port",
    "targetPort",
    "nodePort",
    "protocol",
    "selector",
    "type",
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "externalIPs",
    "sessionAffinity",
    "sessionAffinityConfig",
    "template",
    "containers",
    "initContainers",
    "volumes",
    "volumeMounts",
    "env",
    "valueFrom",
    "fieldRef",
    "resources",
    "limits",
    "requests",
    "cpu",
    "livenessProbe",
    "httpGet",
    "exec",
    "strategy",
    "rollingUpdate",
    "maxUnavailable",
    "matchLabels",
    "matchExpressions",
    "endpoints",
    "addresses",
    "addressType",
    "subsets",
    "tolerations",
    "data",
    "replicas",
    "loadBalancer",
    "ingress",
    "conditions",
    "containerStatuses",
    "state",
];

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "None",
            "ClusterIP",
            "LoadBalancer",
            "NodePort",
            "TCP",
            "10.96.0.9",
            "RollingUpdate",
            "a",
            "25%"
        ])
        .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(KEYS), inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn nothing_panics_on_arbitrary_json(
        kind in prop::sample::select(KINDS), old in arbitrary_json(), mut new in arbitrary_json(),
        sub in prop::sample::select(vec!["", "status", "scale", "finalize", "binding"]),
    ) {
        let res = resource(kind.0, kind.1, kind.2);
        default(&res, &mut new);
        let once = new.clone();
        default(&res, &mut new);
        prop_assert_eq!(&new, &once, "defaulting is idempotent");
        let mut allocator = allocator(&Value::Null);
        if let Ok(reservation) = allocator.allocate(Some(&old), &mut new) {
            allocator.rollback(reservation);
        }
        let mut created = new.clone();
        prepare_create(&res, &mut created);
        let _ = validate_create(&res, &created);
        prepare_update(&res, sub, &old, &mut new);
        let _ = validate_update(&res, sub, &old, &new);
        let table = crate::table::render(&res, &[&new], json!({}), crate::table::Include::Metadata, jiff::Timestamp::UNIX_EPOCH);
        let cells = table["rows"][0]["cells"].as_array().map(Vec::len);
        prop_assert_eq!(cells, table["columnDefinitions"].as_array().map(Vec::len));
    }
}
