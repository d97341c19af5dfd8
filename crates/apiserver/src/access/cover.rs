//! Whether somebody who has some rules may hand out others: every smallest part of what is given must
//! be covered by one rule that is held.

use std::collections::BTreeSet;

use super::rule::{Rule, url_covers};

/// The parts of `given` that `held` does not cover; none means that it may be given.
pub fn uncovered(held: &[Rule], given: &[Rule]) -> Vec<Rule> {
    let parts = given.iter().flat_map(parts);
    parts.filter(|part| !held.iter().any(|rule| covers(rule, part))).collect()
}

/// A rule as rules of one verb, one resource and at most one name each.
fn parts(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut parts = Vec::new();
    for group in &rule.groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let part = Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    parts.push(part);
                } else {
                    parts.extend(rule.names.iter().map(|name| Rule { names: one(name), ..part.clone() }));
                }
            }
        }
    }
    for url in &rule.urls {
        parts.extend(rule.verbs.iter().map(|v| Rule { verbs: one(v), urls: one(url), ..Rule::default() }));
    }
    parts
}

fn covers(rule: &Rule, part: &Rule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        held.iter().any(|h| h == "*") || wanted.iter().all(|w| held.contains(w))
    };
    let resource = |wanted: &String| {
        let sub = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        rule.resources.iter().any(|r| r == "*" || r == wanted || Some(r) == sub.as_ref())
    };
    all(&rule.verbs, &part.verbs)
        && all(&rule.groups, &part.groups)
        && part.resources.iter().all(resource)
        && part.urls.iter().all(|path| rule.urls.iter().any(|url| url_covers(url, path)))
        && (rule.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|n| rule.names.contains(n))))
}

/// Parts as a person reads them: verbs of the same resource together, in order, one a line.
pub fn describe(parts: Vec<Rule>) -> String {
    let mut together: Vec<Rule> = Vec::new();
    for part in parts {
        let same = |other: &&mut Rule| {
            part.urls.is_empty()
                && (&other.groups, &other.resources, &other.names)
                    == (&part.groups, &part.resources, &part.names)
        };
        match together.iter_mut().find(same) {
            Some(known) => known.verbs.extend(part.verbs),
            None => together.push(part),
        }
    }
    let lines: BTreeSet<String> = together.iter().map(line).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

fn line(rule: &Rule) -> String {
    let lists = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.urls),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let shown = lists.iter().filter(|(_, list)| !list.is_empty());
    let shown: Vec<String> = shown.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", shown.join(", "))
}

/// A list as Go prints it: `["a" "b"]`.
pub fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(values: Value) -> Vec<Rule> {
        Rule::all_of(&json!({"rules": values}))
    }

    #[test]
    fn what_is_held_covers_what_is_narrower() {
        let pods = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
        let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
        let named =
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a", "b"]});
        for (held, given, covered) in [
            (json!([all]), json!([pods(&["pods", "pods/exec"], &["get", "*"])]), true),
            (
                json!([pods(&["pods"], &["get"]), pods(&["pods"], &["list"])]),
                json!([pods(&["pods"], &["get", "list"])]),
                true,
            ),
            (json!([pods(&["pods"], &["get"])]), json!([pods(&["pods/log"], &["get"])]), false),
            (json!([pods(&["*/log"], &["get"])]), json!([pods(&["pods/log"], &["get"])]), true),
            (json!([pods(&["pods"], &["get"])]), json!([pods(&["pods"], &["*"])]), false),
            (json!([named]), json!([named]), true),
            (json!([named]), json!([pods(&["pods"], &["get"])]), false),
            (json!([pods(&["pods"], &["get"])]), json!([named]), true),
            (json!([all]), json!([{"nonResourceURLs": ["/x"], "verbs": ["get"]}]), false),
            (
                json!([{"nonResourceURLs": ["/x/*"], "verbs": ["get"]}]),
                json!([{"nonResourceURLs": ["/x/y*"], "verbs": ["get"]}]),
                true,
            ),
        ] {
            let missing = uncovered(&rules(held.clone()), &rules(given.clone()));
            assert_eq!(missing.is_empty(), covered, "{held} gives {given}: {missing:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told_compactly() {
        let given = rules(json!([
            {"apiGroups": ["apps", ""], "resources": ["b", "a"], "verbs": ["get", "list"]},
            {"nonResourceURLs": ["/x"], "verbs": ["get"]},
        ]));
        assert_eq!(
            describe(uncovered(&[], &given)),
            r#"{APIGroups:[""], Resources:["a"], Verbs:["get" "list"]}
{APIGroups:[""], Resources:["b"], Verbs:["get" "list"]}
{APIGroups:["apps"], Resources:["a"], Verbs:["get" "list"]}
{APIGroups:["apps"], Resources:["b"], Verbs:["get" "list"]}
{NonResourceURLs:["/x"], Verbs:["get"]}"#
        );
    }
}
