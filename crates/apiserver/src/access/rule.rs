//! One rule of a role.

use serde_json::{Map, Value, json};

use super::Attributes;

const ALL: &str = "*";

/// `rbac.authorization.k8s.io/v1 PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    /// Empty means every name.
    pub names: Vec<String>,
    /// Paths that are no resources; a trailing `*` stands for everything that follows.
    pub urls: Vec<String>,
}

fn has(list: &[String], one: &str) -> bool {
    list.iter().any(|l| l == ALL || l == one)
}

impl Rule {
    pub fn of(value: &Value) -> Self {
        let list = |key: &str| {
            let items = value.get(key).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// The `rules` of a role.
    pub fn all_of(role: &Value) -> Vec<Self> {
        role.get("rules").and_then(Value::as_array).into_iter().flatten().map(Self::of).collect()
    }

    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        object.insert("verbs".into(), json!(self.verbs));
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            object.insert(key.into(), json!(list));
        }
        object.into()
    }

    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, &asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.urls.iter().any(|url| url == ALL || url_covers(url, asked.path));
        }
        has(&self.groups, asked.group)
            && self.resources.iter().any(|r| resource_matches(r, asked.resource, asked.subresource))
            && (self.names.is_empty() || self.names.iter().any(|n| *n == *asked.name))
    }
}

/// `pods`, `pods/exec`, `*/scale` or `*`.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == ALL || of == resource),
    }
}

pub fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let names = if names.is_empty() { Vec::new() } else { list(names) };
        Rule {
            verbs: list(verbs),
            groups: list(groups),
            resources: list(resources),
            names,
            ..Rule::default()
        }
    }

    fn asked<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes { subresource, ..Attributes::about(verb, group, resource, "ns", name) }
    }

    #[test]
    fn rules_allow_what_kubernetes_lets_them_allow() {
        for (rule, allowed, refused) in [
            (
                rule("get,list", "", "pods", ""),
                vec![asked("get", "", "pods", "p"), asked("list", "", "pods", "")],
                vec![
                    asked("watch", "", "pods", ""),
                    asked("get", "apps", "pods", ""),
                    asked("get", "", "pods/log", "p"),
                    asked("get", "", "podspods", ""),
                ],
            ),
            (
                rule("create", "", "pods/exec", ""),
                vec![asked("create", "", "pods/exec", "p")],
                vec![asked("create", "", "pods", ""), asked("create", "", "pods/attach", "p")],
            ),
            (
                rule("update", "*", "*/scale", ""),
                vec![asked("update", "apps", "deployments/scale", "d")],
                vec![asked("update", "apps", "deployments", "d"), asked("update", "apps", "scale", "d")],
            ),
            (
                rule("*", "*", "*", ""),
                vec![asked("frob", "x.example", "things/status", "t")],
                vec![Attributes { verb: "get".into(), path: "/livez", ..Attributes::default() }],
            ),
            (
                rule("get,create,list", "", "secrets", "one"),
                vec![asked("get", "", "secrets", "one"), asked("list", "", "secrets", "one")],
                vec![
                    asked("get", "", "secrets", "other"),
                    asked("create", "", "secrets", ""),
                    asked("list", "", "secrets", ""),
                ],
            ),
        ] {
            for a in allowed {
                assert!(rule.allows(&a), "{rule:?} allows {a:?}");
            }
            for a in refused {
                assert!(!rule.allows(&a), "{rule:?} does not allow {a:?}");
            }
        }
    }

    #[test]
    fn paths_end_in_a_star_or_are_meant_exactly() {
        let rule = Rule::of(&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*", "/x*"]}));
        let allows = |verb: &'static str, path| {
            rule.allows(&Attributes { verb: verb.into(), path, ..Attributes::default() })
        };
        for path in ["/healthz", "/apis/apps", "/apis/", "/xyz"] {
            assert!(allows("get", path), "{path}");
        }
        for path in ["/healthz/ping", "/apis", "/livez"] {
            assert!(!allows("get", path), "{path}");
        }
        assert!(!allows("post", "/healthz"));
        assert_eq!(Rule::of(&rule.to_value()), rule);
    }
}
