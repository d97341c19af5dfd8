//! Reads watches and lists in JSON.

use daymark_model::wire::{Metadata, Text};
use kube::core::Status;
use serde::Deserialize;

use super::{Kind, Read, Said, bookmark, object, said};

#[derive(Deserialize)]
struct Line<'a, O> {
    #[serde(borrow, rename = "type")]
    what: Text<'a>,
    object: O,
}

/// Of a bookmark nothing else counts: its other fields are those of an empty object, null where lists belong.
#[derive(Deserialize)]
struct Bare<'a> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Deserialize)]
struct List<'a, O> {
    #[serde(borrow)]
    metadata: ListMetadata<'a>,
    items: Option<Vec<O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata<'a> {
    #[serde(borrow)]
    resource_version: Option<Text<'a>>,
    #[serde(borrow, rename = "continue")]
    more: Option<Text<'a>>,
}

/// Reads one line.
pub(super) fn event<K: Kind>(text: &[u8], version: &mut String) -> Result<Said, serde_json::Error> {
    let read = match serde_json::from_slice::<Line<'_, K::Object<'_>>>(text) {
        Ok(read) => read,
        // What is no object of the kind need not look like one.
        Err(why) => return no_object(text, version).ok_or(why),
    };
    match &*read.what {
        "BOOKMARK" | "ERROR" => no_object(text, version).ok_or_else(|| odd(&read.what)),
        what => Ok(said::<K>(what, read.object, version)),
    }
}

fn odd(what: &str) -> serde_json::Error {
    serde::de::Error::custom(format_args!("{what} of an unknown form"))
}

/// A bookmark or a failure.
fn no_object(text: &[u8], version: &mut String) -> Option<Said> {
    let bare = serde_json::from_slice::<Line<'_, Bare<'_>>>(text).ok()?;
    match &*bare.what {
        "BOOKMARK" => Some(bookmark(&bare.object.metadata?, version)),
        "ERROR" => {
            let failure = serde_json::from_slice::<Line<'_, Status>>(text).ok()?;
            Some(Said::Failure(Box::new(failure.object)))
        }
        _ => None,
    }
}

/// Reads one page of a list: its objects and how to ask for the next.
pub fn page<K: Kind>(
    text: &[u8],
    version: &mut String,
) -> Result<(Vec<Read>, Option<String>), serde_json::Error> {
    let list = serde_json::from_slice::<List<'_, K::Object<'_>>>(text)?;
    version.clear();
    version.push_str(list.metadata.resource_version.as_deref().unwrap_or_default());
    let more = list.metadata.more.filter(|more| !more.is_empty()).map(|more| more.to_string());
    Ok((list.items.into_iter().flatten().map(object::<K>).collect(), more))
}
