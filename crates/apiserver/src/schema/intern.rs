//! Names of custom resources, kept for the life of the process, each distinct one once.
//!
//! What is served is named by `&'static str` everywhere, since nearly all of it is built in. The names of
//! a definition are a few dozen bytes; its schema is counted and freed.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static NAMES: Mutex<Names> = Mutex::new(Names { texts: BTreeSet::new(), lists: BTreeSet::new() });

struct Names {
    texts: BTreeSet<&'static str>,
    lists: BTreeSet<&'static [&'static str]>,
}

impl Names {
    fn text(&mut self, text: &str) -> &'static str {
        if let Some(known) = self.texts.get(text) {
            return known;
        }
        let kept: &'static str = text.to_owned().leak();
        self.texts.insert(kept);
        kept
    }
}

/// The one kept copy of a name.
pub(crate) fn intern(text: &str) -> &'static str {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).text(text)
}

/// The one kept copy of a list of names.
pub(crate) fn intern_all(texts: &[&str]) -> &'static [&'static str] {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let list: Vec<&'static str> = texts.iter().map(|text| names.text(text)).collect();
    if let Some(known) = names.lists.get(list.as_slice()) {
        return known;
    }
    let kept: &'static [&'static str] = list.leak();
    names.lists.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_kept_once() {
        assert!(std::ptr::eq(intern("crontabs"), intern(&["cron", "tabs"].concat())));
        assert!(std::ptr::eq(intern_all(&["ct", "cts"]), intern_all(&["ct", "cts"])));
        assert_ne!(intern_all(&["ct"]), intern_all(&["ct", "cts"]));
    }
}
