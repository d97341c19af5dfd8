//! Machines that lack something, disks that are full, many things at once.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Laptop, check, eventually};

const DAYMARK: &str = env!("CARGO_BIN_EXE_daymark");

#[test]
fn whoever_is_not_root_is_told_so() {
    let laptop = Laptop::new();
    // The binary must be where nobody may read it.
    let copy = Path::new("/tmp").join(&laptop.name);
    fs::copy(DAYMARK, &copy).expect("a copy");
    let why = laptop.fails(&[
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        &copy.display().to_string(),
        "up",
        "--no-egress",
    ]);
    fs::remove_file(&copy).expect("the copy");
    assert!(why.contains("needs root") && why.contains("sudo"), "{why}");
}

#[test]
fn a_missing_capability_is_named() {
    let laptop = Laptop::new();
    let why = laptop.fails(&["setpriv", "--bounding-set=-net_admin", DAYMARK, "up", "--no-egress"]);
    assert!(why.contains("CAP_NET_ADMIN") && why.contains("--privileged"), "{why}");
}

#[test]
fn without_cgroup_v2_nothing_is_made() {
    let laptop = Laptop::new();
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let line = mounts.lines().find(|l| l.contains(" cgroup2 ")).expect("cgroup v2");
    let at = line.split(' ').nth(1).expect("a mount point");
    let script = format!("umount -l {at} && exec {DAYMARK} up --no-egress");
    let why = laptop.fails(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &script]);
    assert!(why.contains("cgroup v2 is not mounted") && why.contains("mount -t cgroup2"), "{why}");
    assert!(!laptop.path("state").join(&laptop.name).exists());
}

/// A small file system for the cluster's state.
struct SmallDisk<'a>(&'a Laptop);

impl<'a> SmallDisk<'a> {
    fn new(laptop: &'a Laptop, size: &str) -> Self {
        let at = laptop.path("state");
        fs::create_dir_all(&at).expect("a folder");
        let options = format!("size={size}");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).status();
        assert!(done.expect("mount").success());
        Self(laptop)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = self.0.output(&[DAYMARK, "down"]);
        let _ = Command::new("umount").arg("-l").arg(self.0.path("state")).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let laptop = Laptop::new();
    let disk = SmallDisk::new(&laptop, "512m");
    let _cluster = laptop.up();
    laptop.kubectl("create configmap before --from-literal=a=b");
    let filler = laptop.path("state").join("filler");
    let _ =
        Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).output();
    let big = laptop.path("big");
    fs::write(&big, "x".repeat(200_000)).expect("a big value");
    let refused = (0..40).find_map(|i| {
        let done = laptop.output(&[
            "kubectl",
            "create",
            "configmap",
            &format!("big{i}"),
            &format!("--from-file={}", big.display()),
        ]);
        (!done.status.success()).then(|| support::text(&done.stderr))
    });
    let why = refused.expect("a full disk refuses at some point");
    assert!(why.contains("No space left") || why.contains("space"), "{why}");
    assert_eq!(laptop.kubectl("get configmap before -o jsonpath={.data.a}"), "b");
    fs::remove_file(&filler).expect("space again");
    eventually("writes work again", || {
        let done = laptop.output(&["kubectl", "create", "configmap", "after", "--from-literal=a=b"]);
        check(
            done.status.success() || laptop.kubectl("get configmaps").contains("after"),
            support::text(&done.stderr),
        )
    });
    assert_eq!(laptop.kubectl("get configmap before -o jsonpath={.data.a}"), "b");
    drop(disk);
}

#[test]
fn thousands_of_objects_at_once_all_arrive() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    let mut manifest = String::new();
    for i in 0..2000 {
        manifest += &format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}}}\ndata: {{n: \"{i}\"}}\n"
        );
    }
    for i in 0..500 {
        manifest += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{selector: {{app: myapp}}, ports: [{{port: 80}}]}}\n"
        );
    }
    let file = laptop.path("many.yml");
    fs::write(&file, &manifest).expect("a manifest");
    laptop.run(&["kubectl", "create", "-f", &file.display().to_string()]);
    cluster.create_example("deployment.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    assert_eq!(
        laptop.kubectl("get configmaps -o name").lines().filter(|l| l.starts_with("configmap/c")).count(),
        2000
    );
    eventually("the last Service has its endpoints", || {
        let out = laptop.kubectl("get endpointslices -l kubernetes.io/service-name=s499");
        check(out.contains("10.244."), out)
    });
}
