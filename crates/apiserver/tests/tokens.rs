//! Tokens of ServiceAccounts: asked for, used, reviewed, and refused when what they hang on is gone.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use daymark_apiserver::access::token::Key;
use http::Method;
use serde_json::{Value, json};
use support::{Answer, Client, Cluster};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const ME: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn claims(token: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

impl Cluster {
    async fn account(&self, name: &str) -> Value {
        self.admin.post(ACCOUNTS, &json!({"metadata": {"name": name}})).await.ok()
    }

    async fn token(&self, account: &str, spec: Value) -> Answer {
        self.admin.post(&format!("{ACCOUNTS}/{account}/token"), &json!({"spec": spec})).await
    }

    async fn good_token(&self, account: &str, spec: Value) -> String {
        self.token(account, spec).await.ok()["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Asks with a token and nothing else.
    async fn with_token(&self, method: Method, path: &str, token: &str) -> Answer {
        let client = Client::new(&self.pki, self.address, None);
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = if method == Method::POST { Bytes::from_static(b"{}") } else { Bytes::new() };
        client.call(method, path, &headers, body).await
    }

    async fn whoami(&self, token: &str) -> Answer {
        self.with_token(Method::POST, ME, token).await
    }

    async fn review(&self, token: &str, audiences: Value) -> Value {
        let spec = json!({"token": token, "audiences": audiences});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        self.admin.post(path, &json!({"spec": spec})).await.ok()["status"].clone()
    }

    async fn pod(&self, name: &str, account: &str) -> Value {
        let pod = json!({"metadata": {"name": name}, "spec": {"serviceAccountName": account, "nodeName": "n1",
            "containers": [{"name": "c", "image": "i"}]}});
        self.admin.post("/api/v1/namespaces/default/pods", &pod).await.ok()
    }
}

#[tokio::test]
async fn a_token_is_its_account() {
    let cluster = Cluster::start().await;
    let account = cluster.account("robot").await;
    let answer = cluster.token("robot", json!({})).await.ok();
    assert_eq!(
        (&answer["kind"], &answer["spec"]["expirationSeconds"]),
        (&json!("TokenRequest"), &json!(3600))
    );
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    assert_eq!(answer["metadata"]["uid"], account["metadata"]["uid"]);
    let token = answer["status"]["token"].as_str().unwrap();
    let claims = claims(token);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!([ISSUER])));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "default", "serviceaccount": {"name": "robot", "uid": account["metadata"]["uid"]}})
    );
    let me = cluster.whoami(token).await.ok()["status"]["userInfo"].clone();
    assert_eq!(me["username"], "system:serviceaccount:default:robot");
    assert_eq!(me["uid"], account["metadata"]["uid"]);
    assert_eq!(
        me["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    let id = format!("JTI={}", claims["jti"].as_str().unwrap());
    assert_eq!(me["extra"]["authentication.kubernetes.io/credential-id"], json!([id]));
    assert_eq!(cluster.with_token(Method::GET, "/api/v1/namespaces/default/pods", token).await.code, 403);
    let binding = json!({"metadata": {"name": "robots"}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot"}]});
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    cluster.admin.post(path, &binding).await.ok();
    cluster.with_token(Method::GET, "/api/v1/namespaces/default/pods", token).await.ok();
    assert_eq!(cluster.with_token(Method::GET, "/api/v1/nodes", token).await.code, 403);
}

#[tokio::test]
async fn a_token_ends_with_what_it_hangs_on() {
    let cluster = Cluster::start().await;
    cluster.account("robot").await;
    let token = cluster.good_token("robot", json!({})).await;
    cluster.whoami(&token).await.ok();
    cluster.admin.delete(&format!("{ACCOUNTS}/robot"), &json!(null)).await.ok();
    assert_eq!(cluster.whoami(&token).await.failure(), (401, "Unauthorized"));
    cluster.account("robot").await;
    assert_eq!(cluster.whoami(&token).await.failure(), (401, "Unauthorized"), "another account of that name");

    let pod = cluster.pod("p", "robot").await;
    let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}, "expirationSeconds": 3607});
    let token = cluster.good_token("robot", bound).await;
    let own = claims(&token);
    assert_eq!(own["kubernetes.io"]["pod"], json!({"name": "p", "uid": pod["metadata"]["uid"]}));
    assert_eq!(own["kubernetes.io"]["node"]["name"], "n1");
    let (issued, ends) = (own["iat"].as_i64().unwrap(), own["exp"].as_i64().unwrap());
    assert_eq!(ends - issued, 365 * 24 * 3600, "clients that never read the file again get a year");
    assert_eq!(own["kubernetes.io"]["warnafter"].as_i64().unwrap() - issued, 3607);
    let extra = cluster.whoami(&token).await.ok()["status"]["userInfo"]["extra"].clone();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n1"]));
    let force = json!({"gracePeriodSeconds": 0});
    cluster.admin.delete("/api/v1/namespaces/default/pods/p", &force).await.ok();
    assert_eq!(cluster.whoami(&token).await.failure(), (401, "Unauthorized"));
    cluster.pod("p", "robot").await;
    assert_eq!(cluster.whoami(&token).await.failure(), (401, "Unauthorized"), "another pod of that name");

    let secret = json!({"metadata": {"name": "s"}});
    cluster.admin.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    let bound = json!({"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s"}});
    let token = cluster.good_token("robot", bound).await;
    cluster.whoami(&token).await.ok();
    cluster.admin.delete("/api/v1/namespaces/default/secrets/s", &json!(null)).await.ok();
    assert_eq!(cluster.whoami(&token).await.code, 401);
}

