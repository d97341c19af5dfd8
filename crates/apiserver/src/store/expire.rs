//! Objects with an end: they are deleted when it has passed.

use super::{Expect, Store, StoreError, Template, Write};

/// At most this many are deleted in one go, so that requests in between are not held up.
const BATCH: usize = 200;

impl Store {
    /// Deletes what expired before `now` (seconds since the epoch) and says how many they were.
    pub async fn expire(&self, now: u64) -> Result<usize, StoreError> {
        let mut count = 0;
        loop {
            let dead = self.expired(now);
            if dead.is_empty() {
                return Ok(count);
            }
            let writes = dead.into_iter().map(|write| self.write(write));
            for result in futures::future::join_all(writes).await {
                match result {
                    Ok(_) => count += 1,
                    // It was renewed or deleted just now.
                    Err(StoreError::Conflict(_) | StoreError::Missing) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }

    fn expired(&self, now: u64) -> Vec<Write> {
        let memory = self.shared.memory();
        let dead = memory.objects.iter().filter(|(_, o)| o.expires != 0 && o.expires < now);
        let writes = dead.take(BATCH).filter_map(|(key, object)| {
            Some(Write {
                key: key.to_string(),
                expect: Expect::Revision(object.modified),
                object: hole(&object.bytes, object.modified)?,
                delete: true,
                expires: 0,
            })
        });
        writes.collect()
    }
}

/// The stored JSON with the revision taken out again.
fn hole(bytes: &[u8], revision: u64) -> Option<Template> {
    let field = format!("\"resourceVersion\":\"{revision}\"");
    let at = bytes.windows(field.len()).rposition(|w| w == field.as_bytes())?;
    let start = at + "\"resourceVersion\":\"".len();
    let end = at + field.len() - 1;
    Some(Template { json: [&bytes[..start], &bytes[end..]].concat(), at: start })
}
