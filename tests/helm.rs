//! Helm, unmodified: a chart is installed, upgraded, rolled back and removed, by server-side apply and by patches.
//!
//! Needs `KUBEBUILDER_ASSETS`, a folder with `helm`; skips without, and says so.

mod support;

use std::fs;

use support::{Laptop, check, eventually, peer};

/// Files of the chart, by path.
const CHART: [(&str, &str); 7] = [
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 0.1.0\nappVersion: '1'\n"),
    ("values.yaml", "replicas: 1\nimage: 'daymark/web:v1'\ngreeting: hello\nprice: 3\n"),
    (
        "crds/price.yaml",
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prices.shop.example}
spec:
  group: shop.example
  scope: Namespaced
  names: {plural: prices, singular: price, kind: Price}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {amount: {type: integer, minimum: 1}}}}
",
    ),
    (
        "templates/config.yaml",
        "apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-settings}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: shop.example/v1
kind: Price
metadata: {name: {{ .Release.Name }}}
spec: {amount: {{ .Values.price }}}
",
    ),
    (
        "templates/web.yaml",
        "apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-web, labels: {app: {{ .Release.Name }}}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations: {checksum: {{ .Values.greeting | sha256sum }}}
    spec:
      containers:
      - name: web
        image: {{ .Values.image | quote }}
        ports: [{name: http, containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: http}}
        env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: {{ .Release.Name }}-settings, key: greeting}}}]
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}-web}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80, targetPort: http}]}
",
    ),
    (
        "templates/hook.yaml",
        "apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-prepare-{{ .Release.Revision }}
  annotations: {helm.sh/hook: 'post-install,post-upgrade,post-rollback'}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: 'daymark/web:v1', command: [/daymark, web, --help]}]
",
    ),
    ("templates/NOTES.txt", "{{ .Release.Name }} greets with {{ .Values.greeting }}.\n"),
];

fn write_chart(laptop: &Laptop) -> String {
    let chart = laptop.path("shop");
    for (path, text) in CHART {
        let file = chart.join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("a file of the chart");
    }
    chart.display().to_string()
}

#[test]
fn helm_installs_upgrades_rolls_back_and_removes_a_chart() {
    let Some(helm) = peer("helm") else { return };
    let helm = helm.display().to_string();
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    let chart = write_chart(&laptop);
    for (release, server_side) in [("one", "--server-side=true"), ("two", "--server-side=false")] {
        let run = |words: &str| {
            let words: Vec<&str> = std::iter::once(helm.as_str()).chain(words.split_whitespace()).collect();
            laptop.run(&words)
        };
        let get = |what: &str, path: &str| laptop.kubectl(&format!("get {what} -o jsonpath={path}"));
        let greeting = || get(&format!("configmap {release}-settings"), "{.data.greeting}");
        let waiting = "--wait --timeout 60s";
        let said = run(&format!("install {release} {chart} {server_side} {waiting}"));
        assert!(
            said.contains("STATUS: deployed") && said.contains(&format!("{release} greets with hello.")),
            "{said}"
        );
        let image = format!("deployment {release}-web");
        assert_eq!(get(&image, "{.status.readyReplicas}"), "1");
        assert_eq!(
            get(&format!("job {release}-prepare-1"), "{.status.succeeded}"),
            "1",
            "the hook ran to its end"
        );
        assert_eq!(get(&format!("prices.shop.example {release}"), "{.spec.amount}"), "3");

        // What others wrote into the objects stays through an upgrade.
        laptop.kubectl(&format!("label deployment {release}-web team=blue"));
        let values = "--set replicas=2,image=daymark/web:v2,greeting=moin,price=5";
        run(&format!("upgrade {release} {chart} {values} {waiting}"));
        assert_eq!((greeting(), get(&image, "{.status.readyReplicas}")), ("moin".into(), "2".into()));
        assert_eq!(get(&image, "{.spec.template.spec.containers[0].image}"), "daymark/web:v2");
        assert_eq!(get(&image, "{.metadata.labels.team}"), "blue");
        assert_eq!(get(&format!("prices.shop.example {release}"), "{.spec.amount}"), "5");

        let refused = laptop.fails(&[&helm, "upgrade", release, &chart, "--set", "price=0"]);
        assert!(refused.contains("spec.amount"), "{refused}");
        assert!(run("list --failed").contains(release));
        run(&format!("rollback {release} 1 {waiting}"));
        assert_eq!((greeting(), get(&image, "{.spec.replicas}")), ("hello".into(), "1".into()));
        let listed: serde_json::Value = serde_json::from_str(&run("list -o json")).expect("JSON");
        let entry =
            listed.as_array().and_then(|all| all.iter().find(|r| r["name"] == release)).expect("listed");
        assert_eq!((&entry["status"], &entry["revision"]), (&"deployed".into(), &"4".into()), "{entry}");
        let status = run(&format!("status {release}"));
        assert!(status.contains("STATUS: deployed") && status.contains("REVISION: 4"), "{status}");
        let history = run(&format!("history {release}"));
        assert!(history.contains("Rollback to 1") && history.contains("failed"), "{history}");
        assert!(run(&format!("get manifest {release}")).contains("daymark/web:v1"));

        run(&format!("uninstall {release} {waiting}"));
        eventually("everything of the release is gone", || {
            let left = laptop.kubectl(&format!(
                "get deployments,services,configmaps,prices,pods -l app={release} -o name"
            ));
            check(left.is_empty(), left)
        });
        assert_eq!(laptop.kubectl("get secrets -l owner=helm -o name"), "", "nor is anything kept of it");
        assert!(!run("list").contains(release));
    }
}
