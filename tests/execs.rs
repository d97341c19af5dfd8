//! A crowd of execs at once: each is served or told why not, and nothing of them stays. Execs of pods made again.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::{Laptop, check, debian_image, eventually};
use tokio::io::AsyncReadExt;

const CROWD: usize = 1000;
/// More than a node serves at once.
const STAYING: usize = 260;
/// The longest that one exec may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What comes and goes anyway: connections that are kept open for a while, probes.
const SLACK: usize = 20;

#[test]
fn a_thousand_execs_at_once_leave_nothing_behind() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    two_toolboxes(&laptop);
    let before = Census::of(&laptop);
    let answers = on(&laptop, crowd());
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    for answer in &answers {
        if let Err(why) = answer {
            assert!(why.contains("429") && why.contains("sessions already"), "{why}");
        }
    }
    assert!(served >= STAYING, "{served} of {CROWD} were served");
    nothing_stays(&laptop, &before);
    on(&laptop, leaving_at_once());
    nothing_stays(&laptop, &before);
    assert_eq!(laptop.kubectl("exec one -- busybox echo alive"), "alive\n");
    assert_eq!(
        laptop.kubectl("get pods -o jsonpath={.items[*].status.containerStatuses[*].restartCount}"),
        "0 0"
    );
    pods_made_again_answer_when_those_before_have_ended(&laptop);
}

/// The toolboxes do not heed SIGTERM.
fn pods_made_again_answer_when_those_before_have_ended(laptop: &Laptop) {
    let before = laptop.kubectl("get pods -o jsonpath={.items[*].metadata.uid}");
    laptop.kubectl("delete pod one two --force --grace-period=0");
    two_toolboxes(laptop);
    let run = laptop.path("run").display().to_string();
    let sockets = || laptop.run(&["find", &run, "-name", "*.sock"]);
    eventually("those before have ended", || {
        let left = sockets();
        check(!before.split(' ').any(|uid| left.contains(uid)), left)
    });
    let now = laptop.kubectl("get pods -o jsonpath={.items[*].metadata.uid}");
    assert!(now.split(' ').all(|uid| sockets().contains(uid)), "{now}");
    for pod in ["one", "two"] {
        assert_eq!(laptop.kubectl(&format!("exec {pod} -- busybox echo alive")), "alive\n");
        assert_eq!(laptop.kubectl(&format!("logs {pod}")), "");
    }
}

fn two_toolboxes(laptop: &Laptop) {
    let (words, name) = (["/bin/busybox", "sleep", "infinity"], "example/toolbox:debian");
    let archive = debian_image("toolbox.tar", name, "curl busybox-static", &words);
    laptop.daymark(&["image", "load", &archive.display().to_string()]);
    for (pod, node) in [("one", "node1"), ("two", "node2")] {
        laptop.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}}}\nspec:\n  nodeName: {node}\n  \
             containers: [{{name: c, image: '{name}', imagePullPolicy: Never}}]\n"
        ));
    }
    laptop.kubectl("wait --for=condition=Ready pod/one pod/two --timeout=60s");
}

/// Runs on the laptop's network, with as many descriptors as may be.
fn on<T: Send + 'static>(laptop: &Laptop, work: impl Future<Output = T> + Send + 'static) -> T {
    let (namespace, kubeconfig) = (laptop.path("laptop"), laptop.path("kubeconfig"));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a higher limit");
    std::thread::spawn(move || {
        let namespace = fs::File::open(namespace).expect("the laptop");
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("the laptop");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(KUBECONFIG.scope(kubeconfig, work))
    })
    .join()
    .expect("the work is done")
}

tokio::task_local! {
    static KUBECONFIG: PathBuf;
}

async fn pods() -> Api<Pod> {
    let file = KUBECONFIG.with(|path| Kubeconfig::read_from(path)).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a config");
    Api::default_namespaced(Client::try_from(config).expect("a client"))
}

fn pod(n: usize) -> &'static str {
    if n.is_multiple_of(2) { "one" } else { "two" }
}

/// What each exec printed, or what it was told.
async fn crowd() -> Vec<Result<(), String>> {
    let pods = pods().await;
    let guest = |n: usize| {
        let pods = pods.clone();
        async move {
            let said = format!("guest {n}");
            let asked = AttachParams::default().stderr(false);
            let session = pods.exec(pod(n), ["busybox", "echo", &said], &asked).await;
            let printed = output(session.map_err(|e| format!("{e:?}"))?).await?;
            check(printed == format!("{said}\n"), format!("guest {n} hears {printed:?}"))
        }
    };
    let patient =
        |n| async move { tokio::time::timeout(PATIENCE, guest(n)).await.map_err(|e| e.to_string())? };
    futures::future::join_all((0..CROWD).map(patient)).await
}

async fn output(mut session: AttachedProcess) -> Result<String, String> {
    let mut text = String::new();
    let mut stdout = session.stdout().ok_or("no output")?;
    stdout.read_to_string(&mut text).await.map_err(|e| e.to_string())?;
    let status = session.take_status().ok_or("no status")?.await.ok_or("no status came")?;
    check(status.status.as_deref() == Some("Success"), format!("{status:?}"))?;
    Ok(text)
}

/// Execs that would last for ever, whose clients go without a word; some while they wait for their turn.
async fn leaving_at_once() {
    let pods = pods().await;
    let asked = AttachParams::default().stdin(true).stderr(false);
    let enter = |_| async { pods.exec("one", ["busybox", "sleep", "infinity"], &asked).await.is_ok() };
    let entering = futures::future::join_all((0..STAYING).map(enter));
    let _ = tokio::time::timeout(Duration::from_secs(2), entering).await;
}

/// Processes of the cluster and what they hold.
#[derive(Debug)]
struct Census {
    processes: usize,
    files: usize,
}

impl Census {
    fn of(laptop: &Laptop) -> Self {
        let status: serde_json::Value =
            serde_json::from_str(&laptop.daymark(&["status", "-o", "json"])).expect("JSON");
        let rows = status["processes"].as_array().expect("processes");
        let mut pids: BTreeSet<String> = rows.iter().map(|row| row["pid"].to_string()).collect();
        for mount in fs::read_to_string("/proc/mounts").expect("mounts").lines() {
            if let [_, at, "cgroup2", ..] = mount.split(' ').collect::<Vec<_>>()[..] {
                of_cgroup(&Path::new(at).join("daymark").join(&laptop.name), &mut pids);
            }
        }
        let files = |pid: &String| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Self { processes: pids.len(), files: pids.iter().map(files).sum() }
    }
}

fn of_cgroup(cgroup: &Path, pids: &mut BTreeSet<String>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().map(str::to_owned));
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|c| c.path().is_dir()) {
        of_cgroup(&child.path(), pids);
    }
}

fn nothing_stays(laptop: &Laptop, before: &Census) {
    eventually("all of it is gone", || {
        let now = Census::of(laptop);
        let gone = now.processes <= before.processes && now.files <= before.files + SLACK;
        check(gone, format!("{before:?}, now {now:?}"))
    });
}
