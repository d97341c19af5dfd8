//! What clients asked and were told, and whether one order of everything explains it.
//!
//! Every write has a revision, so the order of the writes is known and only the place of the others in
//! it is searched: each gets the earliest that its answer fits and that is not before anything that had
//! ended when it began. No later place could do better, so the check is exact and needs no search.

use std::collections::BTreeMap;

use serde_json::Value;

/// What the server's log says of one revision of a key: the object's uid and data after it, `None` of a deletion.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: String,
    pub uid: String,
    pub data: Option<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Create(Value),
    /// At this revision, if one is given.
    Update(Option<u64>, Value),
    /// A merge patch of data.
    Merge(Value),
    Delete(Option<u64>),
    Get,
    List,
    ListAt(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Written {
        revision: u64,
        data: Value,
    },
    /// The uid of what is gone.
    Deleted(String),
    Found {
        revision: u64,
        data: Value,
    },
    Listed {
        revision: u64,
        items: Items,
    },
    NotFound,
    Exists,
    Conflict,
}

/// Key, revision and data of each object.
pub type Items = BTreeMap<String, (u64, Value)>;

/// A request and its answer; `began` and `ended` count the beginnings and ends of all requests.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub began: u64,
    pub ended: u64,
    pub asked: Asked,
    pub told: Told,
}

/// A key's revision and data, if it is there.
type State<'a> = Option<&'a (u64, Value)>;

/// A key's state from a revision on.
struct Segment {
    from: u64,
    state: Option<(u64, Value)>,
}

pub struct Truth {
    log: BTreeMap<u64, Change>,
    keys: BTreeMap<String, Vec<Segment>>,
}

impl Truth {
    pub fn new(log: BTreeMap<u64, Change>) -> Self {
        let mut keys: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
        for (revision, change) in &log {
            let segments =
                keys.entry(change.key.clone()).or_insert_with(|| vec![Segment { from: 0, state: None }]);
            let state = change.data.clone().map(|data| (*revision, data));
            segments.push(Segment { from: *revision, state });
        }
        Self { log, keys }
    }

    fn segments(&self, key: &str) -> &[Segment] {
        const NEVER: &[Segment] = &[Segment { from: 0, state: None }];
        self.keys.get(key).map_or(NEVER, Vec::as_slice)
    }

    fn state(&self, key: &str, revision: u64) -> Option<&(u64, Value)> {
        let segments = self.segments(key);
        segments[segments.partition_point(|s| s.from <= revision) - 1].state.as_ref()
    }

    fn items(&self, revision: u64) -> Items {
        let present = |key: &String| Some((key.clone(), self.state(key, revision)?.clone()));
        self.keys.keys().filter_map(present).collect()
    }

    /// The earliest revision from `lower` on at which the key's state is as asked.
    fn earliest(&self, key: &str, lower: u64, is: impl Fn(State) -> bool) -> Option<u64> {
        let segments = self.segments(key);
        let first = segments.partition_point(|s| s.from <= lower) - 1;
        segments[first..].iter().find(|s| is(s.state.as_ref())).map(|s| s.from.max(lower))
    }

    /// Checks that the history has an order that every answer fits.
    pub fn check(&self, history: &[Entry]) -> Result<(), String> {
        let mut begun: Vec<usize> = (0..history.len()).collect();
        begun.sort_by_key(|n| history[*n].began);
        let mut ending = begun.clone();
        ending.sort_by_key(|n| history[*n].ended);
        let mut ending = ending.into_iter().peekable();
        let (mut places, mut latest) = (vec![0; history.len()], None);
        let mut written = BTreeMap::new();
        for n in begun {
            let entry = &history[n];
            while let Some(before) = ending.next_if(|e| history[*e].ended < entry.began) {
                latest = latest.filter(|l: &usize| places[*l] >= places[before]).or(Some(before));
            }
            let place = self.place(entry, latest.map_or(0, |l| places[l]));
            places[n] = place.map_err(|why| {
                let before = latest.map(|l| (places[l], &history[l]));
                format!("{entry:?}: {why}; before it had ended, at its revision: {before:?}")
            })?;
            if matches!(entry.told, Told::Written { .. } | Told::Deleted(_)) {
                written.insert(places[n], n);
            }
        }
        // Nothing happened that nobody was told.
        match self.log.iter().find(|(revision, _)| !written.contains_key(revision)) {
            Some((revision, change)) => Err(format!("nobody was told of {revision}: {change:?}")),
            None => Ok(()),
        }
    }

