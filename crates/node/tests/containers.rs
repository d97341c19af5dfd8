//! Real containers: start, exit codes, logs, limits, users, mounts, errors, clean removal.

mod common;

use std::time::{Duration, Instant};

use common::*;
use daymark_node::runtime::*;

#[test]
fn a_container_runs_and_its_output_and_exit_code_are_kept() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "a1").await;
        let image = busybox(&runtime);
        let script = "echo out; echo err >&2; hostname; cat /etc/resolv.conf; echo $FROM_IMAGE; exit 3";
        let (log, exit) = output(&runtime, "a1", shell("main", &image, script)).await;
        assert!(log.contains("stdout F out\n") && log.contains("stderr F err\n"), "{log}");
        assert!(
            log.contains("stdout F pod-a1\n") && log.contains("stdout F nameserver 10.96.0.10\n"),
            "{log}"
        );
        assert!(log.contains("stdout F yes\n"), "{log}");
        assert_eq!((exit.code, exit.signal, exit.reason.as_str()), (3, None, "Error"));
        runtime.remove_sandbox("a1").await.expect("removes");
        runtime.remove_sandbox("a1").await.expect("removes again");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn containers_of_a_pod_share_its_network_and_memory_and_not_their_processes() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let status = node.pod(&runtime, "b1").await;
        let image = busybox(&runtime);
        run(&runtime, "b1", shell("one", &image, "echo shared > /dev/shm/x; exec nc -l -p 8000 -e echo hi"))
            .await;
        let script = "until nc 127.0.0.1 8000 </dev/null; do sleep 0.05; done; cat /dev/shm/x; ls -d /proc/[0-9]* | wc -l; ip -4 addr show eth0 | grep inet; ip route; arp -n";
        let (log, _) = output(&runtime, "b1", shell("two", &image, script)).await;
        assert!(log.contains("F hi\n") && log.contains("F shared\n"), "{log}");
        assert!(log.contains(&format!("inet {}/32", status.ips.primary())), "{log}");
        assert!(log.contains("default via 169.254.1.1 dev eth0"), "{log}");
        assert!(log.contains("169.254.1.1") && log.contains("ee:ee:ee:ee:ee:ee"), "{log}");
        let processes = log.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).next();
        assert!(processes.is_some_and(|count| count <= 4), "{log}");
    });
}

#[test]
fn pods_reach_each_other_through_the_node() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let one = node.pod(&runtime, "c1").await;
        node.pod(&runtime, "c2").await;
        let image = busybox(&runtime);
        run(&runtime, "c1", shell("server", &image, "while :; do nc -l -p 80 -e echo from-c1; done")).await;
        let script = format!(
            "for i in $(seq 50); do nc {} 80 </dev/null && exit 0; sleep 0.05; done; exit 1",
            one.ips.primary()
        );
        let (log, exit) = output(&runtime, "c2", shell("client", &image, &script)).await;
        assert_eq!(exit.code, 0, "{log}");
        assert!(log.contains("from-c1"), "{log}");
        let link = one.link.expect("a link");
        assert!(interfaces().contains(&link.name), "{} in {:?}", link.name, interfaces());
    });
}

#[test]
fn a_missing_program_is_a_start_error_in_kubelets_words() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "d1").await;
        let mut spec = shell("main", &busybox(&runtime), "");
        for (program, wanted) in [
            ("nothing-here", "exec: \"nothing-here\": executable file not found in $PATH"),
            ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
            ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ] {
            spec.command = Some(vec![program.into()]);
            let id = runtime.create_container("d1", spec.clone()).await.expect("creates");
            let error = runtime.start_container(&id).await.expect_err("cannot start");
            assert!(error.to_string().contains(wanted), "{error}");
            assert_eq!(error.reason(), "RunContainerError");
            let exit = ended(&runtime, &id).await;
            assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
            assert_eq!(exit.started_at, jiff::Timestamp::UNIX_EPOCH, "it never did");
            assert!(exit.message.contains(wanted), "{}", exit.message);
            runtime.remove_container(&id).await.expect("removes");
        }
        runtime.remove_sandbox("d1").await.expect("removes");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn signals_stop_a_container_and_events_tell() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "e1").await;
        let mut events = runtime.events();
        let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
        let id = run(&runtime, "e1", shell("main", &busybox(&runtime), script)).await;
        while !log(&runtime, &id).await.contains("up") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(runtime.stop_signal(&id).await.expect("known"), 10, "the image says SIGUSR1");
        runtime.kill_container(&id, 15).await.expect("signals");
        let event = events.recv().await.expect("event");
        let RuntimeEvent::ContainerExited { pod_uid, id: ended_id, exit } = event else {
            panic!("{event:?}")
        };
        assert_eq!((pod_uid.as_str(), &ended_id, exit.code), ("e1", &id, 7));
        assert!(log(&runtime, &id).await.contains("stdout F bye\n"));
        let id = run(&runtime, "e1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        runtime.kill_container(&id, 9).await.expect("signals");
        let exit = ended(&runtime, &id).await;
        assert_eq!((exit.code, exit.signal, exit.reason.as_str()), (137, Some(9), "Error"));
        runtime.kill_container(&id, 9).await.expect("a dead one is fine");
    });
}

