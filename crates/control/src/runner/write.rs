//! The one path by which controllers write.

use std::time::Duration;

use daymark_model::ObjectName;
use futures::StreamExt;
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::Message;
use crate::action::{Action, EventNote, Report};
use crate::events::EventRecorder;
use crate::namespace;
use crate::object::{Kind, Object};

const SIDE_BY_SIDE: usize = 16;
const FIRST_BATCH: usize = 8;
const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// Why a task did not get its way.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Somebody was faster; the next look will see what they did.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Not an error, but not done either.
    #[error("{0}")]
    NotYet(String),
    /// The API server refused or is away.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// The longest wait before the task runs again.
    pub const fn patience(&self) -> Duration {
        Duration::from_secs(match self {
            Failure::Conflict(_) => 1,
            Failure::NotYet(_) => 5,
            Failure::Refused(_) => 60,
        })
    }
}

/// Carries out actions and tells the hub what became of objects.
#[derive(Clone)]
pub struct Writer {
    pub client: Client,
    pub recorder: EventRecorder,
    pub answers: UnboundedSender<Message>,
}

impl Writer {
    /// Carries out actions in order; stops at the first failure.
    pub async fn perform(&self, actions: Vec<Action>) -> Result<(), Failure> {
        let mut rest = actions.into_iter().peekable();
        while let Some(first) = rest.next() {
            let side_by_side = |a: &Action| match (&first, a) {
                (Action::Create { kind: a, .. }, Action::Create { kind: b, .. }) => a == b,
                (Action::Delete { .. }, Action::Delete { .. }) => true,
                (Action::Event(_), _) => false,
                _ => false,
            };
            let mut group = Vec::new();
            while let Some(next) = rest.next_if(|a| side_by_side(a)) {
                group.push(next);
            }
            group.insert(0, first);
            self.perform_group(group).await?;
        }
        Ok(())
    }

    /// Slow start: batches double, so that a refusal (quota, say) costs few requests.
    async fn perform_group(&self, mut group: Vec<Action>) -> Result<(), Failure> {
        let mut size = FIRST_BATCH;
        while !group.is_empty() {
            let batch: Vec<_> = group.drain(..size.min(group.len())).collect();
            let mut answers = futures::stream::iter(batch.into_iter().map(|a| self.perform_one(a)))
                .buffer_unordered(SIDE_BY_SIDE);
            let mut outcome = Ok(());
            while let Some(answer) = answers.next().await {
                outcome = outcome.and(answer);
            }
            outcome?;
            size *= 2;
        }
        Ok(())
    }