    /// Where an entry is in the order: a revision, its own or the one that it saw.
    fn place(&self, entry: &Entry, lower: u64) -> Result<u64, String> {
        let key = &entry.key;
        let fits = |is: &dyn Fn(State) -> bool| {
            self.earliest(key, lower, is).ok_or_else(|| "no state from then on fits".to_owned())
        };
        match (&entry.asked, &entry.told) {
            (_, Told::Written { revision, data }) => self.place_write(entry, *revision, Some(data), lower),
            (_, Told::Deleted(uid)) => {
                let found = self.log.iter().find(|(_, c)| c.data.is_none() && c.uid == *uid);
                let (revision, _) = found.ok_or("it was never deleted")?;
                self.place_write(entry, *revision, None, lower)
            }
            (Asked::Get, Told::Found { revision, data }) => {
                fits(&|s| s.is_some_and(|(r, d)| r == revision && d == data))
            }
            (Asked::Get | Asked::Update(..) | Asked::Merge(_) | Asked::Delete(_), Told::NotFound) => {
                fits(&|s| s.is_none())
            }
            (Asked::Create(_), Told::Exists) => fits(&|s| s.is_some()),
            (Asked::Update(Some(wanted), _) | Asked::Delete(Some(wanted)), Told::Conflict) => {
                fits(&|s| s.is_some_and(|(r, _)| r != wanted))
            }
            // Given up after many tries.
            (Asked::Update(None, _) | Asked::Merge(_) | Asked::Delete(None), Told::Conflict) => {
                fits(&|s| s.is_some())
            }
            (Asked::List, Told::Listed { revision, items }) => match *items == self.items(*revision) {
                true if *revision >= lower => Ok(*revision),
                true => Err("it is of the past".into()),
                false => Err(format!("{revision} was {:?}", self.items(*revision))),
            },
            (Asked::ListAt(at), Told::Listed { revision, items }) => match *items == self.items(*at) {
                true if at == revision => Ok(0),
                _ => Err(format!("{at} was {:?}", self.items(*at))),
            },
            _ => Err("that is no answer to that".into()),
        }
    }

    fn place_write(
        &self,
        entry: &Entry,
        revision: u64,
        data: Option<&Value>,
        lower: u64,
    ) -> Result<u64, String> {
        let change = self.log.get(&revision).ok_or("the log does not have it")?;
        if change.key != entry.key || change.data.as_ref() != data {
            return Err(format!("the log has {change:?}"));
        }
        if revision <= lower {
            return Err("it is of the past".into());
        }
        let before = self.state(&entry.key, revision - 1);
        let at = before.map(|(r, _)| *r);
        let merged = |patch: &Value| {
            let mut new = before.map_or(Value::Null, |(_, data)| data.clone());
            patch.as_object().into_iter().flatten().for_each(|(k, v)| new[k] = v.clone());
            new
        };
        let right = match &entry.asked {
            Asked::Create(new) => before.is_none() && data == Some(new),
            Asked::Update(wanted, new) => {
                at.is_some() && (wanted.is_none() || *wanted == at) && data == Some(new)
            }
            Asked::Merge(patch) => at.is_some() && data == Some(&merged(patch)),
            Asked::Delete(wanted) => at.is_some() && (wanted.is_none() || *wanted == at) && data.is_none(),
            Asked::Get | Asked::List | Asked::ListAt(_) => false,
        };
        if right { Ok(revision) } else { Err(format!("before it was {before:?}")) }
    }
}
