//! Volumes on a real file system.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use daymark_model::PerFamily;
use serde_json::json;

use super::*;
use crate::env::TokenAsk;
use crate::env::vars::{Data, Kind};

fn pod(volumes: serde_json::Value, mounts: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": volumes},
    }))
    .expect("a pod")
}

fn place() -> Place {
    let host_ips = PerFamily::single("172.30.0.11".parse().expect("ip"));
    Place { node: "n".into(), host_ips, pod_ips: None, allocatable_cpu: 1000, allocatable_memory: 1 << 30 }
}

fn config(entries: &[(&str, &str)]) -> Sources {
    let data: Data = entries.iter().map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect();
    let mut sources = Sources::default();
    sources.put(Kind::ConfigMap, "cm", Some(Arc::new(data)));
    sources
}

fn shown(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let visible = entries.filter(|e| !e.file_name().to_string_lossy().starts_with(".."));
    visible
        .filter(|e| e.path().is_file())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read_to_string(e.path()).expect("text")))
        .collect()
}

fn pairs(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn config_maps_change_all_at_once() {
    let tmp = tempfile::tempdir().expect("a directory");
    let p = pod(json!([{"name": "v", "configMap": {"name": "cm"}}]), json!([]));
    let dir = tmp.path().join("v");
    prepare(&p, tmp.path(), &place(), &config(&[("a", "1"), ("b", "2")])).expect("prepared");
    assert_eq!(shown(&dir), pairs(&[("a", "1"), ("b", "2")]));
    let first = fs::read_link(dir.join("..data")).expect("a link");
    refresh(&p, tmp.path(), &place(), &config(&[("a", "1"), ("b", "2")])).expect("unchanged");
    assert_eq!(fs::read_link(dir.join("..data")).expect("a link"), first, "nothing changed, nothing moves");
    refresh(&p, tmp.path(), &place(), &config(&[("b", "3"), ("c", "4")])).expect("refreshed");
    assert_eq!(shown(&dir), pairs(&[("b", "3"), ("c", "4")]));
    assert!(!dir.join(&first).exists(), "the old files are gone");
    assert!(fs::symlink_metadata(dir.join("a")).is_err(), "no dangling link stays");
}

#[test]
fn items_choose_paths_and_modes() {
    let tmp = tempfile::tempdir().expect("a directory");
    let items = json!([{"key": "a", "path": "deep/er/x", "mode": 0o400}, {"key": "b", "path": "y"}]);
    let volume = json!([{"name": "v", "configMap": {"name": "cm", "defaultMode": 0o640, "items": items}}]);
    prepare(&pod(volume, json!([])), tmp.path(), &place(), &config(&[("a", "1"), ("b", "2")]))
        .expect("prepared");
    let mode = |p: &str| fs::metadata(tmp.path().join("v").join(p)).expect("a file").mode() & 0o777;
    assert_eq!((mode("deep/er/x"), mode("y")), (0o400, 0o640));
}

#[test]
fn missing_objects_fail_unless_optional() {
    let tmp = tempfile::tempdir().expect("a directory");
    let with = |source: serde_json::Value| {
        let p = pod(json!([{"name": "v", "configMap": source}]), json!([]));
        prepare(&p, tmp.path(), &place(), &config(&[("a", "1")])).map_err(|e| e.to_string())
    };
    assert_eq!(
        with(json!({"name": "gone"})),
        Err("MountVolume.SetUp failed for volume \"v\" : configmap \"gone\" not found".into())
    );
    assert_eq!(with(json!({"name": "gone", "optional": true})), Ok(()));
    let key = with(json!({"name": "cm", "items": [{"key": "z", "path": "z"}]}));
    assert!(key.expect_err("no such key").contains("references non-existent config key: z"));
}

#[test]
fn no_file_of_a_volume_leaves_it() {
    let tmp = tempfile::tempdir().expect("a directory");
    let mut sources = config(&[("a", "1")]);
    for (kind, name, key) in [
        (Kind::ConfigMap, "up", "../up"),
        (Kind::ConfigMap, "deep", "a/../../deep"),
        (Kind::Secret, "root", "/root"),
    ] {
        sources.put(kind, name, Some(Arc::new(Data::from([(key.to_owned(), b"1".to_vec())]))));
    }
    sources.tokens.insert(TokenAsk { audience: String::new(), seconds: 3600 }, "token".into());
    let field = json!({"fieldPath": "metadata.name"});
    for volume in [
        json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../z"}]}}),
        json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "/z"}]}}),
        json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "..data"}]}}),
        json!({"configMap": {"name": "up"}}),
        json!({"configMap": {"name": "deep"}}),
        json!({"secret": {"secretName": "root"}}),
        json!({"downwardAPI": {"items": [{"path": "x/../../z", "fieldRef": field}]}}),
        json!({"projected": {"sources": [{"serviceAccountToken": {"path": "../token"}}]}}),
        json!({"projected": {"sources": [{"configMap": {"name": "up"}}]}}),
        json!({"projected": {"sources": [{"downwardAPI": {"items": [{"path": "/z", "fieldRef": field}]}}]}}),
    ] {
        let shown = volume.to_string();
        let mut named = volume;
        named["name"] = "v".into();
        let result = prepare(&pod(json!([named]), json!([])), tmp.path(), &place(), &sources);
        assert!(result.expect_err(&shown).cause.contains("invalid path"), "{shown}");
    }
    let left: Vec<_> =
        fs::read_dir(tmp.path()).expect("a directory").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| name == "v"), "{left:?}");
}

