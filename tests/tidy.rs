//! Rules of the code base that nobody has to remember: who may import whom, how long a file may be,
//! that each says what it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this wants to be two.
const MOST_LINES: usize = 420;

/// What each crate may import of ours, and what it may never import of others. As in ARCHITECTURE.md.
const IMPORTS: [(&str, &[&str], &[&str]); 9] = [
    ("model", &[], &["tokio", "kube", "tracing", "rand", "jiff"]),
    ("plan", &["model"], &["tokio", "kube", "tracing", "rand", "jiff"]),
    ("dataplane", &["model", "plan"], &["kube"]),
    ("dns", &["model", "plan"], &["kube"]),
    ("speaker", &["model", "plan"], &["kube"]),
    ("control", &["model", "plan"], &["axum", "aya", "libcontainer"]),
    ("apiserver", &[], &["kube", "aya", "libcontainer"]),
    ("node", &["model"], &["aya"]),
    (
        "daymark",
        &["model", "plan", "dataplane", "dns", "speaker", "control", "apiserver", "node"],
        &["aya", "axum", "redb"],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn crates_import_only_what_they_may() {
    let mut seen = BTreeSet::new();
    for (name, may, never) in IMPORTS {
        seen.insert(name.to_owned());
        for dependency in dependencies(&root().join("crates").join(name).join("Cargo.toml")) {
            if let Some(ours) = dependency.strip_prefix("daymark-") {
                assert!(may.contains(&ours), "crate {name} may not import {ours}");
            }
            assert!(!never.contains(&dependency.as_str()), "crate {name} may never import {dependency}");
        }
    }
    let folders: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .expect("crates")
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    assert_eq!(folders, seen, "every crate has its row in the import table");
}

/// Names under `[dependencies]`; tests and build scripts may use more.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
    let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    section
        .lines()
        .take_while(|l| !l.starts_with('['))
        .filter_map(|l| l.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source file");
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let lines = text.lines().count();
        if lines > MOST_LINES {
            wrong.push(format!("{name} has {lines} lines"));
        }
        if path.extension().is_some_and(|e| e == "rs") && !text.starts_with("//!") {
            wrong.push(format!("{name} does not begin with a //! line"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dependencies_are_justified() {
    let mut wrong = BTreeMap::new();
    for (name, ..) in IMPORTS {
        let text =
            fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).expect("a manifest");
        let bare: Vec<String> = text
            .split("dependencies]\n")
            .skip(1)
            .flat_map(|section| section.lines().take_while(|l| !l.starts_with('[')))
            .filter(|l| !l.trim().is_empty() && !l.contains('#') && !l.starts_with("daymark-"))
            .map(str::to_owned)
            .collect();
        if !bare.is_empty() {
            wrong.insert(name, bare);
        }
    }
    assert!(wrong.is_empty(), "dependencies without a reason behind a #: {wrong:#?}");
}

#[test]
fn what_proves_a_rule_exists() {
    let cases = root().join("crates/plan/tests/cases");
    let tests: BTreeSet<String> = sources()
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| text.split("fn ").skip(1).filter_map(name_of).collect::<Vec<_>>())
        .collect();
    let document = fs::read_to_string(root().join("docs/semantics.md")).expect("docs/semantics.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| rule"))
        .map(|line| line.trim_matches('|').split('|').collect())
        .collect();
    assert!(rows.len() > 30, "the tables are read");
    for row in rows {
        let [rule, named_cases, named_tests] = row[..] else { panic!("three columns: {row:?}") };
        let missing_cases = quoted(named_cases).filter(|c| !cases.join(format!("{c}.yaml")).exists());
        let missing_tests = quoted(named_tests).filter(|t| !tests.contains(*t));
        let missing: Vec<_> = missing_cases.chain(missing_tests).collect();
        assert!(missing.is_empty(), "{rule}: no case or test {missing:?}");
    }
}

fn name_of(text: &str) -> Option<String> {
    text.split('(').next().map(str::to_owned)
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["crates", "bpf", "tests", "xtask", "bench"] {
        walk(&root().join(dir), &mut found);
    }
    found
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "c" || e == "h") {
            found.push(path);
        }
    }
}
