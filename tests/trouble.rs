//! Bad input and trouble: a clear error, nothing lost, nothing half-done.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use support::{Laptop, check, eventually};

fn traces(laptop: &Laptop) -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["state", "run"] {
        if laptop.path(dir).join(&laptop.name).exists() {
            found.push(format!("{dir} folder"));
        }
    }
    let links = laptop.run(&["ip", "-o", "link"]);
    found.extend(links.lines().filter(|l| !l.contains(": lo:")).map(str::to_owned));
    found.extend(laptop.run(&["ip", "route", "show", "type", "unreachable"]).lines().map(str::to_owned));
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let below = laptop.path("run").display().to_string();
    found.extend(mounts.lines().filter(|l| l.contains(&below)).map(str::to_owned));
    for mount in mounts.lines().filter(|l| l.contains(" cgroup")) {
        let at = mount.split(' ').nth(1).unwrap_or_default();
        if fs::exists(format!("{at}/daymark/{}", laptop.name)).unwrap_or(false) {
            found.push(format!("cgroup below {at}"));
        }
    }
    found
}

#[test]
fn down_leaves_no_trace() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    laptop.daymark(&["down"]);
    assert_eq!(traces(&laptop), Vec::<String>::new());
    let config = fs::read_to_string(laptop.path("kubeconfig")).expect("the kubeconfig");
    assert!(!config.contains("daymark"), "{config}");
}

#[test]
fn an_interrupted_up_leaves_nothing_behind() {
    for after in [0, 30, 100, 250, 500, 900] {
        let laptop = Laptop::new();
        let mut up =
            laptop.command(&[env!("CARGO_BIN_EXE_daymark"), "up", "--no-egress"]).spawn().expect("daymark");
        std::thread::sleep(Duration::from_millis(after));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(up.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let status = up.wait().expect("its end");
        if status.success() {
            // It was faster than the interrupt: a whole cluster, not a half one.
            laptop.daymark(&["down"]);
        }
        assert_eq!(traces(&laptop), Vec::<String>::new(), "interrupted after {after} ms");
    }
}

#[test]
fn a_second_up_is_refused_and_harms_nothing() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    let why = laptop.daymark_fails(&["up", "--no-egress"]);
    let named = format!("daymark status --name {}", laptop.name);
    assert!(why.contains("is already running") && why.contains(&named), "{why}");
    laptop.daymark(&["stop", "--node", "node2"]);
    let why = laptop.daymark_fails(&["up", "--no-egress"]);
    assert!(why.contains("but for node2") && why.contains("daymark start --name"), "{why}");
    assert_eq!(cluster.node_ips().len(), 2);
}

#[test]
fn a_taken_api_port_is_named_before_anything_is_made() {
    let laptop = Laptop::new();
    let listener = listen_on(&laptop, "127.0.0.1:6443");
    let why = laptop.daymark_fails(&["up", "--no-egress"]);
    assert!(why.contains("127.0.0.1:6443") && why.contains("--api-port"), "{why}");
    assert_eq!(traces(&laptop), Vec::<String>::new());
    assert!(!laptop.path("run").join(format!(".{}.lock", laptop.name)).exists(), "nor its lock");
    drop(listener);
}

/// A listener on the laptop, which is another network namespace than the test's.
fn listen_on(laptop: &Laptop, address: &'static str) -> TcpListener {
    let namespace = fs::File::open(laptop.path("laptop")).expect("the namespace");
    std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("the laptop");
        TcpListener::bind(address).expect("a free port")
    })
    .join()
    .expect("a listener")
}

#[test]
fn a_subnet_that_collides_is_refused_and_the_route_named() {
    let laptop = Laptop::new();
    laptop.run(&["ip", "link", "add", "office", "type", "veth", "peer", "name", "far"]);
    laptop.run(&["ip", "addr", "add", "172.30.0.5/24", "dev", "office"]);
    laptop.run(&["ip", "link", "set", "office", "up"]);
    let why = laptop.daymark_fails(&["up", "--no-egress", "--lan", "172.30.0.0/24"]);
    assert!(why.contains("172.30.0.0/24") && why.contains("office"), "{why}");
    laptop.daymark(&["up", "--no-egress"]);
    let status = laptop.daymark(&["status"]);
    assert!(status.contains("172.30.1.0/24"), "another LAN was to be chosen: {status}");
}

#[test]
fn a_damaged_store_is_refused_and_not_wiped() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("service-definition.yml");
    laptop.daymark(&["stop"]);
    let store = largest_file(&laptop.path("state").join(&laptop.name).join("store"));
    let whole = fs::read(&store).expect("the store");
    fs::write(&store, &whole[..whole.len() / 3]).expect("truncating");
    let cut = fs::read(&store).expect("the store");
    let why = laptop.daymark_fails(&["start"]);
    assert!(why.contains(&store.display().to_string()), "{why}");
    assert_eq!(fs::read(&store).expect("the store"), cut, "it was written to");
    fs::write(&store, whole).expect("mending");
    laptop.daymark(&["start"]);
    assert!(laptop.kubectl("get services").contains("myapp-service"));
}

