//! What watchers were told, against the log of everything that was written.

use std::collections::BTreeMap;
use std::ops::Bound;

/// One write of a key: its text, or `None` of a deletion.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub kind: String,
    pub key: String,
    pub text: Option<String>,
}

/// What a watcher saw, in its order.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A watch began after this revision.
    From(u64),
    /// Key and text of all there was.
    Listed(u64, BTreeMap<String, String>),
    Event(u64, Change),
    /// It was told that events after this revision are forgotten.
    Gone(u64),
}

#[derive(Default)]
pub struct Log(pub BTreeMap<u64, Change>);

impl Log {
    pub fn state_at(&self, revision: u64, prefix: &str) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for change in self.0.range(..=revision).map(|(_, c)| c).filter(|c| c.key.starts_with(prefix)) {
            match &change.text {
                Some(text) => drop(state.insert(change.key.clone(), text.clone())),
                None => drop(state.remove(&change.key)),
            }
        }
        state
    }

    /// Checks that nothing was missed, repeated, reordered or made up, up to revision `end`.
    pub fn check(&self, prefix: &str, seen: &[Seen], end: u64) -> Result<(), String> {
        let mut cursor = 0;
        let next = |cursor: u64| {
            let later = self.0.range((Bound::Excluded(cursor), Bound::Unbounded));
            later.take_while(|(r, _)| **r <= end).find(|(_, change)| change.key.starts_with(prefix))
        };
        for (n, what) in seen.iter().enumerate() {
            let context = || format!("{:?}", &seen[n.saturating_sub(3)..=n]);
            match what {
                Seen::From(revision) if n == 0 => cursor = *revision,
                Seen::From(revision) if *revision == cursor => {}
                Seen::From(_) => return Err(format!("resumed elsewhere: {}", context())),
                Seen::Gone(revision) if *revision == cursor => {}
                Seen::Gone(_) => return Err(format!("another revision is gone: {}", context())),
                Seen::Listed(revision, _) if *revision < cursor => {
                    return Err(format!("listed the past: {}", context()));
                }
                Seen::Listed(revision, items) => {
                    let there = self.state_at(*revision, prefix);
                    if *items != there {
                        return Err(format!("listed something else than {there:?}: {}", context()));
                    }
                    cursor = *revision;
                }
                Seen::Event(revision, change) => {
                    if next(cursor) != Some((revision, change)) {
                        return Err(format!("after {cursor} comes {:?}, seen: {}", next(cursor), context()));
                    }
                    cursor = *revision;
                }
            }
        }
        match next(cursor) {
            Some(missed) => Err(format!("after {cursor} nothing was seen, but there is {missed:?}")),
            None => Ok(()),
        }
    }
}