#[test]
fn memory_limits_hold_and_their_kill_is_named() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "f1").await;
        let mut spec =
            shell("main", &busybox(&runtime), "dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?");
        spec.command =
            Some(["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"].map(String::from).into());
        spec.resources =
            Resources { memory_limit: Some(16 << 20), cpu_limit_millis: Some(500), ..Resources::default() };
        let (log, exit) = output(&runtime, "f1", spec).await;
        assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{log}");
    });
}

#[test]
fn users_groups_capabilities_and_read_only_roots() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "g1").await;
        let image = busybox(&runtime);
        let mut spec = shell(
            "main",
            &image,
            "id; grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status; touch /x; pwd",
        );
        spec.security.run_as_user = Some(1000);
        spec.security.supplemental_groups = vec![3000];
        spec.security.read_only_rootfs = true;
        spec.security.no_new_privileges = true;
        spec.working_dir = Some("/home".into());
        let (log, _) = output(&runtime, "g1", spec).await;
        assert!(log.contains("uid=1000(worker) gid=1000(worker) groups=2000(extra),3000"), "{log}");
        assert!(log.contains("CapEff:\t0000000000000000"), "{log}");
        assert!(log.contains("NoNewPrivs:\t1"), "{log}");
        assert!(log.contains("Read-only file system"), "{log}");
        assert!(log.contains("F /home\n"), "{log}");
        let mut spec = shell("main", &image, "grep CapEff /proc/self/status");
        spec.attempt = 1;
        let (log, _) = output(&runtime, "g1", spec).await;
        assert!(log.contains("CapEff:\t00000000a80425fb"), "the usual fourteen: {log}");
        let mut spec = shell("main", &image, "id");
        spec.security.run_as_non_root = true;
        let id = runtime.create_container("g1", spec).await.expect("creates");
        let error = runtime.start_container(&id).await.expect_err("root");
        assert!(
            error.to_string().contains("container has runAsNonRoot and image will run as root"),
            "{error}"
        );
    });
}

