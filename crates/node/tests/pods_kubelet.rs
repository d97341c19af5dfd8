//! A pod from its spec to its end with real containers, watched through the kubelet API.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::pki::{Pki, pki};
use common::*;
use daymark_node::NodeConfig;
use daymark_node::env::TokenAsk;
use daymark_node::env::dns::Resolver;
use daymark_node::env::vars::{Data, Kind};
use daymark_node::pod::context::{Clock, Cluster, WriteError};
use daymark_node::pod::events::PodEvent;
use daymark_node::pod::state::Observation;
use daymark_node::pod::worker::{self, Message};
use daymark_node::pod::{Context, Directory, PodState, Settings, adopt};
use daymark_node::runtime::{PerFamily, Runtime, RuntimeEvent};
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};
use tokio_util::sync::CancellationToken;

/// The cluster on paper: what is written to it.
#[derive(Default)]
struct Paper {
    status: Mutex<PodStatus>,
    events: Mutex<Vec<String>>,
    deleted: Mutex<bool>,
}

#[async_trait]
impl Cluster for Paper {
    async fn object(&self, _: Kind, _: &str, name: &str) -> Result<Option<Arc<Data>>, String> {
        let data = Data::from([("greeting".into(), b"hello".to_vec())]);
        Ok((name == "words").then(|| Arc::new(data)))
    }

    async fn token(&self, _: &Pod, _: &TokenAsk) -> Result<String, String> {
        Ok("a token".into())
    }

    fn tokens_due(&self, _: &str) -> Option<tokio::time::Instant> {
        None
    }

    fn forget_pod(&self, _: &str) {}

    async fn write_status(&self, _: &Pod, status: &PodStatus) -> Result<(), WriteError> {
        *self.status.lock().expect("lock") = status.clone();
        Ok(())
    }

    async fn delete_pod(&self, _: &Pod) -> Result<(), WriteError> {
        *self.deleted.lock().expect("lock") = true;
        Ok(())
    }

    async fn service_variables(&self, _: &str, _: bool) -> Vec<(String, String)> {
        vec![("DB_SERVICE_HOST".into(), "10.96.0.7".into())]
    }

    fn event(&self, event: PodEvent) {
        self.events.lock().expect("lock").push(format!("{}: {}", event.reason, event.message));
    }
}

struct World {
    ctx: Arc<Context>,
    paper: Arc<Paper>,
    tell: mpsc::UnboundedSender<Message>,
    worker: JoinHandle<()>,
    pod: Pod,
    pki: Pki,
    address: std::net::SocketAddr,
}

impl World {
    async fn with_pod(node: &Node, runtime: &Runtime, spec: Value) -> Self {
        std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
        let meta = json!({"name": "web", "namespace": "shop", "uid": "0a1b2c3d"});
        let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod");
        let (pki, paper) = (pki(), Arc::new(Paper::default()));
        let mut cfg = config(node, &pki);
        cfg.runtime.node_ips = PerFamily::single("127.0.0.1".parse().expect("ip"));
        let ctx = Arc::new(Context {
            backend: Arc::new(runtime.clone()),
            cluster: paper.clone(),
            settings: settings(&cfg),
            directory: Directory::default(),
            clock: Clock::start(),
        });
        let listener = daymark_node::server::listen(&cfg).await.expect("listens");
        let address = listener.address().expect("address");
        let directory = ctx.directory.clone();
        tokio::spawn(daymark_node::server::serve(
            listener,
            directory,
            runtime.clone(),
            CancellationToken::new(),
        ));
        let (tell, worker) = work(&ctx, runtime, &pod);
        Self { ctx, paper, tell, worker, pod, pki, address }
    }

