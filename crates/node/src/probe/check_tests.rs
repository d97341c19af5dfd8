//! Attempts against servers on loopback.

use k8s_openapi::api::core::v1::ContainerPort;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

struct Shell;

#[async_trait]
impl Exec for Shell {
    async fn run(&self, argv: &[String]) -> Result<(i32, String), String> {
        match argv[0].as_str() {
            "hang" => std::future::pending().await,
            "missing" => Err("executable file not found in $PATH".into()),
            word => Ok((argv.len() as i32 - 1, format!("{word} said no"))),
        }
    }
}

fn target(ports: Vec<ContainerPort>) -> Target {
    let container = Container { ports: Some(ports), ..Container::default() };
    Target { ip: "127.0.0.1".parse().expect("ip"), container: Arc::new(container), exec: Arc::new(Shell) }
}

async fn run(probe: serde_json::Value) -> Outcome {
    let probe: Probe = serde_json::from_value(probe).expect("a probe");
    check(&probe, &target(vec![])).await
}

/// Answers each connection with the next response; returns the port and the requests.
async fn serve(responses: Vec<String>) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let (requests, received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for response in responses {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut buffer = vec![0; 4096];
            let n = stream.read(&mut buffer).await.expect("read");
            requests.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).ok();
            stream.write_all(response.as_bytes()).await.ok();
        }
    });
    (port, received)
}

fn answer(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn http_passes_from_200_to_399() {
    for (status, passes) in [("200 OK", true), ("399 Odd", true), ("404 No", false), ("503 Down", false)] {
        let (port, _) = serve(vec![answer(status, "")]).await;
        let outcome = run(json!({"httpGet": {"path": "/x", "port": port}})).await;
        let code = &status[..3];
        let want = if passes {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("HTTP probe failed with statuscode: {code}"))
        };
        assert_eq!(outcome, want, "{status}");
    }
}

#[tokio::test]
async fn http_sends_the_given_headers_and_path() {
    let (port, mut requests) = serve(vec![answer("200 OK", "")]).await;
    let headers = json!([{"name": "Host", "value": "shop.example"}, {"name": "X-Probe", "value": "1"},
        {"name": "Accept", "value": ""}]);
    run(json!({"httpGet": {"path": "healthz?full=1", "port": port, "httpHeaders": headers}})).await;
    let request = requests.recv().await.expect("a request").to_lowercase();
    assert!(request.starts_with("get /healthz?full=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("host: shop.example\r\n") && request.contains("x-probe: 1\r\n"), "{request}");
    assert!(request.contains("user-agent: kube-probe/") && !request.contains("accept:"), "{request}");
    assert_eq!(request.matches("host:").count(), 1);
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let (port, mut requests) =
        serve(vec![answer("302 Found", "Location: /next\r\n"), answer("500 Bad", "")]).await;
    let outcome = run(json!({"httpGet": {"port": port}})).await;
    assert_eq!(outcome, Outcome::Failed("HTTP probe failed with statuscode: 500".into()));
    requests.recv().await.expect("first");
    assert!(requests.recv().await.expect("second").starts_with("GET /next "));
    let (port, _) = serve(vec![answer("302 Found", "Location: http://other.example/\r\n")]).await;
    let outcome = run(json!({"httpGet": {"port": port}})).await;
    assert!(matches!(outcome, Outcome::Warned(_)), "{outcome:?}");
}

#[tokio::test]
async fn refusal_and_silence_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let silent = listener.local_addr().expect("address").port();
    let closed = {
        let l = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        l.local_addr().expect("address").port()
    };
    let refused = format!("dial tcp 127.0.0.1:{closed}: connect: connection refused");
    assert_eq!(run(json!({"tcpSocket": {"port": closed}})).await, Outcome::Failed(refused.clone()));
    let get = run(json!({"httpGet": {"port": closed, "path": "/a"}})).await;
    assert_eq!(get, Outcome::Failed(format!("Get \"http://127.0.0.1:{closed}/a\": {refused}")));
    assert_eq!(run(json!({"tcpSocket": {"port": silent}})).await, Outcome::Passed);
    let Outcome::Failed(why) = run(json!({"httpGet": {"port": silent}, "timeoutSeconds": 1})).await else {
        panic!("a silent server must fail the probe")
    };
    assert!(why.contains("context deadline exceeded"), "{why}");
}

#[tokio::test]
async fn exec_passes_on_zero_and_times_out() {
    assert_eq!(run(json!({"exec": {"command": ["true"]}})).await, Outcome::Passed);
    let no = run(json!({"exec": {"command": ["cat", "/gone"]}})).await;
    assert_eq!(no, Outcome::Failed("cat said no".into()));
    let missing = run(json!({"exec": {"command": ["missing"]}})).await;
    assert_eq!(missing, Outcome::Failed("executable file not found in $PATH".into()));
    let Outcome::Failed(why) = run(json!({"exec": {"command": ["hang"]}, "timeoutSeconds": 1})).await else {
        panic!("a hanging command must fail the probe")
    };
    assert!(why.contains("timed out after 1s"), "{why}");
    let Outcome::Failed(why) = run(json!({"grpc": {"port": 1}})).await else {
        panic!("nobody listens there")
    };
    assert!(why.contains("failed to connect service"), "{why}");
}

#[test]
fn named_ports_are_those_of_the_container() {
    let port = ContainerPort { name: Some("web".into()), container_port: 8080, ..ContainerPort::default() };
    let c = Container { ports: Some(vec![port]), ..Container::default() };
    let by_name = |n: &str| resolve_port(&IntOrString::String(n.into()), &c);
    assert_eq!(by_name("web"), Ok(8080));
    assert_eq!(by_name("9090"), Ok(9090));
    assert_eq!(by_name("none"), Err("couldn't find container port \"none\"".into()));
    assert!(resolve_port(&IntOrString::Int(70000), &c).is_err());
}