#[test]
fn a_sub_path_stays_below_its_volume() {
    let env = [("UP".to_string(), "..".to_string()), ("ROOT".to_string(), "/".to_string())];
    for (field, path) in [
        ("subPath", "../x"),
        ("subPath", "/etc"),
        ("subPath", "a/../../x"),
        ("subPathExpr", "$(UP)/x"),
        ("subPathExpr", "$(ROOT)etc"),
    ] {
        let p = pod(
            json!([{"name": "e", "emptyDir": {}}]),
            json!([{"name": "e", "mountPath": "/data", field: path}]),
        );
        let c = &p.spec.as_ref().expect("spec").containers[0];
        let why = container_mounts(&p, c, Path::new("/vols"), &env).expect_err(path);
        assert!(why.contains("must be relative"), "{why}");
    }
}

#[test]
fn projections_and_the_downward_api_share_a_directory() {
    let tmp = tempfile::tempdir().expect("a directory");
    let sources = json!([{"configMap": {"name": "cm"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]);
    let p = pod(json!([{"name": "v", "projected": {"sources": sources}}]), json!([]));
    prepare(&p, tmp.path(), &place(), &config(&[("a", "1")])).expect("prepared");
    assert_eq!(shown(&tmp.path().join("v")), pairs(&[("a", "1"), ("labels", "app=\"web\"")]));
}

#[test]
fn memory_volumes_are_limited_and_released() {
    let tmp = tempfile::tempdir().expect("a directory");
    let volume = json!([{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}}, {"name": "d", "emptyDir": {}}]);
    let p = pod(volume, json!([]));
    prepare(&p, tmp.path(), &place(), &Sources::default()).expect("prepared");
    prepare(&p, tmp.path(), &place(), &Sources::default()).expect("again");
    let write = fs::write(tmp.path().join("m/big"), vec![1; 1 << 20]);
    assert_eq!(write.expect_err("too big").kind(), io::ErrorKind::StorageFull);
    fs::write(tmp.path().join("d/big"), vec![1; 1 << 20]).expect("a plain directory has no limit");
    assert_eq!(mounts_below(tmp.path()), [tmp.path().join("m")]);
    release(tmp.path());
    assert!(mounts_below(tmp.path()).is_empty());
}

#[test]
fn mounts_are_ordered_and_objects_are_read_only() {
    let mounts = json!([
        {"name": "e", "mountPath": "/data/cache/x", "subPathExpr": "$(POD)/s"},
        {"name": "v", "mountPath": "/etc/app.conf", "subPath": "a"},
        {"name": "e", "mountPath": "data"},
    ]);
    let p = pod(json!([{"name": "v", "configMap": {"name": "cm"}}, {"name": "e", "emptyDir": {}}]), mounts);
    let c = &p.spec.as_ref().expect("spec").containers[0];
    let env = [("POD".to_string(), "web".to_string())];
    let got = container_mounts(&p, c, Path::new("/vols"), &env).expect("mounts");
    let line = |m: &crate::runtime::Mount| {
        let sub = m.sub_path.clone().unwrap_or_default();
        format!("{} {} {} {}", m.source.display(), sub, m.target, if m.read_only { "ro" } else { "rw" })
    };
    let lines: Vec<String> = got.iter().map(line).collect();
    assert_eq!(lines, ["/vols/e  /data rw", "/vols/v a /etc/app.conf ro", "/vols/e web/s /data/cache/x rw"]);
    assert!(container_mounts(&p, c, Path::new("/vols"), &[]).expect_err("unset").contains("POD"));
}

#[test]
fn unknown_volumes_are_named() {
    let tmp = tempfile::tempdir().expect("a directory");
    let p = pod(json!([{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]), json!([]));
    let error = prepare(&p, tmp.path(), &place(), &Sources::default()).expect_err("unsupported");
    assert_eq!(error.cause, "volumes of type persistentVolumeClaim are not supported by this node");
}

#[test]
fn host_paths_are_checked() {
    let tmp = tempfile::tempdir().expect("a directory");
    let with = |path: &str, kind: &str| {
        let source = HostPathVolumeSource {
            path: tmp.path().join(path).display().to_string(),
            type_: Some(kind.into()),
        };
        host_path(&source)
    };
    assert!(with("none", "Directory").expect_err("missing").contains("does not exist"));
    assert_eq!(with("made", "DirectoryOrCreate"), Ok(()));
    assert_eq!(with("made", "Directory"), Ok(()));
    assert!(with("made", "File").expect_err("wrong type").contains("is not a file"));
    assert_eq!(with("file", "FileOrCreate"), Ok(()));
}
