//! What a column is, and the cells that many kinds have.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use crate::kinds::value::{at, int, list, members, text};

/// Computes a cell from an object, as of a time.
pub type Cell = fn(&Value, Timestamp) -> Value;

/// One column of a kind.
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub of: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u8,
    pub description: &'static str,
    pub cell: Cell,
}

impl Column {
    /// The entry in `columnDefinitions`.
    pub fn definition(&self) -> Value {
        let format = if self.name == "Name" { "name" } else { "" };
        json!({"name": self.name, "type": self.of, "format": format, "description": self.description,
            "priority": self.priority})
    }

    pub const fn string(name: &'static str, description: &'static str, cell: Cell) -> Self {
        Self { name, of: "string", priority: 0, description, cell }
    }

    pub const fn integer(name: &'static str, description: &'static str, cell: Cell) -> Self {
        Self { name, of: "integer", priority: 0, description, cell }
    }

    pub const fn boolean(name: &'static str, description: &'static str, cell: Cell) -> Self {
        Self { name, of: "boolean", priority: 0, description, cell }
    }

    /// Shown with `-o wide` only.
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

pub const NAME: Column =
    Column::string("Name", "Name of the object, unique among its kind and namespace", |o, _| {
        text(o, "metadata.name").into()
    });

pub const AGE: Column = Column::string("Age", "Time since the object was created", |o, now| {
    age::since(&o["metadata"]["creationTimestamp"], now).into()
});

/// For built-in kinds without columns of their own.
pub const CREATED_AT: Column = Column {
    name: "Created At",
    of: "date",
    priority: 0,
    description: "Time at which the object was created",
    cell: |o, _| text(o, "metadata.creationTimestamp").into(),
};

/// For custom resources.
pub const AGE_AS_DATE: Column = Column { of: "date", ..AGE };

/// `<none>` for the empty text.
pub fn or_none(text: &str) -> Value {
    Value::from(if text.is_empty() { "<none>" } else { text })
}

/// `a=1,b=2`, or `<none>`.
pub fn labels(map: &Value) -> Value {
    let mut pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    or_none(&pairs.join(","))
}

/// A selector object as text, or `<none>`.
pub fn selector(object: &Value) -> Value {
    or_none(&crate::selector::LabelSelector::from_object(object).to_string())
}

/// The field of all containers of a pod spec at `path`, joined by commas.
pub fn of_containers(obj: &Value, path: &str, field: &str) -> Value {
    let containers = list(obj, &format!("{path}.containers"));
    containers.iter().map(|c| text(c, field)).collect::<Vec<_>>().join(",").into()
}

/// `ready/wanted`
pub fn ratio(obj: &Value, ready: &str, wanted: &str) -> Value {
    format!("{}/{}", int(obj, ready), int(obj, wanted)).into()
}

/// The number of members of the maps at `paths`.
pub fn count(obj: &Value, paths: &[&str]) -> Value {
    paths.iter().map(|path| members(obj, path).count()).sum::<usize>().into()
}

/// A scalar as text, or what is printed instead.
pub fn scalar(obj: &Value, path: &str, missing: &str) -> Value {
    match at(obj, path) {
        None => missing.into(),
        Some(Value::String(text)) => text.as_str().into(),
        Some(other) => other.to_string().into(),
    }
}

/// The first three, and how many more there are.
pub fn first_three(items: &[String]) -> String {
    match items {
        [] => "<unset>".to_owned(),
        few if few.len() <= 3 => few.join(","),
        many => format!("{} + {} more...", many[..3].join(","), many.len() - 3),
    }
}
