//! Clusters of both IP families and of IPv6 alone, as users meet them: addresses, names, Services, isolation.

mod support;

use support::{Cluster, Laptop, check, eventually};

const POLICY: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: POLICY
  selector: {app: myapp}
  ports: [{port: 80, nodePort: 30008}]
";

fn service(laptop: &Laptop, policy: &str) {
    laptop.apply(&POLICY.replace("POLICY", policy));
}

fn front_end(cluster: &Cluster<'_>) {
    cluster.create_example("deployment.yml");
    cluster.laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
}

/// The words of a field that is a list.
fn list(laptop: &Laptop, what: &str, path: &str) -> Vec<String> {
    let out = laptop.kubectl(&format!("get {what} -o jsonpath={{{path}}}"));
    out.split([' ', '\n']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn url(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("http://[{address}]:{port}")
    } else {
        format!("http://{address}:{port}")
    }
}

fn get(cluster: &Cluster<'_>, pod: &str, url: &str) -> Result<String, String> {
    cluster.exec(pod, &["/daymark", "web", "get", "--timeout", "3", url])
}

/// What a node's DNS server, asked inside the node, says.
fn dig(laptop: &Laptop, server: &str, question: &str) -> Vec<String> {
    let netns = laptop.path("run").join(&laptop.name).join("netns/node1");
    let (inside, server) = (format!("--net={}", netns.display()), format!("@{server}"));
    let mut words = vec!["nsenter", &inside, "dig", "+short", "+tries=1", &server];
    words.extend(question.split(' '));
    laptop.run(&words).lines().map(str::to_owned).collect()
}

fn first_pod(laptop: &Laptop) -> String {
    laptop.kubectl("get pods -l app=myapp -o jsonpath={.items[0].metadata.name}")
}

#[test]
fn a_dual_stack_service_is_reached_over_both_families() {
    let laptop = Laptop::new();
    let cluster = laptop.up_with(&["--ip-family", "dual"]);
    front_end(&cluster);
    cluster.create_example("dual-stack.yml");
    let pod = first_pod(&laptop);
    let own = list(&laptop, &format!("pod {pod}"), ".status.podIPs[*].ip");
    let ips = list(&laptop, "service myapp-dual", ".spec.clusterIPs[*]");
    for both in [&own, &ips] {
        assert!(both.len() == 2 && both[0].contains('.') && both[1].contains(':'), "{both:?}");
    }
    for ip in &ips {
        let page = eventually("the cluster IP answers", || get(&cluster, &pod, &url(ip, 80)));
        let seen = if ip.contains(':') { &own[1] } else { &own[0] };
        assert!(page.contains(&format!("you are {seen}")), "a pod's own address is kept: {page}");
    }
    let mapped = get(&cluster, &pod, &url(&format!("::ffff:{}", ips[0]), 80)).expect("a v4-mapped socket");
    assert!(mapped.contains(&format!("you are {}", own[0])), "{mapped}");
    for name in ["myapp-dual", "myapp-dual.default.svc.cluster.local"] {
        get(&cluster, &pod, &format!("http://{name}")).expect("the name answers");
    }

    let nodes = list(&laptop, "nodes", ".items[*].status.addresses[?(@.type==\"InternalIP\")].address");
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    for node in &nodes {
        eventually("the node port answers", || cluster.curl(&url(node, 30011)));
    }
    for server in &nodes[..2] {
        assert_eq!(dig(&laptop, server, "myapp-dual.default.svc.cluster.local A"), ips[..1]);
        assert_eq!(dig(&laptop, server, "myapp-dual.default.svc.cluster.local AAAA"), ips[1..]);
        assert_eq!(
            dig(&laptop, server, &format!("-x {}", ips[1])),
            ["myapp-dual.default.svc.cluster.local."]
        );
    }
    for inner in own.iter().chain(&ips) {
        cluster.curl(&url(inner, 80)).expect_err("isolation");
        let why = laptop.fails(&["ip", "route", "get", inner]);
        assert!(why.contains("No route to host"), "a route of its own keeps {inner} inside: {why}");
    }
}

const ECHO: &str = "apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  hostname: e1
  subdomain: headless
  containers: [{name: c, image: 'daymark/web:v1', args: ['--port=80', '--udp-echo=9']}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: echo}
  ports: [{name: datagrams, port: 9, protocol: UDP, nodePort: 30009}, {name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: echo}, ports: [{name: http, port: 80}]}
";

#[test]
fn datagrams_names_and_external_addresses_where_ipv6_is_primary() {
    let laptop = Laptop::new();
    let services = "fd00:10:97::/112,10.97.0.0/16";
    let cluster = laptop.up_with(&["--ip-family", "dual", "--service-cidr", services]);
    laptop.apply(ECHO);
    laptop.kubectl("wait --for=condition=Ready pod/echo --timeout=60s");
    let own = list(&laptop, "pod echo", ".status.podIPs[*].ip");
    let ips = list(&laptop, "service echo", ".spec.clusterIPs[*]");
    for both in [&own, &ips] {
        assert!(both.len() == 2 && both[0].contains(':') && both[1].contains('.'), "{both:?}");
    }
    assert!(laptop.kubectl("get service kubernetes").contains("fd00:10:97::1 "));
    assert!(laptop.kubectl("get endpoints echo").contains(&format!("[{}]:80", own[0])));
    let external = list(&laptop, "service echo", ".status.loadBalancer.ingress[*].ip");
    assert!(external.len() == 1 && external[0].contains('.'), "of the family that has a pool: {external:?}");

    let nodes = list(&laptop, "nodes", ".items[*].status.addresses[?(@.type==\"InternalIP\")].address");
    for node in nodes.iter().chain(&external) {
        let port = if *node == external[0] { 9 } else { 30009 };
        let ask = format!("exec 3<>/dev/udp/{node}/{port}; echo hostname >&3; timeout 2 head -n1 <&3");
        let answer = eventually("the datagram is answered", || {
            let done = laptop.output(&["bash", "-c", &ask]);
            check(done.status.success(), support::text(&done.stderr)).map(|()| support::text(&done.stdout))
        });
        assert_eq!(answer, "e1\n", "over {node}");
    }
    for (kind, ip) in [("AAAA", &own[0]), ("A", &own[1])] {
        for name in ["headless", "e1.headless"] {
            let found = dig(&laptop, &nodes[0], &format!("{name}.default.svc.cluster.local {kind}"));
            assert_eq!(found, std::slice::from_ref(ip));
        }
    }
    get(&cluster, "echo", "http://echo").expect("a pod reaches itself");
}

#[test]
fn a_second_family_comes_and_goes_with_the_policy() {
    let laptop = Laptop::new();
    let cluster = laptop.up_with(&["--ip-family", "dual"]);
    front_end(&cluster);
    let slices =
        || list(&laptop, "endpointslices -l kubernetes.io/service-name=web", ".items[*].addressType");
    let pod = first_pod(&laptop);
    service(&laptop, "SingleStack");
    let single = list(&laptop, "service web", ".spec.clusterIPs[*]");
    assert_eq!(single.len(), 1);
    eventually("slices of one family", || check(slices() == ["IPv4"], format!("{:?}", slices())));

    service(&laptop, "PreferDualStack");
    let both = list(&laptop, "service web", ".spec.clusterIPs[*]");
    assert_eq!((both.len(), &both[0]), (2, &single[0]));
    eventually("the new address answers", || get(&cluster, &pod, &url(&both[1], 80)));
    let mut families = slices();
    families.sort();
    assert_eq!(families, ["IPv4", "IPv6"]);
    let endpoints = list(&laptop, "endpoints web", ".subsets[*].addresses[*].ip");
    assert!(endpoints.len() == 3 && endpoints.iter().all(|ip| ip.contains('.')), "{endpoints:?}");

    service(&laptop, "SingleStack");
    assert_eq!(list(&laptop, "service web", ".spec.clusterIPs[*]"), single);
    eventually("its slices go", || check(slices() == ["IPv4"], format!("{:?}", slices())));
    eventually("it answers no more", || match get(&cluster, &pod, &url(&both[1], 80)) {
        Ok(page) => Err(page),
        Err(_) => Ok(()),
    });
    get(&cluster, &pod, &url(&single[0], 80)).expect("the first family is untouched");
}

#[test]
fn a_cluster_of_ipv6_alone_serves_and_comes_back() {
    let laptop = Laptop::new();
    let cluster = laptop.up_with(&["--ip-family", "ipv6"]);
    front_end(&cluster);
    cluster.create_example("service-definition.yml");
    let pod = first_pod(&laptop);
    let nodes = cluster.node_ips();
    let ip = laptop.kubectl("get service myapp-service -o jsonpath={.spec.clusterIP}");
    for address in nodes.iter().chain([&ip]) {
        assert!(address.contains(':'), "{address}");
    }
    let wide = laptop.kubectl("get pods,endpointslices,nodes -o wide");
    assert!(!wide.contains("10.244.") && wide.contains("IPv6"), "{wide}");
    get(&cluster, &pod, "http://myapp-service").expect("the name answers over IPv6 DNS");
    for node in &nodes {
        eventually("the node port answers", || cluster.curl(&url(node, 30008)));
    }
    laptop.kubectl("logs deployment/myapp-deployment");
    laptop.kubectl("expose deployment myapp-deployment --name lb --type LoadBalancer --port 80");
    eventually("what is missing for an external address is told", || {
        let told = laptop.kubectl("get events -o jsonpath={.items[*].message}");
        check(told.contains("no address pool has IPv6 addresses"), told)
    });

    laptop.daymark(&["stop"]);
    let why = laptop.daymark_fails(&["up", "--ip-family", "dual"]);
    assert!(why.contains("another --ip-family"), "{why}");
    laptop.daymark(&["start"]);
    let status = laptop.daymark(&["status"]);
    assert!(nodes.iter().all(|node| status.contains(node)) && status.contains("none: IPv6"), "{status}");
    eventually("the node port answers again", || cluster.curl(&url(&nodes[0], 30008)));
    laptop.daymark(&["down"]);
    let left = laptop.run(&["ip", "-6", "route"]) + &laptop.run(&["ip", "-o", "link"]);
    assert!(!left.contains("fd00") && left.lines().count() == 1, "{left}");
}

#[test]
fn a_node_of_both_families_comes_back() {
    let laptop = Laptop::new();
    let cluster = laptop.up_with(&["--ip-family", "dual"]);
    front_end(&cluster);
    service(&laptop, "RequireDualStack");
    let node = list(&laptop, "node node1", ".status.addresses[?(@.type==\"InternalIP\")].address");
    assert_eq!(node.len(), 2);
    for round in 0..2 {
        laptop.daymark(&["stop", "--node", "node1"]);
        laptop.daymark(&["start"]);
        let ready = ".status.conditions[?(@.type==\"Ready\")].status";
        assert_eq!(list(&laptop, "node node1", ready), ["True"], "round {round}");
        for address in &node {
            eventually("its node port answers", || cluster.curl(&url(address, 30008)));
        }
    }
    let again = list(&laptop, "node node1", ".status.addresses[?(@.type==\"InternalIP\")].address");
    assert_eq!(again, node);
}

#[test]
fn networks_of_the_wrong_family_are_refused() {
    let laptop = Laptop::new();
    let why = laptop.daymark_fails(&["up", "--pod-cidr", "10.200.0.0/16,fd00:9::/56"]);
    assert!(why.contains("--pod-cidr fd00:9::/56") && why.contains("--ip-family dual"), "{why}");
    let why = laptop.daymark_fails(&["up", "--ip-family", "ipv6", "--service-cidr", "fd00:9::/64"]);
    assert!(why.contains("from /108 to /120"), "{why}");
    laptop.run(&["ip", "route", "add", "fd00:172:30::/60", "dev", "lo"]);
    laptop.run(&["ip", "route", "add", "fd00:10:244::/64", "dev", "lo"]);
    let why = laptop.daymark_fails(&["up", "--ip-family", "dual", "--lan", "172.30.0.0/24,fd00:172:30::/64"]);
    assert!(why.contains("--lan fd00:172:30::/64 collides with fd00:172:30::/60"), "{why}");
    laptop.up_with(&["--ip-family", "dual"]);
    let status = laptop.daymark(&["status"]);
    assert!(status.contains("fd00:172:30:10::/64") && status.contains("fd00:10:245::/56"), "{status}");
}
