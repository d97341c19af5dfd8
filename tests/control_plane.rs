//! The real kube-controller-manager and kube-scheduler on `daymark up --controllers none`, unmodified.
//!
//! Needs `KUBEBUILDER_ASSETS`, a folder with both; skips without, and says so.

mod support;

use std::path::Path;

use support::{Cluster, Killed, Laptop, check, eventually, peer};

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: 'daymark/web:v1', command: [/daymark, web, --help]}]
";

const ACCOUNT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: Secret
metadata: {name: robot-key, annotations: {kubernetes.io/service-account.name: robot}}
type: kubernetes.io/service-account-token
";

const READY: &str = "get endpointslices -l kubernetes.io/service-name=myapp-service -o jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}";

/// Errors that both log of every API server: of a flag that they were not given; that their watch is behind their own
/// writes, and that somebody else wrote first, after which they try again.
const EXPECTED_COMPLAINTS: [&str; 3] = [
    "The manifest file is empty, ignoring",
    "is not as new as written version",
    "the object has been modified; please apply your changes to the latest version and try again",
];

fn control_plane(laptop: &Laptop, manager: &Path, scheduler: &Path) -> [Killed; 2] {
    let state = laptop.path("state").join(&laptop.name);
    let file = |name: &str| state.join(name).display().to_string();
    let common = |name: &str| {
        let config = file(&format!("{name}.conf"));
        vec![
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            format!("--cert-dir={}", laptop.path(name).display()),
            "--bind-address=127.0.0.1".into(),
            "--v=2".into(),
        ]
    };
    let start = |name: &str, program: &Path, flags: Vec<String>| {
        let program = program.display().to_string();
        let words: Vec<&str> =
            std::iter::once(program.as_str()).chain(flags.iter().map(String::as_str)).collect();
        laptop.start(name, &words)
    };
    let mut flags = common("kube-controller-manager");
    flags.extend([
        format!("--root-ca-file={}", file("pki/ca.crt")),
        format!("--service-account-private-key-file={}", file("pki/sa.key")),
        format!("--cluster-signing-cert-file={}", file("pki/ca.crt")),
        format!("--cluster-signing-key-file={}", file("pki/ca.key")),
        "--use-service-account-credentials".into(),
        "--node-monitor-period=500ms".into(),
        "--node-monitor-grace-period=6s".into(),
    ]);
    [
        start("kube-controller-manager", manager, flags),
        start("kube-scheduler", scheduler, common("kube-scheduler")),
    ]
}

fn addresses(cluster: &Cluster<'_>, count: usize) {
    eventually(&format!("{count} endpoints"), || {
        let ready = cluster.laptop.kubectl(READY);
        check(ready.split_whitespace().count() == count, ready)
    });
}

#[test]
fn the_real_controllers_and_scheduler_run_the_cluster() {
    let (Some(manager), Some(scheduler)) = (peer("kube-controller-manager"), peer("kube-scheduler")) else {
        return;
    };
    let laptop = Laptop::new();
    let cluster = laptop.up_with(&["--controllers", "none"]);
    let refused = laptop.fails(&["kubectl", "run", "early", "--image=daymark/web:v1"]);
    assert!(refused.contains("serviceaccount \"default\" not found"), "nobody makes accounts: {refused}");
    let programs = control_plane(&laptop, &manager, &scheduler);
    eventually("the accounts are made", || {
        let done = laptop.output(&["kubectl", "get", "serviceaccount", "default"]);
        check(done.status.success(), laptop.said("kube-controller-manager"))
    });
    a_deployment_lives_its_life(&cluster);
    accounts_and_certificates_are_issued(&laptop);
    laptop.apply(JOB);
    laptop.kubectl("wait --for=condition=Complete job/once --timeout=60s");
    a_namespace_is_emptied(&laptop);
    a_dead_node_is_told(&laptop);
    for name in ["kube-controller-manager", "kube-scheduler"] {
        let lease =
            laptop.kubectl(&format!("get lease -n kube-system {name} -o jsonpath={{.spec.holderIdentity}}"));
        assert!(!lease.is_empty(), "{name} leads by its lease");
    }
    drop(programs);
    let complaints = complaints(&laptop);
    assert!(complaints.is_empty(), "they complained of what kube-apiserver does not do:\n{complaints}");
}

