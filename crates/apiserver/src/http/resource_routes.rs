//! Requests for resources: from verb, query and body to the registry and back to a response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, USER_AGENT};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body;
use super::request::{Query, Target, Verb, wrong_method};
use super::respond::{self, Body, Format, Shape};
use super::route::App;
use super::watch;
use crate::access::{Attributes, Identity, review};
use crate::error::ApiError;
use crate::kinds;
use crate::proxy;
use crate::registry::delete::{Deleted, grace, propagation};
use crate::registry::list::{ListQuery, Listed};
use crate::registry::update::{Patch, Written, check_manager, default_manager};
use crate::registry::{Call, DeleteOptions, FieldValidation, object};
use crate::schema::{Resource, schema};
use crate::table;

/// A request for a resource, all but its body.
struct Asked<'a> {
    app: &'a App,
    identity: &'a Arc<Identity>,
    target: Target,
    query: Query,
    headers: HeaderMap,
    format: Format,
}

pub async fn handle(
    app: &App,
    identity: &Arc<Identity>,
    target: Target,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let proxied = proxy::is_proxied(&target);
    let verb = match *request.method() {
        Method::OPTIONS if proxied => Verb::Get,
        ref method => target.verb(method, &query).ok_or_else(wrong_method)?,
    };
    if proxied {
        let upgrades = request.headers().contains_key(http::header::UPGRADE);
        if verb == Verb::Get && upgrades && matches!(&*target.subresource, "exec" | "attach" | "portforward")
        {
            // A WebSocket begins with GET; what runs through it needs the right to create all the same.
            let Target { resource, namespace, name, subresource, .. } = &target;
            let asked = Attributes::about("create", resource.group, resource.plural, namespace, name);
            app.registry.authorize(identity, &Attributes { subresource, ..asked })?;
        }
        return proxy::handle(app, &target, &query, request).await;
    }
    check_verb(verb, &target)?;
    let (parts, incoming) = request.into_parts();
    let format = Format::negotiate(&parts.headers, query.flag("pretty"))?;
    let asked = Asked { app, identity, target, query, headers: parts.headers, format };
    if verb == Verb::Watch {
        let shutdown = app.shutdown.clone();
        let deprecated = kinds::deprecation(asked.resource());
        let mut response =
            watch::respond(&app.registry, asked.target, &asked.query, format, shutdown).await?;
        respond::warn(&mut response, deprecated);
        return Ok(response);
    }
    let body = match parts.method {
        Method::GET | Method::HEAD => Bytes::new(),
        _ => body::read(incoming).await?,
    };
    let deprecated = kinds::deprecation(asked.resource());
    let mut response = asked.answer(verb, &body).await.unwrap_or_else(|e| respond::error(&e));
    respond::warn_first(&mut response, deprecated);
    Ok(response)
}

impl Asked<'_> {
    async fn answer(&self, verb: Verb, body: &Bytes) -> Result<Response<Body>, ApiError> {
        let asked = self;
        match verb {
            Verb::Get => asked.get(),
            Verb::List => asked.list().await,
            Verb::Create => asked.create(body).await,
            Verb::Update => asked.update(body).await,
            Verb::Patch => asked.patch(body.clone()).await,
            Verb::Delete => asked.delete(body).await,
            Verb::DeleteCollection => asked.delete_collection(body).await,
            Verb::Watch => Err(wrong_method()),
        }
    }
}

/// The answer or the refusal, with what the client is warned of.
fn warned(answer: Result<Response<Body>, ApiError>, call: &Call) -> Response<Body> {
    let mut response = answer.unwrap_or_else(|e| respond::error(&e));
    respond::warn(&mut response, &call.warnings);
    response
}

