//! Lists: selectors, pages, and which moment a list shows.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Registry, object, storage, store_error};
use crate::error::{ApiError, Cause};
use crate::http::request::{Query, Target};
use crate::selector::{FieldSelector, LabelSelector};
use crate::store::{Page, Range, StoreError};

/// How many objects are looked through at a time when a selector applies.
const STEP: usize = 500;

/// Which objects a client wants.
pub struct Selection {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Selection {
    pub fn parse(target: &Target, query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?,
            fields: FieldSelector::parse(&target.resource, query.get("fieldSelector").unwrap_or_default())?,
        })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// The moment that a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Now, but not before the given revision.
    AtLeast(u64),
    Exactly(u64),
}

/// A list request.
pub struct ListQuery {
    pub selection: Selection,
    /// 0 means all.
    pub limit: usize,
    pub moment: Moment,
    /// The last key of the page before.
    pub after: Option<String>,
}

/// A list, or one page of it.
pub struct Listed {
    pub revision: u64,
    /// JSON of the objects in the requested version.
    pub items: Vec<Bytes>,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListQuery {
    pub fn parse(target: &Target, query: &Query) -> Result<Self, ApiError> {
        let limit = usize::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX);
        let selection = Selection::parse(target, query)?;
        let version = query.get("resourceVersion").unwrap_or_default();
        let matching = query.get("resourceVersionMatch").unwrap_or_default();
        if let Some(token) = query.get("continue") {
            if !matches!(version, "" | "0") || !matching.is_empty() {
                let message = "specifying resource version is not allowed when using continue";
                return Err(ApiError::bad_request(message));
            }
            let (revision, after) = read_token(token)?;
            return Ok(Self { selection, limit, moment: Moment::Exactly(revision), after: Some(after) });
        }
        let moment = moment(version, matching, limit)?;
        Ok(Self { selection, limit, moment, after: None })
    }
}

