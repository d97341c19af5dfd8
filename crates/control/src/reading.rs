//! Reads what an API server tells of the kinds that agents follow, each object where it arrived and as what it means.

use std::time::SystemTime;

use daymark_model::reduce::{self, ReduceError};
use daymark_model::wire::{self, Metadata, Text};
use daymark_model::{Change, HostPorts, ObjectName};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::Status;
use serde::Deserialize;

/// A kind that agents follow.
pub trait Kind: Send + 'static {
    type Whole: kube::Resource<DynamicType = ()>;
    type Object<'a>: Deserialize<'a>;

    fn metadata<'o, 'a>(object: &'o Self::Object<'a>) -> &'o Metadata<'a>;
    fn reduce(object: Self::Object<'_>) -> Result<Change, ReduceError>;
    fn gone(name: ObjectName) -> Change;
}

macro_rules! kinds {
    ($($kind:ident: $whole:ident, $reduce:expr, $gone:expr;)*) => {$(
        pub struct $kind;

        impl Kind for $kind {
            type Whole = $whole;
            type Object<'a> = wire::$whole<'a>;

            fn metadata<'o, 'a>(object: &'o Self::Object<'a>) -> &'o Metadata<'a> {
                &object.metadata
            }

            fn reduce(object: Self::Object<'_>) -> Result<Change, ReduceError> {
                $reduce(object)
            }

            fn gone(name: ObjectName) -> Change {
                $gone(name)
            }
        }
    )*};
}

kinds! {
    Services: Service, |o| reduce::service(&o).map(Change::Service), Change::ServiceGone;
    Slices: EndpointSlice, reduce::slice, Change::SliceGone;
    Nodes: Node, |o| reduce::node(&o).map(Change::Node), |name: ObjectName| Change::NodeGone(name.name);
    Pods: Pod, |o| reduce::host_ports(&o), |name| Change::HostPortsGone(HostPorts::name_of(&name));
}

/// An object that exists.
#[derive(Debug)]
pub struct Read {
    pub name: ObjectName,
    /// When that happened which a controller answered by this object.
    pub trigger: Option<SystemTime>,
    /// What it means, or why it cannot be used.
    pub change: Result<Change, ReduceError>,
}

/// What one line of a watch says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are objects")]
pub enum Said {
    Object(Read),
    Gone(ObjectName),
    /// Nothing but a version; after it follow changes, if it ends the list.
    Bookmark {
        ends_list: bool,
    },
    Failure(Box<Status>),
}

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

/// Reads one line, and the version of its object into `version`.
pub fn line<K: Kind>(text: &[u8], version: &mut String) -> Result<Said, serde_json::Error> {
    let read = match serde_json::from_slice::<Line<'_, K::Object<'_>>>(text) {
        Ok(read) => read,
        // What is no object of the kind need not look like one.
        Err(why) => return no_object(text, version).ok_or(why),
    };
    let metadata = K::metadata(&read.object);
    Ok(match &*read.what {
        "BOOKMARK" | "ERROR" => return no_object(text, version).ok_or_else(|| odd(&read.what)),
        "DELETED" => {
            keep_version(version, metadata);
            Said::Gone(reduce::object_name(metadata))
        }
        _ => {
            keep_version(version, metadata);
            Said::Object(object::<K>(read.object))
        }
    })
}

fn odd(what: &str) -> serde_json::Error {
    serde::de::Error::custom(format_args!("{what} of an unknown form"))
}

/// A bookmark or a failure.
fn no_object(text: &[u8], version: &mut String) -> Option<Said> {
    let bare = serde_json::from_slice::<Line<'_, Bare<'_>>>(text).ok()?;
    match &*bare.what {
        "BOOKMARK" => {
            let metadata = bare.object.metadata?;
            keep_version(version, &metadata);
            let ends_list = metadata.annotation(reduce::INITIAL_EVENTS_END) == Some("true");
            Some(Said::Bookmark { ends_list })
        }
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

fn keep_version(version: &mut String, metadata: &Metadata<'_>) {
    if let Some(read) = metadata.resource_version.as_deref().filter(|read| !read.is_empty()) {
        version.clear();
        version.push_str(read);
    }
}

fn object<K: Kind>(object: K::Object<'_>) -> Read {
    let metadata = K::metadata(&object);
    let triggered = metadata.annotation(reduce::LAST_CHANGE).and_then(|at| at.parse::<Timestamp>().ok());
    let name = reduce::object_name(metadata);
    Read { name, trigger: triggered.map(SystemTime::from), change: K::reduce(object) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (Said, String) {
        let mut version = "before".to_owned();
        (line::<Slices>(text.as_bytes(), &mut version).expect("readable"), version)
    }

    #[test]
    fn a_line_is_an_object_a_mark_or_a_failure() {
        let metadata = r#"{"name":"w-1","namespace":"shop","resourceVersion":"7","labels":{"a\"b":"c","kubernetes.io/service-name":"web"},"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-02T03:04:05Z"}}"#;
        let of = |what: &str| {
            format!(
                r#"{{"type":"{what}","object":{{"metadata":{metadata},"addressType":"IPv4","endpoints":[{{"addresses":["10.0.0.1"],"targetRef":{{"name":"}}"}}}}]}}}}"#
            )
        };
        let (Said::Object(read), version) = said(&of("ADDED")) else { panic!("an object") };
        assert_eq!((read.name.to_string(), version), ("shop/w-1".to_owned(), "7".to_owned()));
        assert!(read.trigger.is_some());
        assert!(matches!(read.change, Ok(Change::Slice(slice)) if slice.endpoints.len() == 1));
        assert!(matches!(said(&of("DELETED")).0, Said::Gone(name) if &*name.name == "w-1"));
        let mark = |annotations: &str| {
            format!(
                r#"{{"type":"BOOKMARK","object":{{"kind":"EndpointSlice","metadata":{{"resourceVersion":"9"{annotations}}}}}}}"#
            )
        };
        let (plain, version) = said(&mark(""));
        assert_eq!((matches!(plain, Said::Bookmark { ends_list: false }), &*version), (true, "9"));
        let end = mark(r#","annotations":{"k8s.io/initial-events-end":"true"}"#);
        assert!(matches!(said(&end).0, Said::Bookmark { ends_list: true }));
        // As API servers write it: an object in which nothing is set.
        let empty = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"},"spec":{"containers":null},"status":{}}}"#;
        let mark = line::<Pods>(empty.as_bytes(), &mut String::new());
        assert!(matches!(mark, Ok(Said::Bookmark { ends_list: false })), "{mark:?}");
        let failure = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","metadata":{},"code":410}}"#;
        assert!(
            matches!(said(failure), (Said::Failure(status), version) if status.code == 410 && version == "before")
        );
        let failure = line::<Services>(failure.as_bytes(), &mut String::new());
        assert!(matches!(failure, Ok(Said::Failure(_))), "whose status is none of a Service");
        assert!(line::<Services>(br#"{"type":"ADDED","object":{"spec":7}}"#, &mut String::new()).is_err());
    }
}
