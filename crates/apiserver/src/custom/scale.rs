//! The scale subresource of custom resources: where replicas and selector are.

use serde_json::{Map, Value};

use super::path::JsonPath;
use crate::kinds::field::{Errors, Path};
use crate::kinds::value::text;

/// The paths of a definition, as lists of members.
#[derive(Clone, Debug)]
pub struct Scale {
    spec: Vec<String>,
    status: Vec<String>,
    selector: Option<Vec<String>>,
}

fn members(path: &str) -> Option<Vec<String>> {
    let path = JsonPath::parse(path)?;
    Some(path.members()?.into_iter().map(str::to_owned).collect())
}

fn find<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

impl Scale {
    pub fn parse(scale: &Value) -> Option<Self> {
        Some(Self {
            spec: members(text(scale, "specReplicasPath"))?,
            status: members(text(scale, "statusReplicasPath"))?,
            selector: members(text(scale, "labelSelectorPath")),
        })
    }

    /// What is wanted, what there is, and the selector as text.
    pub fn read<'a>(&self, object: &'a Value) -> (Option<i64>, i64, &'a str) {
        let number = |path: &[String]| find(object, path).and_then(Value::as_i64);
        let selector = self.selector.as_ref().and_then(|path| find(object, path)).and_then(Value::as_str);
        (number(&self.spec), number(&self.status).unwrap_or_default(), selector.unwrap_or_default())
    }

    /// Sets what is wanted.
    pub fn write(&self, object: &mut Value, replicas: i64) {
        let Some((last, way)) = self.spec.split_last() else { return };
        let mut place = object;
        for name in way {
            let Some(map) = place.as_object_mut() else { return };
            place = map.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
        }
        if let Some(map) = place.as_object_mut() {
            map.insert(last.clone(), replicas.into());
        }
    }

    pub fn check(&self, object: &Value, errors: &mut Errors) {
        for path in [&self.spec, &self.status] {
            let Some(number) = find(object, path).and_then(Value::as_i64) else { continue };
            let shown = Path::new(&format!(".{}", path.join(".")));
            if number < 0 {
                errors.invalid(&shown, number, "should be a non-negative integer");
            } else if number > i64::from(i32::MAX) {
                let why = format!("should be less than or equal to {}", i32::MAX);
                errors.invalid(&shown, number, &why);
            }
        }
    }
}