fn check_verb(verb: Verb, target: &Target) -> Result<(), ApiError> {
    let resource = &target.resource;
    let spread = resource.namespaced && target.namespace.is_empty();
    let misplaced = match verb {
        Verb::Create => spread || (!target.name.is_empty() && target.subresource.is_empty()),
        Verb::Update | Verb::Patch => target.name.is_empty(),
        Verb::DeleteCollection => spread,
        Verb::Delete => !target.subresource.is_empty(),
        Verb::Get | Verb::List | Verb::Watch => false,
    };
    // The verbs of the table are those of the resource itself.
    let unsupported = target.subresource.is_empty() && !resource.verbs.contains(&verb.as_str());
    if misplaced || unsupported { Err(wrong_method()) } else { Ok(()) }
}

impl Asked<'_> {
    fn resource(&self) -> &Resource {
        &self.target.resource
    }

    fn call(&self, options: &str) -> Result<Call, ApiError> {
        let agent = self.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let manager = self.query.get("fieldManager").map(str::to_owned);
        let mut call = Call::new(manager.unwrap_or_else(|| default_manager(agent)), jiff::Timestamp::now());
        call.identity = Some(self.identity.clone());
        let dry_run: Vec<&str> = self.query.all("dryRun").filter(|text| !text.is_empty()).collect();
        check_dry_run(&dry_run, options)?;
        call.dry_run = !dry_run.is_empty();
        call.validation = match self.query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let message = format!(
                    "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                );
                let reason = "FieldValueNotSupported";
                return Err(ApiError::invalid_options(options, reason, "fieldValidation", message));
            }
        };
        Ok(call)
    }

    fn decode(&self, body: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
        body::decode(&body::media_type(&self.headers), body, self.resource().kind)
    }

    fn get(&self) -> Result<Response<Body>, ApiError> {
        let value = match self.target.subresource.as_str() {
            "scale" => {
                return Ok(respond::value(200, &self.app.registry.get_scale(&self.target)?, self.format));
            }
            "" | "status" | "ephemeralcontainers" => self.app.registry.get(&self.target)?,
            _ => return Err(wrong_method()),
        };
        Ok(self.object(200, &value))
    }

    async fn list(&self) -> Result<Response<Body>, ApiError> {
        let query = ListQuery::parse(&self.target, &self.query)?;
        let listed = self.app.registry.list(&self.target, &query).await?;
        self.listed(listed)
    }

    async fn create(&self, body: &[u8]) -> Result<Response<Body>, ApiError> {
        let (value, duplicates) = self.decode(body)?;
        let mut call = self.call("CreateOptions")?;
        let answer = self.created(value, &duplicates, &mut call).await;
        Ok(warned(answer, &call))
    }

    async fn created(
        &self,
        value: Value,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<Response<Body>, ApiError> {
        let (registry, target) = (&self.app.registry, &self.target);
        let sub = target.subresource.as_str();
        let answer = match (self.resource().plural, sub) {
            (plural, "") if review::is_review(plural) => {
                registry.review(target, self.identity, value, duplicates, call)?
            }
            ("pods", "binding") | ("bindings", "") => {
                registry.bind(&bound_pod(target, &value)?, &value, call).await?
            }
            ("pods", "eviction") => registry.evict(target, &value, call).await?,
            ("serviceaccounts", "token") => registry.request_token(target, value, duplicates, call)?,
            (_, "") => {
                let created = registry.create(target, value, duplicates, call).await?;
                return Ok(self.object(201, &created));
            }
            _ => return Err(wrong_method()),
        };
        Ok(respond::value(201, &answer, self.format))
    }

    async fn update(&self, body: &[u8]) -> Result<Response<Body>, ApiError> {
        let (value, duplicates) = self.decode(body)?;
        let mut call = self.call("UpdateOptions")?;
        let written = match self.target.subresource.as_str() {
            "scale" => self.app.registry.update_scale(&self.target, &value, &mut call).await,
            sub => {
                self.check_writable(sub)?;
                self.app.registry.update(&self.target, value, &duplicates, &mut call).await
            }
        };
        Ok(warned(written.map(|written| self.written(&written)), &call))
    }

    async fn patch(&self, bytes: Bytes) -> Result<Response<Body>, ApiError> {
        let kind = body::patch_kind(&body::media_type(&self.headers))?;
        let force = self.query.flag("force");
        check_manager(kind, self.query.get("fieldManager"), force)?;
        let mut call = self.call("PatchOptions")?;
        let patch = Patch { kind, body: bytes, force };
        let written = match self.target.subresource.as_str() {
            "scale" => self.app.registry.patch_scale(&self.target, &patch, &mut call).await,
            sub => {
                self.check_writable(sub)?;
                self.app.registry.patch(&self.target, &patch, &mut call).await
            }
        };
        Ok(warned(written.map(|written| self.written(&written)), &call))
    }

    fn check_writable(&self, sub: &str) -> Result<(), ApiError> {
        match sub {
            "" | "status" | "finalize" | "approval" | "ephemeralcontainers" => Ok(()),
            "resize" => Err(ApiError::new(
                405,
                "MethodNotAllowed",
                "resizing a running pod is not supported by this cluster; change its controller's template",
            )),
            _ => Err(wrong_method()),
        }
    }

    fn delete_options(&self, body: &[u8]) -> Result<DeleteOptions, ApiError> {
        if !body.is_empty() {
            let (value, _) = self.decode(body)?;
            if value.as_object().is_some_and(|o| !o.is_empty()) {
                return DeleteOptions::from_value(&value);
            }
        }
        let seconds = self.query.get("gracePeriodSeconds").map(|text| {
            let message = || format!("invalid value {text:?} for gracePeriodSeconds");
            text.parse().map_err(|_| ApiError::bad_request(message()))
        });
        Ok(DeleteOptions {
            grace: grace(seconds.transpose()?)?,
            propagation: propagation(self.query.get("propagationPolicy").unwrap_or_default())?,
            ..DeleteOptions::default()
        })
    }

    async fn delete(&self, body: &[u8]) -> Result<Response<Body>, ApiError> {
        let options = self.delete_options(body)?;
        let deleted: Deleted =
            self.app.registry.delete(&self.target, &options, &self.call("DeleteOptions")?).await?;
        let answer = deleted.answer(self.resource());
        if answer["kind"] == "Status" {
            return Ok(respond::value(200, &answer, self.format));
        }
        Ok(self.object(200, &answer))
    }

    async fn delete_collection(&self, body: &[u8]) -> Result<Response<Body>, ApiError> {
        let options = self.delete_options(body)?;
        let call = self.call("DeleteOptions")?;
        let query = ListQuery::parse(&self.target, &self.query)?;
        let listed = self.app.registry.list(&self.target, &query).await?;
        for item in &listed.items {
            let found = object::parse(item)?;
            let name = object::text(&found, "/metadata/name").to_owned();
            let one = Target { name, ..self.target.clone() };
            match self.app.registry.delete(&one, &options, &call).await {
                Err(e) if e.reason != "NotFound" => return Err(e),
                _ => {}
            }
        }
        self.listed(listed)
    }

    fn written(&self, written: &Written) -> Response<Body> {
        let code = if written.created { 201 } else { 200 };
        if self.target.subresource == "scale" {
            return respond::value(code, &written.object, self.format);
        }
        self.object(code, &written.object)
    }

    /// One object in the shape that was asked for.
    fn object(&self, code: u16, value: &Value) -> Response<Body> {
        match self.format.shape {
            Shape::Plain => respond::value(code, value, self.format),
            Shape::Partial => respond::value(code, &watch::partial(value), self.format),
            Shape::Table => {
                let meta = json!({"resourceVersion": object::resource_version(value)});
                respond::value(code, &self.table(&[value], meta), self.format)
            }
        }
    }

    fn table(&self, items: &[&Value], meta: Value) -> Value {
        let include = watch::include(&self.query);
        table::render(self.resource(), items, meta, include, jiff::Timestamp::now())
    }

    fn listed(&self, listed: Listed) -> Result<Response<Body>, ApiError> {
        let mut meta = json!({"resourceVersion": listed.revision.to_string()});
        if !listed.continue_token.is_empty() {
            meta["continue"] = listed.continue_token.as_str().into();
        }
        if let Some(remaining) = listed.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        let resource = self.resource();
        if self.format == Format::JSON {
            return Ok(respond::bytes(200, "application/json", joined(resource, &meta, &listed.items)));
        }
        let items: Vec<Value> = listed.items.iter().map(|i| object::parse(i)).collect::<Result<_, _>>()?;
        let (kind, version, items) = match self.format.shape {
            Shape::Table => {
                let items: Vec<&Value> = items.iter().collect();
                return Ok(respond::value(200, &self.table(&items, meta), self.format));
            }
            Shape::Partial => {
                let items: Vec<Value> = items.iter().map(watch::partial).collect();
                ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned(), items)
            }
            Shape::Plain => (resource.list_kind(), resource.api_version(), items),
        };
        let list = json!({"kind": kind, "apiVersion": version, "metadata": meta, "items": items});
        Ok(respond::value(200, &list, self.format))
    }
}

