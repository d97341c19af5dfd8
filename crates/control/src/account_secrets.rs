//! Secrets of type `kubernetes.io/service-account-token`: each is given a token of the ServiceAccount that it
//! names, the cluster's certificate and its namespace, and goes with its account.
//!
//! It keeps watches of its own: nothing else here looks at Secrets or at all accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use daymark_model::ObjectName;
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::meta::annotation;
use crate::object::key_of;
use crate::watching::watch;

const OF_TYPE: &str = "type=kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const RETRY: Duration = Duration::from_secs(1);

type Sign = dyn Fn(&Value) -> anyhow::Result<String> + Send + Sync;

/// Signs the claims of a token with the cluster's key.
#[derive(Clone)]
pub struct TokenSigner(Arc<Sign>);

impl TokenSigner {
    pub fn new(sign: impl Fn(&Value) -> anyhow::Result<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner")
    }
}

/// Fills Secrets for ever.
pub(crate) async fn run(client: Client, signer: TokenSigner, root_ca: String) {
    let mut accounts = pin!(watch(Api::<ServiceAccount>::all(client.clone()), Config::default()));
    let mut secrets = pin!(watch(Api::<Secret>::all(client.clone()), Config::default().fields(OF_TYPE)));
    let mut known = Known { root_ca, ..Known::default() };
    let mut due = BTreeSet::new();
    loop {
        tokio::select! {
            Some(event) = accounts.next() => {
                let changed = known.accounts.take(event);
                due.extend(known.secrets.objects.iter().filter_map(|(key, secret)| {
                    let account = ObjectName::new(&*key.namespace, account_of(secret));
                    changed.contains(&account).then(|| key.clone())
                }));
            }
            Some(event) = secrets.next() => due.extend(known.secrets.take(event)),
            () = tokio::time::sleep(RETRY), if !due.is_empty() => {}
        }
        if known.accounts.listed && known.secrets.listed {
            let work: Vec<_> =
                due.iter().filter_map(|key| Some((key.clone(), decide(&known, key)?))).collect();
            due.clear();
            for (key, deed) in work {
                if let Err(error) = perform(&client, &signer, &key, deed).await {
                    warn!(secret = %key, %error, "will try again");
                    due.insert(key);
                }
            }
        }
    }
}

/// Objects of a kind, as its watch tells of them.
struct Mirror<K> {
    objects: BTreeMap<ObjectName, K>,
    coming: BTreeMap<ObjectName, K>,
    listed: bool,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), coming: BTreeMap::new(), listed: false }
    }
}

impl<K: Resource> Mirror<K> {
    /// Returns the names of what may have changed.
    fn take(&mut self, event: watcher::Result<Event<K>>) -> BTreeSet<ObjectName> {
        let mut changed = BTreeSet::new();
        match event {
            Ok(Event::Init) => self.coming.clear(),
            Ok(Event::InitApply(object)) => drop(self.coming.insert(key_of(object.meta()), object)),
            Ok(Event::InitDone) => {
                changed.extend(self.objects.keys().chain(self.coming.keys()).cloned());
                self.objects = std::mem::take(&mut self.coming);
                self.listed = true;
            }
            Ok(Event::Apply(object)) => {
                changed.insert(key_of(object.meta()));
                self.objects.insert(key_of(object.meta()), object);
            }
            Ok(Event::Delete(object)) => {
                changed.insert(key_of(object.meta()));
                self.objects.remove(&key_of(object.meta()));
            }
            Err(error) => debug!(%error, "watching for tokens of ServiceAccounts"),
        }
        changed
    }
}

#[derive(Default)]
struct Known {
    accounts: Mirror<ServiceAccount>,
    secrets: Mirror<Secret>,
    root_ca: String,
}

/// What is to be done about one Secret.
#[derive(Debug, PartialEq)]
enum Deed {
    /// Patch the Secret, with a new token if there are claims for one.
    Fill { patch: Value, claims: Option<Value> },
    /// Delete the Secret, unless its account is there after all.
    Drop { uid: String, account: String, account_uid: String },
    /// Take the name of a Secret that is gone out of the accounts that name it.
    Forget(Vec<(String, Value)>),
}

