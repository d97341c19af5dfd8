//! Who gets in, and what is answered to requests that are not about one object.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use bytes::Bytes;
use daymark_apiserver::Server;
use http::Method;
use serde_json::json;
use support::pki::Pki;
use support::{Client, Cluster};

#[tokio::test]
async fn certificates_decide_who_may_what() {
    let cluster = Cluster::start().await;
    let nobody = Client::new(&cluster.pki, cluster.address, None);
    assert_eq!(nobody.get("/livez").await.body, "ok");
    assert_eq!(nobody.get("/version").await.body["gitVersion"], "v1.36.3+daymark");
    let refused = nobody.get("/api/v1/namespaces").await;
    assert_eq!(refused.failure(), (403, "Forbidden"));
    assert_eq!(
        refused.message(),
        "namespaces is forbidden: User \"system:anonymous\" cannot list resource \"namespaces\" in API group \"\" \
         at the cluster scope"
    );
    assert_eq!(refused.body["details"], json!({"kind": "namespaces"}));
    for path in ["/apis", "/readyz/store", "/api/v1/nothings", "/nothing"] {
        assert_eq!(nobody.get(path).await.code, 403, "{path}");
    }
    let token = nobody.call(Method::GET, "/api", &[("authorization", "Bearer x")], Bytes::new()).await;
    assert_eq!(token.failure(), (401, "Unauthorized"));

    let guest = cluster.client("jane", "dev");
    assert_eq!(guest.get("/apis").await.code, 200);
    assert_eq!(guest.get("/api/v1/pods").await.code, 403);
    assert_eq!(guest.get("/").await.message(), "forbidden: User \"jane\" cannot get path \"/\"");

    let stranger = Client::new(&Pki::new(), cluster.address, Some(("admin", "system:masters")));
    let request = http::Request::get("/livez").body(Default::default()).unwrap();
    assert!(stranger.send(request).await.is_err(), "another CA's certificate ends the handshake");
}

#[tokio::test]
async fn health_discovery_and_openapi_are_served() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    assert!(api.get("/readyz?verbose").await.body.as_str().unwrap().contains("[+]store ok"));
    assert_eq!(api.get("/readyz/store").await.body, "ok");
    assert_eq!(api.get("/readyz/nothing").await.code, 404);
    assert_eq!(api.get("/api").await.ok()["kind"], "APIVersions");
    assert_eq!(api.get("/apis").await.ok()["kind"], "APIGroupList");
    assert_eq!(api.get("/apis/apps").await.ok()["preferredVersion"]["version"], "v1");
    assert_eq!(api.get("/apis/apps/v1").await.ok()["kind"], "APIResourceList");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let aggregated = api.get_as("/apis", accept).await;
    assert_eq!(aggregated.body["kind"], "APIGroupDiscoveryList");
    let tag = aggregated.headers["etag"].to_str().unwrap();
    let headers = [("accept", accept), ("if-none-match", tag)];
    let unchanged = api.call(Method::GET, "/apis", &headers, Bytes::new()).await;
    assert_eq!(unchanged.code, 304);
    assert_eq!(unchanged.headers["content-type"], aggregated.headers["content-type"]);
    let index = api.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert!(api.get(&url).await.ok()["components"]["schemas"].is_object());
    assert!(api.get("/").await.ok()["paths"].as_array().unwrap().contains(&json!("/apis/apps/v1")));
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_status() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    for path in ["/nothing", "/api/v2", "/apis/x"] {
        let answer = api.get(path).await;
        assert_eq!((answer.code, &answer.body), (404, &json!("404 page not found\n")), "{path}");
    }
    for path in ["/api/v1/nothings", "/apis/x/v1/y", "/openapi/v3/apis/x/v1"] {
        let answer = api.get(path).await;
        assert_eq!(answer.failure(), (404, "NotFound"), "{path}");
        assert_eq!(answer.body["kind"], "Status", "{path}");
    }
    let path = "/api/v1/namespaces/default/configmaps";
    let missing = api.get(&format!("{path}/none")).await;
    assert_eq!(missing.message(), "configmaps \"none\" not found");
    assert_eq!(missing.body["details"], json!({"name": "none", "kind": "configmaps"}));
    let send = async |method, media_type: &str, body: Bytes| {
        api.call(method, path, &[("content-type", media_type)], body).await
    };
    assert_eq!(send(Method::POST, "text/plain", "{}".into()).await.failure(), (415, "UnsupportedMediaType"));
    let large = Bytes::from(vec![b' '; (3 << 20) + 1]);
    let refused = send(Method::POST, "application/json", large).await;
    assert_eq!(refused.failure(), (413, "RequestEntityTooLarge"));
    assert_eq!(send(Method::POST, "application/json", "{".into()).await.failure(), (400, "BadRequest"));
    assert_eq!(send(Method::POST, "application/json", "[]".into()).await.failure(), (400, "BadRequest"));
    assert_eq!(send(Method::PUT, "application/json", "{}".into()).await.failure(), (405, "MethodNotAllowed"));
    assert_eq!(send(Method::OPTIONS, "application/json", "".into()).await.code, 405);
    assert_eq!(api.get_as(path, "application/vnd.kubernetes.protobuf").await.code, 406);
    assert_eq!(api.get(&format!("{path}?labelSelector=a%3D%3D%3Db")).await.code, 400);
    assert_eq!(api.get(&format!("{path}?fieldSelector=spec.x%3Dy")).await.code, 400);
    assert_eq!(api.get(&format!("{path}?limit=x")).await.code, 400);
}

