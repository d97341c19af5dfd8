//! Tokens of requests, remembered: a token that was good is looked at again only when it ends or when
//! an object that it hangs on was written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Identity;
use super::accounts::Checked;
use super::identity::unauthorized;
use crate::error::ApiError;
use crate::registry::Registry;

/// Tokens that are remembered; when there are more, all are forgotten.
const MOST: usize = 4_096;
/// Browsers cannot set headers on WebSockets; they put the token among the protocols.
const IN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

#[derive(Default)]
pub struct Remembered(Mutex<HashMap<[u8; 32], Checked>>);

/// The token of a request, if it has one. Other ways to authorize count as a token that is no good.
pub fn token(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().unwrap_or_default().trim();
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        let token = if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" };
        return Some(token.to_owned());
    }
    let protocols = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols.split(',').find_map(|p| p.trim().strip_prefix(IN_PROTOCOL))?;
    use base64::Engine;
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok();
    Some(decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default())
}

/// See [`Registry::authenticate`].
type Known = (Arc<Identity>, Option<(String, String)>);

impl Registry {
    /// Whose token it is; and the Secret, by namespace and name, on which its use is still to be marked.
    ///
    /// # Errors
    /// 401 when it is nobody's, or no good any more; why is for the log alone.
    pub fn authenticate(&self, token: &str, now: Timestamp) -> Result<Known, ApiError> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = self.remembered().get(&digest).cloned();
        if let Some(known) = remembered.filter(|known| self.still_good(known, now)) {
            return Ok((known.identity, None));
        }
        match self.check_token(token, None, now) {
            Ok(Some(checked)) => {
                let (identity, unmarked) = (checked.identity.clone(), checked.unmarked.clone());
                let mut remembered = self.remembered();
                if remembered.len() >= MOST {
                    remembered.clear();
                }
                remembered.insert(digest, checked);
                Ok((identity, unmarked))
            }
            refused => {
                self.remembered().remove(&digest);
                let why = refused.err().unwrap_or_else(|| "it is no token of this cluster".into());
                tracing::debug!(why, "a token was refused");
                Err(unauthorized())
            }
        }
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Checked>> {
        self.tokens.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn still_good(&self, known: &Checked, now: Timestamp) -> bool {
        let same =
            |(key, revision): &(String, u64)| self.store.get(key).is_some_and(|o| o.modified == *revision);
        now.as_second() <= known.until && known.objects.iter().all(same)
    }
}
