//! What load balancers, probes and Prometheus ask a node, over HTTP.

mod support;

use support::{Cluster, Laptop, check, eventually};

/// Status line, headers and body of an answer.
fn ask(cluster: &Cluster<'_>, url: &str) -> Result<String, String> {
    let done = cluster.laptop.output(&["curl", "-sS", "-i", "-m", "3", url]);
    let text = support::text(&done.stdout);
    if done.status.success() { Ok(text.to_lowercase()) } else { Err(support::text(&done.stderr)) }
}

fn says(cluster: &Cluster<'_>, url: &str, parts: &[&str]) -> Result<(), String> {
    let answer = ask(cluster, url)?;
    check(parts.iter().all(|part| answer.contains(part)), format!("{url} said:\n{answer}"))
}

#[test]
fn health_check_node_ports_tell_where_the_endpoints_are() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    laptop.kubectl(
        "run here --image=daymark/web:v1 --labels=app=local --overrides={\"spec\":{\"nodeName\":\"node1\"}}",
    );
    laptop.kubectl("wait --for=condition=Ready pod/here --timeout=60s");
    laptop.kubectl("expose pod here --name=local --type=LoadBalancer --port=80 --selector=app=local");
    laptop.kubectl("patch service local -p {\"spec\":{\"externalTrafficPolicy\":\"Local\"}}");
    let port = laptop.kubectl("get service local -o jsonpath={.spec.healthCheckNodePort}");
    let nodes = cluster.node_ips();
    let urls: Vec<String> = nodes.iter().map(|node| format!("http://{node}:{}/", port.trim())).collect();
    eventually("the node with the pod is healthy and the other is not", || {
        let weight = "x-load-balancing-endpoint-weight: ";
        let service = r#""service":{"namespace":"default","name":"local"}"#;
        says(&cluster, &urls[0], &[" 200 ", &format!("{weight}1"), service, r#""localendpoints":1"#])?;
        says(&cluster, &urls[1], &[" 503 ", &format!("{weight}0"), service, r#""localendpoints":0"#])
    });
    laptop.kubectl("delete pod here --grace-period=0 --force");
    eventually("without the pod nobody is healthy", || says(&cluster, &urls[0], &[" 503 "]));
    laptop.kubectl("delete service local");
    eventually("without the Service the port is closed", || {
        check(ask(&cluster, &urls[0]).is_err(), "it still answers")
    });
}

#[test]
fn probes_and_metrics_speak_as_kube_proxy_does() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let node = cluster.node_ips().remove(0);
    let (healthz, livez) = (format!("http://{node}:10256/healthz"), format!("http://{node}:10256/livez"));
    eventually("the node is healthy", || says(&cluster, &healthz, &[" 200 ", r#""nodeeligible":true"#]));
    says(&cluster, &livez, &[" 200 "]).expect("alive");

    let taint = "ToBeDeletedByClusterAutoscaler=1:PreferNoSchedule";
    laptop.kubectl(&format!("taint node node1 {taint}"));
    eventually("a node that is about to go is not for load balancers, but alive", || {
        says(&cluster, &healthz, &[" 503 ", r#""nodeeligible":false"#])?;
        says(&cluster, &livez, &[" 200 "])
    });
    laptop.kubectl(&format!("taint node node1 {taint}-"));
    eventually("it stays after all", || says(&cluster, &healthz, &[" 200 "]));

    cluster.curl(&format!("http://{node}:30008")).expect("the page");
    let inside = cluster.inside_node("node1", &["curl", "-sS", "-m", "3", "http://127.0.0.1:10249/metrics"]);
    for line in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count ",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds ",
        "kubeproxy_proxy_healthz_total{code=\"503\"} ",
        "daymark_dataplane_events_total{event=\"packet_new\"} ",
        "daymark_service_connections_total{namespace=\"default\",service=\"myapp-service\",port=\"80/TCP\"} ",
        "daymark_map_capacity{map=\"frontends\"} ",
        "# EOF",
    ] {
        assert!(inside.lines().any(|l| l.starts_with(line)), "no line {line} in\n{inside}");
    }
}
