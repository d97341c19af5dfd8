//! Secrets that hold a token of a ServiceAccount: filled, good, and gone with what they hang on.

mod support;

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use support::Cluster;

const NAMESPACE: &str = "kube-public";

fn secret(name: &str, account: &str) -> Secret {
    let annotations = json!({"kubernetes.io/service-account.name": account});
    let object = json!({"metadata": {"name": name, "annotations": annotations},
        "type": "kubernetes.io/service-account-token"});
    serde_json::from_value(object).expect("a Secret")
}

fn datum(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?.0.clone();
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), done)
        .await
        .unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// Waits until the Secret holds a token other than `old`.
async fn token(secrets: &Api<Secret>, name: &str, old: &str) -> Secret {
    let has = |s: Option<&Secret>| s.and_then(|s| datum(s, "token")).is_some_and(|token| token != old);
    let filled = await_condition(secrets.clone(), name, has);
    soon("a token", filled).await.expect("a watch").expect("there")
}

/// Who the server says that a token's holder is, or the code of its refusal.
async fn whoami(client: Client) -> Result<String, u16> {
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => Ok(review.status.and_then(|s| s.user_info?.username).expect("a name")),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gets_a_token_that_ends_with_it_and_with_its_account() {
    let cluster = Cluster::start().await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let create = PostParams::default();
    let robot = || serde_json::from_value(json!({"metadata": {"name": "robot"}})).expect("an account");
    let account = accounts.create(&create, &robot()).await.expect("made");
    secrets.create(&create, &secret("key", "robot")).await.expect("made");

    let filled = token(&secrets, "key", "").await;
    let first = datum(&filled, "token").expect("a token");
    assert_eq!(datum(&filled, "ca.crt").as_deref(), Some("CA"));
    assert_eq!(datum(&filled, "namespace").as_deref(), Some(NAMESPACE));
    assert_eq!(filled.annotations()["kubernetes.io/service-account.uid"], account.uid().expect("a uid"));
    let name = format!("system:serviceaccount:{NAMESPACE}:robot");
    assert_eq!(whoami(cluster.with_token(&first)).await, Ok(name.clone()));
    let marked = secrets.get("key").await.expect("there");
    assert!(marked.labels().contains_key("kubernetes.io/legacy-token-last-used"), "its use is marked");

    let empty = Patch::Merge(json!({"data": {"token": Value::Null}}));
    secrets.patch("key", &PatchParams::default(), &empty).await.expect("emptied");
    let second = datum(&token(&secrets, "key", &first).await, "token").expect("a token");
    assert_eq!(whoami(cluster.with_token(&first)).await, Err(401), "it was replaced");
    assert_eq!(whoami(cluster.with_token(&second)).await, Ok(name.clone()));
    secrets.delete("key", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(whoami(cluster.with_token(&second)).await, Err(401), "its Secret is gone");

    secrets.create(&create, &secret("other", "robot")).await.expect("made");
    let other = token(&secrets, "other", "").await;
    let third = datum(&other, "token").expect("a token");
    assert_eq!(whoami(cluster.with_token(&third)).await, Ok(name));
    accounts.delete("robot", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(whoami(cluster.with_token(&third)).await, Err(401), "its account is gone");
    let uid = other.uid().expect("a uid");
    let gone = conditions::is_deleted(&uid);
    soon("the Secret goes", await_condition(secrets.clone(), "other", gone)).await.expect("a watch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_for_no_account_goes_and_accounts_forget_what_is_gone() {
    let cluster = Cluster::start().await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let create = PostParams::default();
    let stray = secrets.create(&create, &secret("stray", "nobody")).await.expect("made");
    let uid = stray.uid().expect("a uid");
    let gone = conditions::is_deleted(&uid);
    soon("the Secret goes", await_condition(secrets.clone(), "stray", gone)).await.expect("a watch");

    let robot = json!({"metadata": {"name": "robot"}, "secrets": [{"name": "key"}, {"name": "kept"}]});
    accounts.create(&create, &serde_json::from_value(robot).expect("an account")).await.expect("made");
    secrets.create(&create, &secret("key", "robot")).await.expect("made");
    token(&secrets, "key", "").await;
    secrets.delete("key", &DeleteParams::default()).await.expect("deleted");
    let forgotten = |a: Option<&ServiceAccount>| {
        a.and_then(|a| a.secrets.as_ref())
            .is_some_and(|s| s.len() == 1 && s[0].name.as_deref() == Some("kept"))
    };
    soon("it is forgotten", await_condition(accounts, "robot", forgotten)).await.expect("a watch");
}
