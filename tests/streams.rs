//! What kubectl streams, by the stock kubectl: port-forward, exec, attach, cp and debug over WebSocket and over
//! SPDY, the proxies, and host ports.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use support::{Cluster, Killed, Laptop, check, eventually, text, toolbox};

/// What makes kubectl speak WebSocket, or SPDY as older ones do.
const FORMS: [&str; 2] = ["true", "false"];

fn kubectl(laptop: &Laptop, websocket: &str, args: &[&str]) -> Command {
    let mut command = laptop.command(&[&["kubectl"], args].concat());
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websocket);
    command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websocket);
    command
}

/// Runs kubectl with this input: exit code, output and complaints.
fn with_input(mut command: Command, input: &str) -> (Option<i32>, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("written");
    let done = child.wait_with_output().expect("its end");
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

/// A port-forward that listens; it ends when dropped.
fn forward(laptop: &Laptop, websocket: &str, args: &[&str]) -> Killed {
    let mut command = kubectl(laptop, websocket, &[&["port-forward"], args].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kubectl");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.starts_with("Forwarding from 127.0.0.1:"), "{first}");
    // Whoever listens says so for each connection.
    std::thread::spawn(move || lines.for_each(drop));
    Killed(child)
}

#[test]
fn kubectl_reaches_into_pods_as_on_kubernetes() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    toolbox(&laptop);
    for websocket in FORMS {
        ports_are_forwarded(&cluster, websocket);
        programs_run_and_end(&laptop, websocket);
        files_are_copied(&laptop, websocket);
        containers_are_attached(&laptop, websocket);
    }
    a_hostile_archive_stays_in_its_place(&laptop);
    proxies_answer(&laptop);
    host_ports_are_served(&cluster);
    a_running_pod_is_debugged(&laptop);
    what_a_pod_may_not_do(&laptop);
}

fn ports_are_forwarded(cluster: &Cluster, websocket: &str) {
    let _service = forward(cluster.laptop, websocket, &["service/myapp-service", "18080:80"]);
    let _pods = forward(cluster.laptop, websocket, &["deployment/myapp-deployment", "18081:80", "18082:81"]);
    for port in [18080, 18081] {
        let page =
            eventually("the forwarded port answers", || cluster.curl(&format!("http://127.0.0.1:{port}/")));
        assert!(page.starts_with("Hello from myapp-deployment-"), "{page}");
    }
    let mut pages: Vec<_> = (0..20)
        .map(|_| {
            let url = "http://127.0.0.1:18080/";
            cluster.laptop.command(&["curl", "-sS", "--max-time", "20", url]).stdout(Stdio::piped()).spawn()
        })
        .collect();
    for page in pages.drain(..) {
        let done = page.expect("curl").wait_with_output().expect("its end");
        assert!(text(&done.stdout).starts_with("Hello from"), "many connections at once");
    }
    let refused = cluster.curl("http://127.0.0.1:18082/").expect_err("nobody listens there");
    assert!(refused.contains("Empty reply") || refused.contains("reset"), "{refused}");
}

fn programs_run_and_end(laptop: &Laptop, websocket: &str) {
    let script = "cat; echo problem >&2; exit 3";
    let exec = kubectl(laptop, websocket, &["exec", "-i", "toolbox", "--", "busybox", "sh", "-c", script]);
    let (code, out, err) = with_input(exec, "typed\n");
    assert_eq!((code, out.as_str()), (Some(3), "typed\n"));
    assert_eq!(err, "problem\ncommand terminated with exit code 3\n");
    let (code, _, err) = with_input(kubectl(laptop, websocket, &["exec", "toolbox", "--", "ghost"]), "");
    assert!(code == Some(1) && err.contains("executable file not found in $PATH"), "{err}");
    let line = format!(
        "KUBECTL_REMOTE_COMMAND_WEBSOCKETS={websocket} kubectl exec -it toolbox -- busybox sh -c 'busybox tty; exit 4'"
    );
    let tty = laptop.output(&["script", "-qec", &line, "/dev/null"]);
    assert!(text(&tty.stdout).contains("/dev/pts/0") && tty.status.code() == Some(4), "{tty:?}");
}

fn files_are_copied(laptop: &Laptop, websocket: &str) {
    let (there, back) = (laptop.path("there"), laptop.path("back"));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&there, &bytes).expect("a file");
    let _ = std::fs::remove_file(&back);
    laptop.run(&["kubectl", "exec", "toolbox", "--", "busybox", "ln", "-sf", "busybox", "/bin/tar"]);
    for (from, to) in [
        (there.display().to_string(), "toolbox:/tmp/copied".to_owned()),
        ("toolbox:/tmp/copied".to_owned(), back.display().to_string()),
    ] {
        let done = kubectl(laptop, websocket, &["cp", &from, &to]).output().expect("kubectl");
        assert!(done.status.success(), "{from} to {to}: {}", text(&done.stderr));
    }
    assert!(std::fs::read(&back).expect("the copy") == bytes, "the copy differs");
}

