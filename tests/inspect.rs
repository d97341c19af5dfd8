//! Looking at what is programmed: `dump`, `verify` and `top services`, also when no agent runs, and what
//! Events say.

mod support;

use serde_json::Value;
use support::{Cluster, Laptop, check, eventually};

fn front_end(cluster: &Cluster<'_>) {
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    cluster.laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}:\n{text}"))
}

/// Exit code and output of `daymark verify`.
fn verify(laptop: &Laptop, args: &[&str]) -> (i32, String) {
    let done = laptop.output(&[&[env!("CARGO_BIN_EXE_daymark"), "verify"], args].concat());
    (done.status.code().unwrap_or(-1), support::text(&done.stdout) + &support::text(&done.stderr))
}

#[test]
fn what_is_programmed_is_shown_compared_and_counted() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    let node = cluster.node_ips().remove(0);
    for _ in 0..4 {
        cluster.curl(&format!("http://{node}:30008")).expect("the page");
    }
    let (code, text) = verify(&laptop, &[]);
    assert_eq!(code, 0, "{text}");

    let dumped = json(&laptop.daymark(&["dump", "--node", "node1", "-o", "json"]));
    let frontends = dumped[0]["frontends"].as_array().expect("frontends");
    let address = format!("{node}:30008");
    let port = frontends.iter().find(|row| row["address"] == address.as_str()).expect("the node port");
    assert_eq!((&port["kind"], &port["backends"]), (&"NodePort".into(), &3.into()));
    assert_eq!(port["service"], "default/myapp-service:80/TCP");
    assert_eq!(dumped[0]["flows"].as_array().map(Vec::len), Some(4));
    let table = laptop.daymark(&["dump", "--node", "node1", "backends"]);
    assert_eq!(table.lines().filter(|line| line.contains("myapp-service")).count(), 3, "{table}");

    let top = json(&laptop.daymark(&["top", "services", "-n", "default", "--interval", "0.1", "-o", "json"]));
    let web = top.as_array().and_then(|rows| rows.iter().find(|row| row["service"] == port["service"]));
    let web = web.expect("the Service");
    assert_eq!(web["connections"], 4);
    assert!(web["bytesIn"].as_u64() > Some(200) && web["bytesOut"].as_u64() > Some(200), "{web}");

    // The node's own processes reach node ports on its loopback as well.
    for host in [node.as_str(), "127.0.0.1"] {
        let page = cluster.as_process_of("node1", &format!("curl -sS -m 3 http://{host}:30008"));
        assert!(page.contains("Hello from myapp-deployment"), "{page}");
    }
}

#[test]
fn verify_finds_a_node_that_fell_behind_and_a_program_that_is_gone() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    eventually("all is as it should be", || {
        let (code, text) = verify(&laptop, &[]);
        check(code == 0, text)
    });
    laptop.daymark(&["stop", "--node", "node1"]);
    laptop.kubectl("delete service myapp-service");
    let (code, text) = verify(&laptop, &["--node", "node1"]);
    assert_eq!(code, 1, "{text}");
    let node = cluster.node_ips().remove(0);
    assert!(text.lines().any(|line| line.contains(&format!("{node}:30008/TCP")) && line.contains("nothing")));
    eventually("the other node follows", || {
        let (code, text) = verify(&laptop, &["--node", "node2"]);
        check(code == 0, text)
    });
    assert!(laptop.daymark(&["dump", "--node", "node1", "frontends"]).contains(&format!("{node}:30008")));
    laptop.daymark(&["start"]);
    eventually("started again it catches up", || {
        let (code, text) = verify(&laptop, &[]);
        check(code == 0, text)
    });

    let links = laptop.path("run").join(&laptop.name).join("bpf/node2/links");
    let uplink = std::fs::read_dir(&links)
        .expect("links")
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("uplink-"));
    std::fs::remove_file(uplink.expect("the program on the uplink").path()).expect("is removed");
    let (code, text) = verify(&laptop, &["--node", "node2"]);
    assert!(code == 0 || (code == 1 && text.contains("uplink")), "{text}");
}

#[test]
fn node_ports_are_served_where_up_was_told_to() {
    let laptop = Laptop::new();
    let cluster = laptop.up_with(&["--nodeport-addresses", "primary"]);
    front_end(&cluster);
    let node = cluster.node_ips().remove(0);
    let ask = |host: &str| {
        cluster.as_process_of("node1", &format!("curl -sS -m 3 http://{host}:30008 2>&1 || true"))
    };
    assert!(ask(&node).contains("Hello from myapp-deployment"), "{}", ask(&node));
    assert!(ask("127.0.0.1").contains("onnect"), "{}", ask("127.0.0.1"));
    eventually("it is as planned", || {
        let (code, text) = verify(&laptop, &[]);
        check(code == 0, text)
    });
    laptop.daymark(&["stop"]);
    let why = laptop.daymark_fails(&["up", "--nodeport-addresses", "10.0.0.0/8"]);
    assert!(why.contains("another --nodeport-addresses"), "{why}");
}

#[test]
fn verify_says_when_it_cannot_tell() {
    let laptop = Laptop::new();
    let (code, text) = verify(&laptop, &["--name", "none"]);
    assert_eq!(code, 2, "{text}");
    let (code, text) = verify(&laptop, &["--bpf", "/nowhere", "--node", "n1", "--kubeconfig", "/nowhere"]);
    assert!(code == 2 && text.contains("/nowhere"), "{text}");
}

#[test]
fn that_the_api_server_is_away_is_said_once() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    let lock = laptop.path("run").join(&laptop.name).join("locks/daemon");
    let pid = std::fs::read_to_string(lock).expect("its lock").trim().parse().expect("its pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("ends");
    let (code, text) = verify(&laptop, &[]);
    assert_eq!(code, 2, "{text}");
    assert!(text.starts_with("error: the API server does not say") && text.lines().count() == 1, "{text}");
    let top = ["top", "services", "--interval", "0.1", "-o", "json"];
    let top = laptop.output(&[&[env!("CARGO_BIN_EXE_daymark")], &top[..]].concat());
    let said = support::text(&top.stderr);
    assert!(top.status.success() && said.starts_with("note: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn what_a_service_does_not_get_is_told_in_an_event() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    let service = |name: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, \
             spec: {{externalIPs: [203.0.113.7], ports: [{{port: 80}}]}}}}"
        )
    };
    laptop.apply(&service("first"));
    laptop.apply(&service("second"));
    eventually("the second Service learns that the first has its address", || {
        let told = laptop.kubectl("describe service second");
        check(told.contains("FrontendTaken") && told.contains("203.0.113.7:80"), told)
    });
    let first = laptop.kubectl("describe service first");
    assert!(!first.contains("FrontendTaken"), "{first}");
}
