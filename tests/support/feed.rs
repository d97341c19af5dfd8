//! An API server that tells what a test has it tell, and forgets on demand: watches then end with 410, as those do
//! that asked for too old a version.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::Laptop;
use super::alone::ADDRESS;

const LISTEN: &str = "127.0.0.1:8001";

#[derive(Default)]
struct Told {
    services: Vec<Value>,
    slices: Vec<Value>,
    /// How often everything was forgotten.
    age: u64,
    /// Watches that began with a list of everything.
    lists: usize,
    posted: Vec<Value>,
}

/// On the laptop's loopback, until the test's process ends.
#[derive(Clone, Default)]
pub struct Feed(Arc<(Mutex<Told>, Condvar)>);

impl Feed {
    /// Also writes the laptop's kubeconfig.
    pub fn start(laptop: &Laptop) -> Self {
        let feed = Self::default();
        let namespace = fs::File::open(laptop.path("laptop")).expect("the namespace");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serving = feed.clone();
        std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("the laptop");
            let listener = TcpListener::bind(LISTEN).expect("the feed");
            let _ = ready.send(());
            for stream in listener.incoming().flatten() {
                let feed = serving.clone();
                // Whoever asked may go at any time.
                std::thread::spawn(move || drop(feed.answer(stream)));
            }
        });
        is_ready.recv().expect("the feed");
        let config = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: f, cluster: {{server: 'http://{LISTEN}'}}}}]\nusers: [{{name: f, user: {{token: none}}}}]\ncontexts: [{{name: f, context: {{cluster: f, user: f}}}}]\ncurrent-context: f\n"
        );
        fs::write(laptop.path("kubeconfig"), config).expect("a kubeconfig");
        feed
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is all there is. Nobody is told how it came about: watches end with 410.
    pub fn become_this(&self, services: Vec<Value>, slices: Vec<Value>) {
        let mut told = self.told();
        (told.services, told.slices) = (services, slices);
        told.age += 1;
        drop(told);
        self.0.1.notify_all();
    }

    /// How many watches began with a list of everything so far.
    pub fn lists(&self) -> usize {
        self.told().lists
    }

    /// What was posted so far: Events.
    pub fn posted(&self) -> Vec<Value> {
        self.told().posted.clone()
    }

    fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let mut from = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        from.read_line(&mut first)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if method == "POST" {
            self.told().posted.extend(serde_json::from_slice::<Value>(&body));
            return reply(&stream, "201 Created", &body);
        }
        let objects: fn(&Told) -> Vec<Value> = match path {
            "/api/v1/nodes/real-node" => return reply(&stream, "200 OK", node().to_string().as_bytes()),
            "/api/v1/services" => |told| told.services.clone(),
            "/apis/discovery.k8s.io/v1/endpointslices" => |told| told.slices.clone(),
            "/api/v1/nodes" => |_| vec![node()],
            _ => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404});
                return reply(&stream, "404 Not Found", status.to_string().as_bytes());
            }
        };
        self.watch(&stream, objects, query.contains("sendInitialEvents=true"))
    }

    /// Tells everything that there is, and after it was forgotten that it was; or only that, to whom wants to go on
    /// where another watch ended.
    fn watch(
        &self,
        mut stream: &TcpStream,
        objects: fn(&Told) -> Vec<Value>,
        from_start: bool,
    ) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        if from_start {
            let mut told = self.told();
            told.lists += 1;
            let (age, all) = (told.age, objects(&told));
            drop(told);
            let mut text = String::new();
            for object in all {
                text += &format!("{}\n", json!({"type": "ADDED", "object": object}));
            }
            let version = (age + 1).to_string();
            let metadata =
                json!({"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}});
            text += &format!(
                "{}\n",
                json!({
                    "type": "BOOKMARK", "object": {"kind": "Any", "apiVersion": "v1", "metadata": metadata},
                })
            );
            stream.write_all(text.as_bytes())?;
            let mut told = self.told();
            while told.age == age {
                told = self.0.1.wait(told).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old resource version",
        });
        stream.write_all(format!("{}\n", json!({"type": "ERROR", "object": status})).as_bytes())
    }
}

fn reply(mut stream: &TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

fn node() -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": "real-node", "resourceVersion": "1"},
        "spec": {"podCIDR": "172.31.10.0/24", "podCIDRs": ["172.31.10.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": ADDRESS}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A Service with a port 80 and as many more as wanted, from 1000 up.
pub fn service(name: &str, ip: &str, more_ports: usize) -> Value {
    let more = (0..more_ports).map(|n| json!({"name": format!("p{n}"), "port": 1000 + n, "protocol": "TCP"}));
    let ports: Vec<Value> =
        std::iter::once(json!({"name": "web", "port": 80, "protocol": "TCP"})).chain(more).collect();
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": "1"},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": ports},
    })
}

/// Its slice, whose one endpoint is what [`super::alone::serve`] serves.
pub fn slice(service: &str) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": format!("{service}-1"), "namespace": "default", "resourceVersion": "1",
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": true}, "nodeName": "real-node"}],
    })
}
