//! What the specification of a container says for what the pod asked.

use super::*;
use crate::image::ImageConfig;
use crate::runtime::{ContainerId, ContainerSpec, SandboxSpec};

fn sandbox() -> SandboxRecord {
    let spec = SandboxSpec { uid: "u1".into(), hostname: "pod-1".into(), ..SandboxSpec::default() };
    SandboxRecord {
        spec,
        ips: daymark_model::PerFamily::single("10.244.1.5".parse().expect("address")),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        link: None,
        shim_pid: None,
        socket: "/run/s".into(),
        cgroup_v2_dir: "/sys/fs/cgroup/unified/n/podu1".into(),
        cgroup_path: "/n/podu1".into(),
    }
}

fn record(change: impl FnOnce(&mut ContainerSpec, &mut ImageConfig)) -> ContainerRecord {
    let (mut spec, mut image) = (ContainerSpec::default(), ImageConfig::default());
    image.entrypoint = vec!["/entry".into()];
    image.cmd = vec!["default".into()];
    change(&mut spec, &mut image);
    let id = ContainerId("c".repeat(64));
    let created_at = jiff::Timestamp::UNIX_EPOCH;
    ContainerRecord { id, created_at, spec, image, layers: Vec::new(), log_path: "/log".into() }
}

fn facts(uid: u32) -> Facts {
    let identity = Identity { uid, ..Identity::default() };
    let available = ALL_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    Facts { identity, available, pid_namespace: None }
}

fn list(text: &[&str]) -> Option<Vec<String>> {
    Some(text.iter().map(|part| (*part).to_owned()).collect())
}

#[test]
fn command_and_args_replace_the_image_as_kubernetes_says() {
    let with = |command: Option<Vec<String>>, given: Option<Vec<String>>| {
        args(&record(|spec, _| (spec.command, spec.args) = (command, given))).join(" ")
    };
    assert_eq!(with(None, None), "/entry default");
    assert_eq!(with(None, list(&["x"])), "/entry x");
    assert_eq!(with(list(&["sh"]), None), "sh");
    assert_eq!(with(list(&["sh"]), list(&["-c", "id"])), "sh -c id");
}

#[test]
fn the_last_setting_of_a_variable_wins() {
    let record = record(|spec, image| {
        image.env = vec!["A=image".into(), "B=image".into()];
        spec.env = vec![("A".into(), "pod".into())];
    });
    let env = env(&sandbox(), &record, &Identity::default());
    assert!(env.contains(&"A=pod".to_owned()) && env.contains(&"B=image".to_owned()));
    assert!(env.contains(&"HOSTNAME=pod-1".to_owned()) && env.iter().any(|v| v.starts_with("PATH=")));
}

#[test]
fn capabilities_follow_add_drop_and_privileged() {
    let of =
        |change: fn(&mut ContainerSpec)| capabilities(&record(|spec, _| change(spec)), &facts(0).available);
    assert_eq!(of(|_| ()).len(), DEFAULT_CAPABILITIES.len());
    let only = of(|s| {
        s.security.cap_drop = vec!["ALL".into()];
        s.security.cap_add = vec!["net_admin".into()];
    });
    assert_eq!(only, ["CAP_NET_ADMIN"]);
    assert!(!of(|s| s.security.cap_drop = vec!["CHOWN".into()]).contains(&"CAP_CHOWN".to_owned()));
    assert_eq!(of(|s| s.security.privileged = true).len(), ALL_CAPABILITIES.len());
    assert!(capabilities(&record(|s, _| s.security.privileged = true), &[]).is_empty());
}

#[test]
fn a_user_other_than_root_starts_without_effective_capabilities() {
    let process = process(&sandbox(), &record(|_, _| ()), &facts(1000));
    assert_eq!(process["capabilities"]["effective"], json!([]));
    assert_eq!(process["capabilities"]["bounding"].as_array().map(Vec::len), Some(14));
}

#[test]
fn limits_are_in_the_kernels_units() {
    let limits = Resources {
        cpu_request_millis: Some(250),
        cpu_limit_millis: Some(500),
        memory_limit: Some(64 << 20),
        pids_limit: Some(10),
    };
    let resources = resources(&limits, false);
    assert_eq!(resources["cpu"], json!({"shares": 256, "period": 100_000, "quota": 50_000}));
    assert_eq!(resources["memory"]["limit"], json!(64 << 20));
    assert_eq!(resources["pids"]["limit"], json!(10));
}

#[test]
fn a_volume_at_a_standard_place_replaces_ours() {
    let pod = Path::new("/pods/u1");
    let volume = Mount { source: "/v".into(), target: "/etc/hosts".into(), ..Mount::default() };
    let mounts = all_mounts(&record(|_, _| ()), &PodDir(pod), &[volume]);
    let hosts = mounts.iter().filter(|m| m["destination"] == "/etc/hosts").collect::<Vec<_>>();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0]["source"], "/v");
}

#[test]
fn the_whole_configuration_is_one_that_libcontainer_reads() {
    let record = record(|spec, _| spec.resources.memory_limit = Some(1 << 20));
    let config = config(&sandbox(), &record, &PodDir(Path::new("/pods/u1")), &[], &facts(0));
    let spec: libcontainer::oci_spec::runtime::Spec = serde_json::from_value(config).expect("a valid spec");
    assert_eq!(
        spec.linux().as_ref().and_then(|l| l.cgroups_path().clone()),
        Some(format!("/n/podu1/{}", "c".repeat(64)).into())
    );
}