fn account_of(secret: &Secret) -> &str {
    annotation(&secret.metadata, ACCOUNT).unwrap_or_default()
}

fn decide(known: &Known, key: &ObjectName) -> Option<Deed> {
    let Some(secret) = known.secrets.objects.get(key) else { return forget(known, key) };
    if secret.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let name = account_of(secret);
    let wanted = annotation(&secret.metadata, ACCOUNT_UID).unwrap_or_default();
    let account = known.accounts.objects.get(&ObjectName::new(&*key.namespace, name));
    let uid = account.and_then(|a| a.metadata.uid.as_deref()).unwrap_or_default();
    if account.is_none() || (!wanted.is_empty() && wanted != uid) {
        return Some(Deed::Drop {
            uid: secret.metadata.uid.clone().unwrap_or_default(),
            account: name.to_owned(),
            account_uid: wanted.to_owned(),
        });
    }
    fill(known, key, secret, name, uid)
}

fn fill(known: &Known, key: &ObjectName, secret: &Secret, account: &str, uid: &str) -> Option<Deed> {
    let has = |field: &str| secret.data.as_ref().and_then(|data| data.get(field)).map(|b| b.0.as_slice());
    let empty = |field: &str| has(field).is_none_or(<[u8]>::is_empty);
    let mut data = BTreeMap::new();
    if !known.root_ca.is_empty() && has("ca.crt") != Some(known.root_ca.as_bytes()) {
        data.insert("ca.crt", ByteString(known.root_ca.clone().into_bytes()));
    }
    if empty("namespace") {
        data.insert("namespace", ByteString(key.namespace.as_bytes().to_vec()));
    }
    let claims = empty("token").then(|| {
        json!({
            "iss": "kubernetes/serviceaccount",
            "sub": format!("system:serviceaccount:{}:{account}", key.namespace),
            "kubernetes.io/serviceaccount/namespace": &*key.namespace,
            "kubernetes.io/serviceaccount/secret.name": &*key.name,
            "kubernetes.io/serviceaccount/service-account.name": account,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
        })
    });
    if data.is_empty() && claims.is_none() {
        return None;
    }
    let patch = json!({
        "metadata": {
            "resourceVersion": secret.metadata.resource_version, "annotations": {ACCOUNT_UID: uid},
        },
        "data": data,
    });
    Some(Deed::Fill { patch, claims })
}

fn forget(known: &Known, key: &ObjectName) -> Option<Deed> {
    let names = |account: &ServiceAccount| {
        account.secrets.as_ref().is_some_and(|s| s.iter().any(|s| s.name.as_deref() == Some(&*key.name)))
    };
    let naming = known.accounts.objects.iter().filter(|(k, a)| k.namespace == key.namespace && names(a));
    let patches: Vec<_> = naming
        .map(|(account, object)| {
            let mut left = object.secrets.clone().unwrap_or_default();
            left.retain(|s| s.name.as_deref() != Some(&*key.name));
            let metadata = json!({"resourceVersion": object.metadata.resource_version});
            (account.name.to_string(), json!({"metadata": metadata, "secrets": left}))
        })
        .collect();
    (!patches.is_empty()).then_some(Deed::Forget(patches))
}