#[tokio::test]
async fn requests_for_tokens_are_checked() {
    let cluster = Cluster::start().await;
    cluster.account("robot").await;
    cluster.account("other").await;
    cluster.pod("p", "robot").await;
    let refused = async |account: &str, spec: Value| {
        let answer = cluster.token(account, spec).await;
        (answer.code, answer.message().to_owned())
    };
    assert_eq!(refused("none", json!({})).await, (404, "serviceaccounts \"none\" not found".into()));
    let (code, message) = refused("robot", json!({"expirationSeconds": 599})).await;
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not \
               specify a duration less than 10 minutes"
        )
    );
    assert_eq!(refused("robot", json!({"expirationSeconds": (1i64 << 32) + 1})).await.0, 422);
    let bound =
        |kind: &str, name: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}});
    assert_eq!(refused("robot", bound("Pod", "gone")).await, (404, "pods \"gone\" not found".into()));
    let (code, message) = refused("other", bound("Pod", "p")).await;
    assert_eq!(code, 400);
    assert!(
        message.starts_with("cannot bind token for serviceaccount \"other\" to pod running with"),
        "{message}"
    );
    assert_eq!(
        refused("robot", bound("Service", "x")).await,
        (400, "cannot bind token to object of type /v1, Kind=Service".into())
    );
    let mut other = bound("Pod", "p");
    other["boundObjectRef"]["uid"] = "x".into();
    assert_eq!(refused("robot", other).await.0, 409);

    let node = |name: &str| cluster.client(&format!("system:node:{name}"), "system:nodes");
    let path = format!("{ACCOUNTS}/robot/token");
    let for_pod = json!({"spec": bound("Pod", "p")});
    node("n1").post(&path, &for_pod).await.ok();
    let elsewhere = node("n2").post(&path, &for_pod).await;
    assert_eq!(elsewhere.code, 403);
    assert!(elsewhere.message().contains("scheduled on a different node"), "{}", elsewhere.message());
    assert_eq!(node("n1").post(&path, &json!({"spec": {}})).await.code, 403);
}

