//! One write told to many watchers, each with a connection of its own, as nodes have.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::AsyncBufReadExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::Api;
use crate::objects::{Wanted, side_endpoints};
use crate::servers::ACCEPT;

/// How long all watchers may take for one event.
const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "told";

/// Watchers of all EndpointSlices of a namespace in which one is changed.
pub struct Fanout<'a> {
    api: &'a Api,
    told: mpsc::UnboundedReceiver<Instant>,
    watchers: usize,
    path: String,
    slice: Value,
    /// Which of the two sets of endpoints it has.
    side: usize,
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
        let (tell, told) = mpsc::unbounded_channel();
        let (client, runtime) = api.client();
        runtime.block_on(async {
            for _ in 0..watchers {
                let uri = format!("{slices}?watch=1&resourceVersion={version}");
                let request = http::Request::get(uri).body(Vec::new())?;
                let mut lines = Box::pin(client.request_stream(request).await.context("watching")?);
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut line = Vec::new();
                    while lines.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                        let _ = tell.send(Instant::now());
                        line.clear();
                    }
                });
            }
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(Self { api, told, watchers, path: format!("{slices}/{NAME}"), slice: made, side: 0 })
    }

    /// Milliseconds from before a write until each watcher has read it whole.
    pub fn change(&mut self) -> Result<Vec<f64>> {
        ensure!(self.told.try_recv().is_err(), "a watcher was told what nobody wrote");
        self.side += 1;
        let addresses = side_endpoints(self.side);
        for (endpoint, ip) in self.slice["endpoints"].as_array_mut().into_iter().flatten().zip(addresses) {
            endpoint["addresses"] = json!([ip.to_string()]);
        }
        let began = Instant::now();
        self.slice = self.api.send("PUT", &self.path, Some(&self.slice))?;
        let (_, runtime) = self.api.client();
        let (told, watchers) = (&mut self.told, self.watchers);
        runtime.block_on(async {
            let mut took = Vec::with_capacity(watchers);
            while took.len() < watchers {
                let next = tokio::time::timeout(PATIENCE, told.recv()).await;
                let at = next.ok().flatten().with_context(|| format!("{} watchers were told", took.len()))?;
                took.push((at - began).as_secs_f64() * 1e3);
            }
            Ok(took)
        })
    }
}
