//! The tour of the README, as a new user takes it: stock `kubectl`, `curl`, a browser.

mod support;

use std::collections::BTreeSet;

use support::{Cluster, Laptop, check, eventually, example};

/// Who answers at a URL over many requests.
fn answerers(cluster: &Cluster<'_>, url: &str, requests: usize) -> BTreeSet<String> {
    (0..requests)
        .filter_map(|_| cluster.curl(&format!("{url}/hostname")).ok())
        .map(|s| s.trim().to_owned())
        .collect()
}

fn pods(cluster: &Cluster<'_>, selector: &str) -> BTreeSet<String> {
    let out = cluster.laptop.kubectl(&format!(
        "get pods -l {selector} --field-selector=status.phase=Running -o jsonpath={{range.items[*]}}{{.metadata.name}}{{\"\\n\"}}{{end}}"
    ));
    out.lines().map(str::to_owned).collect()
}

fn front_end(cluster: &Cluster<'_>) {
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    cluster.laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
}

/// A pod with `kubectl`, which finds the API by name and shows it the mounted token.
const CLIENT: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: client}
data:
  config: |
    clusters: [{name: c, cluster: {server: "https://kubernetes.default",
      certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt}}]
    users: [{name: u, user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}}]
    contexts: [{name: x, context: {cluster: c, user: u}}]
    current-context: x
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers:
  - name: client
    image: daymark/web:v1
    volumeMounts: [{name: config, mountPath: /config}, {name: kubectl, mountPath: /kubectl}]
  volumes:
  - {name: config, configMap: {name: client}}
  - {name: kubectl, hostPath: {path: KUBECTL, type: File}}
"#;

fn asks_the_api_from_a_pod(laptop: &Laptop) {
    let kubectl = laptop.run(&["sh", "-c", "readlink -f $(command -v kubectl)"]);
    let file = laptop.path("client.yml");
    std::fs::write(&file, CLIENT.replace("KUBECTL", kubectl.trim())).expect("a file");
    laptop.kubectl(&format!("create -f {}", file.display()));
    laptop.kubectl("wait --for=condition=Ready pod/client --timeout=60s");
    let list = "exec client -- /kubectl --kubeconfig=/config/config --cache-dir=/tmp get pods -o name";
    let words: Vec<&str> = std::iter::once("kubectl").chain(list.split(' ')).collect();
    let refused = laptop.fails(&words);
    let who = "User \"system:serviceaccount:default:default\" cannot list resource \"pods\"";
    assert!(refused.contains("(Forbidden)") && refused.contains(who), "{refused}");
    laptop.kubectl("create role reader --verb=list --resource=pods");
    laptop.kubectl("create rolebinding reader --role=reader --serviceaccount=default:default");
    assert!(laptop.kubectl(list).contains("pod/client"));
    laptop.kubectl("delete pod/client rolebinding/reader role/reader configmap/client --grace-period=1");
}

#[test]
fn a_node_port_answers_on_both_nodes_from_all_pods_and_follows_them() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    let nodes = cluster.node_ips();
    assert_eq!(nodes.len(), 2);
    asks_the_api_from_a_pod(&laptop);
    let three = pods(&cluster, "app=myapp");
    assert_eq!(three.len(), 3);
    for node in &nodes {
        let url = format!("http://{node}:30008");
        eventually("all three pods answer", || {
            let seen = answerers(&cluster, &url, 30);
            check(seen == three, format!("{seen:?} of {three:?}"))
        });
    }

    laptop.kubectl("scale deployment/myapp-deployment --replicas=5");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let five = pods(&cluster, "app=myapp");
    eventually("traffic follows the scale-up", || {
        let seen = answerers(&cluster, &format!("http://{}:30008", nodes[0]), 60);
        check(seen == five, format!("{seen:?} of {five:?}"))
    });

    let victim = five.first().cloned().expect("five pods");
    laptop.kubectl(&format!("delete pod {victim}"));
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let after = answerers(&cluster, &format!("http://{}:30008", nodes[1]), 60);
    assert!(!after.contains(&victim), "{victim} still answers");

    laptop.kubectl("set image deployment/myapp-deployment web=daymark/web:v2");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    eventually("every answer is of v2", || {
        let page = cluster.curl(&format!("http://{}:30008", nodes[0]))?;
        check(page.contains("v2"), page)
    });
}

#[test]
fn the_service_is_shown_as_kubectl_users_know_it() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    let services = laptop.kubectl("get services");
    assert!(
        services
            .lines()
            .any(|l| l.starts_with("myapp-service") && l.contains("NodePort") && l.contains("80:30008/TCP")),
        "{services}"
    );
    assert!(services.lines().any(|l| l.starts_with("kubernetes ")), "{services}");
    let wide = laptop.kubectl("get pods -o wide");
    assert!(wide.contains("node1") && wide.contains("node2") && wide.contains("10.244."), "{wide}");
    let slices = laptop.kubectl("get endpointslices");
    assert!(slices.lines().any(|l| l.starts_with("myapp-service-") && l.contains("IPv4")), "{slices}");
    let described = laptop.kubectl("describe service myapp-service");
    for part in ["NodePort:", "30008/TCP", "Endpoints:", "10.244.", "app=myapp,type=front-end"] {
        assert!(described.contains(part), "{part} is not in\n{described}");
    }
}