#[tokio::test]
async fn objects_come_in_every_form() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let path = "/api/v1/namespaces/default/services/kubernetes";
    let table = api.get_as(path, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await.ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "kubernetes");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = api.get_as(path, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").await.ok();
    assert_eq!((&partial["kind"], partial.get("spec")), (&json!("PartialObjectMetadata"), None));
    let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = api.get_as("/api/v1/services", list).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let yaml = api.get_as(path, "application/yaml").await;
    assert!(yaml.body.as_str().unwrap().contains("clusterIP: 10.96.0.1\n"));
    let pretty = api.get(&format!("{path}?pretty=true")).await;
    assert_eq!(pretty.body["spec"]["clusterIP"], "10.96.0.1");
    let from_yaml = api
        .call(
            Method::POST,
            "/api/v1/namespaces/default/configmaps",
            &[("content-type", "application/yaml")],
            "metadata: {name: y}\ndata:\n  a: b\n".into(),
        )
        .await;
    assert_eq!(from_yaml.ok()["data"], json!({"a": "b"}));
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = cluster.pki.config(dir.path(), cluster.address);
    let error = Server::start(config).await.err().expect("the address is taken").to_string();
    assert!(error.contains(&cluster.address.to_string()) && error.contains("ss -ltnp"), "{error}");
    assert!(!dir.path().join("store.redb").exists(), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_and_makes_nothing_twice() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort",
        "ports": [{"port": 80, "nodePort": 30008}], "selector": {"app": "web"}}});
    let created = cluster.admin.post(path, &service).await.ok();
    let mut watch = cluster.admin.watch(&format!("{path}?watch=1&resourceVersion=1")).await;
    assert_eq!(watch.next_name().await.1, "kubernetes");
    let before = cluster.admin.get("/api/v1/services").await.ok();
    cluster.server.shutdown().await;
    let config = cluster.pki.config(cluster.dir.path(), "127.0.0.1:0".parse().unwrap());
    let server = Server::start(config).await.unwrap();
    let api = Client::new(&cluster.pki, server.addresses()[0], Some(("admin", "system:masters")));
    let after = api.get("/api/v1/services").await.ok();
    assert_eq!(after["items"], before["items"]);
    assert_eq!(api.get(&format!("{path}/web")).await.ok()["metadata"]["uid"], created["metadata"]["uid"]);
    let mut other = service.clone();
    other["metadata"]["name"] = "other".into();
    let taken = api.post(path, &other).await;
    assert_eq!(taken.failure(), (422, "Invalid"), "allocations are known after a restart");
    server.shutdown().await;
}

#[tokio::test]
async fn other_servers_find_the_authorities_of_clients() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let data = cluster.client("system:kube-scheduler", "x").get(path).await.ok()["data"].clone();
    assert_eq!(data["client-ca-file"], cluster.pki.ca_pem);
    assert_eq!(data["requestheader-client-ca-file"], cluster.pki.ca_pem);
    assert_eq!(data["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
    assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    assert_eq!(cluster.client("jane", "dev").get(path).await.code, 403);
}

#[tokio::test]
async fn a_new_authority_of_clients_is_published_and_additions_stay() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let change = json!({"data": {"client-ca-file": "of yesterday", "other": "theirs"}});
    cluster.admin.patch(path, "merge", &change).await.ok();
    let config = cluster.pki.config(cluster.dir.path(), "127.0.0.1:0".parse().unwrap());
    cluster.server.shutdown().await;
    let server = Server::start(config).await.unwrap();
    let admin = Client::new(&cluster.pki, server.addresses()[0], Some(("admin", "system:masters")));
    let data = admin.get(path).await.ok()["data"].clone();
    assert_eq!((&data["client-ca-file"], &data["other"]), (&json!(cluster.pki.ca_pem), &json!("theirs")));
}