    /// The object is removed by force and made again under its name; returns the worker of the one before.
    fn replace(&mut self, runtime: &Runtime, uid: &str) -> JoinHandle<()> {
        self.tell.send(Message::Gone).expect("the worker listens");
        *self.paper.status.lock().expect("lock") = PodStatus::default();
        self.pod.metadata.uid = Some(uid.into());
        let (tell, worker) = work(&self.ctx, runtime, &self.pod);
        self.tell = tell;
        std::mem::replace(&mut self.worker, worker)
    }

    async fn until(&self, what: &str, holds: impl Fn(&PodStatus) -> bool) {
        let began = Instant::now();
        while !holds(&self.paper.status.lock().expect("lock")) {
            let (status, events) =
                (self.paper.status.lock().expect("lock"), self.paper.events.lock().expect("lock"));
            assert!(began.elapsed() < Duration::from_secs(20), "never {what}: {status:#?} {events:#?}");
            drop((status, events));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        let name = "127.0.0.1".try_into().expect("a name");
        self.pki.connector(true).connect(name, stream).await.expect("handshake")
    }

    /// Status code and body of a GET.
    async fn get(&self, path: &str) -> (String, String) {
        let mut stream = self.connect().await;
        let request = format!("GET {path} HTTP/1.0\r\nHost: node\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        (head.split(' ').nth(1).expect("a code").to_owned(), body.to_owned())
    }

    /// Everything asked of the pod by its name is answered by the one with this uid.
    async fn is(&self, uid: &str) {
        let (code, list) = self.get("/pods").await;
        let list: Value = serde_json::from_str(&list).expect(&code);
        let uids = list["items"].as_array().expect("pods").iter().map(|pod| &pod["metadata"]["uid"]);
        assert_eq!(uids.collect::<Vec<_>>(), [uid]);
        assert_eq!(self.get("/containerLogs/shop/web/main").await, ("200".into(), format!("{uid}\n")));
        let exec = "/exec/shop/web/main?command=sh&command=-c&command=echo+$ID&output=1";
        assert_eq!(self.session(exec, &[]).await.0, format!("{uid}\n"));
    }

    /// Runs a session; returns stdout, stderr and the final status.
    async fn session(&self, path: &str, input: &[&[u8]]) -> (String, String, Value) {
        let mut request = format!("wss://127.0.0.1{path}").into_client_request().expect("a request");
        let protocol = "v5.channel.k8s.io".parse().expect("a header");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (mut ws, _) =
            tokio_tungstenite::client_async(request, self.connect().await).await.expect("upgrades");
        for message in input {
            ws.send(tungstenite::Message::Binary(message.to_vec().into())).await.expect("sends");
        }
        let mut channels: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        while let Some(Ok(message)) = ws.next().await {
            if let tungstenite::Message::Binary(bytes) = message {
                channels.entry(bytes[0]).or_default().extend(&bytes[1..]);
            }
        }
        let mut text = |c| String::from_utf8(channels.remove(&c).unwrap_or_default()).expect("text");
        (text(1), text(2), serde_json::from_str(&text(3)).expect("a status"))
    }
}

/// Gives a pod its worker.
fn work(
    ctx: &Arc<Context>,
    runtime: &Runtime,
    pod: &Pod,
) -> (mpsc::UnboundedSender<Message>, JoinHandle<()>) {
    let (tell, inbox) = mpsc::unbounded_channel();
    tokio::spawn(pass_on(runtime.clone(), pod.metadata.uid.clone().expect("a uid"), tell.clone()));
    let (state, pod, channel) = (PodState::new(pod), Arc::new(pod.clone()), (tell.clone(), inbox));
    let run = worker::run(ctx.clone(), pod, state, Arc::new(|_, _, _, _| None), channel);
    (tell, tokio::spawn(run))
}

async fn pass_on(runtime: Runtime, uid: String, tell: mpsc::UnboundedSender<Message>) {
    let mut events = runtime.events();
    while let Ok(event) = events.recv().await {
        let (of, seen) = match event {
            RuntimeEvent::ContainerExited { pod_uid, id, exit } => {
                (pod_uid, Observation::Exited(adopt::runtime_exit(&id.0, &exit)))
            }
            RuntimeEvent::SandboxDied { pod_uid } => (pod_uid, Observation::SandboxLost),
        };
        if of == uid {
            let _ = tell.send(Message::Seen(seen));
        }
    }
}

fn config(node: &Node, pki: &Pki) -> NodeConfig {
    NodeConfig {
        runtime: node.config(),
        dns_ip: "10.96.0.10".parse().expect("ip"),
        domain: "cluster.local".into(),
        host_resolv_conf: "/etc/resolv.conf".into(),
        kubelet_port: 0,
        kubelet_cert_pem: pki.server.0.clone(),
        kubelet_key_pem: pki.server.1.clone(),
        client_ca_pem: pki.ca.clone(),
        lease_interval: Duration::from_secs(2),
        status_interval: Duration::from_secs(10),
        max_pods: 110,
        labels: BTreeMap::new(),
    }
}

fn settings(cfg: &NodeConfig) -> Settings {
    Settings {
        node: "node1".into(),
        node_ips: cfg.runtime.node_ips,
        dns_ip: cfg.dns_ip,
        domain: cfg.domain.clone(),
        host_resolver: Resolver::default(),
        cpu: 1000,
        memory: 1 << 30,
        max_pods: 110,
    }
}

fn ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn container(script: &str) -> Value {
    json!({"name": "main", "image": "test/busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]})
}

#[test]
fn a_pod_lives_as_its_spec_says() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let mut main = container(
            "trap 'echo bye; exit 0' USR1; echo $GREETING $HOSTNAME $DB_SERVICE_HOST; cat /words/greeting; echo; \
             touch /shared/up; cat /etc/resolv.conf; while true; do sleep 0.05; done",
        );
        main["env"] = json!([{"name": "GREETING", "value": "from $(NS)"}]);
        main["env"] = json!([{"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "GREETING", "value": "from $(NS)"}]);
        main["volumeMounts"] =
            json!([{"name": "words", "mountPath": "/words"}, {"name": "shared", "mountPath": "/shared"}]);
        main["readinessProbe"] = json!({"exec": {"command": ["cat", "/shared/up"]}});
        let mut init = container("echo first > /shared/first");
        init["name"] = json!("init");
        init["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
        let spec = json!({"initContainers": [init], "containers": [main], "volumes": [
            {"name": "words", "configMap": {"name": "words"}}, {"name": "shared", "emptyDir": {"medium": "Memory"}}]});
        let world = World::with_pod(&node, &runtime, spec).await;
        world.until("ready", ready).await;

        let log = world.get("/containerLogs/shop/web/main").await;
        let want = "from shop web 10.96.0.7\nhello\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n\
                    nameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(log, ("200".into(), want.into()));
        assert_eq!(world.get("/containerLogs/shop/web/main?tailLines=1").await.1, "options ndots:5\n");
        let missing = world.get("/containerLogs/shop/web/main?previous=true").await;
        assert_eq!(
            missing,
            ("400".into(), "previous terminated container \"main\" in pod \"web\" not found".into())
        );
        assert_eq!(world.get("/containerLogs/shop/none/main").await.0, "404");

        let exec = "/exec/shop/web/main?command=sh&command=-c&command=cat%3B+echo+oops+%3E%262%3B+exit+3&input=1&output=1&error=1";
        let (stdout, stderr, status) = world.session(exec, &[b"\0typed ", b"\0in", b"\xff\0"]).await;
        assert_eq!((stdout.as_str(), stderr.as_str()), ("typed in", "oops\n"));
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        let (stdout, _, status) =
            world.session("/exec/shop/web/main?command=cat&command=/shared/first&output=1", &[]).await;
        assert_eq!((stdout.as_str(), status["status"].as_str()), ("first\n", Some("Success")));

        let followed = world.get("/containerLogs/shop/web/main?follow=true&tailLines=0");
        let deletion = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = k8s_openapi::jiff::Timestamp::now();
            let mut pod = world.pod.clone();
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            pod.metadata.deletion_grace_period_seconds = Some(20);
            world.tell.send(Message::Pod(Arc::new(pod))).expect("the worker listens");
        };
        let (followed, ()) = tokio::join!(followed, deletion);
        assert_eq!(followed, ("200".into(), "bye\n".into()), "follow ends when the container ends");
        let began = Instant::now();
        while !*world.paper.deleted.lock().expect("lock") {
            assert!(began.elapsed() < Duration::from_secs(10), "the object is deleted in the end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(world.paper.status.lock().expect("lock").phase.as_deref(), Some("Succeeded"));
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_name_means_the_pod_that_has_it_now() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let mut main = container("trap '' TERM; echo $ID; while true; do sleep 0.05; done");
        main["env"] = json!([{"name": "ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]);
        let mut world = World::with_pod(&node, &runtime, json!({"containers": [main]})).await;
        world.until("ready", ready).await;
        let old = world.replace(&runtime, "4e5f6071");
        world.until("ready again", ready).await;
        world.is("4e5f6071").await;
        tokio::time::timeout(Duration::from_secs(20), old).await.expect("the old one ends").expect("well");
        world.is("4e5f6071").await;
        runtime.remove_sandbox("4e5f6071").await.expect("removed");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn strangers_are_turned_away() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let world = World::with_pod(&node, &runtime, json!({"containers": [container("sleep 1000")]})).await;
        world.until("ready", ready).await;
        let stream = TcpStream::connect(world.address).await.expect("connects");
        let name = "127.0.0.1".try_into().expect("a name");
        let mut answer = Vec::new();
        if let Ok(mut tls) = world.pki.connector(false).connect(name, stream).await {
            let _ = tls.write_all(b"GET /pods HTTP/1.0\r\n\r\n").await;
            let _ = tls.read_to_end(&mut answer).await;
        }
        assert!(answer.is_empty(), "no answer without a certificate: {}", String::from_utf8_lossy(&answer));
        assert_eq!(world.get("/healthz").await, ("200".into(), "ok".into()));
        runtime.remove_sandbox("0a1b2c3d").await.expect("removed");
    });
}

#[test]
fn a_crash_shows_its_code_its_words_and_its_former_log() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let main = container("echo life $RANDOM; echo last words > /dev/termination-log; exit 7");
        let world = World::with_pod(&node, &runtime, json!({"containers": [main]})).await;
        let crashed = |s: &PodStatus| {
            let c = s.container_statuses.as_ref().map(|c| &c[0]);
            let waiting = c.and_then(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone());
            waiting.as_deref() == Some("CrashLoopBackOff") && c.is_some_and(|c| c.restart_count == 1)
        };
        world.until("in back-off", crashed).await;
        let status = world.paper.status.lock().expect("lock").clone();
        let last = status.container_statuses.and_then(|c| c[0].last_state.clone()).and_then(|s| s.terminated);
        let last = last.expect("the former end");
        assert_eq!((last.exit_code, last.message.as_deref()), (7, Some("last words\n")));
        let (now, before) = (
            world.get("/containerLogs/shop/web/main").await.1,
            world.get("/containerLogs/shop/web/main?previous=true").await.1,
        );
        assert!(now.starts_with("life ") && before.starts_with("life ") && now != before, "{now} {before}");
        runtime.remove_sandbox("0a1b2c3d").await.expect("removed");
    });
}

#[test]
fn a_pod_is_ready_fast() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let began = Instant::now();
        let world = World::with_pod(&node, &runtime, json!({"containers": [container("sleep 1000")]})).await;
        world.until("ready", ready).await;
        println!("from spec to ready: {:?}", began.elapsed());
        runtime.remove_sandbox("0a1b2c3d").await.expect("removed");
    });
}
