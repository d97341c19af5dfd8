//! Programs that we did not write: nginx from Debian's packages, a browser, curl in a pod, a registry.

mod support;

use support::{Laptop, check, debian_image, eventually, toolbox};

#[test]
fn nginx_runs_unmodified_behind_a_service() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    let archive = debian_image(
        "nginx.tar",
        "example/nginx:debian",
        "nginx-light nginx-common",
        &["/usr/sbin/nginx", "-g", "daemon off;"],
    );
    laptop.daymark(&["image", "load", &archive.display().to_string()]);
    assert!(laptop.daymark(&["image", "list"]).contains("example/nginx"));
    laptop.kubectl("create deployment nginx --image=example/nginx:debian --replicas=2");
    laptop.kubectl("expose deployment nginx --port=80 --type=NodePort");
    laptop.kubectl("rollout status deployment/nginx --timeout=60s");
    let port = laptop.kubectl("get service nginx -o jsonpath={.spec.ports[0].nodePort}");
    for node in cluster.node_ips() {
        let page = eventually("nginx answers", || cluster.curl(&format!("http://{node}:{port}/")));
        assert!(page.contains("Welcome to nginx"), "{page}");
    }
}

#[test]
fn curl_in_a_pod_reaches_a_service_by_all_its_names() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    toolbox(&laptop);
    for name in ["myapp-service", "myapp-service.default.svc", "myapp-service.default.svc.cluster.local"] {
        let answer = eventually(name, || {
            cluster.exec("toolbox", &["curl", "-sS", &format!("http://{name}/hostname")])
        });
        assert!(answer.starts_with("myapp-deployment-"), "{answer}");
    }
    laptop.kubectl("scale deployment/myapp-deployment --replicas=0");
    eventually("a Service without endpoints refuses at once", || {
        let why = cluster.exec("toolbox", &["curl", "-sS", "--max-time", "3", "http://myapp-service/"]);
        check(
            why.as_ref().is_err_and(|e| e.contains("refused") || e.contains("Couldn't connect")),
            format!("{why:?}"),
        )
    });
}

#[test]
fn exec_and_logs_work_as_kubectl_users_expect() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    toolbox(&laptop);
    assert_eq!(cluster.exec("toolbox", &["busybox", "echo", "hello"]).expect("echo"), "hello\n");
    let why = cluster.exec("toolbox", &["busybox", "sh", "-c", "exit 7"]).expect_err("an exit code");
    assert!(why.contains("exit code 7"), "{why}");
    let typed = laptop.run(&["sh", "-c", "printf 'a\\nb\\n' | kubectl exec -i toolbox -- busybox wc -l"]);
    assert_eq!(typed.trim(), "2");
    let tty = laptop.run(&["script", "-qec", "kubectl exec -it toolbox -- busybox tty", "/dev/null"]);
    assert!(tty.contains("/dev/pts/"), "{tty}");
    laptop.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: counter}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: example/toolbox:debian\n    imagePullPolicy: Never\n    command: [busybox, sh, -c, 'for i in 1 2 3; do echo line $i; busybox sleep 0.2; done']\n");
    // Of a pod without a node there is no log, and kubectl ends with nothing, as on any cluster.
    laptop.kubectl("wait --for=jsonpath={.spec.nodeName} pod/counter --timeout=60s");
    let followed = eventually("the log", || {
        let done = laptop.output(&["kubectl", "logs", "-f", "counter"]);
        check(done.status.success(), support::text(&done.stderr)).map(|()| support::text(&done.stdout))
    });
    let status = laptop.kubectl("get pod counter -o jsonpath={.status}");
    assert_eq!(followed, "line 1\nline 2\nline 3\n", "{status}");
    assert_eq!(laptop.kubectl("logs counter --tail=1"), "line 3\n");
}

#[test]
fn the_page_shows_in_a_browser() {
    let laptop = Laptop::new();
    let cluster = laptop.up();
    cluster.create_example("deployment.yml");
    cluster.create_example("service-definition.yml");
    laptop.kubectl("rollout status deployment/myapp-deployment --timeout=60s");
    let url = format!("http://{}:30008/", cluster.node_ips()[0]);
    eventually("the Service answers", || cluster.curl(&url));
    let profile = format!("--user-data-dir={}", laptop.path("chromium").display());
    let page = laptop.run(&[
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        &profile,
        "--virtual-time-budget=3000",
        "--dump-dom",
        &url,
    ]);
    for part in ["<html", "myapp-deployment-", "10.244."] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}

#[test]
fn images_are_pulled_from_a_registry_on_the_laptop() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    let archive = debian_image(
        "nginx.tar",
        "example/nginx:debian",
        "nginx-light nginx-common",
        &["/usr/sbin/nginx", "-g", "daemon off;"],
    );
    let (config, data) = (laptop.path("registry.yml"), laptop.path("registry"));
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:5000}}\n",
            data.display()
        ),
    )
    .expect("the registry's configuration");
    let registry = laptop
        .command(&["docker-registry", "serve", &config.display().to_string()])
        .spawn()
        .expect("docker-registry");
    let _registry = support::Killed(registry);
    let (from, to) =
        (format!("docker-archive:{}", archive.display()), "docker://127.0.0.1:5000/shop/nginx:1");
    eventually("the registry takes the image", || {
        let done =
            laptop.output(&["skopeo", "copy", "--dest-tls-verify=false", "--insecure-policy", &from, to]);
        check(done.status.success(), support::text(&done.stderr))
    });
    laptop.kubectl("run pulled --image=127.0.0.1:5000/shop/nginx:1");
    laptop.kubectl("wait --for=condition=Ready pod/pulled --timeout=60s");
    let events = laptop.kubectl("describe pod pulled");
    assert!(events.contains("Successfully pulled image \"127.0.0.1:5000/shop/nginx:1\""), "{events}");
    laptop.kubectl("run absent --image=127.0.0.1:5000/shop/absent:1");
    eventually("a missing image is told", || {
        let pods = laptop.kubectl("get pod absent");
        check(pods.contains("ErrImagePull") || pods.contains("ImagePullBackOff"), pods)
    });
}

#[test]
fn archives_that_are_no_images_are_refused_and_nothing_is_left() {
    let laptop = Laptop::new();
    let _cluster = laptop.up();
    let before = laptop.daymark(&["image", "list"]);
    let archive = debian_image(
        "nginx.tar",
        "example/nginx:debian",
        "nginx-light nginx-common",
        &["/usr/sbin/nginx", "-g", "daemon off;"],
    );
    let whole = std::fs::read(archive).expect("the archive");
    for (name, bytes) in
        [("cut.tar", &whole[..whole.len() / 2]), ("noise.tar", &[7u8; 4096][..]), ("empty.tar", &[][..])]
    {
        let file = laptop.path(name);
        std::fs::write(&file, bytes).expect("a bad archive");
        let why = laptop.daymark_fails(&["image", "load", &file.display().to_string()]);
        assert!(why.contains(name), "{why}");
    }
    assert_eq!(laptop.daymark(&["image", "list"]), before);
}
