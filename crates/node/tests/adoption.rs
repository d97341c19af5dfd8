//! A node process that is killed leaves its pods running; the next one takes them over.

mod common;

use std::process::Command;
use std::time::Duration;

use common::*;
use daymark_node::runtime::*;

/// Kills a process without warning, as `kill -9` does.
fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kills");
}

fn pid(status: &ContainerStatus) -> i32 {
    let ContainerState::Running { pid, .. } = status.state else { panic!("{:?}", status.state) };
    pid
}

/// The part that a test plays in a process of its own: opens the runtime, starts a pod, waits to be killed.
#[test]
fn owner() {
    let Ok(dir) = std::env::var("DAYMARK_TEST_OWNER") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let mut config: RuntimeConfig = Node::at(&dir).config();
        config.links = None;
        let runtime = Runtime::open(config).await.expect("opens");
        load_busybox(runtime.images(), &std::path::Path::new(&dir).join("busybox.tar"));
        runtime.create_sandbox(sandbox("a1")).await.expect("sandbox");
        let script = "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo line $i; sleep 0.02; done; exit 9";
        run(&runtime, "a1", shell("main", &busybox(&runtime), script)).await;
        run(&runtime, "a1", shell("short", &busybox(&runtime), "sleep 0.4; echo gone; exit 3")).await;
        std::fs::write(format!("{dir}/started"), "").expect("marks");
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_killed_owner_leaves_its_containers_to_the_next() {
    on_node(|node| async move {
        let dir = node.dir.path().display().to_string();
        let mut owner = Command::new(std::env::current_exe().expect("myself"))
            .args(["owner", "--exact", "--nocapture"])
            .env("DAYMARK_TEST_OWNER", &dir)
            .env("DAYMARK_TEST_NAME", &node.name)
            .spawn()
            .expect("starts");
        while !node.dir.path().join("started").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(owner.try_wait().expect("waits").is_none(), "the owner failed");
        }
        owner.kill().expect("kills");
        owner.wait().expect("ends");
        // What ends while nobody owns it is known afterwards.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let runtime = Runtime::open(node.config()).await.expect("adopts");
        let pods = runtime.sandboxes().await;
        assert_eq!(pods.len(), 1);
        assert!(pods[0].ready && pods[0].ips.primary().to_string() == "10.244.1.2");
        let [main, short] = &pods[0].containers[..] else { panic!("{:?}", pods[0].containers) };
        let ContainerState::Exited(exit) = &short.state else { panic!("{:?}", short.state) };
        assert_eq!(exit.code, 3);
        assert!(log(&runtime, &short.id).await.contains("gone"));
        pid(main);
        while log(&runtime, &main.id).await.lines().count() <= 40 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut session = runtime
            .exec(
                &main.id,
                ExecSpec { argv: vec!["touch".into(), "/tmp/stop".into()], ..ExecSpec::default() },
            )
            .await
            .expect("exec");
        assert_eq!(session.control.wait().await.expect("ends"), 0);
        let mut events = runtime.events();
        if let ContainerState::Running { .. } = runtime.container(&main.id).await.expect("known").state {
            events.recv().await.expect("tells");
        }
        assert_eq!(ended(&runtime, &main.id).await.code, 9);
        let text = log(&runtime, &main.id).await;
        let numbers =
            text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).collect::<Vec<_>>();
        assert!(
            numbers.len() > 30 && numbers.iter().copied().eq(1..=numbers.len() as u32),
            "no line was lost: {text}"
        );
        let next = runtime.create_sandbox(sandbox("a2")).await.expect("sandbox");
        assert_ne!(next.ips, pods[0].ips, "the adopted pod keeps its address");
        for uid in ["a1", "a2"] {
            runtime.remove_sandbox(uid).await.expect("removes");
        }
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_shim_that_dies_takes_its_containers_along_and_is_reported() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let status = node.pod(&runtime, "b1").await;
        let id = run(&runtime, "b1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        let container = pid(&runtime.container(&id).await.expect("known"));
        let shim = status.netns.components().nth(2).and_then(|part| part.as_os_str().to_str()?.parse().ok());
        let mut events = runtime.events();
        kill(shim.expect("pid of the shim"));
        let RuntimeEvent::ContainerExited { exit, .. } = events.recv().await.expect("tells") else {
            panic!()
        };
        assert_eq!((exit.code, exit.reason.as_str()), (137, "ContainerStatusUnknown"));
        assert_eq!(events.recv().await.expect("tells"), RuntimeEvent::SandboxDied { pod_uid: "b1".into() });
        assert!(
            !std::path::Path::new(&format!("/proc/{container}/root/bin")).exists(),
            "the container is dead"
        );
        assert!(!runtime.sandbox("b1").await.expect("known").ready);
        let again = runtime.create_sandbox(sandbox("b1")).await.expect("made anew");
        assert!(again.ready && again.containers.is_empty());
        runtime.remove_sandbox("b1").await.expect("removes");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_shim_that_died_unseen_is_found_at_adoption() {
    on_node(|node| async move {
        let shim = {
            let runtime = node.open().await;
            let status = node.pod(&runtime, "c1").await;
            run(&runtime, "c1", shell("main", &busybox(&runtime), "sleep 1000")).await;
            status.netns.components().nth(2).and_then(|part| part.as_os_str().to_str()?.parse::<i32>().ok())
        };
        kill(shim.expect("pid of the shim"));
        let runtime = Runtime::open(node.config()).await.expect("adopts");
        let status = runtime.sandbox("c1").await.expect("known");
        assert!(!status.ready);
        assert!(matches!(&status.containers[0].state, ContainerState::Exited(exit) if exit.code == 137));
        runtime.remove_sandbox("c1").await.expect("removes");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_shim_is_small() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let status = node.pod(&runtime, "d1").await;
        run(&runtime, "d1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        let shim =
            status.netns.components().nth(2).expect("pid").as_os_str().to_str().expect("text").to_owned();
        let text = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).expect("smaps");
        let kib = |key: &str| {
            text.lines()
                .filter_map(|l| l.strip_prefix(key))
                .filter_map(|l| l.trim().split(' ').next()?.parse::<u64>().ok())
                .sum::<u64>()
        };
        println!("shim: private dirty {} KiB, rss {} KiB", kib("Private_Dirty:"), kib("Rss:"));
        assert!(kib("Private_Dirty:") < 6 << 10, "{text}");
    });
}
