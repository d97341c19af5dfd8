//! The simple JSONPaths of definitions: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`,
//! `.metadata.annotations.a\.b/c`, `.spec.ports[0].name`, `.spec.hosts[*]`.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Index(i64),
    Every,
    /// Items whose member (a path without filters) compares so with a literal.
    Filter(Vec<String>, bool, String),
}

impl JsonPath {
    /// Reads a path; `None` if it is none, or of a form that is not known.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
        if !text.starts_with(['.', '[']) {
            return None;
        }
        let mut steps = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '.' => {
                    let (name, after) = member(&rest[1..]);
                    match name.as_str() {
                        "" if after.starts_with('[') || (after.is_empty() && steps.is_empty()) => {}
                        "" => return None,
                        "*" => steps.push(Step::Every),
                        _ => steps.push(Step::Member(name)),
                    }
                    after
                }
                '[' => {
                    let end = closing(rest)?;
                    steps.push(bracket(&rest[1..end])?);
                    &rest[end + 1..]
                }
                _ => return None,
            };
        }
        Some(Self(steps))
    }

    /// Every value that the path leads to, in order.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![value], |found, step| found.into_iter().flat_map(|v| step.find(v)).collect())
    }

    /// The plain members that a path without brackets names.
    pub fn members(&self) -> Option<Vec<&str>> {
        let name = |step: &'_ Step| matches!(step, Step::Member(_));
        self.0.iter().all(name).then(|| {
            let members = self.0.iter().filter_map(|step| match step {
                Step::Member(name) => Some(name.as_str()),
                _ => None,
            });
            members.collect()
        })
    }
}

impl Step {
    fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Step::Member(name) => value.get(name).into_iter().collect(),
            Step::Index(at) => {
                let at = if *at < 0 { *at + i64::try_from(items.len()).unwrap_or(0) } else { *at };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            Step::Every => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
            Step::Filter(path, equal, literal) => {
                let of = |item: &Value| {
                    let found = path.iter().try_fold(item, |value, name| value.get(name));
                    found.map(text_of).is_some_and(|text| (text == *literal) == *equal)
                };
                items.iter().filter(|item| of(item)).collect()
            }
        }
    }
}

/// A scalar as it is printed; anything else as JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A member's name up to the next dot or bracket; a backslash takes the next character as it is.
fn member(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket that opens `text` closes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 1 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::Every);
    }
    if let Some(name) = quoted(inner) {
        return Some(Step::Member(name.to_owned()));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (left, equal, right) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((left, right)), _) => (left, true, right),
            (None, Some((left, right))) => (left, false, right),
            _ => return None,
        };
        let left = left.trim().strip_prefix("@.")?;
        let literal = quoted(right.trim()).unwrap_or(right.trim());
        return Some(Step::Filter(left.split('.').map(str::to_owned).collect(), equal, literal.to_owned()));
    }
    inner.parse().ok().map(Step::Index)
}

fn quoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\''))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(path: &str) -> Vec<String> {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}},
            "spec": {"replicas": 3, "hosts": ["a", "b"]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]},
        });
        JsonPath::parse(path).expect(path).find(&object).into_iter().map(text_of).collect()
    }

    #[test]
    fn finds_what_paths_of_definitions_lead_to() {
        assert_eq!(all(".spec.replicas"), ["3"]);
        assert_eq!(all("{.spec.hosts[*]}"), ["a", "b"]);
        assert_eq!(all(".spec.hosts[-1]"), ["b"]);
        assert_eq!(all(r".metadata.annotations.a\.b/c"), ["x"]);
        assert_eq!(all(".metadata.annotations['a.b/c']"), ["x"]);
        assert_eq!(all(r#".status.conditions[?(@.type=="Ready")].status"#), ["True"]);
        assert!(all(".spec.nothing.more").is_empty());
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["spec", ".a..b", ".a[", ".a[?(@.b)]", ".a[x]"] {
            assert_eq!(JsonPath::parse(text), None, "{text}");
        }
    }
}