async fn perform(client: &Client, signer: &TokenSigner, key: &ObjectName, deed: Deed) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &key.namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    match deed {
        Deed::Fill { mut patch, claims } => {
            if let Some(claims) = claims {
                patch["data"]["token"] = serde_json::to_value(ByteString((signer.0)(&claims)?.into_bytes()))?;
            }
            let done = secrets.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            settled(done.map(drop))
        }
        Deed::Drop { uid, account, account_uid } => {
            // The watch of accounts may be behind the one of Secrets.
            let there = accounts.get_opt(&account).await?.and_then(|a| a.metadata.uid);
            if there.is_some_and(|uid| account_uid.is_empty() || uid == account_uid) {
                anyhow::bail!("its ServiceAccount {account} was only just made");
            }
            let only = Preconditions { uid: Some(uid), ..Default::default() };
            let options = DeleteParams { preconditions: Some(only), ..Default::default() };
            settled(secrets.delete(&key.name, &options).await.map(drop))
        }
        Deed::Forget(patches) => {
            for (account, patch) in patches {
                let done = accounts.patch(&account, &PatchParams::default(), &Patch::Merge(&patch)).await;
                settled(done.map(drop))?;
            }
            Ok(())
        }
    }
}

/// What is gone needs nothing more, and what somebody else changed will be told by its watch.
fn settled(done: kube::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            warn!(why = status.message, "a Secret for a ServiceAccount stays as it is");
            Ok(())
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(secret: Value, account: Option<&str>) -> Known {
        let mut known = Known { root_ca: "PEM".into(), ..Known::default() };
        let object = |value| serde_json::from_value(value).unwrap();
        known.secrets.take(Ok(Event::Apply(object(secret))));
        if let Some(uid) = account {
            let metadata = json!({"namespace": "shop", "name": "robot", "uid": uid, "resourceVersion": "3"});
            let account = json!({"metadata": metadata, "secrets": [{"name": "gone"}, {"name": "key"}]});
            known.accounts.take(Ok(Event::Apply(serde_json::from_value(account).unwrap())));
        }
        known
    }

    fn secret(uid: &str, data: Value) -> Value {
        let annotations = match uid {
            "" => json!({ACCOUNT: "robot"}),
            uid => json!({ACCOUNT: "robot", ACCOUNT_UID: uid}),
        };
        json!({
            "metadata": {"namespace": "shop", "name": "key", "uid": "s", "resourceVersion": "7",
                "annotations": annotations},
            "type": "kubernetes.io/service-account-token", "data": data,
        })
    }

    fn decided(secret: Value, account: Option<&str>) -> Option<Deed> {
        decide(&known(secret, account), &ObjectName::new("shop", "key"))
    }

    #[test]
    fn what_is_missing_is_filled_in_and_nothing_else() {
        let Some(Deed::Fill { patch, claims }) = decided(secret("", json!({})), Some("a")) else { panic!() };
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7", "annotations": {ACCOUNT_UID: "a"}},
                "data": {"ca.crt": "UEVN", "namespace": "c2hvcA=="}})
        );
        assert_eq!(claims.unwrap()["sub"], "system:serviceaccount:shop:robot");
        let all = json!({"ca.crt": "UEVN", "namespace": "bWluZQ==", "token": "dA=="});
        assert_eq!(decided(secret("a", all.clone()), Some("a")), None);
        let mut other = all;
        other["ca.crt"] = "b2xk".into();
        let Some(Deed::Fill { patch, claims: None }) = decided(secret("a", other), Some("a")) else {
            panic!()
        };
        assert_eq!(patch["data"], json!({"ca.crt": "UEVN"}));
    }

    #[test]
    fn a_secret_goes_with_its_account_and_not_with_one_of_that_name() {
        for (uid, account) in [("", None), ("a", None), ("a", Some("b"))] {
            let decided = decided(secret(uid, json!({})), account);
            let drop = Deed::Drop { uid: "s".into(), account: "robot".into(), account_uid: uid.into() };
            assert_eq!(decided, Some(drop), "{uid:?} {account:?}");
        }
    }

    #[test]
    fn accounts_forget_secrets_that_are_gone() {
        let known = known(secret("", json!({})), Some("a"));
        let patch = json!({"metadata": {"resourceVersion": "3"}, "secrets": [{"name": "key"}]});
        assert_eq!(
            decide(&known, &ObjectName::new("shop", "gone")),
            Some(Deed::Forget(vec![("robot".into(), patch)]))
        );
        assert_eq!(decide(&known, &ObjectName::new("shop", "other")), None);
    }
}
