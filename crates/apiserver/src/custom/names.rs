//! Which names a definition gets, and the conditions that tell of it.

use serde_json::{Map, Value, json};

use crate::kinds::value::{list, strings, text};

/// The condition of that type.
pub fn condition<'a>(definition: &'a Value, of: &str) -> Option<&'a Value> {
    list(definition, "status.conditions").iter().find(|condition| text(condition, "type") == of)
}

fn is_true(definition: &Value, of: &str) -> bool {
    condition(definition, of).is_some_and(|condition| text(condition, "status") == "True")
}

/// Whether its resources are served.
pub fn is_established(definition: &Value) -> bool {
    is_true(definition, "Established")
}

/// The status that `definition` should have among `others` (itself left out), one step further: first its
/// names are accepted, then it is established. `None` if it is as it should be.
pub fn next_status(definition: &Value, others: &[&Value], now: &str) -> Option<Value> {
    let mut status = definition.get("status").cloned().unwrap_or_else(|| json!({}));
    let (accepted, reason, message) = accept(definition, others);
    let fine = reason == "NoConflicts";
    status["acceptedNames"] = accepted;
    put(&mut status, now, "NamesAccepted", fine, reason, &message);
    if is_established(definition) {
        // Stays so whatever becomes of its names.
    } else if !fine {
        put(&mut status, now, "Established", false, "NotAccepted", "not all names are accepted");
    } else {
        let message = "the initial names have been accepted";
        put(&mut status, now, "Established", true, "InitialNamesAccepted", message);
    }
    (definition.get("status") != Some(&status)).then_some(status)
}

fn accept(definition: &Value, others: &[&Value]) -> (Value, &'static str, String) {
    let group = text(definition, "spec.group");
    let rivals: Vec<&Value> = others
        .iter()
        .filter(|other| text(other, "spec.group") == group)
        .map(|o| &o["status"]["acceptedNames"])
        .collect();
    let resource_taken = |name: &str| {
        let names = |of: &Value| text(of, "plural") == name || text(of, "singular") == name;
        rivals.iter().any(|of| names(of) || strings(of, "shortNames").contains(&name))
    };
    let kind_taken =
        |name: &str| rivals.iter().any(|of| text(of, "kind") == name || text(of, "listKind") == name);
    let (wanted, had) = (&definition["spec"]["names"], &definition["status"]["acceptedNames"]);
    let mut accepted = Map::new();
    let mut conflict: Option<(&'static str, String)> = None;
    for (field, reason) in [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
        ("kind", "KindConflict"),
        ("listKind", "ListKindConflict"),
    ] {
        let name = text(wanted, field);
        let taken = if field.contains("ind") { kind_taken(name) } else { resource_taken(name) };
        if name != text(had, field) && taken {
            conflict = Some((reason, format!("{name:?} is already in use")));
            accepted.insert(field.to_owned(), text(had, field).into());
        } else {
            accepted.insert(field.to_owned(), name.into());
        }
    }
    let own = strings(had, "shortNames");
    let taken: Vec<String> = strings(wanted, "shortNames")
        .into_iter()
        .filter(|name| !own.contains(name) && resource_taken(name))
        .map(|name| format!("{name:?} is already in use"))
        .collect();
    let short = if taken.is_empty() { &wanted["shortNames"] } else { &had["shortNames"] };
    match taken.as_slice() {
        [] => {}
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    for (field, value) in [("shortNames", short), ("categories", &wanted["categories"])] {
        if !value.is_null() {
            accepted.insert(field.to_owned(), value.clone());
        }
    }
    let (reason, message) = conflict.unwrap_or(("NoConflicts", "no conflicts found".to_owned()));
    (Value::Object(ordered(accepted)), reason, message)
}

/// As the type has them.
fn ordered(mut names: Map<String, Value>) -> Map<String, Value> {
    let fields = ["plural", "singular", "shortNames", "kind", "listKind", "categories"];
    fields.into_iter().filter_map(|name| Some((name.to_owned(), names.shift_remove(name)?))).collect()
}

/// Sets a condition; its time changes only with its status.
pub fn put(status: &mut Value, now: &str, of: &str, holds: bool, reason: &str, message: &str) {
    let word = if holds { "True" } else { "False" };
    let known = status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = known.iter().find(|condition| text(condition, "type") == of);
    let since = before.filter(|c| text(c, "status") == word).map_or(now, |c| text(c, "lastTransitionTime"));
    let new = json!({
        "type": of, "status": word, "lastTransitionTime": since, "reason": reason, "message": message,
    });
    let mut conditions: Vec<Value> = known.clone();
    match conditions.iter_mut().find(|condition| text(condition, "type") == of) {
        Some(condition) => *condition = new,
        None => conditions.push(new),
    }
    status["conditions"] = conditions.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &str) -> Value {
        json!({"spec": {"group": "example.org", "names": {
            "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"),
            "shortNames": [short],
        }}})
    }

    #[test]
    fn the_first_gets_the_names_and_the_second_is_told() {
        let mut first = definition("crontabs", "CronTab", "ct");
        first["status"] = next_status(&first, &[], "t").expect("a first status");
        assert!(is_established(&first));
        assert_eq!(next_status(&first, &[], "later"), None, "nothing more to do");
        let mut second = definition("cities", "City", "ct");
        second["status"] = next_status(&second, &[&first], "t").expect("a first status");
        let told = condition(&second, "NamesAccepted").expect("told");
        assert_eq!((text(told, "status"), text(told, "reason")), ("False", "ShortNamesConflict"));
        assert_eq!(text(told, "message"), "\"ct\" is already in use");
        assert!(!is_established(&second));
        let freed = next_status(&second, &[], "later").expect("names are free");
        second["status"] = freed;
        assert!(is_established(&second));
    }
}
