//! kube-rs as programs use it: watches by streaming lists, reflectors, and a lock that is a Lease.

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt, reflector, watcher as watch};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use support::Cluster;

const SOON: Duration = Duration::from_secs(20);

async fn map(api: &Api<ConfigMap>, name: &str, group: &str) {
    let object = json!({"metadata": {"name": name, "labels": {"group": group}}});
    api.create(&PostParams::default(), &serde_json::from_value(object).expect("a ConfigMap"))
        .await
        .expect("made");
}

/// The next event in words, e.g. `apply a`.
async fn word<K: ResourceExt>(
    events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin),
) -> String {
    let next = tokio::time::timeout(SOON, events.next()).await.expect("an event in time");
    match next.expect("a watch that goes on").expect("no error") {
        Event::Init => "begin".into(),
        Event::InitApply(object) => format!("there {}", object.name_any()),
        Event::InitDone => "end".into(),
        Event::Apply(object) => format!("apply {}", object.name_any()),
        Event::Delete(object) => format!("delete {}", object.name_any()),
    }
}

async fn words<K: ResourceExt>(
    events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin),
    count: usize,
) -> Vec<String> {
    let mut said = Vec::new();
    for _ in 0..count {
        said.push(word(events).await);
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_list_tells_what_is_there_and_then_what_comes() {
    let cluster = Cluster::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "kube-public");
    for (name, group) in [("a", "one"), ("b", "two"), ("c", "one")] {
        map(&api, name, group).await;
    }
    let config = Config::default().labels("group=one").streaming_lists();
    let mut events = pin!(watch(api.clone(), config.clone()));
    assert_eq!(words(&mut events, 4).await, ["begin", "there a", "there c", "end"]);
    let partial = Api::<PartialObjectMeta<ConfigMap>>::namespaced(cluster.client.clone(), "kube-public");
    let mut metadata = pin!(watch(partial, config));
    assert_eq!(words(&mut metadata, 4).await, ["begin", "there a", "there c", "end"]);

    map(&api, "d", "one").await;
    let regroup = |group: &str| Patch::Merge(json!({"metadata": {"labels": {"group": group}}}));
    let patch = PatchParams::default();
    api.patch("b", &patch, &regroup("one")).await.expect("b enters");
    api.patch("a", &patch, &regroup("two")).await.expect("a leaves");
    api.delete("c", &DeleteParams::default()).await.expect("c goes");
    let told = ["apply d", "apply b", "delete a", "delete c"];
    assert_eq!(words(&mut events, 4).await, told);
    assert_eq!(words(&mut metadata, 4).await, told);

    let none = Config::default().labels("group=none").streaming_lists();
    let mut none = pin!(watch(api, none));
    assert_eq!(words(&mut none, 2).await, ["begin", "end"], "an empty list has an end, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_by_streaming_list_has_everything() {
    const MANY: usize = 700;
    let cluster = Cluster::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "kube-public");
    let names: Vec<String> = (0..MANY).map(|n| format!("m{n}")).collect();
    futures::stream::iter(&names).for_each_concurrent(32, |name| map(&api, name, "many")).await;
    let (reader, writer) = reflector::store();
    let config = Config::default().labels("group=many").streaming_lists();
    let stream = reflector(writer, watch(api.clone(), config)).default_backoff().touched_objects();
    let running = tokio::spawn(stream.for_each(|_| futures::future::ready(())));
    tokio::time::timeout(SOON, reader.wait_until_ready()).await.expect("listed in time").expect("a store");
    let listed = api.list(&ListParams::default().labels("group=many")).await.expect("a list");
    assert_eq!((reader.len(), listed.items.len()), (MANY, MANY));
    running.abort();
}

/// Takes the lock if it is free or its holder has let it run out, as client-go's leader election does.
async fn try_lock(api: &Api<Lease>, who: &str) -> kube::Result<bool> {
    let spec = LeaseSpec {
        holder_identity: Some(who.into()),
        lease_duration_seconds: Some(1),
        acquire_time: Some(MicroTime(Timestamp::now())),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let Some(mut lease) = api.get_opt("lock").await? else {
        let mut lease = Lease { spec: Some(spec), ..Lease::default() };
        lease.metadata.name = Some("lock".into());
        return lost_or(api.create(&PostParams::default(), &lease).await);
    };
    let held = lease.spec.as_ref();
    let mine = held.and_then(|s| s.holder_identity.as_deref()) == Some(who);
    let until = held.and_then(|s| {
        let length = jiff::SignedDuration::from_secs(s.lease_duration_seconds?.into());
        s.renew_time.as_ref()?.0.checked_add(length).ok()
    });
    if !mine && until.is_some_and(|until| Timestamp::now() < until) {
        return Ok(false);
    }
    lease.spec = Some(spec);
    lost_or(api.replace("lock", &PostParams::default(), &lease).await)
}

fn lost_or(done: kube::Result<Lease>) -> kube::Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

async fn race(client: &Client, round: usize) -> usize {
    let winners = Arc::new(AtomicUsize::new(0));
    let tries = (0..16).map(|n| {
        let (api, winners) = (Api::<Lease>::namespaced(client.clone(), "kube-public"), winners.clone());
        async move {
            if try_lock(&api, &format!("candidate-{round}-{n}")).await.expect("an answer") {
                winners.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    futures::future::join_all(tries).await;
    winners.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_one_holder_whoever_races_for_it() {
    let cluster = Cluster::start().await;
    assert_eq!(race(&cluster.client, 0).await, 1, "to make it");
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-public");
    for round in 1..=5 {
        let past = json!({"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}});
        api.patch("lock", &PatchParams::default(), &Patch::Merge(past)).await.expect("it runs out");
        assert_eq!(race(&cluster.client, round).await, 1, "to take it over");
    }
    assert!(!try_lock(&api, "late").await.expect("an answer"), "it is held");
}