#[test]
fn the_pod_network_and_cluster_ips_are_not_reachable_from_the_laptop() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    let pod_ip = laptop.kubectl("get pods -l app=myapp -o jsonpath={.items[0].status.podIP}");
    let cluster_ip = laptop.kubectl("get service myapp-service -o jsonpath={.spec.clusterIP}");
    for ip in [pod_ip, cluster_ip] {
        let why = cluster.curl(&format!("http://{ip}")).expect_err("isolation");
        assert!(why.contains("No route to host") || why.contains("Couldn't connect"), "{why}");
    }
}

#[test]
fn tiers_find_each_other_by_name() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("three-tier.yml");
    for tier in ["database", "backend", "frontend"] {
        laptop.kubectl(&format!("rollout status deployment/{tier} --timeout=60s"));
    }
    let node = &cluster.node_ips()[0];
    let page = eventually("the front end shows all tiers", || {
        let page = cluster.curl(&format!("http://{node}:30010/"))?;
        check(page.contains("backend-") && page.contains("database-"), page.clone()).map(|()| page)
    });
    assert!(page.contains("frontend-"), "{page}");
}

#[test]
fn names_resolve_from_a_pod() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    let pod = pods(&cluster, "app=myapp").pop_first().expect("a pod");
    for name in ["myapp-service", "myapp-service.default", "myapp-service.default.svc.cluster.local"] {
        let answer = eventually("the name answers", || {
            cluster.exec(&pod, &["/daymark", "web", "get", &format!("http://{name}/hostname")])
        });
        assert!(answer.starts_with("myapp-deployment-"), "{answer}");
    }
}

#[test]
fn ports_of_every_form_answer() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    cluster.create_example("ports.yml");
    let node = &cluster.node_ips()[1];
    let out = laptop.kubectl(
        "get service myapp-ports -o jsonpath={range.spec.ports[*]}{.name}={.nodePort}{\"\\n\"}{end}",
    );
    for line in out.lines() {
        let (name, port) = line.split_once('=').expect("name=port");
        let number: u16 = port.parse().expect("a node port");
        assert!((30000..=32767).contains(&number), "{line}");
        eventually(name, || cluster.curl(&format!("http://{node}:{port}/hostname")));
    }
    assert_eq!(out.lines().count(), 4);
    assert!(out.contains("fixed=30080"));
}

#[test]
fn a_load_balancer_address_moves_when_its_node_dies() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    cluster.create_example("load-balancer.yml");
    let ip = eventually("an address from the pool", || {
        let ip = laptop.kubectl("get service myapp-lb -o jsonpath={.status.loadBalancer.ingress[0].ip}");
        check(!ip.is_empty(), "no address yet").map(|()| ip)
    });
    eventually("the address answers", || cluster.curl(&format!("http://{ip}/hostname")));
    let neighbour = || laptop.run(&["ip", "neigh", "show", &ip]);
    let before = neighbour();
    let mac = |text: &str| text.split_whitespace().skip_while(|w| *w != "lladdr").nth(1).map(str::to_owned);
    let owner = ["node1", "node2"].into_iter().find(|node| {
        let netns = laptop.path("run").join(&laptop.name).join("netns").join(node);
        let link =
            laptop.run(&["nsenter", &format!("--net={}", netns.display()), "ip", "link", "show", "eth0"]);
        mac(&before).is_some_and(|m| link.contains(&m))
    });
    let owner = owner.unwrap_or_else(|| panic!("no node has the address of {before}"));
    laptop.daymark(&["stop", "--node", owner]);
    eventually("the other node takes the address over", || {
        laptop.output(&["ip", "neigh", "flush", "to", &ip]);
        cluster.curl(&format!("http://{ip}/hostname"))?;
        check(mac(&neighbour()) != mac(&before), neighbour())
    });
}

#[test]
fn a_database_outside_the_cluster_is_found_by_a_services_name() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    front_end(&cluster);
    let gateway =
        laptop.run(&["sh", "-c", "ip -4 -o addr show scope global | grep -o '172[0-9.]*' | head -1"]);
    let manifest = std::fs::read_to_string(example("external-database.yml")).expect("the example");
    laptop.apply(&manifest.replace("172.30.0.1", gateway.trim()));
    let server = laptop
        .command(&[env!("CARGO_BIN_EXE_daymark"), "web", "--port", "5432"])
        .env("POD_NAME", "the-database")
        .spawn()
        .expect("a server on the laptop");
    let _server = support::Killed(server);
    let pod = pods(&cluster, "app=myapp").pop_first().expect("a pod");
    let url = "http://external-database:5432/hostname";
    let answer = eventually("the database answers", || cluster.exec(&pod, &["/daymark", "web", "get", url]));
    assert!(answer.contains("the-database"), "{answer}");
}
