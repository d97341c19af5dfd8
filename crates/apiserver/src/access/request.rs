//! `serviceaccounts/token`: making a token for a ServiceAccount.

use serde_json::{Value, json};

use super::Attributes;
use crate::error::{ApiError, Cause};
use crate::http::request::Target;
use crate::registry::object::{text, time};
use crate::registry::{Call, Registry};
use crate::schema::{Gvk, schema};

const KIND: Gvk<'static> = Gvk { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" };
/// Seconds.
const DEFAULT_LIFE: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
/// What pods ask for. Clients that never read the file again get a year, as in Kubernetes.
pub const OF_PODS: i64 = 3607;
const A_YEAR: i64 = 365 * 24 * 3600;

/// What a token is bound to.
#[derive(Default)]
struct Binding {
    /// For the claim `kubernetes.io`.
    claims: Value,
    is_pod: bool,
}

impl Registry {
    /// Answers the `TokenRequest` with a token in its status.
    pub fn request_token(
        &self,
        target: &Target,
        mut request: Value,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<Value, ApiError> {
        self.check_fields_of(KIND, &mut request, duplicates, call)?;
        let account = self.get(&Target { subresource: String::new(), ..target.clone() })?;
        match_account(target, &request, &account)?;
        let mut spec = request.get("spec").cloned().unwrap_or_else(|| json!({}));
        let own = vec![Value::from(self.issuer().name.as_str())];
        if spec["audiences"].as_array().is_none_or(|a| a.is_empty()) {
            spec["audiences"] = json!(own);
        }
        let life = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_LIFE);
        spec["expirationSeconds"] = life.into();
        check_life(life)?;
        let binding = self.binding(target, &spec["boundObjectRef"], call)?;
        let ours = spec["audiences"].as_array().is_some_and(|all| all.iter().all(|a| own.contains(a)));
        let extended = binding.is_pod && life == OF_PODS && ours;
        let token =
            self.sign(&account, &spec, binding, if extended { A_YEAR } else { life }, extended, call)?;
        let ends = call.now + jiff::SignedDuration::from_secs(life);
        let mut answer = json!({
            "kind": KIND.kind, "apiVersion": KIND.api_version(),
            "metadata": request.get("metadata").cloned().unwrap_or_else(|| json!({})),
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": time(ends)},
        });
        for field in ["name", "namespace", "uid"] {
            answer["metadata"][field] = account["metadata"][field].clone();
        }
        answer["metadata"]["creationTimestamp"] = time(call.now).into();
        schema().normalise(KIND, &mut answer);
        Ok(answer)
    }

    fn sign(
        &self,
        account: &Value,
        spec: &Value,
        binding: Binding,
        life: i64,
        extended: bool,
        call: &Call,
    ) -> Result<String, ApiError> {
        let part = |field: &str| text(account, &format!("/metadata/{field}")).to_owned();
        let now = call.now.as_second();
        let mut own = json!({
            "namespace": part("namespace"),
            "serviceaccount": {"name": part("name"), "uid": part("uid")},
        });
        if let (Some(own), Value::Object(bound)) = (own.as_object_mut(), binding.claims) {
            own.extend(bound);
        }
        if extended {
            own["warnafter"] = (now + OF_PODS).into();
        }
        let claims = json!({
            "aud": spec["audiences"], "exp": now + life, "iat": now, "iss": self.issuer().name,
            "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": own, "nbf": now,
            "sub": super::identity::account_user(&part("namespace"), &part("name")),
        });
        self.issuer()
            .key
            .sign(&claims)
            .map_err(|e| ApiError::internal(format!("failed to generate token: {e}")))
    }

