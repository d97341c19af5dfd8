//! Regenerates `crates/apiserver/schema/rbac.txt`: the roles and bindings that Kubernetes makes at its start.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_yaml::Value;

use crate::go;

/// Where Kubernetes keeps them, one list of objects in each file.
const POLICY: &str = "plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata";
const FILES: [&str; 6] = [
    "cluster-roles.yaml",
    "controller-roles.yaml",
    "namespace-roles.yaml",
    "cluster-role-bindings.yaml",
    "controller-role-bindings.yaml",
    "namespace-role-bindings.yaml",
];
const HEAD: &str = "\
# The default roles and bindings of Kubernetes; `cargo xtask rbac` writes this file.
# allow GROUPS RESOURCES VERBS [NAMES] (the core group is \"-\"), url VERBS PATHS, to KIND [NAMESPACE/]NAME
";
/// On every one of them, so the table leaves it out.
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";

pub fn run() -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("daymark-rbac-{}", std::process::id()));
    fs::create_dir_all(&scratch).context("making a scratch directory")?;
    let made = extract(&scratch);
    fs::remove_dir_all(&scratch).context("removing the scratch directory")?;
    let table = made?;
    let target = go::root().join("crates/apiserver/schema/rbac.txt");
    fs::write(&target, &table).with_context(|| format!("writing {}", target.display()))?;
    println!("{}: {} lines", target.display(), table.lines().count());
    Ok(())
}

fn extract(scratch: &Path) -> Result<String> {
    fs::write(scratch.join("go.mod"), "module scratch\n").context("writing go.mod")?;
    let kubernetes = go::module_at(scratch, "k8s.io/kubernetes", &go::VERSION.replacen("v0.", "v1.", 1))?;
    let mut table = HEAD.to_owned();
    for file in FILES {
        let path = Path::new(&kubernetes).join(POLICY).join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let list: Value = serde_yaml::from_str(&text).with_context(|| format!("reading {file}"))?;
        for object in list["items"].as_sequence().into_iter().flatten() {
            describe(object, &mut table).with_context(|| format!("an object in {file}"))?;
        }
    }
    Ok(table)
}

fn describe(object: &Value, table: &mut String) -> Result<()> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = &object["metadata"];
    let mut words = vec![text(&object["kind"]).context("no kind")?];
    words.extend(text(&metadata["namespace"]));
    words.push(text(&metadata["name"]).context("no name")?);
    if let (Some(kind), Some(name)) = (text(&object["roleRef"]["kind"]), text(&object["roleRef"]["name"])) {
        words.push(format!("{kind}/{name}"));
    }
    let mut line = |words: &[String]| {
        table.push_str(&words.join(" "));
        table.push('\n');
    };
    line(&words);
    for (label, value) in metadata["labels"].as_mapping().into_iter().flatten() {
        if label.as_str() != Some(BOOTSTRAPPING) {
            line(&["label".into(), pair(label, value)]);
        }
    }
    let selectors = object["aggregationRule"]["clusterRoleSelectors"].as_sequence();
    for selector in selectors.into_iter().flatten() {
        for (label, value) in selector["matchLabels"].as_mapping().into_iter().flatten() {
            line(&["aggregates".into(), pair(label, value)]);
        }
    }
    for rule in object["rules"].as_sequence().into_iter().flatten() {
        let list = |key: &str| joined(&rule[key]);
        match list("nonResourceURLs") {
            Some(paths) => line(&["url".into(), list("verbs").context("no verbs")?, paths]),
            None => {
                let parts = ["apiGroups", "resources", "verbs"].map(|key| list(key).context(key.to_owned()));
                let mut words = vec!["allow".to_owned()];
                words.extend(parts.into_iter().collect::<Result<Vec<_>>>()?);
                words.extend(list("resourceNames"));
                line(&words);
            }
        }
    }
    for subject in object["subjects"].as_sequence().into_iter().flatten() {
        let name = text(&subject["name"]).context("a subject has no name")?;
        let name = match text(&subject["namespace"]) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        line(&["to".into(), text(&subject["kind"]).context("a subject has no kind")?, name]);
    }
    Ok(())
}

fn pair(label: &Value, value: &Value) -> String {
    format!("{}={}", label.as_str().unwrap_or_default(), value.as_str().unwrap_or_default())
}

fn joined(list: &Value) -> Option<String> {
    let words = list.as_sequence()?.iter().filter_map(Value::as_str);
    Some(words.map(|word| if word.is_empty() { "-" } else { word }).collect::<Vec<_>>().join(","))
}