/// `kubectl cp` unpacks what a pod says is an archive.
fn a_hostile_archive_stays_in_its_place(laptop: &Laptop) {
    let (source, outside) = (laptop.path("hostile"), laptop.path("outside"));
    for dir in [&source, &outside] {
        std::fs::create_dir_all(dir).expect("a folder");
    }
    std::fs::write(source.join("fine"), "fine").expect("a file");
    std::fs::write(source.join("planted"), "planted").expect("a file");
    std::os::unix::fs::symlink(&outside, source.join("link")).expect("a link");
    let archive = laptop.path("hostile.tar").display().to_string();
    for (file, name) in [
        ("fine", "tmp/evil/fine"),
        ("planted", "tmp/evil/../../planted"),
        ("planted", "tmp/evil/../../../../../../../../../../tmp/daymark-test-planted"),
        ("link", "tmp/evil/link"),
        ("planted", "tmp/evil/link/planted"),
        ("planted", "/tmp/daymark-test-planted"),
    ] {
        let rename = format!("--transform=s|.*|{name}|S");
        let folder = source.display().to_string();
        laptop.run(&["tar", "-rPf", &archive, "--absolute-names", &rename, "-C", &folder, file]);
    }
    let tar = "#!/bin/busybox sh\nexec busybox cat /tmp/hostile.tar\n";
    let bytes = std::fs::read(&archive).expect("an archive");
    for (target, content) in [("/tmp/hostile.tar", bytes.as_slice()), ("/bin/tar", tar.as_bytes())] {
        let script = format!("busybox rm -f {target}; busybox cat > {target}; busybox chmod 755 {target}");
        let mut command =
            laptop.command(&["kubectl", "exec", "-i", "toolbox", "--", "busybox", "sh", "-c", &script]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("kubectl");
        child.stdin.take().expect("stdin").write_all(content).expect("written");
        assert!(child.wait().expect("its end").success());
    }
    let place = laptop.path("copies/here");
    std::fs::create_dir_all(&place).expect("a folder");
    let done = laptop.output(&["kubectl", "cp", "toolbox:/tmp/evil", &place.display().to_string()]);
    assert_eq!(std::fs::read_to_string(place.join("fine")).ok().as_deref(), Some("fine"), "{done:?}");
    let entries = |dir: &std::path::Path| std::fs::read_dir(dir).map_or(0, Iterator::count);
    assert_eq!((entries(&outside), entries(&laptop.path("copies"))), (0, 1), "{done:?}");
    for path in [laptop.path("planted"), "/tmp/daymark-test-planted".into(), "/tmp/planted".into()] {
        assert!(!path.exists(), "{} was planted: {done:?}", path.display());
    }
}

fn containers_are_attached(laptop: &Laptop, websocket: &str) {
    let run = "run once -i --rm --quiet --restart=Never --image=example/toolbox:debian --image-pull-policy=Never \
               --command -- busybox sh -c";
    let args: Vec<&str> = run.split_whitespace().chain(["read x; echo got $x; exit 5"]).collect();
    let (code, out, err) = with_input(kubectl(laptop, websocket, &args), "it\n");
    assert_eq!((code, out.as_str()), (Some(5), "got it\n"), "{err}");
    laptop.kubectl("wait --for=delete pod/once --timeout=60s");
}

fn proxies_answer(laptop: &Laptop) {
    let raw = |path: &str| laptop.kubectl(&format!("get --raw /api/v1/namespaces/default/{path}"));
    let pod = laptop.kubectl("get pods -l type=front-end -o jsonpath={.items[0].metadata.name}");
    assert_eq!(raw(&format!("pods/{pod}:80/proxy/hostname")).trim(), pod);
    for service in ["services/myapp-service", "services/myapp-service:80", "services/http:myapp-service:80"] {
        assert!(raw(&format!("{service}/proxy/hostname")).starts_with("myapp-deployment-"), "{service}");
    }
    laptop.kubectl("create service clusterip empty --tcp=80");
    let why =
        laptop.fails(&["kubectl", "get", "--raw", "/api/v1/namespaces/default/services/empty:80/proxy/"]);
    assert!(why.contains("no endpoints available for service"), "{why}");
    assert!(laptop.kubectl("get --raw /api/v1/nodes/node1/proxy/healthz").contains("ok"));
    let info = laptop.kubectl("cluster-info");
    assert!(info.contains("CoreDNS") && info.contains("services/kube-dns:dns/proxy"), "{info}");
}

fn host_ports_are_served(cluster: &Cluster) {
    let laptop = cluster.laptop;
    let node = cluster.node_ips()[0].clone();
    for (name, ip, protocol) in
        [("on-loopback", "127.0.0.1", "TCP"), ("on-lan", &node, "TCP"), ("udp", &node, "UDP")]
    {
        laptop.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: node1\n  containers:\n  \
             - name: web\n    image: daymark/web:v1\n    ports: [{{containerPort: 80, hostPort: 54321, hostIP: \
             {ip}, protocol: {protocol}}}]\n"
        ));
    }
    laptop.kubectl("wait --for=condition=Ready pod/on-loopback pod/on-lan pod/udp --timeout=60s");
    eventually("the laptop reaches the port on the LAN", || {
        let answer = cluster.curl(&format!("http://{node}:54321/hostname"))?;
        check(answer.trim() == "on-lan", answer)
    });
    let on_node = |ip: &str| {
        cluster.as_process_of("node1", &format!("curl -sS --max-time 5 http://{ip}:54321/hostname"))
    };
    assert_eq!(on_node("127.0.0.1").trim(), "on-loopback");
    assert_eq!(on_node(&node).trim(), "on-lan");
    let answer = cluster.exec("toolbox", &["curl", "-sS", &format!("http://{node}:54321/hostname")]);
    assert_eq!(answer.expect("a pod reaches it").trim(), "on-lan");
    assert!(laptop.daymark(&["verify"]).contains("The kernel holds what the API says"));
    laptop.kubectl("delete pod on-lan --now");
    eventually("the port goes with its pod", || {
        let answer = cluster.curl(&format!("http://{node}:54321/hostname"));
        check(answer.is_err(), format!("{answer:?}"))
    });
}

