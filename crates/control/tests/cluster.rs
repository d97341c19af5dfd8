//! The controllers against the real API server, driven by the stock kubectl.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daymark_control::{ChangeEvent, changes, publish_dns};
use daymark_model::Change;
use futures::StreamExt;
use support::Cluster;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'web:1', ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";

const ADDRESSES: &str = "get endpointslices -l kubernetes.io/service-name=web -o jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}";

fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_lives_its_life() {
    let cluster = Cluster::start().await;
    let _nodes = (cluster.node("n1", 1).await, cluster.node("n2", 2).await);
    cluster.apply(WEB).await;
    let rollout = cluster.kubectl("rollout status deployment/web --timeout=30s").await;
    assert!(rollout.contains("successfully rolled out"), "{rollout}");
    let nodes = cluster.kubectl("get pods -o jsonpath={.items[*].spec.nodeName}").await;
    assert_eq!(nodes.matches("n1").count(), 2, "spread: {nodes}");
    cluster.until(ADDRESSES, |said| count(said) == 4).await;
    let legacy =
        cluster.until("get endpoints web -o jsonpath={.subsets[0].addresses[*].ip}", |s| count(s) == 4).await;
    assert!(legacy.contains("10.244.1.") && legacy.contains("10.244.2."));

    cluster.kubectl("scale deployment web --replicas=6").await;
    cluster.until(ADDRESSES, |said| count(said) == 6).await;

    let before: BTreeSet<_> = addresses(&cluster.kubectl(ADDRESSES).await);
    cluster.kubectl("set image deployment/web c=web:2").await;
    let rollout = cluster.kubectl("rollout status deployment/web --timeout=30s").await;
    assert!(rollout.contains("successfully rolled out"), "{rollout}");
    let after = addresses(&cluster.until(ADDRESSES, |said| count(said) == 6).await);
    assert!(before.is_disjoint(&after), "traffic follows to new pods");

    cluster.kubectl("rollout undo deployment/web").await;
    cluster.kubectl("rollout status deployment/web --timeout=30s").await;
    let history = cluster.kubectl("rollout history deployment/web").await;
    assert!(history.contains('2') && history.contains('3') && !history.contains("1 "), "{history}");
    let events = cluster.kubectl("get events -o jsonpath={.items[*].message}").await;
    assert!(events.contains("Scaled up replica set web-") && events.contains("from 0 to 4"), "{events}");
    assert!(events.contains("Successfully assigned default/web-") && events.contains("Created pod: web-"));

    cluster.kubectl("delete deployment web --cascade=foreground --wait=true").await;
    cluster.until("get rs,pods -o name", str::is_empty).await;
    cluster.until(ADDRESSES, str::is_empty).await;
    cluster.kubectl("delete service web").await;
    cluster.until("get endpointslices -l kubernetes.io/service-name=web -o name", str::is_empty).await;
    cluster.until("get endpoints web -o name --ignore-not-found", str::is_empty).await;
}