fn a_deployment_lives_its_life(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    addresses(cluster, 3);
    for node in cluster.node_ips() {
        let page = eventually("the node port", || cluster.curl(&format!("http://{node}:30008/")));
        assert!(page.contains("Hello from myapp-deployment-"), "{page}");
    }
    let nodes = laptop.kubectl("get pods -l app=myapp -o jsonpath={.items[*].spec.nodeName}");
    assert!(nodes.contains("node1") && nodes.contains("node2"), "they are spread: {nodes}");
    let by_name = eventually("cluster DNS", || {
        cluster.exec("deploy/myapp-deployment", &["/daymark", "web", "get", "http://myapp-service"])
    });
    assert!(by_name.contains("Hello from"), "{by_name}");
    laptop.kubectl("scale deployment/myapp-deployment --replicas=5");
    addresses(cluster, 5);
    laptop.kubectl("set image deployment/myapp-deployment web=daymark/web:v2");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    laptop.kubectl("rollout undo deployment/myapp-deployment");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let events = laptop.kubectl("get events -o jsonpath={.items[*].message}");
    assert!(events.contains("Successfully assigned default/myapp-deployment-"), "{events}");
    assert!(events.contains("Scaled up replica set myapp-deployment-"), "{events}");
    laptop.kubectl("expose deployment/myapp-deployment --name=balanced --port=80 --type=LoadBalancer");
    eventually("addresses of LoadBalancer Services stay ours", || {
        let ip = laptop.kubectl("get service balanced -o jsonpath={.status.loadBalancer.ingress[0].ip}");
        check(ip.ends_with(".200"), ip)
    });
    laptop.kubectl("delete deployment/myapp-deployment");
    eventually("its pods go with it", || {
        let left = laptop.kubectl("get pods,replicasets -l app=myapp -o name");
        check(left.is_empty(), left)
    });
    addresses(cluster, 0);
    laptop.kubectl("delete service myapp-service balanced");
}

fn accounts_and_certificates_are_issued(laptop: &Laptop) {
    laptop.apply(ACCOUNT);
    let token = eventually("the Secret is filled", || {
        let token = laptop.kubectl("get secret robot-key -o go-template={{.data.token|base64decode}}");
        check(token.starts_with("ey"), &token).map(|()| token)
    });
    let whoami = |token: &str| {
        let state = laptop.path("state").join(&laptop.name);
        let authority = format!("--cacert={}", state.join("pki/ca.crt").display()).replace('=', " ");
        let url = "https://127.0.0.1:6443/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let script = format!(
            "curl -sS {authority} -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{}}' {url}"
        );
        laptop.run(&["sh", "-c", &script])
    };
    assert!(whoami(&token).contains("system:serviceaccount:default:robot"), "{}", whoami(&token));
    laptop.kubectl("delete secret robot-key");
    assert!(whoami(&token).contains("Unauthorized"), "{}", whoami(&token));
    laptop.kubectl("delete serviceaccount robot");
    eventually("roles are gathered", || {
        let rules = laptop.kubectl("get clusterrole view -o jsonpath={.rules}");
        check(rules.contains("pods"), rules)
    });

    let key = laptop.path("jane.key").display().to_string();
    let request = laptop.run(&["sh", "-c", &format!(
        "openssl req -new -newkey rsa:2048 -nodes -keyout {key} -subj /CN=jane/O=dev 2>/dev/null | base64 -w0"
    )]);
    laptop.apply(&format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: jane}}\nspec: \
         {{request: {request}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n"
    ));
    laptop.kubectl("certificate approve jane");
    let certificate = eventually("the certificate is signed", || {
        let text = laptop.kubectl("get csr jane -o go-template={{.status.certificate|base64decode}}");
        check(text.contains("BEGIN CERTIFICATE"), &text).map(|()| text)
    });
    std::fs::write(laptop.path("jane.crt"), certificate).expect("a certificate");
    let file = laptop.path("jane.crt").display().to_string();
    laptop.run(&[
        "kubectl",
        "config",
        "set-credentials",
        "jane",
        "--client-key",
        &key,
        "--client-certificate",
        &file,
    ]);
    assert!(laptop.kubectl("--user=jane auth whoami -o jsonpath={.status.userInfo}").contains("\"jane\""));
}

fn a_namespace_is_emptied(laptop: &Laptop) {
    laptop.kubectl("create namespace shop");
    laptop.kubectl("create deployment web --image=daymark/web:v1 --replicas=2 -n shop");
    laptop.kubectl("create configmap settings -n shop");
    laptop.kubectl("rollout status deployment/web -n shop --timeout=60s");
    laptop.kubectl("delete namespace shop --timeout=60s");
    assert_eq!(laptop.kubectl("get pods,configmaps,deployments -n shop -o name"), "");
}

fn a_dead_node_is_told(laptop: &Laptop) {
    laptop.daymark(&["stop", "--node", "node2"]);
    let ready = "get node node2 -o jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}";
    eventually("the node's silence is told", || {
        let reason = laptop.kubectl(ready);
        check(reason == "NodeStatusUnknown", reason)
    });
    eventually("it is tainted", || {
        let taints = laptop.kubectl("get node node2 -o jsonpath={.spec.taints[*].key}");
        check(taints.contains("node.kubernetes.io/unreachable"), taints)
    });
    laptop.daymark(&["start", "--node", "node2"]);
    laptop.kubectl("wait --for=condition=Ready node/node2 --timeout=60s");
    eventually("it is welcome again", || {
        let taints = laptop.kubectl("get node node2 -o jsonpath={.spec.taints}");
        check(taints.is_empty(), taints)
    });
}

/// Errors that both logged, but for those that they would log of a real kube-apiserver, too.
fn complaints(laptop: &Laptop) -> String {
    let said = ["kube-controller-manager", "kube-scheduler"].map(|name| laptop.said(name)).concat();
    let error = |line: &&str| {
        line.starts_with('E')
            && line.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
            && !EXPECTED_COMPLAINTS.iter().any(|known| line.contains(known))
    };
    said.lines().filter(error).collect::<Vec<_>>().join("\n")
}
