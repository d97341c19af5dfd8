//! One write told to many watchers, each with a connection of its own, as nodes have.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use kube::client::ConfigExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::api::{Api, TOKEN};
use crate::objects::{Wanted, side_endpoints};
use crate::servers::ACCEPT;

/// How long all watchers may take for one event.
const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "told";

/// Watchers of all EndpointSlices of a namespace in which one is changed.
pub struct Fanout<'a> {
    api: &'a Api,
    told: Arc<Told>,
    path: String,
    slice: Value,
    /// Which of the two sets of endpoints it has.
    side: usize,
}

/// When each watcher had read an event whole. It wakes nobody before the last: to be woken for each would
/// take time from those that still read.
struct Told {
    watchers: usize,
    at: Mutex<Vec<Instant>>,
    everyone: Notify,
}

impl Told {
    fn note(&self) {
        let mut at = self.at.lock().expect("held for a push");
        at.push(Instant::now());
        if at.len() == self.watchers {
            self.everyone.notify_one();
        }
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.at.lock().expect("held for a push"))
    }
}

impl<'a> Fanout<'a> {
    pub fn start(api: &'a Api, watchers: usize) -> Result<Self> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fanout"}});
        api.send("POST", "/api/v1/namespaces", Some(&namespace))?;
        let slices = "/apis/discovery.k8s.io/v1/namespaces/fanout/endpointslices";
        let endpoints = side_endpoints(0);
        let ip = std::net::Ipv4Addr::new(10, 96, 1, 1);
        let wanted = Wanted { name: NAME, ip, node_port: None, target_port: ACCEPT, endpoints, node: "far" };
        let slice = wanted.requests().pop().context("a Service's slice")?.1;
        let made = api.send("POST", slices, Some(&slice))?;
        let version = made["metadata"]["resourceVersion"].as_str().context("a resourceVersion")?;
        let told = Arc::new(Told { watchers, at: Mutex::default(), everyone: Notify::new() });
        let (_, runtime) = api.client();
        let connector = TowerToHyperService::new(api.config.rustls_https_connector()?);
        runtime.block_on(async {
            for _ in 0..watchers {
                let path = format!("{slices}?watch=1&resourceVersion={version}");
                let opened = connector.call(api.config.cluster_url.clone()).await;
                let socket = opened.map_err(|e| anyhow!(e)).context("connecting a watcher")?;
                watch(socket, &api.config, &path, told.clone()).await.context("watching")?;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(Self { api, told, path: format!("{slices}/{NAME}"), slice: made, side: 0 })
    }

    /// Milliseconds from before a write until each watcher has read it whole.
    pub fn change(&mut self) -> Result<Vec<f64>> {
        ensure!(self.told.take().is_empty(), "a watcher was told what nobody wrote");
        self.side += 1;
        let addresses = side_endpoints(self.side);
        for (endpoint, ip) in self.slice["endpoints"].as_array_mut().into_iter().flatten().zip(addresses) {
            endpoint["addresses"] = json!([ip.to_string()]);
        }
        let began = Instant::now();
        self.slice = self.api.send("PUT", &self.path, Some(&self.slice))?;
        let (_, runtime) = self.api.client();
        let everyone = self.told.everyone.notified();
        let late = runtime.block_on(async { tokio::time::timeout(PATIENCE, everyone).await }).is_err();
        let told = self.told.take();
        ensure!(!late, "{} of {} watchers were told", told.len(), self.told.watchers);
        Ok(told.into_iter().map(|at| (at - began).as_secs_f64() * 1e3).collect())
    }
}

/// Watches over a connection of its own, in one task of little work: what is measured is the server.
async fn watch(
    socket: impl Read + Write + Send + Unpin + 'static,
    config: &kube::Config,
    path: &str,
    told: Arc<Told>,
) -> Result<()> {
    let (mut requests, connection) = http1::handshake(socket).await?;
    let mut request = http::Request::get(path).header("Host", "daymark");
    if config.auth_info.token.is_some() {
        request = request.header("Authorization", format!("Bearer {TOKEN}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let mut connection = Box::pin(connection);
    let answer = tokio::select! {
        answer = requests.send_request(request) => answer?,
        ended = &mut connection => return Err(anyhow!("the server hung up: {ended:?}")),
    };
    ensure!(answer.status().is_success(), "the server answers {}", answer.status());
    let mut body = answer.into_body();
    let read = async move {
        while let Some(Ok(frame)) = body.frame().await {
            if frame.data_ref().is_some_and(|data| data.ends_with(b"\n")) {
                told.note();
            }
        }
    };
    tokio::spawn(async move {
        let _requests = requests; // dropped, it would end the connection
        tokio::join!(connection, read)
    });
    Ok(())
}