#[test]
fn volumes_sub_paths_and_the_termination_message() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "h1").await;
        let volume = runtime.volumes_dir("h1").join("data");
        std::fs::create_dir_all(&volume).expect("volume");
        std::fs::write(volume.join("file"), "content\n").expect("file");
        std::os::unix::fs::symlink("/etc", volume.join("escape")).expect("link");
        let mount = |sub: Option<&str>, target: &str, read_only| Mount {
            source: volume.clone(),
            sub_path: sub.map(str::to_owned),
            target: target.into(),
            read_only,
        };
        let script = "cat /data/file /one; echo new > /sub/made; echo x > /data/no; echo last words > /dev/termination-log";
        let mut spec = shell("main", &busybox(&runtime), script);
        spec.mounts = vec![
            mount(None, "/data", true),
            mount(Some("file"), "/one", true),
            mount(Some("deep/er"), "/sub", false),
        ];
        let id = run(&runtime, "h1", spec.clone()).await;
        ended(&runtime, &id).await;
        let text = log(&runtime, &id).await;
        assert_eq!(text.matches("stdout F content").count(), 2, "{text}");
        assert!(text.contains("Read-only file system"), "{text}");
        assert_eq!(std::fs::read_to_string(volume.join("deep/er/made")).expect("written"), "new\n");
        let last = runtime.termination_message_path(&id).await.expect("known");
        assert_eq!(std::fs::read_to_string(last).expect("readable"), "last words\n");
        std::os::unix::fs::symlink("../..", volume.join("up")).expect("link");
        for bad in ["../x", "escape/passwd", "/etc", "escape/made", "up/made", "up", "deep/../../x"] {
            spec.mounts = vec![mount(Some(bad), "/bad", false)];
            let id = runtime.create_container("h1", spec.clone()).await.expect("creates");
            let error = runtime.start_container(&id).await.expect_err("leads outside");
            assert!(error.to_string().contains("subPath"), "{error}");
        }
        for made in ["/etc/made", "../../made"] {
            assert!(!volume.join(made).exists(), "nothing was made at {made}");
        }
        runtime.remove_sandbox("h1").await.expect("removes");
        assert!(volume.join("file").exists(), "volumes outlive a sandbox");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_link_in_a_volume_leads_no_other_mount_out() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "h2").await;
        let (linked, other) =
            (runtime.volumes_dir("h2").join("linked"), runtime.volumes_dir("h2").join("other"));
        let outside = tempfile::tempdir().expect("a directory").path().join("planted");
        for dir in [&linked, &other] {
            std::fs::create_dir_all(dir).expect("volume");
        }
        std::fs::write(other.join("file"), "content\n").expect("file");
        std::os::unix::fs::symlink(&outside, linked.join("place")).expect("link");
        let mount = |source: &std::path::Path, target: &str| Mount {
            source: source.to_owned(),
            sub_path: None,
            target: target.into(),
            read_only: false,
        };
        let script = format!("cat {}/file; ls -d /data/place", outside.display());
        let mut spec = shell("main", &busybox(&runtime), &script);
        spec.mounts = vec![mount(&linked, "/data"), mount(&other, "/data/place")];
        let id = runtime.create_container("h2", spec).await.expect("creates");
        match runtime.start_container(&id).await {
            // Links count from the container's root.
            Ok(()) => {
                ended(&runtime, &id).await;
                let text = log(&runtime, &id).await;
                assert!(text.contains("stdout F content"), "{text}");
            }
            Err(error) => assert!(error.to_string().contains("rootfs"), "{error}"),
        }
        assert!(
            !outside.exists() && !outside.parent().is_some_and(|p| p.exists()),
            "nothing was made outside"
        );
        runtime.remove_sandbox("h2").await.expect("removes");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_sandbox_that_cannot_be_made_leaves_nothing() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let mut spec = sandbox("i1");
        spec.sysctls = [("kernel.hostname".to_owned(), "evil".to_owned())].into();
        let error = runtime.create_sandbox(spec).await.expect_err("forbidden");
        assert!(
            error.to_string().contains("default/pod-i1") && error.to_string().contains("kernel.hostname"),
            "{error}"
        );
        let mut spec = sandbox("../i2");
        spec.hostname = "x".into();
        runtime.create_sandbox(spec).await.expect_err("bad uid");
        assert_eq!(node.leftovers(), Vec::<String>::new());
        assert!(runtime.sandboxes().await.is_empty());
        let first = node.pod(&runtime, "i3").await;
        assert_eq!(
            first.ips.primary().to_string(),
            "10.244.1.3",
            "the failed one's address was given back, but not at once again"
        );
    });
}

#[test]
fn starting_is_quick() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let image = busybox(&runtime);
        let (mut sandboxes, mut starts, mut removals) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..10 {
            let uid = format!("j{number}");
            let begin = Instant::now();
            node.pod(&runtime, &uid).await;
            sandboxes.push(begin.elapsed());
            let begin = Instant::now();
            run(&runtime, &uid, shell("main", &image, "sleep 100")).await;
            starts.push(begin.elapsed());
            let begin = Instant::now();
            runtime.remove_sandbox(&uid).await.expect("removes");
            removals.push(begin.elapsed());
        }
        for (name, times) in
            [("sandbox", &mut sandboxes), ("container", &mut starts), ("removal", &mut removals)]
        {
            times.sort();
            println!("{name}: median {:?}, worst {:?}", times[5], times[9]);
        }
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}
