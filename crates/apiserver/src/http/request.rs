//! What a request asks for: its verb, resource, namespace, name, subresource and query.

use std::sync::Arc;

use http::Method;

use crate::custom::Served;
use crate::error::ApiError;
use crate::schema::Resource;

/// The verbs of Kubernetes' authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// The query string, decoded; the first of several equal names counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The value of `name`; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// As Kubernetes reads a boolean: absent is false, and so are `0` and `false`; all else is true.
    pub fn flag(&self, name: &str) -> bool {
        match self.0.iter().find(|(key, _)| key == name) {
            None => false,
            Some((_, value)) => value != "0" && !value.eq_ignore_ascii_case("false"),
        }
    }

    /// Numbers below zero count as absent.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number: i64 = text.parse().map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?;
        Ok(u64::try_from(number).ok())
    }
}

/// A request for a resource.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: Arc<Resource>,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// What follows `proxy`, still encoded, without its leading slash.
    pub rest: String,
}

impl Target {
    pub fn verb(&self, method: &Method, query: &Query) -> Option<Verb> {
        let collection = self.name.is_empty();
        Some(match *method {
            Method::GET | Method::HEAD if query.flag("watch") && self.subresource.is_empty() => Verb::Watch,
            Method::GET | Method::HEAD if collection => Verb::List,
            Method::GET | Method::HEAD => Verb::Get,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if collection => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ => return None,
        })
    }
}

/// Reads the path of a resource, as in `/apis/apps/v1/namespaces/default/deployments/web/scale`.
/// `None` when no such resource is served.
pub fn target_among(served: &Served, path: &str) -> Option<Target> {
    let mut segments = path.trim_start_matches('/').split('/');
    let (group, version) = match segments.next()? {
        "api" => ("", segments.next()?),
        "apis" => (segments.next()?, segments.next()?),
        _ => return None,
    };
    let rest: Vec<&str> = segments.collect();
    let rest = match rest.as_slice() {
        [head @ .., ""] if !head.contains(&"proxy") => head,
        all => all,
    };
    let (namespace, rest) = match rest {
        // A namespace's own subresources look like resources inside it.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, inner @ ..] => (*namespace, inner),
        _ => ("", rest),
    };
    let (plural, rest) = rest.split_first()?;
    let resource = served.resource(group, version, plural)?;
    if !namespace.is_empty() && !resource.namespaced {
        return None;
    }
    let (name, subresource, rest) = match rest {
        [] => ("", "", String::new()),
        [name] => (*name, "", String::new()),
        [name, "proxy", rest @ ..] => (*name, "proxy", rest.join("/")),
        [name, subresource] => (*name, *subresource, String::new()),
        _ => return None,
    };
    if !name.is_empty() && resource.namespaced && namespace.is_empty() {
        return None;
    }
    let known = subresource.is_empty() || resource.subresources.contains(&subresource);
    let (namespace, name) = (decode(namespace), decode(name));
    // An encoded slash would name something else than was authorized.
    if !known || namespace.contains('/') || name.contains('/') {
        return None;
    }
    Some(Target { resource: resource.clone(), namespace, name, subresource: subresource.to_owned(), rest })
}

/// As [`target_among`], of built-in resources alone.
#[cfg(test)]
pub fn target(path: &str) -> Option<Target> {
    target_among(&Served::built_in(), path)
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

pub fn not_served() -> ApiError {
    ApiError::new(404, "NotFound", "the server could not find the requested resource")
        .with_details(serde_json::json!({}))
}

pub fn wrong_method() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(405, "MethodNotAllowed", message).with_details(serde_json::json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<(String, String, String, String, String)> {
        target(path).map(|t| (t.resource.qualified(), t.namespace, t.name, t.subresource, t.rest))
    }

    fn parts(
        a: &str,
        b: &str,
        c: &str,
        d: &str,
        e: &str,
    ) -> Option<(String, String, String, String, String)> {
        Some((a.into(), b.into(), c.into(), d.into(), e.into()))
    }

    #[test]
    fn reads_paths() {
        assert_eq!(read("/api/v1/pods"), parts("pods", "", "", "", ""));
        assert_eq!(read("/api/v1/namespaces"), parts("namespaces", "", "", "", ""));
        assert_eq!(read("/api/v1/namespaces/x"), parts("namespaces", "", "x", "", ""));
        assert_eq!(read("/api/v1/namespaces/x/finalize"), parts("namespaces", "", "x", "finalize", ""));
        assert_eq!(read("/api/v1/namespaces/x/pods/"), parts("pods", "x", "", "", ""));
        assert_eq!(
            read("/apis/apps/v1/namespaces/x/deployments/web/scale"),
            parts("deployments.apps", "x", "web", "scale", "")
        );
        assert_eq!(
            read("/api/v1/namespaces/x/services/web:80/proxy/a//b/"),
            parts("services", "x", "web:80", "proxy", "a//b/")
        );
        assert_eq!(read("/api/v1/namespaces/x/pods/p%3A1"), parts("pods", "x", "p:1", "", ""));
    }

    #[test]
    fn refuses_what_is_not_served() {
        for path in [
            "/api/v2/pods",
            "/apis/none/v1/pods",
            "/api/v1/pods/p",
            "/api/v1/namespaces/x/nodes",
            "/api/v1/namespaces/x/pods/p/nothing",
            "/api/v1/namespaces/x/pods/p%2Flog",
            "/api/v1/namespaces/x%2fpods/secrets",
            "/api/v1/namespaces/x/pods/p/log/more",
            "/nothing",
        ] {
            assert!(target(path).is_none(), "{path}");
        }
    }

    #[test]
    fn queries_follow_kubernetes_booleans() {
        let query = Query::parse("watch&pretty=0&labelSelector=app%3Dweb%2Ctier&limit=x&follow=true");
        assert!(query.flag("watch") && query.flag("follow"));
        assert!(!query.flag("pretty") && !query.flag("absent"));
        assert_eq!(query.get("labelSelector"), Some("app=web,tier"));
        assert!(query.number("limit").is_err());
        assert_eq!(query.number("absent").unwrap(), None);
    }
}
