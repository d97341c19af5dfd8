//! Real containers: start, exit codes, logs, limits, errors, clean removal.

mod common;

use common::*;
use daymark_node::runtime::*;

#[test]
fn a_container_runs_and_its_output_and_exit_code_are_kept() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "a1").await;
        let image = busybox(&runtime);
        let script = "echo out; echo err >&2; hostname; cat /etc/resolv.conf; exit 3";
        let (log, exit) = output(&runtime, "a1", shell("main", &image, script)).await;
        assert!(log.contains("stdout F out\n") && log.contains("stderr F err\n"), "{log}");
        assert!(log.contains("stdout F pod-a1\n") && log.contains("stdout F nameserver 10.96.0.10\n"), "{log}");
        assert_eq!((exit.code, exit.signal, exit.reason.as_str()), (3, None, "Error"));
        runtime.remove_sandbox("a1").await.expect("removes");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}
