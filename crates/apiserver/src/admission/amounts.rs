//! Lists of resources: a quantity for each name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::quantity::Quantity;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// What a map of names to quantities says; anything else says nothing.
    pub fn read(list: Option<&Value>) -> Self {
        let members = list.and_then(Value::as_object).into_iter().flatten();
        Self(members.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect())
    }

    /// `count` of each of these.
    pub fn counts(names: &[&str], count: usize) -> Self {
        Self(names.iter().map(|name| ((*name).to_owned(), Quantity::whole(count))).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn add(&mut self, more: &Self) {
        for (name, amount) in more.iter() {
            let sum = self.get(name).map_or(amount, |own| own.plus(amount));
            self.set(name, sum);
        }
    }

    /// Raises each amount to what `other` has, if that is more.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            if self.get(name).is_none_or(|own| amount.exceeds(&own)) {
                self.set(name, amount);
            }
        }
    }

    /// What is more here than in `other`.
    pub fn above(&self, other: &Self) -> Self {
        let more = self.iter().filter_map(|(name, amount)| {
            let before = other.get(name).unwrap_or(Quantity::ZERO);
            amount.exceeds(&before).then(|| (name.to_owned(), amount.minus(before)))
        });
        Self(more.collect())
    }

    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| wanted(name)).map(|(n, a)| (n.clone(), *a)).collect())
    }

    pub fn to_value(&self) -> Value {
        let members: Map<String, Value> =
            self.iter().map(|(name, amount)| (name.to_owned(), amount.canonical().into())).collect();
        Value::Object(members)
    }

    /// `cpu=1,memory=1Gi`
    pub fn shown(&self) -> String {
        let parts: Vec<String> =
            self.iter().map(|(name, amount)| format!("{name}={}", amount.canonical())).collect();
        parts.join(",")
    }
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}