fn largest_file(dir: &std::path::Path) -> std::path::PathBuf {
    let files = fs::read_dir(dir).expect("the store's folder").flatten().map(|e| e.path());
    files.max_by_key(|p| fs::metadata(p).map_or(0, |m| m.len())).expect("a file")
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("service-definition.yml");
    laptop.kubectl("create configmap kept --from-literal=a=b");
    let pid = pid_of(&laptop, "daemon");
    laptop.run(&["kill", "-9", &pid]);
    laptop.daymark(&["start"]);
    assert!(laptop.kubectl("get services").contains("myapp-service"));
    assert_eq!(laptop.kubectl("get configmap kept -o jsonpath={.data.a}"), "b");
}

#[test]
fn watches_are_not_bounded_by_the_files_a_shell_allows() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    laptop.daymark(&["stop"]);
    let start = format!("ulimit -Sn 1024 && exec {} start", env!("CARGO_BIN_EXE_daymark"));
    laptop.run(&["sh", "-c", &start]);
    let pid = pid_of(&laptop, "daemon");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let files = limits.lines().find(|l| l.starts_with("Max open files")).expect("of files");
    let [.., soft, hard, _] = files.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{files}") };
    assert_eq!(soft, hard);
}

fn pid_of(laptop: &Laptop, process: &str) -> String {
    let status: serde_json::Value =
        serde_json::from_str(&laptop.daymark(&["status", "-o", "json"])).expect("JSON");
    let rows = status["processes"].as_array().expect("processes");
    let row = rows.iter().find(|r| r["process"] == process).expect("the process");
    row["pid"].to_string()
}

#[test]
fn a_killed_node_process_drops_no_connection_and_adopts_its_pods() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let node = cluster.node_ips()[0].clone();
    eventually("the Service answers", || cluster.curl(&format!("http://{node}:30008/hostname")));
    let before = laptop.kubectl("get pods -o jsonpath={range.items[*]}{.metadata.name}={.status.containerStatuses[0].containerID}{\"\\n\"}{end}");
    laptop.run(&["kill", "-9", &pid_of(&laptop, "node1")]);
    for _ in 0..50 {
        cluster.curl(&format!("http://{node}:30008/hostname")).expect("pinned programs serve on");
    }
    laptop.daymark(&["start"]);
    eventually("the node is ready again", || {
        let nodes = laptop.kubectl("get nodes");
        check(nodes.matches(" Ready ").count() == 2, nodes)
    });
    let after = laptop.kubectl("get pods -o jsonpath={range.items[*]}{.metadata.name}={.status.containerStatuses[0].containerID}{\"\\n\"}{end}");
    assert_eq!(before, after, "pods were replaced instead of adopted");
}

#[test]
fn a_node_that_comes_back_is_ready_and_keeps_its_pods() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    laptop.apply(ECHO);
    laptop.kubectl("wait --for=condition=Ready pod/echo --timeout=60s");
    let id = "get pod echo -o jsonpath={.metadata.uid}={.status.containerStatuses[0].containerID}";
    let before = laptop.kubectl(id);
    laptop.daymark(&["stop", "--node", "node1"]);
    let ready = |word: &str| {
        let nodes = laptop.kubectl("get node node1 --no-headers");
        check(nodes.split_whitespace().nth(1) == Some(word), nodes)
    };
    eventually("the node is missed", || ready("NotReady"));
    laptop.daymark(&["start"]);
    eventually("the node is back", || ready("Ready"));
    laptop.kubectl("wait --for=condition=Ready pod/echo --timeout=60s");
    assert_eq!(before, laptop.kubectl(id), "the pod was replaced");
}

const ECHO: &str = "
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec: {nodeName: node1, containers: [{name: echo, image: 'daymark/web:v1', args: ['--tcp-echo', '7'], readinessProbe: {tcpSocket: {port: 7}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {type: NodePort, selector: {app: echo}, ports: [{port: 7, nodePort: 30007}]}
";

#[test]
fn an_open_connection_outlives_the_agents_of_both_nodes() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    laptop.apply(ECHO);
    laptop.kubectl("wait --for=condition=Ready pod/echo --timeout=60s");
    let address = format!("{}:30007", cluster.node_ips()[1]);
    // Dialled at node2, served on node1: both nodes translate it.
    let mut stream = eventually("the echo answers", || {
        let mut stream = dial(&laptop, &address).map_err(|e| e.to_string())?;
        echo(&mut stream, b"before").map_err(|e| e.to_string()).map(|()| stream)
    });
    for node in ["node1", "node2"] {
        laptop.run(&["kill", "-9", &pid_of(&laptop, node)]);
    }
    echo(&mut stream, b"without agents").expect("pinned programs serve on");
    laptop.daymark(&["start"]);
    echo(&mut stream, b"after").expect("the new agents take over");
}

fn dial(laptop: &Laptop, address: &str) -> std::io::Result<TcpStream> {
    let namespace = fs::File::open(laptop.path("laptop")).expect("the namespace");
    let address = address.parse().expect("an address");
    std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        TcpStream::connect_timeout(&address, Duration::from_secs(2))
    })
    .join()
    .expect("a thread on the laptop")
}

fn echo(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text);
    Ok(())
}