    fn binding(&self, target: &Target, reference: &Value, call: &Call) -> Result<Binding, ApiError> {
        if reference.is_null() {
            self.check_node(target, None, call)?;
            return Ok(Binding::default());
        }
        let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
        let version = text(reference, "/apiVersion");
        let (plural, namespace) = match (version, kind) {
            ("v1", "Pod") => ("pods", target.namespace.as_str()),
            ("v1", "Secret") => ("secrets", target.namespace.as_str()),
            ("v1", "Node") => ("nodes", ""),
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                let what = format!("{group}/{version}, Kind={kind}");
                return Err(ApiError::bad_request(format!("cannot bind token to object of type {what}")));
            }
        };
        let object = self.get(&bound(plural, namespace, name)?)?;
        if plural == "pods" && text(&object, "/spec/serviceAccountName") != target.name {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                target.name
            )));
        }
        self.check_node(target, (plural == "pods").then_some(&object), call)?;
        let (uid, wanted) = (text(&object, "/metadata/uid"), text(reference, "/uid"));
        if !wanted.is_empty() && uid != wanted {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(ApiError::conflict("", kind, name, &why));
        }
        let mut claims = json!({kind.to_lowercase(): {"name": name, "uid": uid}});
        let node = text(&object, "/spec/nodeName");
        if plural == "pods" && !node.is_empty() {
            claims["node"] = json!({"name": node});
            if let Ok(found) = self.get(&bound("nodes", "", node)?) {
                claims["node"]["uid"] = found["metadata"]["uid"].clone();
            }
        }
        Ok(Binding { claims, is_pod: plural == "pods" })
    }

    /// A node gets tokens of its own pods' accounts alone, each bound to its pod.
    fn check_node(&self, target: &Target, pod: Option<&Value>, call: &Call) -> Result<(), ApiError> {
        let Some(identity) = &call.identity else { return Ok(()) };
        let Some(node) = identity.user.strip_prefix("system:node:") else { return Ok(()) };
        if !identity.groups.iter().any(|g| g == "system:nodes") || identity.is_master() {
            return Ok(());
        }
        if pod.is_some_and(|pod| text(pod, "/spec/nodeName") == node) {
            return Ok(());
        }
        let asked = Attributes::about("create", "", "serviceaccounts", &target.namespace, &target.name);
        let reason = match pod {
            None => "node requested token not bound to a pod",
            Some(_) => "node requested token bound to a pod scheduled on a different node",
        };
        Err(Attributes { subresource: "token", ..asked }.refusal(identity, reason))
    }
}

fn bound(plural: &str, namespace: &str, name: &str) -> Result<Target, ApiError> {
    let resource = schema().resource("", "v1", plural);
    let resource =
        resource.cloned().ok_or_else(|| ApiError::internal(format!("the schema has no {plural}")))?;
    Ok(Target {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
        rest: String::new(),
    })
}

fn invalid(name: &str, field: &str, value: Value, why: &str) -> ApiError {
    let message = format!("Invalid value: {value}: {why}");
    let cause = Cause { reason: "FieldValueInvalid", message, field: field.into() };
    ApiError::invalid(KIND.group, KIND.kind, name, vec![cause])
}

/// What the request says about the account must be true of it.
fn match_account(target: &Target, request: &Value, account: &Value) -> Result<(), ApiError> {
    for (field, wanted) in [("name", &target.name), ("namespace", &target.namespace)] {
        let given = text(request, &format!("/metadata/{field}"));
        if !given.is_empty() && given != wanted {
            let what = if field == "name" { "name" } else { "namespace" };
            let why = format!("must match the service account {what} if specified");
            return Err(invalid(&target.name, &format!("metadata.{field}"), given.into(), &why));
        }
    }
    let (given, uid) = (text(request, "/metadata/uid"), text(account, "/metadata/uid"));
    if given.is_empty() || given == uid {
        return Ok(());
    }
    let why = format!(
        "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
    );
    Err(ApiError::conflict(KIND.group, KIND.kind, &target.name, &why))
}

fn check_life(seconds: i64) -> Result<(), ApiError> {
    let why = match seconds {
        s if s < SHORTEST => "may not specify a duration less than 10 minutes",
        s if s > LONGEST => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    Err(invalid("", "spec.expirationSeconds", seconds.into(), why))
}
