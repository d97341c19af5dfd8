//! Validation rules in CEL (KEP-2876): `x-kubernetes-validations`.

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, Program, extensions};
use serde_json::Value;

use super::structural::{Additional, List, Structural};
use crate::kinds::field::{Errors, Path};

/// Longest rule, in bytes.
const MAX_RULE: usize = 16 * 1024;
/// How deep brackets may nest in a rule.
const MAX_NESTING: usize = 64;

/// Functions that Kubernetes adds to CEL and that are not there: rules with them are not enforced.
const MISSING: [&str; 16] = [
    "isURL(",
    "url(",
    "isQuantity(",
    "quantity(",
    "isIP(",
    "ip(",
    "isCIDR(",
    "cidr(",
    "isSemver(",
    "semver(",
    ".find(",
    ".findAll(",
    ".isSorted(",
    ".sum()",
    ".min()",
    "format.",
];

/// One rule of a schema.
#[derive(Clone)]
pub struct Rule {
    pub source: String,
    message: String,
    message_expression: Option<Arc<Program>>,
    reason: String,
    field_path: String,
    optional_old_self: bool,
    /// Why it is not enforced, if it could not be read.
    program: Result<Arc<Program>, String>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [extensions::strings, extensions::lists, extensions::math] {
        // They declare different functions, so none is refused.
        let _ = env.add_extension(extension);
    }
    Arc::new(env)
});

impl Rule {
    pub fn parse(rule: &Value) -> Self {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
        let source = text("rule");
        Self {
            program: compile(&source),
            message: text("message"),
            message_expression: Some(text("messageExpression"))
                .filter(|expression| !expression.is_empty())
                .and_then(|expression| compile(&expression).ok()),
            reason: text("reason"),
            field_path: text("fieldPath").trim_start_matches('.').to_owned(),
            optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or_default(),
            source,
        }
    }

    /// Why the rule cannot be enforced.
    pub fn problem(&self) -> Option<String> {
        if let Err(why) = &self.program {
            return Some(why.clone());
        }
        let missing = MISSING.iter().find(|call| self.source.contains(*call))?;
        Some(format!("this server has no function {}", missing.trim_start_matches('.').trim_end_matches('(')))
    }

    fn needs_old(&self) -> bool {
        self.source.contains("oldSelf")
    }
}

fn compile(source: &str) -> Result<Arc<Program>, String> {
    let mut depth = 0_usize;
    for c in source.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(format!("brackets nest deeper than {MAX_NESTING} levels"));
        }
    }
    if source.len() > MAX_RULE {
        return Err(format!("it is longer than {MAX_RULE} bytes"));
    }
    ENVIRONMENT.compile(source).map(Arc::new).map_err(|e| e.to_string().replace('\n', " "))
}

/// Holds a value and everything in it against the rules; `old` is what it was before an update.
pub fn check(schema: &Structural, value: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    for rule in &schema.rules {
        check_rule(rule, schema, value, old, path, errors);
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let Some(known) = schema.member(name) else { continue };
                let named = matches!(schema.additional, Some(Additional::Of(_)));
                let path = if named { path.key(name) } else { path.child(name) };
                check(known, value, old.and_then(|old| old.get(name)), &path, errors);
            }
        }
        Value::Array(items) => {
            let Some(of) = &schema.items else { return };
            for (at, item) in items.iter().enumerate() {
                check(of, item, counterpart(schema, old, item), &path.index(at), errors);
            }
        }
        _ => {}
    }
}

/// The item that was this one before: lists in map form are told apart by keys, others are not followed.
fn counterpart<'a>(schema: &Structural, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
    let List::Map(keys) = &schema.list else { return None };
    let same = |other: &&Value| keys.iter().all(|key| other.get(key) == item.get(key));
    old?.as_array()?.iter().find(same)
}

fn check_rule(
    rule: &Rule,
    schema: &Structural,
    value: &Value,
    old: Option<&Value>,
    path: &Path,
    errors: &mut Errors,
) {
    let (Ok(program), None) = (&rule.program, rule.problem()) else { return };
    // A rule about a change has nothing to say where there was nothing before.
    if rule.needs_old() && (old.is_none() || rule.optional_old_self) {
        return;
    }
    let mut context = Context::with_env(ENVIRONMENT.clone());
    if context.add_variable("self", value).is_err() || context.add_variable("oldSelf", old).is_err() {
        return;
    }
    let path = match rule.field_path.as_str() {
        "" => path.clone(),
        inner => path.child(inner),
    };
    let why = match program.execute(&context) {
        Ok(cel::Value::Bool(true)) => return,
        Ok(_) => {
            let told = rule.message_expression.as_ref().and_then(|program| program.execute(&context).ok());
            match told {
                Some(cel::Value::String(text)) if !text.trim().is_empty() => text.trim().to_owned(),
                _ if rule.message.is_empty() => format!("failed rule: {}", rule.source),
                _ => rule.message.clone(),
            }
        }
        // A function that Kubernetes has and this library does not: the definition was warned of.
        Err(ExecutionError::UndeclaredReference(_)) => return,
        Err(ExecutionError::NoSuchKey(key)) => format!("no such key: {key} evaluating rule: {}", shown(rule)),
        Err(e) => format!("{e} evaluating rule: {}", shown(rule)),
    };
    match rule.reason.as_str() {
        "FieldValueForbidden" => errors.forbidden(&path, &why),
        "FieldValueRequired" => errors.required(&path, &why),
        "FieldValueDuplicate" => errors.duplicate(&path, value.clone()),
        _ if matches!(schema.ty.as_str(), "object" | "array") => errors.invalid_bare(&path, &why),
        _ => errors.invalid(&path, value.clone(), &why),
    }
}

fn shown(rule: &Rule) -> &str {
    if rule.message.is_empty() { &rule.source } else { &rule.message }
}
