//! Tokens of ServiceAccounts: who one is for, and whether it is still good. One is bound to what it was
//! made for: it ends with its account, and with the pod, Secret or node that it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cover::quoted;
use super::identity::{AUTHENTICATED, Identity, account_groups, account_user};
use super::token::{self, Key, KeyError};
use crate::error::ApiError;
use crate::http::body::PatchKind;
use crate::http::request::Target;
use crate::registry::object::{self, text};
use crate::registry::update::Patch;
use crate::registry::{Call, Registry, storage};
use crate::schema::schema;

/// Issuer of the tokens that Kubernetes' own token controller writes into Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Seconds that a deletion may be old before it counts, and that clocks may differ.
const LEEWAY: i64 = 60;
const PREFIX: &str = "authentication.kubernetes.io/";

/// What signs tokens, and in whose name.
pub struct Issuer {
    pub key: Key,
    /// Also the one audience that the API server itself accepts.
    pub name: String,
}

impl Issuer {
    pub fn new(pem: &str, name: impl Into<String>) -> Result<Self, KeyError> {
        Ok(Self { key: Key::from_pem(pem)?, name: name.into() })
    }

    /// `/.well-known/openid-configuration`; `address` is what clients dial.
    pub fn configuration(&self, address: &str) -> Value {
        json!({
            "issuer": self.name,
            "jwks_uri": format!("https://{address}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

/// On which day a Secret's token was used last, and since when it is not to be used any more.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// A day of UTC as labels of Secrets have it.
pub fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// An object that has to exist, with its uid, for a token to be good.
struct Bound {
    kind: &'static str,
    plural: &'static str,
    namespace: String,
    name: String,
    uid: String,
}

/// A token that was found good.
#[derive(Clone, Debug)]
pub struct Checked {
    pub identity: Arc<Identity>,
    /// Those of the token that were asked for.
    pub audiences: Vec<String>,
    /// Seconds since the epoch until which nothing but the objects need be looked at again.
    pub(super) until: i64,
    /// The objects it hangs on, by key and revision.
    pub(super) objects: Vec<(String, u64)>,
    /// The Secret, by namespace and name, that is to say that its token was used today.
    pub unmarked: Option<(String, String)>,
}

/// `None`: not one of our tokens. `Err`: one of ours that is no good, and why.
pub type Verdict = Result<Option<Checked>, String>;

impl Registry {
    /// Checks a token for the audiences given, or for the API server itself.
    pub fn check_token(&self, token: &str, audiences: Option<&[String]>, now: Timestamp) -> Verdict {
        let issuer = self.issuer();
        let Some(claims) = token::claims(token) else { return Ok(None) };
        let legacy = claims["iss"] == LEGACY_ISSUER;
        if !legacy && claims["iss"] != *issuer.name {
            return Ok(None);
        }
        if !issuer.key.verifies(token) {
            return Err("invalid signature, no keys found".into());
        }
        let own = [issuer.name.clone()];
        let named = strings(&claims["aud"]);
        let named = if named.is_empty() { own.to_vec() } else { named };
        let wanted = audiences.unwrap_or(&own);
        let audiences: Vec<String> = named.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if audiences.is_empty() {
            let (named, wanted) = (quoted(&named), quoted(wanted));
            return Err(format!("token audiences {named} is invalid for the target audiences {wanted}"));
        }
        let expires = check_times(&claims, now.as_second())?;
        let (bounds, identity) = if legacy { read_legacy(&claims)? } else { read(&claims) };
        let mut checked = Checked {
            identity: Arc::new(identity),
            audiences,
            until: expires,
            objects: Vec::new(),
            unmarked: None,
        };
        for bound in &bounds {
            self.check_bound(bound, legacy.then_some(token), now, &mut checked)?;
        }
        Ok(Some(checked))
    }

    /// Writes on a Secret that its token was used on this day.
    pub async fn mark_used(&self, namespace: &str, name: &str, now: Timestamp) -> Result<(), ApiError> {
        let resource = schema().resource("", "v1", "secrets").cloned();
        let target = Target {
            resource: resource.ok_or_else(|| ApiError::internal("the schema has no secrets"))?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            rest: String::new(),
        };
        let body = json!({"metadata": {"labels": {LAST_USED: day(now)}}}).to_string().into();
        let patch = Patch { kind: PatchKind::Merge, body, force: false };
        self.patch(&target, &patch, &mut Call::new("kube-apiserver", now)).await.map(drop)
    }

    /// `legacy` is the token, if it is one that a Secret has to hold.
    fn check_bound(
        &self,
        bound: &Bound,
        legacy: Option<&str>,
        now: Timestamp,
        checked: &mut Checked,
    ) -> Result<(), String> {
        let Bound { kind, plural, namespace, name, uid } = bound;
        let account = *plural == "serviceaccounts";
        let gone = match account {
            true => format!("serviceaccounts {name:?} not found"),
            false => "service account token has been invalidated".to_owned(),
        };
        let resource = schema().resource("", "v1", plural).ok_or_else(|| gone.clone())?;
        let key = storage::key(resource, namespace, name);
        let stored = self.store.get(&key).ok_or_else(|| gone.clone())?;
        let object = object::parse(&stored.bytes).map_err(|e| e.message)?;
        let found = text(&object, "/metadata/uid");
        if !uid.is_empty() && found != uid {
            return Err(match account {
                true => format!("service account UID ({found}) does not match claim ({uid})"),
                false => {
                    let what = kind.to_lowercase();
                    format!("{kind} UID ({found}) does not match service account {what} ref claim ({uid})")
                }
            });
        }
        if let Ok(at) = text(&object, "/metadata/deletionTimestamp").parse::<Timestamp>() {
            let end = at.as_second().saturating_add(LEEWAY);
            // What a Secret holds ends with it at once.
            if end < now.as_second() || legacy.is_some() {
                return Err(match account {
                    true => format!("service account {namespace}/{name} has been deleted"),
                    false => gone,
                });
            }
            checked.until = checked.until.min(end);
        }
        if let (Some(token), "secrets") = (legacy, *plural) {
            use base64::Engine;
            let encoded = base64::engine::general_purpose::STANDARD.encode(token);
            if text(&object, "/data/token") != encoded {
                return Err("service account token does not match server's copy".into());
            }
            check_marks(&object, namespace, name, now, checked)?;
        }
        checked.objects.push((key, stored.modified));
        Ok(())
    }
}

/// The labels that keep account of a Secret's token: whether it is still to be used, and when it was.
fn check_marks(
    secret: &Value,
    namespace: &str,
    name: &str,
    now: Timestamp,
    checked: &mut Checked,
) -> Result<(), String> {
    let label = |key: &str| secret["metadata"]["labels"][key].as_str().unwrap_or_default();
    if !label(INVALID_SINCE).is_empty() {
        return Err(format!("the token in secret {namespace}/{name} has been marked invalid"));
    }
    const DAY: i64 = 86_400;
    let tomorrow = now.checked_add(jiff::SignedDuration::from_secs(DAY)).unwrap_or(now);
    if ![day(now), day(tomorrow)].contains(&label(LAST_USED).to_owned()) {
        checked.unmarked = Some((namespace.to_owned(), name.to_owned()));
    }
    let midnight = now.as_second().div_euclid(DAY).saturating_add(1).saturating_mul(DAY);
    checked.until = checked.until.min(midnight - 1);
    Ok(())
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        list => list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

/// Answers until when the token is good, in seconds since the epoch.
fn check_times(claims: &Value, now: i64) -> Result<i64, String> {
    let at = |claim: &str| claims.get(claim).and_then(Value::as_f64).map(|seconds| seconds as i64);
    let expires = at("exp").unwrap_or(i64::MAX);
    if now > expires.saturating_add(LEEWAY) {
        return Err("service account token has expired".into());
    }
    if at("nbf").is_some_and(|from| now.saturating_add(LEEWAY) < from) {
        return Err("service account token is not valid yet".into());
    }
    if at("iat").is_some_and(|from| now.saturating_add(LEEWAY) < from) {
        return Err("service account token is issued in the future".into());
    }
    Ok(expires.saturating_add(LEEWAY))
}

fn read(claims: &Value) -> (Vec<Bound>, Identity) {
    let own = &claims["kubernetes.io"];
    let namespace = text(own, "/namespace");
    let part = |what: &str, field: &str| text(own, &format!("/{what}/{field}")).to_owned();
    let bound = |kind, plural, what: &str| Bound {
        kind,
        plural,
        namespace: if plural == "nodes" { String::new() } else { namespace.to_owned() },
        name: part(what, "name"),
        uid: part(what, "uid"),
    };
    let mut bounds = vec![bound("ServiceAccount", "serviceaccounts", "serviceaccount")];
    let mut extra = BTreeMap::new();
    let mut tell = |key: &str, value: String| {
        if !value.is_empty() {
            extra.insert(format!("{PREFIX}{key}"), vec![value]);
        }
    };
    let id = text(claims, "/jti");
    tell("credential-id", if id.is_empty() { String::new() } else { format!("JTI={id}") });
    if own.get("secret").is_some() {
        bounds.push(bound("secret", "secrets", "secret"));
    }
    if own.get("pod").is_some() {
        bounds.push(bound("pod", "pods", "pod"));
        tell("pod-name", part("pod", "name"));
        tell("pod-uid", part("pod", "uid"));
    } else if own.get("node").is_some() {
        bounds.push(bound("node", "nodes", "node"));
    }
    tell("node-name", part("node", "name"));
    tell("node-uid", part("node", "uid"));
    let identity =
        identity(namespace, &part("serviceaccount", "name"), &part("serviceaccount", "uid"), extra);
    (bounds, identity)
}

/// A token as Kubernetes' token controller makes it: it has no end and no audience, and is good while
/// the Secret that holds it is there.
fn read_legacy(claims: &Value) -> Result<(Vec<Bound>, Identity), String> {
    let claim =
        |name: &str| claims.get(format!("kubernetes.io/serviceaccount/{name}")).and_then(Value::as_str);
    let need = |name: &str| {
        let found = claim(name).filter(|v| !v.is_empty());
        found.map(str::to_owned).ok_or_else(|| format!("{name} claim is missing"))
    };
    let (namespace, secret) = (need("namespace")?, need("secret.name")?);
    let (name, uid) = (need("service-account.name")?, need("service-account.uid")?);
    let bounds = vec![
        Bound {
            kind: "secret",
            plural: "secrets",
            namespace: namespace.clone(),
            name: secret,
            uid: String::new(),
        },
        Bound {
            kind: "ServiceAccount",
            plural: "serviceaccounts",
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.clone(),
        },
    ];
    Ok((bounds, identity(&namespace, &name, &uid, BTreeMap::new())))
}

fn identity(namespace: &str, name: &str, uid: &str, extra: BTreeMap<String, Vec<String>>) -> Identity {
    let mut groups = account_groups(namespace);
    groups.push(AUTHENTICATED.into());
    Identity { user: account_user(namespace, name), uid: uid.to_owned(), groups, extra }
}