fn a_running_pod_is_debugged(laptop: &Laptop) {
    let debug = "debug toolbox --image=example/toolbox:debian --image-pull-policy=Never --target=toolbox -c looking -- \
                 busybox sh -c";
    let words: Vec<&str> = debug.split_whitespace().chain(["busybox ps -o args; exit 6"]).collect();
    laptop.run(&[&["kubectl"], words.as_slice()].concat());
    let status =
        "get pod toolbox -o jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}";
    eventually("the debugger ran", || {
        let code = laptop.kubectl(status);
        check(code == "6", code)
    });
    let seen = laptop.kubectl("logs toolbox -c looking");
    assert!(seen.contains("sleep infinity"), "it sees the processes of its target: {seen}");
    assert_eq!(laptop.kubectl("get pod toolbox -o jsonpath={.status.phase}"), "Running");
    let twice = laptop.fails(&[
        "kubectl",
        "patch",
        "pod",
        "toolbox",
        "--subresource=ephemeralcontainers",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/ephemeralContainers/0"}]"#,
    ]);
    assert!(twice.contains("may not be removed"), "{twice}");
}

fn what_a_pod_may_not_do(laptop: &Laptop) {
    let limit = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do busybox mkdir $d/mine 2>/dev/null && echo $d; done; true";
    let writable = laptop.run(&["kubectl", "exec", "toolbox", "--", "busybox", "sh", "-c", limit]);
    assert_eq!(writable, "", "a pod must not change its cgroups");
    laptop.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: root}\nspec:\n  securityContext: {runAsNonRoot: true}\n  \
         containers: [{name: c, image: 'example/toolbox:debian', imagePullPolicy: Never}]\n",
    );
    eventually("a pod that would run as root is told", || {
        let of = "get pod root -o jsonpath={.status.containerStatuses[0].state.waiting}";
        let waiting = laptop.kubectl(of);
        let known =
            waiting.contains("CreateContainerConfigError") && waiting.contains("image will run as root");
        check(known, waiting)
    });
}
