//! The cluster through the Kubernetes API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::context::{Cluster, WriteError};
use super::events::PodEvent;
use super::services::Services;
use super::spec;
use super::tokens::Tokens;
use crate::env::TokenAsk;
use crate::env::vars::{Data, Kind};

/// Reads don't hold a starting container up for longer when the API server is slow.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

type Key = (Kind, String, String);

/// The real cluster.
pub struct KubeCluster {
    client: kube::Client,
    events: mpsc::Sender<PodEvent>,
    services: Services,
    /// What was read last, for times when the API server is away.
    read: Mutex<BTreeMap<Key, Arc<Data>>>,
    tokens: Tokens,
}

impl KubeCluster {
    pub fn new(client: kube::Client, events: mpsc::Sender<PodEvent>) -> Self {
        Self {
            services: Services::new(client.clone()),
            client,
            events,
            read: Mutex::default(),
            tokens: Tokens::default(),
        }
    }

    /// Forgets what only pods of this namespace needed.
    pub fn forget_namespace(&self, namespace: &str) {
        self.services.forget(namespace);
        self.cache().retain(|(_, ns, _), _| ns != namespace);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Arc<Data>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the token and how long it is good.
    async fn request_token(&self, pod: &Pod, ask: &TokenAsk) -> Result<(String, Duration), String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), spec::namespace(pod));
        let audience = Some(ask.audience.clone()).filter(|a| !a.is_empty());
        let wanted = TokenRequestSpec {
            audiences: audience.map(|audience| vec![audience]),
            expiration_seconds: Some(ask.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        };
        let request = TokenRequest { spec: Some(wanted), ..TokenRequest::default() };
        let account = spec::service_account(pod);
        let answer = api.create_token_request(account, &PostParams::default(), &request).await;
        let status = answer.map_err(|e| e.to_string())?.status.unwrap_or_default();
        let (Some(token), Some(ends)) = (status.token, status.expiration_timestamp) else {
            return Err("the API server answered without a token".into());
        };
        let life = ends.0.duration_since(jiff::Timestamp::now());
        Ok((token, Duration::try_from(life).unwrap_or_default()))
    }

    async fn fetch(&self, kind: Kind, namespace: &str, name: &str) -> kube::Result<Option<Data>> {
        Ok(match kind {
            Kind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                api.get_opt(name).await?.map(config_map_data)
            }
            Kind::Secret => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                api.get_opt(name).await?.map(secret_data)
            }
        })
    }
}

fn config_map_data(map: ConfigMap) -> Data {
    let text = map.data.into_iter().flatten().map(|(k, v)| (k, v.into_bytes()));
    let binary = map.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0));
    text.chain(binary).collect()
}