/// `All` is the one dry run there is.
pub fn check_dry_run(asked: &[&str], options: &str) -> Result<(), ApiError> {
    if asked.iter().all(|one| *one == "All") {
        return Ok(());
    }
    let message = format!("Unsupported value: {}: supported values: \"All\"", json!(asked));
    Err(ApiError::invalid_options(options, "FieldValueNotSupported", "dryRun", message))
}

/// The pod that a binding is for; one posted to the collection names it in its metadata.
fn bound_pod(target: &Target, binding: &Value) -> Result<Target, ApiError> {
    if target.resource.plural == "pods" {
        return Ok(target.clone());
    }
    let resource = schema().resource("", "v1", "pods").ok_or_else(wrong_method)?.clone();
    let name = object::text(binding, "/metadata/name").to_owned();
    Ok(Target { resource, name, subresource: "binding".to_owned(), ..target.clone() })
}

/// A list made of stored bytes, nothing parsed.
fn joined(resource: &Resource, meta: &Value, items: &[Bytes]) -> Vec<u8> {
    let size: usize = items.iter().map(|i| i.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 200);
    let (kind, version) = (resource.list_kind(), resource.api_version());
    let head = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{meta},\"items\":[");
    let own = match resource.custom {
        Some(_) => "custom resources keep theirs".to_owned(),
        None => format!("{{\"kind\":\"{}\",\"apiVersion\":\"{version}\",", resource.kind),
    };
    out.extend_from_slice(head.as_bytes());
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        // Lists say once what their items are.
        match item.strip_prefix(own.as_bytes()) {
            Some(rest) => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(item),
        }
    }
    out.extend_from_slice(b"]}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::target;

    #[test]
    fn a_joined_list_is_the_list() {
        let resource = crate::schema::schema().resource("", "v1", "configmaps").unwrap();
        let items = [Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{\"b\":2}")];
        let value: Value =
            serde_json::from_slice(&joined(resource, &json!({"resourceVersion": "7"}), &items)).unwrap();
        assert_eq!(
            value,
            json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
                   "items": [{"a": 1}, {"b": 2}]})
        );
    }

    #[test]
    fn verbs_need_the_right_place() {
        let code = |verb, path: &str| check_verb(verb, &target(path).unwrap()).map_err(|e| e.code);
        assert_eq!(code(Verb::Create, "/api/v1/pods"), Err(405));
        assert_eq!(code(Verb::Create, "/api/v1/namespaces/a/pods"), Ok(()));
        assert_eq!(code(Verb::Create, "/api/v1/namespaces/a/pods/p"), Err(405));
        assert_eq!(code(Verb::Create, "/api/v1/namespaces/a/pods/p/binding"), Ok(()));
        assert_eq!(code(Verb::Update, "/api/v1/namespaces/a/pods"), Err(405));
        assert_eq!(code(Verb::DeleteCollection, "/api/v1/pods"), Err(405));
        assert_eq!(code(Verb::List, "/api/v1/pods"), Ok(()));
    }
}
