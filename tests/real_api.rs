//! The agent against a real kube-apiserver: it knows the cluster through the Kubernetes API alone.
//!
//! Needs `KUBEBUILDER_ASSETS`, a folder with `etcd` and `kube-apiserver`; skips without, and says so.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::alone::{Alone, become_node, serve};
use support::{Killed, Laptop, check, eventually};

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: real, namespace: default}
spec: {clusterIP: 10.0.0.50, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: real-1, namespace: default, labels: {kubernetes.io/service-name: real}}
addressType: IPv4
ports: [{name: "", port: 8080, protocol: TCP}]
endpoints: [{addresses: [172.31.9.1], conditions: {ready: true}, nodeName: real-node}]
---
apiVersion: v1
kind: Node
metadata: {name: real-node}
spec: {podCIDR: 172.31.10.0/24, podCIDRs: [172.31.10.0/24]}
"#;

/// In protobuf, too, which our own API server does not speak.
#[test]
fn the_agent_serves_a_real_kubernetes() {
    let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        eprintln!("SKIPPED: KUBEBUILDER_ASSETS does not name a folder with etcd and kube-apiserver");
        return;
    };
    let laptop = Laptop::new();
    become_node(&laptop);
    let _control_plane = control_plane(&laptop, &assets);
    eventually("the objects are made", || {
        fs::write(laptop.path("real.yml"), MANIFEST).map_err(|e| e.to_string())?;
        let done = laptop.output(&["kubectl", "apply", "-f", &laptop.path("real.yml").display().to_string()]);
        check(done.status.success(), support::text(&done.stderr))
    });
    laptop.run(&[
        "kubectl",
        "patch",
        "node",
        "real-node",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"addresses":[{"type":"InternalIP","address":"172.31.9.1"}]}}"#,
    ]);
    let mut agent = Alone::start(&laptop);
    serve(&laptop);
    assert_eq!(eventually("the cluster IP answers", || agent.ask("10.0.0.50")), "served");
    let log = agent.log();
    for kind in ["api/v1/services", "discovery.k8s.io/v1/endpointslices", "api/v1/nodes"] {
        let told = log.lines().any(|l| l.contains(kind) && l.contains("encoding=Protobuf"));
        assert!(told, "{kind} come in protobuf");
    }
    agent.kill();
    assert_eq!(agent.ask("10.0.0.50").expect("pinned programs serve on"), "served");
}

/// etcd and kube-apiserver on the laptop's loopback; a kubeconfig for its admin.
fn control_plane(laptop: &Laptop, assets: &Path) -> [Killed; 2] {
    let path = |name: &str| laptop.path(name).display().to_string();
    laptop.run(&["openssl", "genrsa", "-out", &path("sa.key"), "2048"]);
    fs::write(laptop.path("tokens.csv"), "secret,admin,admin,\"system:masters\"\n").expect("tokens");
    let etcd = laptop
        .command(&[
            &assets.join("etcd").display().to_string(),
            "--data-dir",
            &path("etcd"),
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=error",
        ])
        .spawn()
        .expect("etcd");
    let api = laptop
        .command(&[
            &assets.join("kube-apiserver").display().to_string(),
            "--etcd-servers=http://127.0.0.1:2379",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            "--secure-port=6443",
            "--advertise-address=172.31.9.1",
            "--service-account-issuer=https://kubernetes.default",
            "--disable-admission-plugins=ServiceAccount",
            &format!("--service-account-key-file={}", path("sa.key")),
            &format!("--service-account-signing-key-file={}", path("sa.key")),
            &format!("--token-auth-file={}", path("tokens.csv")),
            &format!("--cert-dir={}", path("certs")),
        ])
        .stderr(fs::File::create(laptop.path("kube-apiserver.log")).expect("a log"))
        .spawn()
        .expect("kube-apiserver");
    let config = "apiVersion: v1\nkind: Config\nclusters: [{name: r, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}]\nusers: [{name: r, user: {token: secret}}]\ncontexts: [{name: r, context: {cluster: r, user: r}}]\ncurrent-context: r\n";
    fs::write(laptop.path("kubeconfig"), config).expect("a kubeconfig");
    [Killed(etcd), Killed(api)]
}