fn addresses(said: &str) -> BTreeSet<String> {
    said.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay_and_are_taken_up_again() {
    let cluster = Cluster::start().await;
    let _node = cluster.node("n1", 1).await;
    cluster.apply(WEB).await;
    cluster.kubectl("rollout status deployment/web --timeout=30s").await;
    let pods = cluster.kubectl("get pods -o name").await;
    cluster.kubectl("delete deployment web --cascade=orphan").await;
    cluster.until("get rs -o jsonpath={.items[*].metadata.ownerReferences}", str::is_empty).await;
    assert_eq!(cluster.kubectl("get pods -o name").await, pods);
    cluster.apply(WEB).await;
    cluster.until("get rs -o jsonpath={.items[*].metadata.ownerReferences[*].name}", |s| s == "web").await;
    assert_eq!(cluster.kubectl("get pods -o name").await, pods);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_come_furnished_and_go_empty() {
    let cluster = Cluster::start().await;
    let _node = cluster.node("n1", 1).await;
    cluster.kubectl("create namespace shop").await;
    cluster
        .until("get sa,cm -n shop -o name", |said| {
            said == "serviceaccount/default\nconfigmap/kube-root-ca.crt"
        })
        .await;
    cluster.kubectl("create deployment web --image=web -n shop --replicas=2").await;
    cluster.kubectl("create configmap extra -n shop").await;
    cluster.kubectl("rollout status deployment/web -n shop --timeout=30s").await;
    cluster.kubectl("delete namespace shop --timeout=30s").await;
    cluster.until("get namespaces -o name", |said| !said.contains("shop")).await;
    cluster
        .until("get pods,rs,deploy,cm -A -o name", |said| !said.contains("web") && !said.contains("extra"))
        .await;
}

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: boats, kind: Boat}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_own_are_owned_and_go_with_their_namespace() {
    let cluster = Cluster::start().await;
    cluster.apply(DEFINITION).await;
    cluster.kubectl("wait --for condition=established crd/boats.example.org --timeout=20s").await;
    cluster.kubectl("create namespace harbour").await;
    let boat = "apiVersion: example.org/v1\nkind: Boat\nmetadata: {name: tug, namespace: harbour}\n";
    cluster.apply(boat).await;
    let uid = cluster.kubectl("get boat tug -n harbour -o jsonpath={.metadata.uid}").await;
    let owner =
        format!("ownerReferences: [{{apiVersion: example.org/v1, kind: Boat, name: tug, uid: {uid}}}]");
    let cargo =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: cargo, namespace: harbour, {owner}}}\n");
    cluster.apply(&cargo).await;
    cluster.kubectl("delete boat tug -n harbour").await;
    cluster.until("get configmaps -n harbour -o name", |said| !said.contains("cargo")).await;
    cluster.apply(boat).await;
    cluster.kubectl("delete namespace harbour --timeout=30s").await;
    cluster.until("get boats -A -o name", |said| !said.contains("tug")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_looked_for_once_its_kind_is_defined() {
    let cluster = Cluster::start().await;
    let owner = "{apiVersion: example.org/v1, kind: Boat, name: tug, uid: 3f2c}";
    let cargo = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: cargo, ownerReferences: [{owner}]}}\ndata: {{}}\n"
    );
    cluster.apply(&cargo).await;
    cluster.kubectl("create deployment settle --image=web").await;
    cluster.until("get replicasets -o name", |said| said.contains("settle")).await;
    assert!(cluster.kubectl("get configmaps -o name").await.contains("cargo"));
    cluster.apply(DEFINITION).await;
    cluster.until("get configmaps -o name", |said| !said.contains("cargo")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_nodes_pods_are_replaced() {
    let cluster = Cluster::start().await;
    let alive = cluster.node("n1", 1).await;
    let dying = cluster.node("n2", 2).await;
    cluster.apply(WEB).await;
    cluster.kubectl("rollout status deployment/web --timeout=30s").await;
    cluster.until(ADDRESSES, |said| said.contains("10.244.2.")).await;
    dying.cancel();
    cluster.until(ADDRESSES, |said| !said.contains("10.244.2.")).await;
    let ready = "get node n2 -o jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    assert_eq!(cluster.kubectl(ready).await, "Unknown");
    let taints = cluster.kubectl("get node n2 -o jsonpath={.spec.taints[*].key}").await;
    assert!(taints.contains("node.kubernetes.io/unreachable"), "{taints}");
    cluster.until(ADDRESSES, |said| count(said) == 4).await;
    cluster.kubectl("delete node n2").await;
    cluster.until("get pods --field-selector spec.nodeName=n2 -o name", str::is_empty).await;
    drop(alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_fit_nowhere_are_told_why_and_wait() {
    let cluster = Cluster::start().await;
    cluster.kubectl("run lone --image=web").await;
    let condition = "get pod lone -o jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}";
    cluster.until(condition, |said| said.starts_with("no nodes available")).await;
    let _node = cluster.node("n1", 1).await;
    cluster.until("get pod lone -o jsonpath={.status.phase}", |said| said == "Running").await;
    cluster
        .until("get events -o jsonpath={.items[*].reason}", |said| said.contains("FailedScheduling"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancers_get_addresses_until_there_are_none() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.kubectl(&format!("create service loadbalancer {name} --tcp=80")).await;
    }
    let ips = "get services -o jsonpath={.items[*].status.loadBalancer.ingress[*].ip}";
    cluster.until(ips, |said| said == "172.30.0.200 172.30.0.201").await;
    cluster
        .until("get events -o jsonpath={.items[*].reason}", |said| said.contains("AllocationFailed"))
        .await;
    cluster.kubectl("delete service a").await;
    cluster.until(ips, |said| said == "172.30.0.201 172.30.0.200").await;
}

async fn next(
    events: &mut (impl futures::Stream<Item = anyhow::Result<ChangeEvent>> + Unpin),
) -> ChangeEvent {
    let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    event.expect("in time").expect("endless").expect("no error")
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_follow_changes_and_publish_dns() {
    let cluster = Cluster::start().await;
    let mut events = changes(cluster.client.clone(), None);
    let mut seen = Vec::new();
    loop {
        match next(&mut events).await {
            ChangeEvent::Synced => break,
            ChangeEvent::Change(change) => seen.push(change),
            ChangeEvent::Triggered(_) => {}
        }
    }
    assert!(seen.iter().any(|c| matches!(c, Change::Service(s) if &*s.name.name == "kubernetes")));
    for _ in 0..2 {
        publish_dns(&cluster.client, "n1", "172.30.0.11".parse().unwrap(), None).await.unwrap();
    }
    let slice = loop {
        if let ChangeEvent::Change(Change::Slice(slice)) = next(&mut events).await
            && &*slice.service == "kube-dns"
        {
            break slice;
        }
    };
    assert_eq!(slice.endpoints[0].address.to_string(), "172.30.0.11");
    let hints = slice.endpoints[0].hints.as_ref().expect("hints");
    assert_eq!(&*hints.nodes[0], "n1");
    cluster.kubectl("delete endpointslice kube-dns-n1 -n kube-system").await;
    while !matches!(next(&mut events).await, ChangeEvent::Change(Change::SliceGone(_))) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_pods_at_once() {
    let cluster = Cluster::start().await;
    let _nodes = (cluster.node("n1", 1).await, cluster.node("n2", 2).await);
    cluster.apply(WEB).await;
    cluster.kubectl("rollout status deployment/web --timeout=30s").await;
    let started = Instant::now();
    cluster.kubectl("scale deployment web --replicas=150").await;
    cluster.until(ADDRESSES, |said| count(said) == 150).await;
    eprintln!("150 pods scheduled and in slices after {:?}", started.elapsed());
    let sizes = "get endpointslices -l kubernetes.io/service-name=web -o name";
    assert_eq!(count(&cluster.kubectl(sizes).await), 2, "slices of at most 100");
}
