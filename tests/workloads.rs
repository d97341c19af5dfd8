//! Workloads beside Deployments, as kubectl users work with them, on one cluster: pods with names, pods on every
//! node, jobs, budgets; and what follows from Services.

mod support;

use support::{Cluster, Laptop, check, eventually};

#[test]
fn workloads_do_what_kubectl_users_expect() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    a_stateful_set_has_names_and_rolls(&cluster);
    a_daemon_set_is_on_every_node(&cluster);
    a_taken_host_port_is_waited_for(&cluster);
    a_replication_controller_keeps_its_number(&cluster);
    jobs_end(&cluster);
    a_cron_job_makes_jobs(&cluster);
    a_budget_holds_a_drain_back(&cluster);
    a_namespace_ends_with_its_pods_first(&cluster);
    services_have_addresses_and_the_vital_ones_come_back(&cluster);
    what_nothing_acts_on_is_told(&cluster);
}

fn get(cluster: &Cluster<'_>, what: &str, path: &str) -> String {
    cluster.laptop.kubectl(&format!("get {what} -o jsonpath={path}"))
}

fn a_stateful_set_has_names_and_rolls(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    laptop.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: peers
  replicas: 3
  selector: {matchLabels: {app: db}}
  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}
  template:
    metadata: {labels: {app: db}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: web, image: 'daymark/web:v1'}]}
",
    );
    laptop.kubectl("rollout status statefulset/db --timeout=60s");
    for name in ["db-1.peers", "db-2.peers.default.svc.cluster.local"] {
        let url = format!("http://{name}/hostname");
        let answer = eventually("a pod is found by its name", || {
            cluster.exec("db-0", &["/daymark", "web", "get", &url])
        });
        assert_eq!(answer.trim(), name.split('.').next().unwrap_or_default());
    }
    let image = |pod: &str| get(cluster, &format!("pod {pod}"), "{.spec.containers[0].image}");
    laptop.kubectl("set image statefulset/db web=daymark/web:v2");
    let said = laptop.kubectl("rollout status statefulset/db --timeout=60s");
    assert!(said.contains("partitioned roll out complete: 1 new pods have been updated"), "{said}");
    assert_eq!(
        [image("db-0"), image("db-1"), image("db-2")],
        ["daymark/web:v1", "daymark/web:v1", "daymark/web:v2"]
    );
    laptop.kubectl("delete pod db-0");
    laptop.kubectl("rollout status statefulset/db --timeout=60s");
    eventually("a pod below the partition comes back as it was", || {
        let now = image("db-0");
        check(now == "daymark/web:v1", now)
    });
    let history = laptop.kubectl("rollout history statefulset/db");
    assert_eq!(history.lines().filter(|l| l.starts_with(['1', '2'])).count(), 2, "{history}");
    laptop.kubectl("rollout undo statefulset/db");
    eventually("the update is undone", || {
        let now =
            laptop.output(&["kubectl", "get", "pod", "db-2", "-o", "jsonpath={.spec.containers[0].image}"]);
        let now = support::text(&now.stdout);
        check(now == "daymark/web:v1", now)
    });
    laptop.kubectl("scale statefulset/db --replicas=1");
    laptop.kubectl("wait --for=delete pod/db-1 --timeout=60s");
    laptop.kubectl("wait --for=jsonpath={.status.replicas}=1 statefulset/db --timeout=60s");
}

fn a_daemon_set_is_on_every_node(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    laptop.apply(
        "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: web, image: 'daymark/web:v1'}]}
",
    );
    laptop.kubectl("rollout status daemonset/agent --timeout=60s");
    let nodes = get(cluster, "pods -l app=agent", "{.items[*].spec.nodeName}");
    assert!(nodes.contains("node1") && nodes.contains("node2") && nodes.len() == 11, "{nodes}");
    laptop.kubectl("set image daemonset/agent web=daymark/web:v2");
    laptop.kubectl("rollout status daemonset/agent --timeout=60s");
    let images = || get(cluster, "pods -l app=agent", "{.items[*].spec.containers[0].image}");
    assert_eq!(images(), "daymark/web:v2 daymark/web:v2");
    laptop.kubectl("rollout undo daemonset/agent");
    laptop.kubectl("rollout status daemonset/agent --timeout=60s");
    assert_eq!(images(), "daymark/web:v1 daymark/web:v1");
    laptop.kubectl("rollout restart daemonset/agent");
    laptop.kubectl("rollout status daemonset/agent --timeout=60s");
}

