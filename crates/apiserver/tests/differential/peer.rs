//! The two servers, and sessions with them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;

use super::case::Case;
use super::support::{Client, Cluster};

/// How long a server may take to become ready, or to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server.
pub struct Peer {
    pub client: Client,
    pub kubeconfig: PathBuf,
    _processes: Vec<Killed>,
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Peer {
    pub fn ours(cluster: &Cluster) -> Self {
        Self::new(cluster, cluster.address, "ours", Vec::new())
    }

    fn new(cluster: &Cluster, address: SocketAddr, name: &str, processes: Vec<Killed>) -> Self {
        let kubeconfig = cluster.dir.path().join(format!("{name}.kubeconfig"));
        let text = cluster.pki.kubeconfig(address, "kubernetes-admin", "system:masters");
        std::fs::write(&kubeconfig, text).unwrap();
        let client = Client::new(&cluster.pki, address, Some(("kubernetes-admin", "system:masters")));
        Self { client, kubeconfig, _processes: processes }
    }

    /// Starts etcd and kube-apiserver, which trust the same certificates.
    pub async fn theirs(cluster: &Cluster, assets: &Path) -> Self {
        let dir = cluster.dir.path().join("theirs");
        std::fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        let (certificate, key) = cluster.pki.server();
        for (name, text) in [("ca.crt", &cluster.pki.ca_pem), ("tls.crt", &certificate), ("tls.key", &key)] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let (client, other, secure) = (free_port(), free_port(), free_port());
        let start = |program: &str, arguments: &[String]| {
            let log = std::fs::File::create(dir.join(format!("{program}.log"))).unwrap();
            let mut command = Command::new(assets.join(program));
            command.args(arguments).stdout(Stdio::null()).stderr(log);
            Killed(command.spawn().unwrap_or_else(|e| panic!("{program}: {e}")))
        };
        let etcd = start(
            "etcd",
            &[
                format!("--data-dir={}", path("etcd")),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--advertise-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls=http://127.0.0.1:{other}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{other}"),
                format!("--initial-cluster=default=http://127.0.0.1:{other}"),
                "--unsafe-no-fsync".into(),
                "--log-level=error".into(),
            ],
        );
        let api = start(
            "kube-apiserver",
            &[
                format!("--etcd-servers=http://127.0.0.1:{client}"),
                "--service-cluster-ip-range=10.96.0.0/16".into(),
                "--authorization-mode=RBAC".into(),
                format!("--secure-port={secure}"),
                "--advertise-address=192.0.2.1".into(),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                "--disable-admission-plugins=ServiceAccount".into(),
                format!("--service-account-key-file={}", path("tls.crt")),
                format!("--service-account-signing-key-file={}", path("tls.key")),
                format!("--client-ca-file={}", path("ca.crt")),
                format!("--tls-cert-file={}", path("tls.crt")),
                format!("--tls-private-key-file={}", path("tls.key")),
                "--watch-cache=true".into(),
            ],
        );
        let address = SocketAddr::from(([127, 0, 0, 1], secure));
        let peer = Self::new(cluster, address, "theirs", vec![etcd, api]);
        peer.until_ready(&dir).await;
        peer
    }

    async fn until_ready(&self, dir: &Path) {
        let start = Instant::now();
        loop {
            let asked = Request::get("/readyz").header("host", "test").body(Full::default()).unwrap();
            if let Ok(answer) = self.client.send(asked).await
                && answer.status() == 200
            {
                return;
            }
            let log = || std::fs::read_to_string(dir.join("kube-apiserver.log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "kube-apiserver does not get ready:\n{}", log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What a server said.
#[derive(Debug)]
pub struct Said {
    pub code: u16,
    pub media: String,
    pub warnings: Vec<String>,
    pub body: Value,
}

/// Requests one after the other, some of which build on the answers before.
pub struct Session<'a> {
    peer: &'a Peer,
    sender: Option<SendRequest<Full<Bytes>>>,
    last: Value,
    token: String,
}

impl<'a> Session<'a> {
    pub fn new(peer: &'a Peer) -> Self {
        Self { peer, sender: None, last: Value::Null, token: String::new() }
    }

    pub async fn ask(&mut self, case: &Case) -> Said {
        let said = self.answer(case).await;
        if said.code < 300 && said.body["metadata"]["name"].is_string() && said.body["kind"] != "Status" {
            self.last = said.body.clone();
        }
        if let Some(token) = said.body["metadata"]["continue"].as_str() {
            self.token = token.to_owned();
        }
        said
    }

    fn text(&self, text: &str) -> String {
        let of = |field: &str| self.last["metadata"][field].as_str().unwrap_or_default();
        text.replace("{rv}", of("resourceVersion"))
            .replace("{uid}", of("uid"))
            .replace("{continue}", &self.token)
    }

    fn body(&self, case: &Case) -> Bytes {
        if let Some(raw) = &case.raw {
            return self.text(raw).into();
        }
        if let Some(bytes) = &case.bytes {
            return base64::engine::general_purpose::STANDARD.decode(bytes).unwrap().into();
        }
        let mut body = if case.live { self.last.clone() } else { case.body.clone() };
        if !case.with.is_null() {
            json_patch::merge(&mut body, &case.with);
        }
        match body {
            Value::Null => Bytes::new(),
            body if case.media == "application/yaml" => serde_yaml::to_string(&body).unwrap().into(),
            body => self.text(&body.to_string()).into(),
        }
    }

    async fn answer(&mut self, case: &Case) -> Said {
        let watch = case.method == "WATCH";
        let method = if watch { "GET" } else { case.method.as_str() };
        let mut path = self.text(&case.at);
        if watch {
            let sign = if path.contains('?') { '&' } else { '?' };
            path.push_str(&format!("{sign}watch=true&timeoutSeconds=1"));
        }
        let body = self.body(case);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "test")
            .header(USER_AGENT, "probe/1")
            .header(ACCEPT, case.accepts());
        if !body.is_empty() || !case.media.is_empty() {
            request = request.header(CONTENT_TYPE, case.content_type());
        }
        let request = request.body(Full::new(body)).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.send(request)).await;
        let response = response.unwrap_or_else(|_| panic!("{}: no answer", case.name));
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(PATIENCE, body.collect()).await;
        let bytes = bytes.unwrap_or_else(|_| panic!("{}: the answer does not end", case.name));
        let bytes = bytes.map(|c| c.to_bytes()).unwrap_or_default();
        let header = |name: &str| {
            let all = parts.headers.get_all(name).iter();
            all.filter_map(|v| v.to_str().ok()).map(str::to_owned).collect::<Vec<_>>()
        };
        Said {
            code: parts.status.as_u16(),
            media: header("content-type").join(","),
            warnings: header("warning"),
            body: if watch { lines(&bytes) } else { parse(&bytes) },
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> http::Response<hyper::body::Incoming> {
        for fresh in [false, true] {
            if fresh || self.sender.as_ref().is_none_or(SendRequest::is_closed) {
                self.sender = Some(self.peer.client.connect().await.unwrap());
            }
            let sender = self.sender.as_mut().unwrap();
            if sender.ready().await.is_ok()
                && let Ok(response) = sender.send_request(request.clone()).await
            {
                return response;
            }
        }
        panic!("the server closes every connection");
    }
}

fn parse(bytes: &[u8]) -> Value {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    serde_json::from_slice(bytes).or_else(|_| serde_yaml::from_str(&text())).unwrap_or_else(|_| text().into())
}

fn lines(bytes: &[u8]) -> Value {
    bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
}