#[test]
fn stop_and_start_keep_the_data() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    laptop.daymark(&["stop"]);
    laptop.daymark(&["start"]);
    let node = cluster.node_ips()[0].clone();
    eventually("the Service answers again", || cluster.curl(&format!("http://{node}:30008/hostname")));
}

#[test]
fn objects_that_are_wrong_are_refused_with_the_field_and_the_value() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("service-definition.yml");
    let service =
        |spec: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: wrong}}\nspec: {spec}\n");
    let cases = [
        (
            service("{type: NodePort, ports: [{port: 80, nodePort: 30008}]}"),
            "provided port is already allocated",
        ),
        (
            service("{type: NodePort, ports: [{port: 80, nodePort: 80}]}"),
            "The range of valid ports is 30000-32767",
        ),
        (service("{ports: [{port: 70000}]}"), "must be between 1 and 65535, inclusive"),
        (service("{ports: [{name: a, port: 80}, {name: a, port: 81}]}"), "Duplicate value: \"a\""),
        (service("{ports: [{port: 80}], selector: {\"bad key!\": x}}"), "spec.selector"),
        (service("{ports: [{port: eighty}]}"), "unmarshal"),
        (service("{porst: [{port: 80}]}"), "unknown field \"spec.porst\""),
        (service("{ports: []}"), "spec.ports: Required value"),
    ];
    for (manifest, expected) in cases {
        let file = laptop.path("wrong.yml");
        fs::write(&file, &manifest).expect("a manifest");
        let why = laptop.fails(&["kubectl", "create", "-f", &file.display().to_string()]);
        assert!(why.contains(expected), "for {manifest}\nexpected: {expected}\ngot: {why}");
    }
    assert!(!laptop.kubectl("get services").contains("wrong"));
}

#[test]
fn a_service_network_that_is_used_up_says_so() {
    let laptop = Laptop::new();
    laptop.daymark(&["up", "--no-egress", "--service-cidr", "10.99.0.0/24"]);
    let mut manifest = String::new();
    for i in 0..260 {
        manifest += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        );
    }
    let file = laptop.path("many.yml");
    fs::write(&file, &manifest).expect("a manifest");
    let why = laptop.fails(&["kubectl", "create", "-f", &file.display().to_string()]);
    assert!(why.contains("range is full"), "{why}");
    laptop.kubectl("delete service s0");
    laptop.apply("apiVersion: v1\nkind: Service\nmetadata: {name: again}\nspec: {ports: [{port: 80}]}\n");
}

#[test]
fn pods_that_cannot_run_say_why() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    laptop.kubectl("run missing --image=daymark/nothing:1 --image-pull-policy=Never");
    laptop.kubectl("run exits --image=daymark/web:v1 --command -- /daymark web get http://127.0.0.1:1/");
    laptop.kubectl("run absent --image=daymark/web:v1 --command -- /no/such/program");
    for (pod, word) in
        [("missing", "ErrImageNeverPull"), ("exits", "CrashLoopBackOff"), ("absent", "/no/such/program")]
    {
        eventually(pod, || {
            let described = laptop.kubectl(&format!("describe pod {pod}"));
            check(described.contains(word), described)
        });
    }
}

#[test]
fn clusters_by_name_live_side_by_side() {
    let laptop = Laptop::new();
    let _first = laptop.up();
    let second = format!("{}b", laptop.name);
    laptop.daymark(&["up", "--no-egress", "--name", &second, "--api-port", "16443", "--nodes", "1"]);
    let contexts = laptop.kubectl("config get-contexts -o name");
    assert_eq!(contexts.lines().count(), 2, "{contexts}");
    laptop.daymark(&["down", "--name", &second]);
    assert!(laptop.kubectl(&format!("--context daymark-{} get nodes", laptop.name)).contains("node2"));
}

#[test]
fn unknown_names_and_half_built_clusters_are_told_apart() {
    let laptop = Laptop::new();
    let why = laptop.daymark_fails(&["status", "--name", "nowhere"]);
    assert!(why.contains("there is no cluster \"nowhere\""), "{why}");
    let why = laptop.daymark_fails(&["up", "--name", "Bad_Name"]);
    assert!(why.contains("Bad_Name") && why.contains("lower-case"), "{why}");
    fs::create_dir_all(laptop.path("state").join(&laptop.name)).expect("a half-built cluster");
    fs::create_dir_all(laptop.path("run").join(&laptop.name).join("netns")).expect("a half-built cluster");
    laptop.daymark(&["down"]);
    assert_eq!(traces(&laptop), Vec::<String>::new());
}
