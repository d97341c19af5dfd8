//! Churn: one EndpointSlice that changes without pause, and when it had which backends.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::ledger::Era;
use crate::load::now;

pub const SLICE: &str = "chaos-by-hand";
/// So many changes long, two of the backends rest: long enough for every agent to obey.
const REST: usize = 25;

#[derive(Clone, Debug)]
pub struct Backend {
    pub name: String,
    pub ip: String,
    pub node: String,
}

/// Who is ready after the n-th change, and who terminates though it serves. The draw is the same every time.
fn draw(backends: &[Backend], change: usize) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let resting = |index: usize| index / 2 == (change / REST) % (backends.len() / 2);
    let mut seed = (change as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (mut ready, mut terminating) = (BTreeSet::new(), BTreeSet::new());
    for index in (0..backends.len()).filter(|index| !resting(*index)) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (seed >> 33) % 4 {
            0 | 1 => drop(ready.insert(index)),
            2 => drop(terminating.insert(index)),
            _ => {}
        }
    }
    if ready.is_empty() {
        ready = (0..backends.len()).filter(|index| !resting(*index)).collect();
        terminating.clear();
    }
    (ready, terminating)
}

/// The endpoints after the n-th change, and the era that begins with them at some time.
pub fn endpoints(backends: &[Backend], change: usize) -> (Value, Era) {
    let (ready, terminating) = draw(backends, change);
    let endpoint = |index: &usize, is_ready: bool| {
        let Backend { ip, node, .. } = &backends[*index];
        json!({"addresses": [ip], "nodeName": node,
               "conditions": {"ready": is_ready, "serving": true, "terminating": !is_ready}})
    };
    let all = ready.iter().map(|index| endpoint(index, true));
    let all: Vec<Value> = all.chain(terminating.iter().map(|index| endpoint(index, false))).collect();
    let names =
        |indices: &BTreeSet<usize>| indices.iter().map(|index| backends[*index].name.clone()).collect();
    let era = Era { sent: 0, acknowledged: 0, ready: names(&ready), draining: names(&terminating) };
    (Value::Array(all), era)
}

/// Changes the slice so many times, from inside the network namespace of the API server's clients.
pub fn run(
    netns: PathBuf,
    kubeconfig: PathBuf,
    backends: Vec<Backend>,
    changes: usize,
    pause: Duration,
) -> Vec<Era> {
    let namespace = std::fs::File::open(netns).expect("the namespace");
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("the laptop");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a context");
        let api: Api<EndpointSlice> = Api::namespaced(Client::try_from(config).expect("a client"), "default");
        let mut eras = Vec::new();
        for change in 1..=changes {
            let (endpoints, era) = endpoints(&backends, change);
            let patch = Patch::Merge(json!({ "endpoints": endpoints }));
            let sent = now();
            // The API server goes away now and then; what is not acknowledged may be in force all the same.
            while let Err(why) = api.patch(SLICE, &PatchParams::default(), &patch).await {
                assert!(!matches!(why, kube::Error::Api(_)), "the slice cannot be changed: {why}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            eras.push(Era { sent, acknowledged: now(), ..era });
            tokio::time::sleep(pause).await;
        }
        eras
    })
}
