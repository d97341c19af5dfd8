//! The user's kubeconfig: our context goes in and comes out, everything else stays as it was.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde_yaml::{Mapping, Value};

use super::pki::Pair;

/// What a context needs to reach a cluster.
pub struct Access {
    pub server: String,
    pub ca: String,
    pub client: Pair,
}

/// `daymark` for the default cluster, `daymark-NAME` for others, as kind does.
pub fn context_name(cluster: &str) -> String {
    if cluster == "default" { "daymark".into() } else { format!("daymark-{cluster}") }
}

/// The file that kubectl would write: the first of `KUBECONFIG`, else `~/.kube/config`.
pub fn user_file() -> Result<PathBuf> {
    if let Some(list) = std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
        let first = std::env::split_paths(&list).find(|p| !p.as_os_str().is_empty());
        return first.ok_or_else(|| miette!("KUBECONFIG names no file"));
    }
    let home = std::env::var_os("HOME").ok_or_else(|| {
        miette!(
            help = "set HOME, or KUBECONFIG to a file",
            "cannot tell where the kubeconfig is: HOME is not set"
        )
    })?;
    Ok(Path::new(&home).join(".kube/config"))
}

/// Adds or replaces our cluster, user and context in the file and makes the context current.
///
/// # Errors
/// A file that is not a kubeconfig is left untouched.
pub fn merge(path: &Path, context: &str, access: &Access) -> Result<()> {
    let mut config = read(path)?.unwrap_or_else(empty);
    upsert(&mut config, context, access);
    write(path, &config)
}

/// Takes our entries out; the current context is unset if it was ours. A missing file is fine.
pub fn remove(path: &Path, context: &str) -> Result<()> {
    let Some(mut config) = read(path)? else { return Ok(()) };
    if take_out(&mut config, context) { write(path, &config) } else { Ok(()) }
}

/// A kubeconfig with nothing but one cluster, for our own processes.
pub fn standalone(context: &str, access: &Access) -> Result<kube::config::Kubeconfig> {
    let mut config = empty();
    upsert(&mut config, context, access);
    serde_yaml::from_value(Value::Mapping(config)).into_diagnostic()
}

fn upsert(config: &mut Mapping, context: &str, access: &Access) {
    let b64 = |text: &str| Value::from(STANDARD.encode(text));
    let cluster =
        map([("certificate-authority-data", b64(&access.ca)), ("server", access.server.as_str().into())]);
    let user = map([
        ("client-certificate-data", b64(&access.client.cert)),
        ("client-key-data", b64(&access.client.key)),
    ]);
    let link = map([("cluster", context.into()), ("user", context.into())]);
    for (list, field, value) in
        [("clusters", "cluster", cluster), ("users", "user", user), ("contexts", "context", link)]
    {
        let entries = list_mut(config, list);
        entries.retain(|e| e.get("name").and_then(Value::as_str) != Some(context));
        entries.push(Value::Mapping(map([("name", context.into()), (field, Value::Mapping(value))])));
    }
    config.insert("current-context".into(), context.into());
}

fn take_out(config: &mut Mapping, context: &str) -> bool {
    let mut changed = false;
    for list in ["clusters", "users", "contexts"] {
        let entries = list_mut(config, list);
        let before = entries.len();
        entries.retain(|e| e.get("name").and_then(Value::as_str) != Some(context));
        changed |= entries.len() != before;
    }
    if config.get("current-context").and_then(Value::as_str) == Some(context) {
        config.insert("current-context".into(), "".into());
        changed = true;
    }
    changed
}

fn empty() -> Mapping {
    map([
        ("apiVersion", "v1".into()),
        ("kind", "Config".into()),
        ("preferences", Value::Mapping(Mapping::new())),
    ])
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Mapping {
    entries.into_iter().map(|(k, v)| (Value::from(k), v)).collect()
}

fn list_mut<'a>(config: &'a mut Mapping, key: &str) -> &'a mut Vec<Value> {
    let slot = config.entry(key.into()).or_insert(Value::Null);
    if !slot.is_sequence() {
        *slot = Value::Sequence(Vec::new());
    }
    slot.as_sequence_mut().expect("made a sequence just above")
}

fn read(path: &Path) -> Result<Option<Mapping>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            return Err(e).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()));
        }
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    match serde_yaml::from_str::<Value>(&text) {
        Ok(Value::Mapping(config)) if lists_are_lists(&config) => Ok(Some(config)),
        Ok(_) => Err(not_ours(path, "clusters, users and contexts must be lists")),
        Err(e) => Err(not_ours(path, &e.to_string())),
    }
}

fn lists_are_lists(config: &Mapping) -> bool {
    ["clusters", "users", "contexts"]
        .iter()
        .all(|k| config.get(*k).is_none_or(|v| v.is_sequence() || v.is_null()))
}

fn not_ours(path: &Path, why: &str) -> miette::Report {
    miette!(
        help = "mend the file, or point KUBECONFIG to another one; it was left as it is",
        "{} is not a kubeconfig: {why}",
        path.display()
    )
}

/// Replaces the file at once, keeping its owner and mode; follows a symbolic link instead of replacing it.
fn write(path: &Path, config: &Mapping) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let text = serde_yaml::to_string(config).into_diagnostic()?;
    let attempt = || -> std::io::Result<()> {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let old = fs::metadata(&target).ok();
        let mode = old.as_ref().map_or(0o600, |m| m.mode() & 0o777);
        let part = target.with_extension(format!("daymark-{}", std::process::id()));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if let Some(old) = old {
            std::os::unix::fs::chown(&part, Some(old.uid()), Some(old.gid()))?;
        }
        fs::rename(&part, &target).inspect_err(|_| drop(fs::remove_file(&part)))
    };
    attempt().into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: prod\n  cluster: {server: https://prod}\nusers:\n- name: me\n  user: {token: t}\ncontexts:\n- name: prod\n  context: {cluster: prod, user: me, namespace: shop}\ncurrent-context: prod\n";

    fn access() -> Access {
        Access {
            server: "https://127.0.0.1:6443".into(),
            ca: "CA".into(),
            client: Pair { cert: "C".into(), key: "K".into() },
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn other_contexts_stay_and_ours_comes_and_goes() {
        let (_dir, path) = file(FOREIGN);
        merge(&path, "daymark", &access()).unwrap();
        merge(&path, "daymark", &access()).unwrap();
        let with = read(&path).unwrap().unwrap();
        assert_eq!(with["contexts"].as_sequence().unwrap().len(), 2);
        assert_eq!(with["current-context"], Value::from("daymark"));
        remove(&path, "daymark").unwrap();
        let without: Mapping = read(&path).unwrap().unwrap();
        let mut foreign: Mapping = serde_yaml::from_str(FOREIGN).unwrap();
        foreign.insert("current-context".into(), "".into());
        assert_eq!(without, foreign);
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_as_it_is() {
        for text in ["{unclosed", "- a list\n", "clusters: 7\n"] {
            let (_dir, path) = file(text);
            assert!(merge(&path, "daymark", &access()).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_new_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config");
        merge(&path, "daymark", &access()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let (dir, path) = file(FOREIGN);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        merge(&link, "daymark", &access()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&path).unwrap().contains("daymark"));
    }
}
