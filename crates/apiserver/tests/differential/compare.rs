//! What two answers differ in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::case::Case;
use super::normalise;
use super::peer::Said;

/// One place where two answers differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The file, or the resource.
    pub group: String,
    pub case: String,
    /// e.g. `code`, `warnings`, `body.metadata.labels`
    pub place: String,
    pub ours: String,
    pub theirs: String,
}

pub fn compare(group: &str, case: &Case, ours: &Said, theirs: &Said) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |place: &str, ours: String, theirs: String| {
        if ours != theirs {
            let (group, case, place) = (group.to_owned(), case.name.clone(), place.to_owned());
            found.push(Difference { group, case, place, ours, theirs });
        }
    };
    add("code", ours.code.to_string(), theirs.code.to_string());
    add("media", ours.media.clone(), theirs.media.clone());
    let warnings = |said: &Said| normalise::text(&said.warnings.join(" | "));
    add("warnings", warnings(ours), warnings(theirs));
    let (a, b) = (normalise::value(&ours.body), normalise::value(&theirs.body));
    let mut places = Vec::new();
    walk("body", &a, &b, &mut places);
    for (place, ours, theirs) in places {
        add(&place, ours, theirs);
    }
    found
}

fn walk(path: &str, a: &Value, b: &Value, found: &mut Vec<(String, String, String)>) {
    match (a, b) {
        _ if a == b => {}
        (Value::Object(x), Value::Object(y)) => {
            let mut names: Vec<&String> = x.keys().chain(y.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                walk(&format!("{path}.{name}"), &of(x), &of(y), found);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (at, (x, y)) in x.iter().zip(y).enumerate() {
                walk(&format!("{path}[{at}]"), x, y, found);
            }
        }
        _ => found.push((path.to_owned(), a.to_string(), b.to_string())),
    }
}

/// Differences of one kind together, the most frequent first.
pub fn report(differences: &[Difference]) -> String {
    let mut alike: BTreeMap<(String, String), Vec<&Difference>> = BTreeMap::new();
    for difference in differences {
        let values = normalise::text(&format!("{} {}", difference.ours, difference.theirs));
        let values: String = values.chars().take(40).collect();
        let sort = (format!("{} {}", difference.case, difference.place), values);
        alike.entry(sort).or_default().push(difference);
    }
    let mut alike: Vec<Vec<&Difference>> = alike.into_values().collect();
    alike.sort_by_key(|differences| std::cmp::Reverse(differences.len()));
    let shown = std::env::var("DAYMARK_DIFFERENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let mut out = format!("{} differences of {} kinds:\n", differences.len(), alike.len());
    for group in alike.iter().take(shown) {
        let first = group[0];
        let of: Vec<&str> = group.iter().map(|difference| difference.group.as_str()).take(6).collect();
        out.push_str(&format!(
            "\n{} × {}: {} ({})\n  ours:   {}\n  theirs: {}\n",
            group.len(),
            first.case,
            first.place,
            of.join(", "),
            cut(&first.ours),
            cut(&first.theirs)
        ));
    }
    out
}

fn cut(text: &str) -> String {
    text.chars().take(600).collect()
}