/// A node refuses pods that were bound to it past the scheduler and that it has no room for.
fn a_taken_host_port_is_waited_for(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    let container = "{name: web, image: 'daymark/web:v1', ports: [{containerPort: 80, hostPort: 8099}]}";
    let spec = format!("{{nodeName: node1, terminationGracePeriodSeconds: 0, containers: [{container}]}}");
    laptop.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: holder}}
spec: {spec}
"
    ));
    laptop.kubectl("wait --for=condition=Ready pod/holder --timeout=60s");
    laptop.apply(&format!(
        "
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: keen}}
spec:
  serviceName: keen
  selector: {{matchLabels: {{app: keen}}}}
  template:
    metadata: {{labels: {{app: keen}}}}
    spec: {spec}
"
    ));
    eventually("the pod is refused", || {
        let told = get(cluster, "events --field-selector reason=NodePorts", "{.items[*].message}");
        check(told.contains("Predicate NodePorts failed: node(s) didn't have free ports"), told)
    });
    laptop.kubectl("delete pod holder");
    laptop.kubectl("rollout status statefulset/keen --timeout=60s");
    laptop.kubectl("delete statefulset keen");
}

fn a_replication_controller_keeps_its_number(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    laptop.apply(
        "
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: old}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: web, image: 'daymark/web:v1'}]}
",
    );
    laptop.kubectl("wait --for=jsonpath={.status.readyReplicas}=2 replicationcontroller/old --timeout=60s");
    laptop.kubectl("scale replicationcontroller/old --replicas=1");
    laptop.kubectl("wait --for=jsonpath={.status.replicas}=1 replicationcontroller/old --timeout=60s");
}

/// A Job whose pods run the built-in image with these words.
fn job(name: &str, spec: &str, words: &str) -> String {
    format!(
        "
---
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {spec}
  template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: 'daymark/web:v1', command: [/daymark, {words}]}}]}}}}
"
    )
}

fn jobs_end(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    let all = job("good", "completions: 2", "--version")
        + &job("bad", "backoffLimit: 0", "nonsense")
        + &job("indexed", "{completionMode: Indexed, completions: 3, parallelism: 3}", "--version").replace(
            "  {completionMode: Indexed, completions: 3, parallelism: 3}",
            "  completionMode: Indexed\n  completions: 3\n  parallelism: 3",
        )
        + &job("waiting", "suspend: true", "--version")
        + &job("brief", "ttlSecondsAfterFinished: 0", "--version");
    laptop.apply(&all);
    laptop.kubectl("wait --for=condition=Complete job/good job/indexed --timeout=60s");
    laptop.kubectl("wait --for=condition=Failed job/bad --timeout=60s");
    assert_eq!(get(cluster, "job good", "{.status.succeeded}"), "2");
    assert_eq!(get(cluster, "job indexed", "{.status.completedIndexes}"), "0-2");
    let reason = get(cluster, "job bad", "{.status.conditions[?(@.type==\"Failed\")].reason}");
    assert_eq!(reason, "BackoffLimitExceeded");
    let env = "{.items[0].spec.containers[0].env[0].name}";
    assert_eq!(get(cluster, "pods -l job-name=indexed", env), "JOB_COMPLETION_INDEX");
    assert_eq!(get(cluster, "pods -l job-name=waiting", "{.items}"), "[]");
    laptop.run(&["kubectl", "patch", "job", "waiting", "-p", "{\"spec\":{\"suspend\":false}}"]);
    laptop.kubectl("wait --for=condition=Complete job/waiting --timeout=60s");
    laptop.kubectl("wait --for=delete job/brief --timeout=60s");
    laptop.kubectl("delete job good bad indexed waiting");
    eventually("the pods of deleted jobs go, finalizers and all", || {
        let left = get(cluster, "pods -l job-name", "{.items[*].metadata.name}");
        check(left.is_empty(), left)
    });
}

fn a_cron_job_makes_jobs(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    laptop.run(&[
        "kubectl",
        "create",
        "cronjob",
        "tick",
        "--image=daymark/web:v1",
        "--schedule=@every 1s",
        "--",
        "/daymark",
        "--version",
    ]);
    eventually("a job was made and has succeeded", || {
        let last = get(cluster, "cronjob tick", "{.status.lastSuccessfulTime}");
        check(!last.is_empty(), last)
    });
    laptop.kubectl("delete cronjob tick");
    let refused =
        laptop.fails(&["kubectl", "create", "cronjob", "odd", "--image=i", "--schedule=61 * * * *"]);
    assert!(refused.contains("spec.schedule: Invalid value"), "{refused}");
}

