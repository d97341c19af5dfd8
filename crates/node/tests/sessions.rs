//! Exec and attach, with and without a terminal.

mod common;

use std::time::Duration;

use common::*;
use daymark_node::runtime::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn argv(script: &str) -> Vec<String> {
    vec!["sh".into(), "-c".into(), script.into()]
}

async fn all(reader: Option<StreamReader>) -> String {
    let mut text = Vec::new();
    let mut reader = reader.expect("a stream");
    reader.read_to_end(&mut text).await.expect("reads");
    String::from_utf8(text).expect("text")
}

#[test]
fn exec_gives_streams_and_the_exit_code() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "a1").await;
        let id = run(&runtime, "a1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        let spec = ExecSpec {
            argv: argv("cat; echo problem >&2; echo $FROM_IMAGE; exit 5"),
            tty: false,
            stdin: true,
        };
        let mut session = runtime.exec(&id, spec).await.expect("exec");
        let mut stdin = session.stdin.take().expect("stdin");
        stdin.write_all(b"typed\n").await.expect("writes");
        drop(stdin);
        assert_eq!(all(session.stdout.take()).await, "typed\nyes\n");
        assert_eq!(all(session.stderr.take()).await, "problem\n");
        assert_eq!(session.control.wait().await.expect("ends"), 5);
        assert_eq!(session.control.wait().await.expect("still ended"), 5);
        assert!(matches!(runtime.container(&id).await.expect("known").state, ContainerState::Running { .. }));
    });
}

#[test]
fn exec_with_a_terminal_has_one_and_its_size() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "b1").await;
        let id = run(&runtime, "b1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        let spec =
            ExecSpec { argv: argv("tty; read x; stty size; echo got $x; exit 4"), tty: true, stdin: true };
        let mut session = runtime.exec(&id, spec).await.expect("exec");
        session.control.resize(132, 43).expect("resizes");
        let mut stdin = session.stdin.take().expect("stdin");
        stdin.write_all(b"hello\n").await.expect("writes");
        let text = all(session.stdout.take()).await;
        assert!(
            text.contains("/dev/pts/") && text.contains("43 132") && text.contains("got hello"),
            "{text}"
        );
        assert_eq!(session.control.wait().await.expect("ends"), 4);
    });
}

#[test]
fn exec_that_cannot_start_says_why_with_a_shells_code() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "c1").await;
        let id = run(&runtime, "c1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        for (program, wanted) in [("ghost", 127), ("/etc/passwd", 126)] {
            let spec = ExecSpec { argv: vec![program.into()], ..ExecSpec::default() };
            let Err(error) = runtime.exec(&id, spec).await else { panic!("{program} runs") };
            let RuntimeError::Exec { code, cause } = &error else { panic!("{error:?}") };
            assert_eq!(*code, wanted, "{cause}");
            assert!(cause.contains(program), "{cause}");
        }
        runtime.kill_container(&id, 9).await.expect("kills");
        ended(&runtime, &id).await;
        let spec = ExecSpec { argv: argv("true"), ..ExecSpec::default() };
        let Err(error) = runtime.exec(&id, spec).await else { panic!("runs in a dead container") };
        assert!(error.to_string().contains("is not running"), "{error}");
    });
}

#[test]
fn a_session_that_is_dropped_ends_its_program() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "d1").await;
        let id = run(&runtime, "d1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        let spec = ExecSpec { argv: argv("exec sleep 777"), ..ExecSpec::default() };
        let session = runtime.exec(&id, spec).await.expect("exec");
        drop(session);
        let count = ExecSpec {
            argv: argv("ls /proc/*/cmdline >/dev/null; cat /proc/[0-9]*/cmdline | grep -c 777"),
            ..ExecSpec::default()
        };
        for _ in 0..100 {
            let mut session = runtime.exec(&id, count.clone()).await.expect("exec");
            // The counting shell itself has the number in its arguments.
            if all(session.stdout.take()).await.trim() == "1" && session.control.wait().await.is_ok() {
                let alone = ExecSpec { argv: argv("cat /proc/[0-9]*/comm"), ..ExecSpec::default() };
                let mut session = runtime.exec(&id, alone).await.expect("exec");
                assert_eq!(all(session.stdout.take()).await.matches("sleep").count(), 1);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the program lives on");
    });
}

#[test]
fn a_session_that_nobody_waits_for_leaves_no_program() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "d2").await;
        let id = run(&runtime, "d2", shell("main", &busybox(&runtime), "sleep 1000")).await;
        // Given up at any moment: before the shim looks, while it starts the program, when it answers.
        for patience in 0..12 {
            let spec = ExecSpec { argv: argv("exec sleep 777"), ..ExecSpec::default() };
            let waits = runtime.exec(&id, spec);
            let _ = tokio::time::timeout(Duration::from_millis(4 * patience), waits).await;
        }
        let mut left = String::new();
        for _ in 0..100 {
            let list = ExecSpec { argv: argv("cat /proc/[0-9]*/comm"), ..ExecSpec::default() };
            let mut session = runtime.exec(&id, list).await.expect("exec");
            left = all(session.stdout.take()).await;
            if left.matches("sleep").count() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("programs live on: {left}");
    });
}

#[test]
fn attach_talks_to_the_containers_own_program() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "e1").await;
        let mut spec =
            shell("main", &busybox(&runtime), "while read x; do echo got $x; done; echo end; exit 6");
        (spec.stdin, spec.stdin_once) = (true, true);
        let id = run(&runtime, "e1", spec).await;
        let mut session = runtime.attach(&id, true).await.expect("attaches");
        let mut stdin = session.stdin.take().expect("stdin");
        stdin.write_all(b"one\ntwo\n").await.expect("writes");
        drop(stdin);
        assert_eq!(all(session.stdout.take()).await, "got one\ngot two\nend\n");
        assert_eq!(session.control.wait().await.expect("ends"), 6);
        assert!(log(&runtime, &id).await.contains("stdout F got two\n"), "the log has it too");
    });
}

#[test]
fn a_container_with_a_terminal_can_be_attached() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "f1").await;
        let mut spec = shell("main", &busybox(&runtime), "tty; read x; echo got $x; exit 2");
        (spec.stdin, spec.tty) = (true, true);
        let id = run(&runtime, "f1", spec).await;
        let mut session = runtime.attach(&id, true).await.expect("attaches");
        assert!(session.stderr.is_none());
        session.control.resize(80, 24).expect("resizes");
        session.stdin.as_mut().expect("stdin").write_all(b"me\n").await.expect("writes");
        assert_eq!(session.control.wait().await.expect("ends"), 2);
        assert!(all(session.stdout.take()).await.contains("got me"));
        assert!(
            log(&runtime, &id).await.contains("/dev/pts/")
                || log(&runtime, &id).await.contains("/dev/console")
        );
    });
}
