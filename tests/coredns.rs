//! CoreDNS with its kubernetes plugin, unmodified, as a client of the API: it answers for Services and follows them.
//!
//! Needs `KUBEBUILDER_ASSETS`, a folder with `coredns`; skips without, and says so.

mod support;

use std::fs;

use support::{Laptop, check, eventually, peer};

const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: peers}
spec:
  clusterIP: None
  selector: {type: front-end}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: db.example.com}
";

/// The answers to a question, sorted.
fn ask(laptop: &Laptop, name: &str, kind: &str) -> Vec<String> {
    let full = format!("{name}.default.svc.cluster.local");
    let said = laptop.run(&["dig", "@127.0.0.1", "-p", "1053", "+short", "+tries=1", "+time=2", &full, kind]);
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn until(
    laptop: &Laptop,
    name: &str,
    kind: &str,
    what: &str,
    right: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    eventually(what, || {
        let answers = ask(laptop, name, kind);
        check(right(&answers), format!("{answers:?}\n{}", laptop.said("coredns"))).map(|()| answers)
    })
}

#[test]
fn coredns_answers_for_services_and_follows_them() {
    let Some(coredns) = peer("coredns") else { return };
    let laptop = Laptop::new();
    let cluster = laptop.up();
    let corefile = laptop.path("Corefile");
    let kubeconfig = laptop.path("kubeconfig").display().to_string();
    let text = format!(
        "cluster.local:1053 10.in-addr.arpa:1053 {{\n  bind 127.0.0.1\n  errors\n  log\n  kubernetes {{\n    \
         kubeconfig {kubeconfig}\n    pods verified\n    ttl 0\n  }}\n}}\n"
    );
    fs::write(&corefile, text).expect("a Corefile");
    let program = coredns.display().to_string();
    let _server = laptop.start("coredns", &[&program, "-conf", &corefile.display().to_string()]);
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.apply(HEADLESS);
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");

    let ip = laptop.kubectl("get service myapp-service -o jsonpath={.spec.clusterIP}");
    until(&laptop, "myapp-service", "A", "the cluster IP", |answers| answers == [ip.as_str()]);
    let pods = || {
        let said = laptop.kubectl("get pods -l type=front-end -o jsonpath={.items[*].status.podIP}");
        let mut ips: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        ips.sort();
        ips
    };
    let three = pods();
    until(&laptop, "peers", "A", "three pods", |answers| answers == three && answers.len() == 3);
    let ports = until(&laptop, "_http._tcp.peers", "SRV", "a port of each", |answers| answers.len() == 3);
    assert!(ports.iter().all(|port| port.contains(" 80 ")), "{ports:?}");
    assert_eq!(ask(&laptop, "outside", "CNAME"), ["db.example.com."]);
    let name = laptop.run(&["dig", "@127.0.0.1", "-p", "1053", "+short", "-x", &ip]);
    assert_eq!(name.trim(), "myapp-service.default.svc.cluster.local.");

    laptop.kubectl("scale deployment/myapp-deployment --replicas=1");
    let one = until(&laptop, "peers", "A", "one pod is left", |answers| answers.len() == 1);
    eventually("it is the one that lives", || check(pods() == one, format!("{one:?}")));
    laptop.kubectl("delete service myapp-service");
    until(&laptop, "myapp-service", "A", "a deleted Service has no name", <[String]>::is_empty);
    laptop.kubectl("create service clusterip myapp-service --tcp=80");
    until(&laptop, "myapp-service", "A", "a new one has", |answers| answers.len() == 1);
    let errors: Vec<String> = laptop
        .said("coredns")
        .lines()
        .filter(|l| l.contains("[ERROR]") || l.starts_with('E'))
        .map(str::to_owned)
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}