fn moment(version: &str, matching: &str, limit: usize) -> Result<Moment, ApiError> {
    let revision = parse_revision(version)?;
    match matching {
        "" if limit > 0 && revision > 0 => Ok(Moment::Exactly(revision)),
        "" => Ok(Moment::AtLeast(revision)),
        _ if version.is_empty() => Err(refuse_match(
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        "NotOlderThan" => Ok(Moment::AtLeast(revision)),
        "Exact" if revision == 0 => Err(refuse_match(
            "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        "Exact" => Ok(Moment::Exactly(revision)),
        other => Err(ApiError::invalid_options(
            "ListOptions",
            "FieldValueNotSupported",
            "resourceVersionMatch",
            format!("Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\", \"\""),
        )),
    }
}

pub fn refuse_match(message: &str) -> ApiError {
    let cause = Cause {
        reason: "FieldValueForbidden",
        message: message.to_owned(),
        field: "resourceVersionMatch".into(),
    };
    ApiError::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
}

/// A resource version as a number; empty is 0.
pub fn parse_revision(version: &str) -> Result<u64, ApiError> {
    if version.is_empty() {
        return Ok(0);
    }
    version
        .parse()
        .map_err(|_| {
            ApiError::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing \
                 {version:?}: invalid syntax"
            ))
        })
}

fn write_token(revision: u64, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": key}).to_string())
}

fn read_token(token: &str) -> Result<(u64, String), ApiError> {
    let invalid = || ApiError::bad_request("invalid continue token: continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| {
        let at = token.len() / 4 * 4;
        let why = "invalid continue token: continue key is not valid: illegal base64 data at input byte";
        ApiError::bad_request(format!("{why} {at}"))
    })?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let revision = value["rv"].as_u64().ok_or_else(invalid)?;
    let start = value["start"].as_str().ok_or_else(invalid)?;
    Ok((revision, start.to_owned()))
}

impl Registry {
    pub async fn list(&self, target: &Target, query: &ListQuery) -> Result<Listed, ApiError> {
        let at = match query.moment {
            Moment::Exactly(revision) => Some(revision),
            Moment::AtLeast(revision) => {
                let current = self.store.revision();
                if revision > current {
                    return Err(store_error(StoreError::Future { asked: revision, current }));
                }
                None
            }
        };
        let prefix = storage::prefix(&target.resource, &target.namespace);
        let range = Range { prefix, after: query.after.clone(), limit: query.limit, at };
        if query.selection.is_everything() {
            return self.list_all(target, range).await;
        }
        self.list_selected(target, query, range).await
    }

    async fn list_all(&self, target: &Target, range: Range) -> Result<Listed, ApiError> {
        let page = self.page(range.clone()).await?;
        let items: Result<Vec<_>, _> =
            page.items.iter().map(|(_, object)| as_requested(target, &object.bytes)).collect();
        let last = page.items.last().filter(|_| page.remaining > 0);
        Ok(Listed {
            revision: page.revision,
            items: items?,
            continue_token: last.map(|(key, _)| write_token(page.revision, key)).unwrap_or_default(),
            remaining: last.map(|_| page.remaining),
        })
    }

    async fn list_selected(
        &self,
        target: &Target,
        query: &ListQuery,
        mut range: Range,
    ) -> Result<Listed, ApiError> {
        let mut listed =
            Listed { revision: 0, items: Vec::new(), continue_token: String::new(), remaining: None };
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        range.limit = STEP;
        loop {
            let page = self.page(range.clone()).await?;
            listed.revision = page.revision;
            range.at = Some(page.revision);
            for (key, object) in &page.items {
                let value = storage::from_stored(&target.resource, object::parse(&object.bytes)?);
                if !query.selection.matches(&value) {
                    continue;
                }
                if listed.items.len() == limit {
                    listed.continue_token = write_token(page.revision, range.after.as_deref().unwrap_or(""));
                    return Ok(listed);
                }
                listed.items.push(as_requested(target, &object.bytes)?);
                range.after = Some(key.to_string());
            }
            match page.items.last() {
                Some((key, _)) if page.remaining > 0 => range.after = Some(key.to_string()),
                _ => return Ok(listed),
            }
        }
    }

    async fn page(&self, range: Range) -> Result<Page, ApiError> {
        let continued = range.after.is_some();
        self.store.range(range).await.map_err(|e| match e {
            StoreError::Compacted { .. } if continued => ApiError::gone(
                "The provided continue parameter is too old to display a consistent list result. You can \
                 start a new list without the continue parameter.",
            ),
            other => store_error(other),
        })
    }
}

/// Stored bytes as the requested version.
pub fn as_requested(target: &Target, bytes: &Bytes) -> Result<Bytes, ApiError> {
    if storage::answers_as_stored(&target.resource) {
        return Ok(bytes.clone());
    }
    let value = storage::from_stored(&target.resource, object::parse(bytes)?);
    serde_json::to_vec(&value).map(Bytes::from).map_err(|e| ApiError::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_trip_and_nonsense_is_refused() {
        assert_eq!(read_token(&write_token(7, "core/pods/a/b")).unwrap(), (7, "core/pods/a/b".into()));
        for nonsense in ["", "!!", "e30"] {
            assert_eq!(read_token(nonsense).unwrap_err().code, 400, "{nonsense}");
        }
    }

    #[test]
    fn the_moment_follows_the_documented_table() {
        assert_eq!(moment("", "", 0).unwrap(), Moment::AtLeast(0));
        assert_eq!(moment("0", "", 5).unwrap(), Moment::AtLeast(0));
        assert_eq!(moment("9", "", 0).unwrap(), Moment::AtLeast(9));
        assert_eq!(moment("9", "", 5).unwrap(), Moment::Exactly(9));
        assert_eq!(moment("9", "Exact", 0).unwrap(), Moment::Exactly(9));
        assert_eq!(moment("9", "NotOlderThan", 5).unwrap(), Moment::AtLeast(9));
        assert_eq!(moment("", "Exact", 0).unwrap_err().code, 422);
        assert_eq!(moment("0", "Exact", 0).unwrap_err().code, 422);
        assert_eq!(moment("9", "Sometimes", 0).unwrap_err().code, 422);
        assert_eq!(moment("x", "", 0).unwrap_err().code, 400);
    }
}
