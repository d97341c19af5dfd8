//! Tokens that volumes hold, and when each has to be renewed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::env::TokenAsk;

/// Even a token that is good for years is renewed daily.
const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);
/// How long to wait before the next attempt to renew.
const RETRY: Duration = Duration::from_secs(10);

/// A token in use.
#[derive(Clone, Debug)]
struct Held {
    token: String,
    ends: Instant,
    renew: Instant,
}

/// The tokens of this node's pods, by the pod's uid.
#[derive(Default)]
pub struct Tokens(Mutex<BTreeMap<(String, TokenAsk), Held>>);

impl Tokens {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, TokenAsk), Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, if it need not be renewed yet.
    pub fn fresh(&self, uid: &str, ask: &TokenAsk, now: Instant) -> Option<String> {
        let held = self.lock().get(&(uid.to_owned(), ask.clone())).cloned()?;
        (now < held.renew).then_some(held.token)
    }

    /// Keeps a new token that is good for `life`: it is renewed when a fifth of that is left.
    pub fn put(&self, uid: &str, ask: &TokenAsk, token: &str, life: Duration, now: Instant) {
        let renew = now + (life * 4 / 5).min(LONGEST_USE);
        let held = Held { token: token.to_owned(), ends: now + life, renew };
        self.lock().insert((uid.to_owned(), ask.clone()), held);
    }

    /// Renewing failed: the old one goes on, while it is good, and a while later it is tried again.
    pub fn postpone(&self, uid: &str, ask: &TokenAsk, now: Instant) -> Option<String> {
        let mut all = self.lock();
        let held = all.get_mut(&(uid.to_owned(), ask.clone()))?;
        held.renew = now + RETRY;
        (now < held.ends).then(|| held.token.clone())
    }

    /// When the first of a pod's tokens is to be renewed.
    pub fn due(&self, uid: &str) -> Option<Instant> {
        let all = self.lock();
        all.iter().filter(|((of, _), _)| of == uid).map(|(_, held)| held.renew).min()
    }

    pub fn forget(&self, uid: &str) {
        self.lock().retain(|(of, _), _| of != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_in_time_and_used_while_it_is_good() {
        let tokens = Tokens::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let ask = TokenAsk { audience: String::new(), seconds: 3607 };
        assert_eq!((tokens.fresh("u", &ask, start), tokens.due("u")), (None, None));
        tokens.put("u", &ask, "one", Duration::from_secs(1000), start);
        assert_eq!(tokens.due("u"), Some(at(800)));
        assert_eq!(tokens.fresh("u", &ask, at(799)).as_deref(), Some("one"));
        assert_eq!(tokens.fresh("u", &ask, at(800)), None);
        assert_eq!(tokens.postpone("u", &ask, at(800)).as_deref(), Some("one"));
        assert_eq!(tokens.due("u"), Some(at(810)));
        assert_eq!(tokens.postpone("u", &ask, at(1000)), None, "it has ended");
        let other = TokenAsk { audience: "vault".into(), ..ask.clone() };
        assert_eq!(tokens.fresh("u", &other, start), None);
        tokens.put("u", &other, "two", Duration::from_secs(10_000_000), start);
        assert_eq!(tokens.fresh("u", &other, start + LONGEST_USE), None);
        tokens.forget("u");
        assert_eq!(tokens.due("u"), None);
    }
}
