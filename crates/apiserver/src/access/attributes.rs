//! What a request asks for, as authorization sees it: a verb, and a resource or a path. Read from the
//! request alone, so that whoever may not look learns nothing about what is served.

use std::borrow::Cow;

use http::Method;
use serde_json::json;

use super::Identity;
use crate::error::ApiError;
use crate::http::request::Query;
use crate::selector::name_selected;

/// The input of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub verb: Cow<'a, str>,
    /// False for paths such as `/livez`; then only `verb` and `path` count.
    pub is_resource: bool,
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: Cow<'a, str>,
    pub path: &'a str,
}

/// What looks like a resource of a namespace and is the namespace's own subresource.
const OF_NAMESPACES: [&str; 2] = ["status", "finalize"];

impl<'a> Attributes<'a> {
    /// Reads a request; `path` is decoded.
    pub fn of(method: &Method, path: &'a str, query: &Query) -> Self {
        Self::resource_of(method, path, query).unwrap_or_else(|| Attributes {
            verb: method.as_str().to_lowercase().into(),
            path,
            ..Self::default()
        })
    }

    fn resource_of(method: &Method, path: &'a str, query: &Query) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, mut rest) = match parts.as_slice() {
            ["api", _version, rest @ ..] => ("", rest),
            ["apis", group, _version, rest @ ..] => (*group, rest),
            _ => return None,
        };
        rest.first()?;
        let mut verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        // The old way to ask for a watch or a proxy.
        if let ["watch" | "proxy", after @ ..] = rest {
            verb = rest[0];
            rest = after;
            rest.first()?;
        }
        let mut found = Attributes { is_resource: true, group, path, ..Self::default() };
        if let ["namespaces", namespace, inner @ ..] = rest {
            found.namespace = namespace;
            if inner.first().is_some_and(|first| !OF_NAMESPACES.contains(first)) {
                rest = inner;
            }
        }
        found.resource = rest.first().copied().unwrap_or_default();
        found.name = rest.get(1).copied().unwrap_or_default().into();
        if !matches!(verb, "watch" | "proxy") {
            found.subresource = rest.get(2).copied().unwrap_or_default();
        }
        found.verb = verb.into();
        if found.name.is_empty() {
            found.widen(verb, query);
        }
        Some(found)
    }

    /// Verbs of collections; a selector of one name counts as that name.
    fn widen(&mut self, verb: &str, query: &Query) {
        match verb {
            "get" => {
                self.verb = if query.flag("watch") { "watch" } else { "list" }.into();
                let name = query.get("fieldSelector").and_then(name_selected);
                if let Some(name) = name.filter(|n| !n.contains(['/', '%']) && n != "." && n != "..") {
                    self.name = name.into();
                }
            }
            "delete" => self.verb = "deletecollection".into(),
            _ => {}
        }
    }

    /// A question about a resource that no request asks for, such as whether a role may be bound.
    pub fn about(
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Self {
        Attributes {
            verb: verb.into(),
            is_resource: true,
            group,
            resource,
            namespace,
            name: name.into(),
            ..Self::default()
        }
    }

    /// The refusal; `reason` says why if there is more to say than that no rule allows it.
    pub fn refusal(&self, identity: &Identity, reason: &str) -> ApiError {
        let (user, verb) = (&identity.user, &self.verb);
        let mut why = if !self.is_resource {
            format!("User {user:?} cannot {verb} path {:?}", self.path)
        } else {
            let resource = match self.subresource {
                "" => self.resource.to_owned(),
                sub => format!("{}/{sub}", self.resource),
            };
            let scope = match self.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let group = self.group;
            format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}")
        };
        // Nothing in a message may look like HTML.
        why = why.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        if !self.is_resource {
            return ApiError::new(403, "Forbidden", format!("forbidden: {why}")).with_details(json!({}));
        }
        ApiError::forbidden(self.group, self.resource, &self.name, &why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let a = Attributes::of(&method, path, &Query::parse(query));
        match a.is_resource {
            true => format!(
                "{} {}|{}|{} in {} named {}",
                a.verb, a.group, a.resource, a.subresource, a.namespace, a.name
            ),
            false => format!("{} {}", a.verb, a.path),
        }
    }

    #[test]
    fn requests_are_read_as_kubernetes_reads_them() {
        for (method, target, expected) in [
            (Method::GET, "/api/v1/pods", "list |pods| in  named "),
            (Method::GET, "/api/v1/namespaces/a/pods?watch=1", "watch |pods| in a named "),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp",
                "list |pods| in a named p",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name!%3Dp",
                "list |pods| in a named ",
            ),
            (Method::HEAD, "/api/v1/namespaces/a/pods/p", "get |pods| in a named p"),
            (Method::POST, "/api/v1/namespaces/a/pods/p/exec", "create |pods|exec in a named p"),
            (Method::GET, "/api/v1/namespaces/a/services/s/proxy/x/y", "get |services|proxy in a named s"),
            (Method::GET, "/api/v1/namespaces/a", "get |namespaces| in a named a"),
            (Method::PUT, "/api/v1/namespaces/a/finalize", "update |namespaces|finalize in a named a"),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection apps|deployments| in a named ",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments/d",
                "delete apps|deployments| in a named d",
            ),
            (
                Method::PATCH,
                "/apis/x.example/v1/things/t/status",
                "patch x.example|things|status in  named t",
            ),
            (Method::GET, "/api/v1/watch/namespaces/a/pods/p", "watch |pods| in a named p"),
            (Method::GET, "/livez/ping", "get /livez/ping"),
            (Method::GET, "/api/v1", "get /api/v1"),
            (Method::GET, "/apis/apps/v1", "get /apis/apps/v1"),
            (Method::OPTIONS, "/apis/apps", "options /apis/apps"),
        ] {
            assert_eq!(read(method, target), expected, "{target}");
        }
    }

    #[test]
    fn a_refusal_says_who_what_and_where() {
        let jane = Identity { user: "jane".into(), ..Identity::default() };
        let refused = Attributes::about("list", "apps", "deployments", "default", "").refusal(&jane, "");
        assert_eq!(
            refused.message,
            "deployments.apps is forbidden: User \"jane\" cannot list resource \"deployments\" in API group \
             \"apps\" in the namespace \"default\""
        );
        let path = Attributes::of(&Method::GET, "/<x>", &Query::default()).refusal(&jane, "because");
        assert_eq!(path.message, "forbidden: User \"jane\" cannot get path \"/&lt;x&gt;\": because");
    }
}
