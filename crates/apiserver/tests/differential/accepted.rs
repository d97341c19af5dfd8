//! The differences that are meant.

use std::path::Path;

use serde::Deserialize;

use super::compare::Difference;

/// Which differences, by parts of their names with `*` for anything, and why they are right.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default = "anything")]
    group: String,
    #[serde(default = "anything")]
    case: String,
    #[serde(default = "anything")]
    place: String,
    /// A part of what the real server says.
    #[serde(default)]
    theirs: String,
    why: String,
    #[serde(skip)]
    used: bool,
}

fn anything() -> String {
    "*".to_owned()
}

pub struct Accepted(Vec<Entry>);

impl Accepted {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self(serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    pub fn takes(&mut self, difference: &Difference) -> bool {
        let fits = |entry: &&mut Entry| {
            glob(&entry.group, &difference.group)
                && glob(&entry.case, &difference.case)
                && glob(&entry.place, &difference.place)
                && difference.theirs.contains(&entry.theirs)
        };
        let Some(entry) = self.0.iter_mut().find(fits) else { return false };
        entry.used = true;
        true
    }

    pub fn unused(&self) -> impl Iterator<Item = String> {
        let unused = self.0.iter().filter(|entry| !entry.used);
        unused.map(|entry| format!("{} / {} / {}: {}", entry.group, entry.case, entry.place, entry.why))
    }
}

/// Whether `text` is `pattern`, in which `*` stands for anything; alternatives are separated by `|`.
fn glob(pattern: &str, text: &str) -> bool {
    pattern.split('|').any(|pattern| {
        let mut rest = text;
        let parts: Vec<&str> = pattern.split('*').collect();
        let last = parts.len() - 1;
        parts.iter().enumerate().all(|(at, part)| {
            if at == 0 {
                let fits = rest.starts_with(part) && (last > 0 || rest == *part);
                rest = if fits { &rest[part.len()..] } else { rest };
                fits
            } else if at == last {
                rest.ends_with(part)
            } else {
                rest.find(part).map(|found| rest = &rest[found + part.len()..]).is_some()
            }
        })
    })
}
