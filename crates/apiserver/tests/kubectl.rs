//! What the stock kubectl sees and does.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use support::kubectl::{Kubectl, has};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: myapp, type: front-end}}
spec:
  replicas: 3
  selector: {matchLabels: {app: myapp}}
  template:
    metadata: {labels: {app: myapp}}
    spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: myapp-service}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30008}], selector: {app: myapp}}
";

#[tokio::test(flavor = "multi_thread")]
async fn create_get_describe_and_delete() {
    let Some(k) = Kubectl::start().await else { return };
    has(&k.with("create -f -", WEB).await, &["deployment.apps/web created", "service/myapp-service created"]);
    has(&k.fails("create -f -", WEB).await, &["AlreadyExists", "deployments.apps \"web\" already exists"]);
    has(&k.run("get deployments").await, &["READY", "UP-TO-DATE", "0/3"]);
    has(&k.run("get services -o wide").await, &["80:30008/TCP", "app=myapp", "10.96.0.1 "]);
    has(&k.run("get service myapp-service -o yaml").await, &["nodePort: 30008", "targetPort: 80"]);
    assert_eq!(k.run("get deploy web -o jsonpath={.spec.replicas}").await, "3");
    assert_eq!(k.run("get svc -o name -l nothing=here").await.trim(), "");
    has(
        &k.run("get svc -A --field-selector metadata.name=kube-dns").await,
        &["kube-system", "53/UDP,53/TCP"],
    );
    has(&k.run("describe service myapp-service").await, &["Type:                     NodePort", "30008/TCP"]);
    has(&k.run("describe deployment web").await, &["StrategyType:", "RollingUpdate", "3 desired"]);
    has(&k.run("create deployment other --image=web:1 --replicas=2").await, &["created"]);
    has(&k.run("create configmap c --from-literal=a=b").await, &["configmap/c created"]);
    has(&k.run("create namespace extra").await, &["namespace/extra created"]);
    has(&k.run("run p --image=web:1").await, &["pod/p created"]);
    has(&k.run("get all").await, &["pod/p", "deployment.apps/other", "service/myapp-service"]);
    has(&k.run("delete pod p").await, &["pod \"p\" deleted"]);
    has(&k.run("delete deployment web other").await, &["\"web\" deleted", "\"other\" deleted"]);
    has(&k.run("delete configmaps --all").await, &["configmap \"c\" deleted"]);
    has(&k.fails("get deployment web", "").await, &["(NotFound)", "deployments.apps \"web\" not found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_edit_scale_and_wait() {
    let Some(k) = Kubectl::start().await else { return };
    has(&k.with("apply -f -", WEB).await, &["deployment.apps/web created"]);
    has(&k.with("apply -f -", WEB).await, &["deployment.apps/web unchanged", "myapp-service unchanged"]);
    let changed = WEB.replace("web:1", "web:2").replace(", type: front-end", "");
    has(&k.with("diff -f -", WEB).await, &[]);
    has(&k.fails("diff -f -", &changed).await, &["image: web:1", "image: web:2"]);
    has(
        &k.with("apply -f -", &changed).await,
        &["deployment.apps/web configured", "myapp-service unchanged"],
    );
    assert_eq!(k.run("get deploy web -o jsonpath={.metadata.labels}").await, "{\"app\":\"myapp\"}");
    has(&k.run("label deploy web tier=front").await, &["labeled"]);
    has(&k.run("annotate deploy web note=x").await, &["annotated"]);
    has(&k.run("scale deploy web --replicas=5").await, &["deployment.apps/web scaled"]);
    has(&k.run("wait --for=jsonpath={.spec.replicas}=5 deploy/web --timeout=5s").await, &["condition met"]);
    has(&k.run("set image deploy/web web=web:3").await, &["image updated"]);
    has(&k.run("set selector svc myapp-service app=none").await, &["selector updated"]);
    has(&k.run("patch deploy web -p '{\"spec\":{\"paused\":true}}'").await, &["patched"]);
    let json = "patch deploy web --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/paused\"}]'";
    has(&k.run(json).await, &["patched"]);
    has(&k.run("patch deploy web --type=merge -p '{\"spec\":{\"replicas\":1}}'").await, &["patched"]);
    assert_eq!(
        k.run("get deploy web -o 'jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}'")
            .await,
        "1 web:3"
    );
    let live = k.run("get deploy web -o yaml").await.replace("replicas: 1", "replicas: 4");
    has(&k.with("replace -f -", &live).await, &["replaced"]);
    let stale = k.fails("replace -f -", &live).await;
    has(
        &stale,
        &["Conflict", "the object has been modified; please apply your changes to the latest version"],
    );
    has(&k.run("expose deploy web --name=again --port=81").await, &["service/again exposed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_knows_who_owns_what() {
    let Some(k) = Kubectl::start().await else { return };
    has(&k.with("apply --server-side -f -", WEB).await, &["deployment.apps/web serverside-applied"]);
    let other = WEB.replace("replicas: 3", "replicas: 7");
    let conflict = k.fails("apply --server-side --field-manager=other -f -", &other).await;
    has(&conflict, &["conflict with \"kubectl\"", ".spec.replicas"]);
    let forced = "apply --server-side --field-manager=other --force-conflicts -f -";
    has(&k.with(forced, &other).await, &["serverside-applied"]);
    assert_eq!(k.run("get deploy web -o jsonpath={.spec.replicas}").await, "7");
    has(
        &k.run("get deploy web -o yaml --show-managed-fields").await,
        &["manager: other", "operation: Apply"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_as_kubernetes_tells_them() {
    let Some(k) = Kubectl::start().await else { return };
    let unknown = WEB.replace("replicas: 3", "replicas: 3\n  replica: 3");
    has(&k.fails("create -f -", &unknown).await, &["strict decoding error: unknown field \"spec.replica\""]);
    k.run("delete service myapp-service").await;
    let warned = k.with("create --validate=warn -f -", &unknown).await;
    has(&warned, &["Warning: unknown field \"spec.replica\"", "deployment.apps/web created"]);
    let wrong = WEB.replace("replicas: 3", "replicas: three").replace("name: web,", "name: wrong,");
    has(&k.fails("create -f -", &wrong).await, &["cannot be handled as a Deployment", "spec.replicas"]);
    let taken = k.fails("create service nodeport again --tcp=80 --node-port=30008", "").await;
    has(&taken, &["spec.ports[0].nodePort: Invalid value: 30008: provided port is already allocated"]);
    let range = k.fails("create service nodeport again --tcp=80 --node-port=80", "").await;
    has(&range, &["The range of valid ports is 30000-32767"]);
    has(&k.fails("create cm x -n nowhere", "").await, &["namespaces \"nowhere\" not found"]);
    has(&k.fails("delete ns default", "").await, &["this namespace may not be deleted"]);
    let dry = k.run("create cm dry --from-literal=a=b --dry-run=server").await;
    has(&dry, &["configmap/dry created (server dry run)"]);
    has(&k.fails("get cm dry", "").await, &["NotFound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_explain_and_access_work() {
    let Some(k) = Kubectl::start().await else { return };
    has(&k.run("version").await, &["Server Version: v1.36.3+daymark"]);
    has(&k.run("api-resources").await, &["deployments", "deploy", "apps/v1", "endpointslices"]);
    has(&k.run("api-versions").await, &["apps/v1\n", "v1\n", "discovery.k8s.io/v1\n"]);
    has(&k.run("explain service.spec.ports").await, &["nodePort", "targetPort", "<integer>"]);
    assert_eq!(k.run("auth can-i create pods").await.trim(), "yes");
    has(&k.run("auth whoami").await, &["kubernetes-admin", "system:masters"]);
    has(&k.run("cluster-info").await, &["control plane"]);
    has(&k.run("get --raw /readyz?verbose").await, &["[+]store ok", "readyz check passed"]);
    has(&k.run("get events -A").await, &["No resources found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_follows_changes() {
    let Some(k) = Kubectl::start().await else { return };
    let mut child = k.command("get configmaps -w").spawn().unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    // Nothing is printed before the first object, so it may come before or after the watch begins.
    k.run("create configmap one --from-literal=a=b").await;
    has(&lines.next_line().await.unwrap().unwrap(), &["NAME", "DATA", "AGE"]);
    has(&lines.next_line().await.unwrap().unwrap(), &["one", "1"]);
    k.run("create configmap two --from-literal=a=b --from-literal=c=d").await;
    has(&lines.next_line().await.unwrap().unwrap(), &["two", "2"]);
    k.run("patch configmap one --type=merge -p '{\"data\":{\"x\":\"y\"}}'").await;
    has(&lines.next_line().await.unwrap().unwrap(), &["one", "2"]);
    child.kill().await.unwrap();
}