#[tokio::test]
async fn what_is_no_token_of_this_cluster_is_refused() {
    let cluster = Cluster::start().await;
    let account = cluster.account("robot").await;
    let other = Cluster::start().await;
    other.account("robot").await;
    let foreign = other.good_token("robot", json!({})).await;
    let now = jiff::Timestamp::now().as_second();
    let key = Key::from_pem(&cluster.pki.config(cluster.dir.path(), cluster.address).service_account_key_pem)
        .unwrap();
    let made = |change: &dyn Fn(&mut Value)| {
        let mut claims = json!({
            "iss": ISSUER, "aud": [ISSUER], "iat": now, "nbf": now, "exp": now + 600,
            "sub": "system:serviceaccount:default:robot",
            "kubernetes.io": {"namespace": "default",
                "serviceaccount": {"name": "robot", "uid": account["metadata"]["uid"]}},
        });
        change(&mut claims);
        key.sign(&claims).unwrap()
    };
    cluster.whoami(&made(&|_| {})).await.ok();
    for (what, token) in [
        ("of another cluster", foreign),
        ("nothing", String::new()),
        ("no token", "x.y.z".into()),
        ("expired", made(&|c| c["exp"] = (now - 120).into())),
        ("not valid yet", made(&|c| c["nbf"] = (now + 300).into())),
        ("of another issuer", made(&|c| c["iss"] = "https://other".into())),
        ("for somebody else", made(&|c| c["aud"] = json!(["vault"]))),
        ("of another account", made(&|c| c["kubernetes.io"]["serviceaccount"]["uid"] = "x".into())),
    ] {
        let answer = cluster.whoami(&token).await;
        assert_eq!(answer.failure(), (401, "Unauthorized"), "{what}");
        assert_eq!(answer.body["kind"], "Status", "{what}");
    }
    let anonymous = Client::new(&cluster.pki, cluster.address, None);
    let basic = anonymous.call(Method::GET, "/livez", &[("authorization", "Basic eDp5")], Bytes::new()).await;
    assert_eq!(basic.code, 401);

    let legacy = key
        .sign(&json!({
            "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:robot",
            "kubernetes.io/serviceaccount/namespace": "default",
            "kubernetes.io/serviceaccount/secret.name": "old",
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": account["metadata"]["uid"],
        }))
        .unwrap();
    assert_eq!(cluster.whoami(&legacy).await.code, 401, "its Secret is not there");
    let secret = json!({"metadata": {"name": "old", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token", "data": {"token": STANDARD.encode(&legacy)}});
    cluster.admin.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    cluster.whoami(&legacy).await.ok();

    let path = "/api/v1/namespaces/default/secrets/old";
    let used = cluster.admin.get(path).await.ok()["metadata"].clone();
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    assert_eq!(
        used["labels"]["kubernetes.io/legacy-token-last-used"], today,
        "who cleans up can see its use"
    );
    cluster.whoami(&legacy).await.ok();
    let again = cluster.admin.get(path).await.ok()["metadata"].clone();
    assert_eq!(again["resourceVersion"], used["resourceVersion"], "it is marked once a day");
    let invalid = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": today}}});
    cluster.admin.patch(path, "merge", &invalid).await.ok();
    assert_eq!(cluster.whoami(&legacy).await.code, 401, "it was marked invalid");
}

#[tokio::test]
async fn others_can_check_tokens() {
    let cluster = Cluster::start().await;
    cluster.account("robot").await;
    let token = cluster.good_token("robot", json!({"audiences": ["vault", "other"]})).await;
    assert_eq!(cluster.whoami(&token).await.code, 401, "it is not for the API server");
    let good = cluster.review(&token, json!(["vault"])).await;
    assert_eq!((&good["authenticated"], &good["audiences"]), (&json!(true), &json!(["vault"])));
    assert_eq!(good["user"]["username"], "system:serviceaccount:default:robot");
    let bad = cluster.review(&token, json!(null)).await;
    assert_eq!(bad.get("authenticated"), None);
    assert_eq!(
        bad["error"],
        format!(
            "[invalid bearer token, token audiences [\"vault\" \"other\"] is invalid for the target audiences [{ISSUER:?}]]"
        )
    );
    let own = cluster.good_token("robot", json!({})).await;
    let found = cluster.with_token(Method::GET, "/.well-known/openid-configuration", &own).await.ok();
    assert_eq!(found["issuer"], ISSUER);
    assert!(found["jwks_uri"].as_str().unwrap().ends_with("/openid/v1/jwks"));
    let keys = cluster.with_token(Method::GET, "/openid/v1/jwks", &own).await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!(keys.body["keys"][0]["alg"], "ES256");
    assert_eq!(cluster.client("jane", "dev").get("/openid/v1/jwks").await.code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_need_an_account_and_get_its_token() {
    let cluster = Cluster::start_with(|config| config.pods_need_accounts = true).await;
    let path = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, account: &str| {
        json!({"metadata": {"name": name}, "spec": {"serviceAccountName": account,
            "containers": [{"name": "c", "image": "i"}]}})
    };
    let refused = cluster.admin.post(path, &pod("p", "robot")).await;
    assert_eq!(
        refused.message(),
        "pods \"p\" is forbidden: error looking up service account default/robot: serviceaccount \"robot\" not found"
    );
    // The account of a new namespace may still be on its way.
    let (admin, waiting) = (cluster.admin.clone(), pod("early", ""));
    let early = tokio::spawn(async move { admin.post(path, &waiting).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    cluster.account("default").await;
    let early = early.await.unwrap().ok();
    assert_eq!(early["spec"]["serviceAccountName"], "default");
    let volume = &early["spec"]["volumes"][0];
    assert!(volume["name"].as_str().unwrap().starts_with("kube-api-access-"));
    assert_eq!(
        volume["projected"]["sources"][0]["serviceAccountToken"],
        json!({"expirationSeconds": 3607, "path": "token"})
    );
    assert_eq!(
        early["spec"]["containers"][0]["volumeMounts"],
        json!([{"name": volume["name"], "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    );
    let robot = json!({"metadata": {"name": "robot"}, "automountServiceAccountToken": false,
        "imagePullSecrets": [{"name": "pull"}]});
    cluster.admin.post(ACCOUNTS, &robot).await.ok();
    let quiet = cluster.admin.post(path, &pod("quiet", "robot")).await.ok();
    assert_eq!(quiet["spec"].get("volumes"), None);
    assert_eq!(quiet["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    let mut wanted = pod("wanted", "robot");
    wanted["spec"]["automountServiceAccountToken"] = true.into();
    let wanted = cluster.admin.post(path, &wanted).await.ok();
    assert_eq!(wanted["spec"]["volumes"].as_array().unwrap().len(), 1, "the pod's wish comes first");
}
