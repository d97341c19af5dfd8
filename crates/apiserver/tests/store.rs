//! The store against the world outside: damaged files, full disks.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use daymark_apiserver::store::{Expect, OpenError, Options, Store, StoreError, Template, Write};

fn write(key: String, expect: Expect, padding: usize) -> Write {
    let head = format!("{{\"padding\":\"{}\",\"resourceVersion\":\"", "x".repeat(padding));
    let object = Template { at: head.len(), json: format!("{head}\"}}").into_bytes() };
    Write { key, expect, object, delete: false, expires: 0 }
}

/// A closed store with a few hundred objects.
fn filled(dir: &Path) -> PathBuf {
    let path = dir.join("store.redb");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(Options::new(&path)).unwrap();
        let writes = (0..300).map(|n| store.write(write(format!("core/pods/x/p{n}"), Expect::Absent, 900)));
        futures::future::join_all(writes).await.into_iter().for_each(|r| drop(r.unwrap()));
    });
    // The writing thread ends a moment after the last handle; opening waits for it.
    drop(Store::open(Options::new(&path)).unwrap());
    while is_open(&path) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    path
}

/// Whether this process still has the file open.
fn is_open(path: &Path) -> bool {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    descriptors.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path))
}

fn refused(path: &Path) -> String {
    let before = std::fs::read(path).unwrap();
    let error = match Store::open(Options::new(path)) {
        Ok(_) => panic!("a damaged store was opened"),
        Err(e) => e,
    };
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert!(std::fs::read(path).unwrap() == before, "the file was changed");
    error.to_string()
}

#[test]
fn truncated_and_overwritten_stores_are_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let damages: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("cut to a page", whole[..4096].to_vec()),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("no store at all", vec![b'x'; 20_000]),
        ("zeroed head", [vec![0; 4096], whole[4096..].to_vec()].concat()),
    ];
    for (what, bytes) in damages {
        std::fs::write(&path, bytes).unwrap();
        let message = refused(&path);
        assert!(message.contains("restore it from a copy"), "{what}: {message}");
        assert!(message.contains("store.redb"), "{what}: {message}");
    }
    std::fs::write(&path, whole).unwrap();
    let store = Store::open(Options::new(&path)).unwrap();
    assert_eq!(store.count("core/pods/"), 300);
}

#[test]
fn a_flipped_bit_in_an_object_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = vec![b'x'; 800];
    let at = bytes.windows(800).position(|w| w == needle).expect("an object's padding");
    // Every copy, so that the one in use is among them.
    for start in at..bytes.len() - 800 {
        if bytes[start..start + 400].iter().all(|b| *b == b'x') {
            bytes[start + 200] = b'y';
        }
    }
    std::fs::write(&path, bytes).unwrap();
    refused(&path);
}

/// A small tmpfs that is unmounted when it goes out of scope.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status();
        assert!(mount.unwrap().success(), "mounting a tmpfs needs root");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_heals() {
    let disk = SmallDisk::new("6m");
    let path = disk.0.path().join("store.redb");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let store = Store::open(Options::new(&path)).unwrap();
    let mut stored = 0;
    let error = loop {
        match store.write(write(format!("core/pods/x/p{stored}"), Expect::Absent, 20_000)).await {
            Ok(_) => stored += 1,
            Err(e) => break e,
        }
        assert!(stored < 1_000, "the disk does not fill");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert_eq!(store.count("core/pods/"), stored, "reads go on");
    let refused = store.write(write("core/pods/x/more".into(), Expect::Absent, 5_500_000)).await;
    let refused = refused.expect_err("it does not fit");
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    std::fs::remove_file(&ballast).unwrap();
    let healed = store.write(write("core/pods/x/healed".into(), Expect::Absent, 100)).await;
    assert!(healed.is_ok(), "{healed:?}");
    let revision = store.revision();
    drop(store);
    let store = Store::open(Options::new(&path)).unwrap();
    assert_eq!(store.revision(), revision);
    assert_eq!(store.count("core/pods/"), stored + 1);
    drop(store);
}