fn secret_data(secret: Secret) -> Data {
    secret.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect()
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn object(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Arc<Data>>, String> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let cause = match tokio::time::timeout(READ_TIMEOUT, self.fetch(kind, namespace, name)).await {
            Ok(Ok(Some(data))) => {
                let data = Arc::new(data);
                self.cache().insert(key, data.clone());
                return Ok(Some(data));
            }
            Ok(Ok(None)) => {
                self.cache().remove(&key);
                return Ok(None);
            }
            Ok(Err(e)) => e.to_string(),
            Err(_) => "the API server does not answer".to_owned(),
        };
        let known = self.cache().get(&key).cloned();
        known.map(Some).ok_or(format!("cannot read {} \"{name}\": {cause}", kind.word()))
    }

    async fn token(&self, pod: &Pod, ask: &TokenAsk) -> Result<String, String> {
        let uid = spec::uid(pod);
        if let Some(token) = self.tokens.fresh(uid, ask, Instant::now()) {
            return Ok(token);
        }
        let asked = Instant::now();
        let cause = match tokio::time::timeout(READ_TIMEOUT, self.request_token(pod, ask)).await {
            Ok(Ok((token, life))) => {
                self.tokens.put(uid, ask, &token, life, asked);
                return Ok(token);
            }
            Ok(Err(cause)) => cause,
            Err(_) => "the API server does not answer".to_owned(),
        };
        let old = self.tokens.postpone(uid, ask, Instant::now());
        old.ok_or_else(|| format!("failed to fetch token: {cause}"))
    }

    fn tokens_due(&self, uid: &str) -> Option<Instant> {
        self.tokens.due(uid)
    }

    fn forget_pod(&self, uid: &str) {
        self.tokens.forget(uid);
    }

    async fn write_status(&self, pod: &Pod, status: &PodStatus) -> Result<(), WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), spec::namespace(pod));
        let patch = status_patch(pod, status).map_err(|e| WriteError::Refused(e.to_string()))?;
        let params = PatchParams::default();
        api.patch_status(spec::name(pod), &params, &Patch::Strategic(&patch))
            .await
            .map(|_| ())
            .map_err(classify)
    }

    async fn delete_pod(&self, pod: &Pod) -> Result<(), WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), spec::namespace(pod));
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        api.delete(spec::name(pod), &params).await.map(|_| ()).map_err(classify)
    }

    async fn service_variables(&self, namespace: &str, all: bool) -> Vec<(String, String)> {
        self.services.variables(namespace, all).await
    }

    fn event(&self, event: PodEvent) {
        if let Err(e) = self.events.try_send(event) {
            tracing::debug!("an event is lost: {e}");
        }
    }
}

fn classify(error: kube::Error) -> WriteError {
    match &error {
        kube::Error::Api(status) => match status.code {
            404 | 409 => WriteError::Gone,
            400 | 403 | 405 | 415 | 422 => WriteError::Refused(status.message.clone()),
            _ => WriteError::Retry(status.message.clone()),
        },
        _ => WriteError::Retry(error.to_string()),
    }
}

/// The strategic merge patch that makes `status` of the API equal to ours where we own it: lists keyed
/// by the API are replaced when they held something else, and what is gone is set to null.
pub fn status_patch(pod: &Pod, status: &PodStatus) -> serde_json::Result<Value> {
    let mut ours = serde_json::to_value(status)?;
    let had = pod.status.as_ref();
    for (field, had) in [
        ("reason", had.is_some_and(|s| s.reason.is_some())),
        ("message", had.is_some_and(|s| s.message.is_some())),
        ("podIP", had.is_some_and(|s| s.pod_ip.is_some())),
        ("podIPs", had.is_some_and(|s| s.pod_ips.is_some())),
    ] {
        if had && ours.get(field).is_none() {
            ours[field] = Value::Null;
        }
    }
    let old_ips = had.and_then(|s| s.pod_ips.as_ref()).filter(|ips| !ips.is_empty());
    if old_ips.is_some_and(|old| status.pod_ips.as_ref() != Some(old))
        && let Some(list) = ours["podIPs"].as_array_mut()
    {
        list.insert(0, json!({"$patch": "replace"}));
    }
    Ok(json!({"metadata": {"uid": pod.metadata.uid}, "status": ours}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_address_replaces_the_old_one_and_reasons_are_cleared() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
            "status": {"reason": "Old", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}))
        .expect("a pod");
        let ip = k8s_openapi::api::core::v1::PodIP { ip: "10.0.0.2".into() };
        let status = PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some("10.0.0.2".into()),
            pod_ips: Some(vec![ip]),
            ..PodStatus::default()
        };
        assert_eq!(
            status_patch(&pod, &status).expect("json"),
            json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "podIP": "10.0.0.2", "reason": null,
                "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}]}})
        );
    }

    #[test]
    fn binary_and_text_data_of_a_config_map_are_one() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1"}, "binaryData": {"b": "AAE="}})).expect("a map");
        assert_eq!(config_map_data(map), Data::from([("a".into(), b"1".to_vec()), ("b".into(), vec![0, 1])]));
    }
}
