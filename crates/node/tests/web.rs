//! The built-in image as users meet it: pages, tiers, names, echo, readiness, a graceful end.

mod common;

use std::time::Duration;

use common::*;
use daymark_node::runtime::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

fn web(runtime: &Runtime, tag: &str, args: &[&str], env: &[(&str, &str)]) -> ContainerSpec {
    let image = runtime.images().find(&format!("daymark/web:{tag}")).expect("store").expect("built in");
    ContainerSpec {
        name: "web".into(),
        image_id: image.id,
        args: (!args.is_empty()).then(|| args.iter().map(|arg| (*arg).to_owned()).collect()),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..ContainerSpec::default()
    }
}

/// One request by hand; retries until the server listens.
async fn ask(address: &str, request: &str) -> String {
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.expect("writes");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("reads");
            return text;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{address} does not listen");
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\nHost: x\nConnection: close\n{headers}\n")
}

async fn exec(runtime: &Runtime, id: &ContainerId, argv: &[&str]) -> (String, i32) {
    let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
    let mut session = runtime.exec(id, ExecSpec { argv, ..ExecSpec::default() }).await.expect("exec");
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (session.stdout.take().expect("out"), session.stderr.take().expect("err"));
    stdout.read_to_string(&mut out).await.expect("reads");
    stderr.read_to_string(&mut err).await.expect("reads");
    (out + &err, session.control.wait().await.expect("ends"))
}

/// Gives the node an address, as its uplink would.
async fn node_address(address: &str) {
    let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
    tokio::spawn(connection);
    let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
    handle.link().set(up).execute().await.expect("lo");
    handle.address().add(1, address.parse().expect("address"), 32).execute().await.expect("adds");
}

#[test]
fn terminals_and_browsers_are_served_and_the_end_is_graceful() {
    on_node(|node| async move {
        node_address("192.0.2.11").await;
        let runtime = node.open().await;
        let ip = node.pod(&runtime, "a1").await.ips.primary();
        let id = run(&runtime, "a1", web(&runtime, "v2", &[], &[])).await;
        let text = ask(&format!("{ip}:80"), &get("/", "")).await;
        assert!(text.ends_with("Hello from pod-a1 on node1 (v2), you are 192.0.2.11\n"), "{text}");
        let page = ask(&format!("{ip}:80"), &get("/", "Accept: text/html\n")).await;
        assert!(page.contains("<h1 id=\"pod\">pod-a1</h1>") && page.contains("#059669"), "{page}");
        assert!(page.contains(&format!("<dd id=\"ip\">{ip}</dd>")) && page.contains("default"), "{page}");
        assert!(ask(&format!("{ip}:80"), &get("/json", "")).await.contains("\"requests\":2"));
        assert!(ask(&format!("{ip}:80"), &get("/readyz", "")).await.starts_with("HTTP/1.1 200"));
        ask(
            &format!("{ip}:80"),
            "POST /ready?on=false HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 0\n\n",
        )
        .await;
        assert!(ask(&format!("{ip}:80"), &get("/readyz", "")).await.starts_with("HTTP/1.1 503"));
        let (text, code) = exec(&runtime, &id, &["daymark", "web", "get", "http://127.0.0.1/hostname"]).await;
        assert_eq!((text.as_str(), code), ("pod-a1\n", 0));
        let (text, code) = exec(&runtime, &id, &["daymark", "web", "get", "http://127.0.0.1:1/"]).await;
        assert!(code == 1 && text.contains("refused"), "{text}");
        runtime.kill_container(&id, libc::SIGTERM).await.expect("signals");
        assert_eq!(ended(&runtime, &id).await.code, 0);
    });
}

#[test]
fn each_tier_finds_the_next_by_name() {
    on_node(|node| async move {
        node_address("10.96.0.10").await;
        let runtime = node.open().await;
        let mut addresses = std::collections::BTreeMap::new();
        for (uid, next) in [("db", None), ("api", Some("http://db")), ("front", Some("http://api"))] {
            let mut spec = sandbox(uid);
            spec.resolv_conf = "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n".into();
            let status = runtime.create_sandbox(spec).await.expect("sandbox");
            addresses.insert(format!("{uid}.default.svc.cluster.local"), status.ips.primary());
            let env = next.map(|url| ("BACKEND_URL", url));
            run(&runtime, uid, web(&runtime, "v1", &[], env.as_slice())).await;
        }
        let front = addresses["front.default.svc.cluster.local"];
        tokio::spawn(names(addresses));
        let text = ask(&format!("{front}:80"), &get("/", "")).await;
        assert!(text.contains("Hello from pod-front") && text.contains("\n-> Hello from pod-api"), "{text}");
        assert!(text.contains("\n-> -> Hello from pod-db"), "{text}");
    });
}

/// A name server for the cluster: A records only.
async fn names(addresses: std::collections::BTreeMap<String, std::net::IpAddr>) {
    let socket = UdpSocket::bind("10.96.0.10:53").await.expect("binds");
    let mut buffer = [0; 512];
    loop {
        let (count, client) = socket.recv_from(&mut buffer).await.expect("receives");
        let query = &buffer[..count];
        let (mut name, mut at) = (Vec::new(), 12);
        while query[at] != 0 {
            let length = usize::from(query[at]);
            name.push(String::from_utf8_lossy(&query[at + 1..=at + length]).into_owned());
            at += length + 1;
        }
        let question = &query[12..at + 5];
        let address = addresses.get(&name.join(".")).filter(|_| query[at + 2] == 1);
        let known = addresses.contains_key(&name.join("."));
        let mut answer = query[..2].to_vec();
        answer.extend([
            0x85,
            if known { 0x80 } else { 0x83 },
            0,
            1,
            0,
            u8::from(address.is_some()),
            0,
            0,
            0,
            0,
        ]);
        answer.extend(question);
        if let Some(std::net::IpAddr::V4(ip)) = address {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
            answer.extend(ip.octets());
        }
        socket.send_to(&answer, client).await.expect("sends");
    }
}

#[test]
fn tcp_and_udp_are_echoed() {
    on_node(|node| async move {
        node_address("192.0.2.11").await;
        let runtime = node.open().await;
        let ip = node.pod(&runtime, "c1").await.ips.primary();
        run(
            &runtime,
            "c1",
            web(&runtime, "v1", &["--tcp-echo", "7", "--udp-echo", "7", "--port", "8080"], &[]),
        )
        .await;
        ask(&format!("{ip}:8080"), &get("/healthz", "")).await;
        let mut stream = TcpStream::connect((ip, 7)).await.expect("connects");
        stream.write_all(b"hello").await.expect("writes");
        stream.shutdown().await.expect("closes");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("reads");
        assert_eq!(text, "hello");
        let socket = UdpSocket::bind("0.0.0.0:0").await.expect("binds");
        socket.connect((ip, 7)).await.expect("connects");
        for (sent, wanted) in [("ping", "ping"), ("hostname", "pod-c1\n"), ("clientip", "192.0.2.11\n")] {
            socket.send(sent.as_bytes()).await.expect("sends");
            let mut buffer = [0; 64];
            let count = socket.recv(&mut buffer).await.expect("receives");
            assert_eq!(std::str::from_utf8(&buffer[..count]), Ok(wanted));
        }
    });
}
