//! What selectors let through and how they complain.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    kinds::field::{Errors, Path},
    schema::Resource,
};

fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

#[test]
fn label_selectors_match() {
    let web = labelled(json!({"app": "web", "tier": "front", "n": "5"}));
    let cases = [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app=db", false),
        ("app!=db", true),
        ("missing!=x", true),
        ("app", true),
        ("missing", false),
        ("!missing", true),
        ("!app", false),
        ("app in (web, db)", true),
        ("app in (db)", false),
        ("app notin (db)", true),
        ("missing notin (db)", true),
        ("missing in ()", false),
        ("app=web,tier=front", true),
        ("app=web, tier = back", false),
        ("n>4", true),
        ("n<5", false),
        ("app>4", false),
        ("in in (in)", false),
        ("x notin (notin),app", true),
    ];
    for (text, wanted) in cases {
        let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(selector.matches(&web), wanted, "{text}");
    }
    let empty = labelled(json!({"e": ""}));
    for text in ["e=", "e in ()", "e in (,a)", "e in (a,)", "e in (a,,b)"] {
        assert!(LabelSelector::parse(text).expect(text).matches(&empty), "{text}");
    }
}

#[test]
fn label_selectors_complain() {
    let cases = [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a=(", "unable to parse requirement: found '(', expected: identifier"),
        (
            "a>x",
            r#"unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#,
        ),
    ];
    for (text, message) in cases {
        let error = LabelSelector::parse(text).expect_err(text);
        assert_eq!((error.code, error.message.as_str()), (400, message), "{text}");
    }
    let error = LabelSelector::parse("a=-").expect_err("bad value");
    assert!(
        error.message.starts_with(
            r#"unable to parse requirement: values[0][a]: Invalid value: "-": a valid label must be an empty string"#
        ),
        "{error}"
    );
    let error = LabelSelector::parse("a@b").expect_err("bad key");
    assert!(
        error.message.starts_with(r#"unable to parse requirement: <nil>: Invalid value: "a@b": name part"#)
    );
}

#[test]
fn selector_objects() {
    let object = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["back", "front"]}, {"key": "old", "operator": "DoesNotExist"}]});
    let selector = LabelSelector::from_object(&object);
    assert_eq!(selector.to_string(), "app=web,!old,tier in (back,front)");
    assert!(selector.matches_labels(&json!({"app": "web", "tier": "front"})));
    assert!(!selector.matches_labels(&json!({"app": "web", "tier": "front", "old": ""})));
    assert!(LabelSelector::from_object(&json!({})).matches_labels(&Value::Null));
    assert!(!LabelSelector::from_object(&Value::Null).matches_labels(&Value::Null));
    assert!(!LabelSelector::from_map(&json!({})).matches_labels(&Value::Null));
}

#[test]
fn selector_objects_are_validated() {
    let mut errors = Errors::default();
    let object = json!({"matchLabels": {"a b": "-"}, "matchExpressions": [
        {"key": "k", "operator": "In"}, {"key": "k", "operator": "Exists", "values": ["x"]}, {"key": "k", "operator": "Gt"}]});
    validate_selector(&object, &Path::new("spec.selector"), &mut errors);
    let found: Vec<(String, &str)> = errors.into_causes().into_iter().map(|c| (c.field, c.reason)).collect();
    let wanted = [
        ("spec.selector.matchLabels", "FieldValueInvalid"),
        ("spec.selector.matchLabels", "FieldValueInvalid"),
        ("spec.selector.matchExpressions[0].values", "FieldValueRequired"),
        ("spec.selector.matchExpressions[1].values", "FieldValueForbidden"),
        ("spec.selector.matchExpressions[2].operator", "FieldValueInvalid"),
    ];
    assert_eq!(found, wanted.map(|(f, r)| (f.to_owned(), r)));
}

fn resource(group: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    crate::kinds::testing::resource(group, kind, namespaced)
}

#[test]
fn field_selectors_match() {
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}});
    let cases = [
        ("metadata.name=p", true),
        ("metadata.name==q", false),
        ("metadata.namespace!=n", false),
        ("spec.nodeName=node-1,status.phase!=Failed", true),
        ("spec.host=node-1", true),
        ("spec.hostNetwork=false", true),
        ("status.podIP=", true),
        ("status.podIPs=10.0.0.1", true),
        ("metadata.name=a\\,b", false),
        ("", true),
        (",", true),
    ];
    for (text, wanted) in cases {
        let selector = FieldSelector::parse(&resource("", "Pod", true), text).expect(text);
        assert_eq!(selector.matches(&pod), wanted, "{text}");
    }
    let event = json!({"metadata": {}, "involvedObject": {"name": "p", "kind": "Pod"}, "source": {"component": "kubelet"}});
    let core = resource("", "Event", true);
    for text in ["involvedObject.name=p,source=kubelet", "involvedObject.kind=Pod"] {
        assert!(FieldSelector::parse(&core, text).expect(text).matches(&event), "{text}");
    }
    let node = resource("", "Node", false);
    assert!(FieldSelector::parse(&node, "spec.unschedulable=false").expect("supported").matches(&json!({})));
    let by_name = FieldSelector::parse(&node, "metadata.name=x").expect("supported");
    assert_eq!(by_name.exact("metadata.name"), Some("x"));
}

#[test]
fn field_selectors_complain() {
    let cases = [
        ("spec.foo=x", "field label not supported: spec.foo"),
        ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
        ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ("metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
    ];
    for (text, message) in cases {
        let error = FieldSelector::parse(&resource("", "Pod", true), text).expect_err(text);
        assert_eq!((error.code, error.message.as_str()), (400, message), "{text}");
    }
    assert!(FieldSelector::parse(&resource("", "Node", false), "metadata.namespace=x").is_err());
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC*") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&resource("", "Pod", true), &text);
    }

    #[test]
    fn what_is_printed_parses_to_the_same(text in "[ab]{1,2}( (in|notin) \\([ab,]{0,4}\\)|(=|==|!=)[ab]{0,2}|)(,!?[ab]{1,2})?") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let printed = selector.to_string();
            prop_assert_eq!(LabelSelector::parse(&printed).expect("printed form"), selector);
        }
    }
}