    async fn perform_one(&self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Create { kind, namespace, body, report } => {
                let answer = self.create(kind, &namespace, body).await;
                self.report(report, answer)
            }
            Action::Update { kind, key, subresource, patch } => {
                self.update(kind, &key, subresource, &patch).await
            }
            Action::Delete { kind, key, uid, grace, report } => {
                let answer = self.delete(kind, &key, &uid, grace).await.map(|()| key.name.to_string());
                self.report(report, answer)
            }
            Action::Bind { pod, uid, node } => self.bind(&pod, &uid, &node).await,
            Action::Event(note) => {
                self.recorder.record(note);
                Ok(())
            }
            Action::EmptyNamespace { name } => namespace::empty(&self.client, &name).await,
        }
    }

    fn report(&self, report: Option<Report>, answer: Result<String, Failure>) -> Result<(), Failure> {
        let Some(report) = report else { return answer.map(drop) };
        let told = match &answer {
            Ok(name) => report.done.map(|(reason, said)| (false, reason, said.replace("{}", name))),
            Err(Failure::Conflict(_)) => None,
            Err(failure) => {
                Some((true, report.failed.0, report.failed.1.replace("{}", &failure.to_string())))
            }
        };
        if let Some((warning, reason, message)) = told {
            let (about, component) = (report.about, report.component);
            self.recorder.record(EventNote { about, warning, reason, message, component });
        }
        answer.map(drop)
    }

    async fn create(&self, kind: Kind, namespace: &str, mut body: Value) -> Result<String, Failure> {
        body["apiVersion"] = kind.api_version().into();
        body["kind"] = kind.name().into();
        let path = kind.path(&ObjectName::new(namespace, ""), "");
        let fixed_name = body["metadata"]["name"].as_str().map(str::to_owned);
        match self.send(Method::POST, &path, JSON, &body).await {
            Ok(text) => {
                let object = self.parse(kind, &text)?;
                let name = object.meta().name.clone().unwrap_or_default();
                self.tell(Message::Answer(object));
                Ok(name)
            }
            // It exists: the watch tells soon, and then the next look is better informed.
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Failure::Conflict(format!(
                "{} exists: {}",
                fixed_name.unwrap_or_default(),
                status.message
            ))),
            // The namespace is going away, and so is whatever wanted this object.
            Err(kube::Error::Api(status)) if status.code == 404 || is_terminating(&status) => {
                Err(Failure::Conflict(status.message.clone()))
            }
            Err(error) => Err(refused(error)),
        }
    }

    async fn update(
        &self,
        kind: Kind,
        key: &ObjectName,
        subresource: &str,
        patch: &Value,
    ) -> Result<(), Failure> {
        match self.send(Method::PATCH, &kind.path(key, subresource), MERGE_PATCH, patch).await {
            Ok(text) => {
                self.tell(Message::Answer(self.parse(kind, &text)?));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(Failure::Conflict(status.message.clone()))
            }
            Err(error) => Err(refused(error)),
        }
    }

    async fn delete(
        &self,
        kind: Kind,
        key: &ObjectName,
        uid: &str,
        grace: Option<u32>,
    ) -> Result<(), Failure> {
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Background", "preconditions": {"uid": uid},
        });
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        match self.send(Method::DELETE, &kind.path(key, ""), JSON, &options).await {
            Ok(text) => {
                let left = serde_json::from_str::<Value>(&text).ok().filter(still_there);
                self.tell(match left.and_then(|_| self.parse(kind, &text).ok()) {
                    Some(object) => Message::Answer(object),
                    None => Message::Gone { kind, key: key.clone(), uid: uid.to_owned() },
                });
                Ok(())
            }
            // Gone, or replaced by another object of that name: either way this one is no more.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                self.tell(Message::Gone { kind, key: key.clone(), uid: uid.to_owned() });
                Ok(())
            }
            Err(error) => Err(refused(error)),
        }
    }

    async fn bind(&self, pod: &ObjectName, uid: &str, node: &str) -> Result<(), Failure> {
        let body = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": &*pod.name, "namespace": &*pod.namespace, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        match self.send(Method::POST, &Kind::Pod.path(pod, "binding"), JSON, &body).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                self.tell(Message::BindFailed { uid: uid.to_owned() });
                Err(Failure::Conflict(status.message.clone()))
            }
            Err(error) => {
                self.tell(Message::BindFailed { uid: uid.to_owned() });
                Err(refused(error))
            }
        }
    }

    fn parse(&self, kind: Kind, text: &str) -> Result<Object, Failure> {
        kind.parse(text)
            .map_err(|e| Failure::Refused(format!("unreadable answer about a {}: {e}", kind.name())))
    }

    fn tell(&self, message: Message) {
        // The hub only goes away when everything stops.
        let _ = self.answers.send(message);
    }

    async fn send(&self, method: Method, path: &str, content: &str, body: &Value) -> kube::Result<String> {
        send(&self.client, method, path, content, Some(body)).await
    }
}

/// Sends one request and returns the answer's text.
pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content: &str,
    body: Option<&Value>,
) -> kube::Result<String> {
    let bytes = body.map(Value::to_string).unwrap_or_default().into_bytes();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content)
        .header(http::header::ACCEPT, JSON)
        .body(bytes)
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

/// An error as a [`Failure`], in the API server's words if they are its.
pub fn refused(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => Failure::Refused(status.message.clone()),
        error => Failure::Refused(error.to_string()),
    }
}

fn is_terminating(status: &kube::core::Status) -> bool {
    status.code == 403 && status.message.contains("is being terminated")
}

/// Whether the answer to a DELETE says that the object has still to end.
fn still_there(answer: &Value) -> bool {
    let meta = &answer["metadata"];
    let finalizers = meta["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    answer["kind"] != "Status"
        && !meta["deletionTimestamp"].is_null()
        && (finalizers || meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_terminating_is_still_there() {
        let terminating = json!({"kind": "Pod", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 30}});
        assert!(still_there(&terminating));
        let held = json!({"kind": "Pod", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 0, "finalizers": ["x/y"]}});
        assert!(still_there(&held));
        let forced = json!({"kind": "Pod", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 0}});
        assert!(!still_there(&forced));
        assert!(!still_there(&json!({"kind": "Status", "status": "Success"})));
    }
}