fn a_budget_holds_a_drain_back(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    laptop.kubectl("create deployment kept --image=daymark/web:v1 --replicas=3");
    laptop.kubectl("rollout status deployment/kept --timeout=60s");
    laptop.kubectl("create poddisruptionbudget kept --selector=app=kept --min-available=3");
    laptop.kubectl("wait --for=jsonpath={.status.currentHealthy}=3 poddisruptionbudget/kept --timeout=60s");
    let drain = |node: &str, timeout: &str| {
        ["kubectl", "drain", node, "--ignore-daemonsets", "--force", "--pod-selector=app=kept", timeout]
            .map(str::to_owned)
            .to_vec()
    };
    fn words(all: &[String]) -> Vec<&str> {
        all.iter().map(String::as_str).collect()
    }
    let held = laptop.fails(&words(&drain("node1", "--timeout=2s")));
    assert!(held.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{held}");
    laptop.run(&["kubectl", "patch", "poddisruptionbudget", "kept", "-p", "{\"spec\":{\"minAvailable\":2}}"]);
    laptop.run(&words(&drain("node1", "--timeout=60s")));
    let nodes =
        get(cluster, "pods -l app=kept --field-selector=spec.nodeName=node1", "{.items[*].metadata.name}");
    assert_eq!(nodes, "");
    laptop.kubectl("uncordon node1");
    laptop.kubectl("delete deployment,poddisruptionbudget kept");
}

/// Pods end while all that they read is still there.
fn a_namespace_ends_with_its_pods_first(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    laptop.apply(
        "
apiVersion: v1
kind: Namespace
metadata: {name: brief}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: read-until-the-end, namespace: brief}
---
apiVersion: v1
kind: Pod
metadata: {name: last, namespace: brief, finalizers: [example.com/wait]}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: web, image: 'daymark/web:v1'}]}
",
    );
    laptop.kubectl("delete namespace brief --wait=false");
    eventually("the namespace says what keeps it", || {
        let told = get(cluster, "namespace brief", "{.status.conditions[*].message}");
        check(told.contains("finalizers remaining: example.com/wait in 1 resource instances"), told)
    });
    assert_eq!(get(cluster, "configmaps -n brief read-until-the-end", "{.kind}"), "ConfigMap");
    laptop.kubectl("patch pod last -n brief --type=merge -p {\"metadata\":{\"finalizers\":null}}");
    laptop.kubectl("wait --for=delete namespace/brief --timeout=60s");
}

fn services_have_addresses_and_the_vital_ones_come_back(cluster: &Cluster<'_>) {
    let laptop = cluster.laptop;
    let api = get(cluster, "service kubernetes", "{.spec.clusterIP}");
    assert_eq!(get(cluster, &format!("ipaddress {api}"), "{.spec.parentRef.name}"), "kubernetes");
    laptop.kubectl("delete service kubernetes");
    laptop.kubectl("delete service kube-dns -n kube-system");
    for service in ["kubernetes", "kube-dns -n kube-system"] {
        eventually("it comes back", || {
            let words: Vec<&str> =
                ["kubectl", "get", "service"].into_iter().chain(service.split(' ')).collect();
            let found = laptop.output(&words);
            check(found.status.success(), support::text(&found.stderr))
        });
    }
    eventually("names resolve again", || {
        cluster.exec("db-0", &["/daymark", "web", "get", "http://db-0.peers/hostname"])
    });
    laptop.apply(
        "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [10.222.0.0/28]}
",
    );
    laptop.kubectl("wait --for=condition=Ready servicecidr/more --timeout=60s");
    let service = "
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {clusterIP: 10.222.0.9, ports: [{port: 80}]}
";
    laptop.apply(service);
    eventually("its address is written down", || {
        let parent = laptop.output(&["kubectl", "get", "ipaddress", "10.222.0.9"]);
        check(parent.status.success(), support::text(&parent.stderr))
    });
    laptop.kubectl("delete servicecidr more --wait=false");
    eventually("it waits for the address", || {
        let said = get(cluster, "servicecidr more", "{.status.conditions[0].reason}");
        check(said == "Terminating", said)
    });
    laptop.kubectl("delete service far");
    laptop.kubectl("wait --for=delete servicecidr/more ipaddress/10.222.0.9 --timeout=60s");
}

fn what_nothing_acts_on_is_told(cluster: &Cluster<'_>) {
    let policy = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {}}
";
    let file = cluster.laptop.path("policy.yml");
    std::fs::write(&file, policy).expect("a manifest");
    let done = cluster.laptop.output(&["kubectl", "create", "-f", &file.display().to_string()]);
    let warned = support::text(&done.stderr);
    assert!(warned.contains("Warning: this cluster does not enforce NetworkPolicies"), "{warned}");
}
