//! The real kube-proxy, unmodified, on a machine of its own on the LAN: it programs Services from our API and follows them.
//!
//! Needs `KUBEBUILDER_ASSETS`, a folder with `kube-proxy`; skips without, and says so.

mod support;

use std::fs;
use std::net::IpAddr;

use support::{Cluster, Killed, Laptop, check, eventually, peer, text};

/// As kubeadm gives kube-proxy its rights.
const ACCOUNT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: kube-proxy, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kube-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:node-proxier'}
subjects: [{kind: ServiceAccount, name: kube-proxy, namespace: kube-system}]
";

/// A Service whose one endpoint is the node port of another.
const THROUGH: &str = "
apiVersion: v1
kind: Service
metadata: {name: through}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: through-1, labels: {kubernetes.io/service-name: through}}
addressType: IPv4
ports: [{name: '', port: 30008, protocol: TCP}]
endpoints: [{addresses: [NODE], conditions: {ready: true}}]
";

/// A network namespace on the cluster's LAN that has no route to the outside.
struct Machine<'a> {
    laptop: &'a Laptop,
    holder: Killed,
}

impl<'a> Machine<'a> {
    fn new(cluster: &Cluster<'a>) -> Self {
        let laptop = cluster.laptop;
        let holder =
            Killed(laptop.command(&["unshare", "--net", "sleep", "infinity"]).spawn().expect("unshare"));
        let (ours, theirs) = (laptop.path("laptop"), format!("/proc/{}/ns/net", holder.0.id()));
        let inode = |path: &std::path::Path| {
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("a namespace"))
        };
        let machines = inode("/proc/self/ns/net".as_ref());
        eventually("a namespace of its own", || {
            let now = inode(theirs.as_ref());
            check(now != machines && now != inode(&ours), "not yet")
        });
        let machine = Self { laptop, holder };
        let bridges = laptop.run(&["ip", "-o", "link", "show", "type", "bridge"]);
        let bridge = bridges.split(": ").nth(1).expect("the LAN's bridge").to_owned();
        let id = machine.holder.0.id().to_string();
        laptop.run(&["ip", "link", "add", "machine", "type", "veth", "peer", "name", "eth0", "netns", &id]);
        laptop.run(&["ip", "link", "set", "machine", "master", &bridge, "up"]);
        let nodes = cluster.node_ips();
        machine.run(&["ip", "link", "set", "lo", "up"]);
        machine.run(&["ip", "addr", "add", &format!("{}/24", beside(&nodes[0], 150)), "dev", "eth0"]);
        machine.run(&["ip", "link", "set", "eth0", "up"]);
        // Cluster IPs need a route for the packets that are then translated.
        machine.run(&["ip", "route", "add", "10.96.0.0/12", "via", &nodes[0]]);
        machine
    }

    fn words<'w>(&self, words: &[&'w str], net: &'w str) -> Vec<&'w str> {
        [&["nsenter", net, "--"], words].concat()
    }

    fn run(&self, words: &[&str]) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.holder.0.id());
        self.laptop.run(&self.words(words, &net))
    }

    fn start(&self, name: &str, words: &[&str]) -> Killed {
        let net = format!("--net=/proc/{}/ns/net", self.holder.0.id());
        self.laptop.start(name, &self.words(words, &net))
    }

    fn curl(&self, url: &str) -> Result<String, String> {
        let net = format!("--net=/proc/{}/ns/net", self.holder.0.id());
        let done = self.laptop.output(&self.words(&["curl", "-sS", "--max-time", "3", url], &net));
        check(done.status.success(), text(&done.stderr)).map(|()| text(&done.stdout))
    }
}

/// Another address of the same /24.
fn beside(ip: &str, last: u8) -> IpAddr {
    let mut octets = ip.parse::<std::net::Ipv4Addr>().expect("an IPv4 address").octets();
    octets[3] = last;
    octets.into()
}

fn kubeconfig(cluster: &Cluster<'_>) -> String {
    let laptop = cluster.laptop;
    laptop.apply(ACCOUNT);
    let token = laptop.kubectl("create token kube-proxy -n kube-system");
    let authority = laptop.path("state").join(&laptop.name).join("pki/ca.crt");
    let server = format!("https://{}:6443", beside(&cluster.node_ips()[0], 1));
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{server}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: u, user: {{token: {}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         current-context: x\n",
        authority.display(),
        token.trim()
    )
}

fn start(machine: &Machine<'_>, program: &str, kubeconfig: &str) -> Killed {
    let (access, config) = (machine.laptop.path("kube-proxy.conf"), machine.laptop.path("kube-proxy.yml"));
    fs::write(&access, kubeconfig).expect("a kubeconfig");
    // The limits of conntrack belong to the first network namespace of a machine: 0 leaves them alone.
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
         hostnameOverride: node1\nclusterCIDR: 10.244.0.0/16\ndetectLocalMode: ClusterCIDR\n\
         clientConnection: {{kubeconfig: {}}}\nconntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, \
         tcpCloseWaitTimeout: 0s}}\nhealthzBindAddress: 127.0.0.1:10256\nmetricsBindAddress: 127.0.0.1:10249\n",
        access.display()
    );
    fs::write(&config, text).expect("a configuration");
    machine.start("kube-proxy", &[program, "--config", &config.display().to_string()])
}

#[test]
fn kube_proxy_programs_services_from_our_api_and_follows_them() {
    let Some(program) = peer("kube-proxy") else { return };
    let laptop = Laptop::new();
    let cluster = laptop.up();
    let machine = Machine::new(&cluster);
    let _proxy = start(&machine, &program.display().to_string(), &kubeconfig(&cluster));
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let ip = laptop.kubectl("get service myapp-service -o jsonpath={.spec.clusterIP}");
    let pods = || {
        let said = laptop.kubectl("get pods -l type=front-end -o jsonpath={.items[*].status.podIP}");
        said.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let rules = || machine.run(&["nft", "list", "ruleset"]);
    let three = pods();
    eventually("the Service is programmed", || {
        let rules = rules();
        let whole =
            rules.contains(&format!("{ip} . tcp . 80")) && three.iter().all(|pod| rules.contains(pod));
        check(whole && rules.contains("tcp . 30008"), format!("{rules}\n{}", laptop.said("kube-proxy")))
    });
    // A machine that is no node gets no answers from pods, but from node ports.
    laptop.apply(&THROUGH.replace("NODE", &cluster.node_ips()[0]));
    let through = laptop.kubectl("get service through -o jsonpath={.spec.clusterIP}");
    let page = eventually("a cluster IP answers", || machine.curl(&format!("http://{through}/")));
    assert!(page.contains("Hello from myapp-deployment-"), "{page}");

    laptop.kubectl("scale deployment/myapp-deployment --replicas=1");
    eventually("it follows the endpoints", || {
        let (left, rules) = (pods(), rules());
        let gone = three.iter().filter(|pod| !left.contains(pod)).collect::<Vec<_>>();
        let right =
            left.len() == 1 && rules.contains(&left[0]) && gone.iter().all(|pod| !rules.contains(*pod));
        check(right, format!("{left:?} left, {gone:?} gone:\n{rules}"))
    });
    laptop.kubectl("delete service myapp-service");
    eventually("a deleted Service is gone", || {
        let rules = rules();
        check(!rules.contains(&format!("{ip} . tcp . 80")), rules)
    });
    let said = laptop.said("kube-proxy");
    // Of the kernel's tables it says at first that they are not there yet.
    let errors: Vec<&str> =
        said.lines().filter(|l| l.starts_with('E') && !l.contains("existing nftables objects")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}
