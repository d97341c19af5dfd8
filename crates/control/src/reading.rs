//! Reads what an API server tells of the kinds that agents follow, each object where it arrived and as what it means.

mod json;
mod protobuf;

use std::time::SystemTime;

use daymark_model::reduce::{self, ReduceError};
use daymark_model::wire::protobuf::{Malformed, Message};
use daymark_model::wire::{self, Metadata};
use daymark_model::{Change, HostPorts, ObjectName};
use http::HeaderValue;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::Status;
use serde::Deserialize;

pub use json::page;

/// A kind that agents follow.
pub trait Kind: Send + 'static {
    type Whole: kube::Resource<DynamicType = ()>;
    type Object<'a>: Deserialize<'a> + Message<'a>;

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

/// What one event of a watch says.
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

/// How an API server writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// What is asked for: protobuf, which is read faster, and JSON from who has none.
    pub const ACCEPT: HeaderValue =
        HeaderValue::from_static("application/vnd.kubernetes.protobuf, application/json");

    /// By the `Content-Type` of an answer.
    pub fn of(content_type: Option<&HeaderValue>) -> Self {
        let protobuf =
            |value: &HeaderValue| value.as_bytes().starts_with(b"application/vnd.kubernetes.protobuf");
        if content_type.is_some_and(protobuf) { Self::Protobuf } else { Self::Json }
    }
}

/// Why nothing can be made of what a server says.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Unreadable {
    Json(#[from] serde_json::Error),
    Protobuf(#[from] Malformed),
}

/// Reads one event of a watch, and the version of its object into `version`.
pub fn event<K: Kind>(encoding: Encoding, text: &[u8], version: &mut String) -> Result<Said, Unreadable> {
    match encoding {
        Encoding::Json => Ok(json::event::<K>(text, version)?),
        Encoding::Protobuf => Ok(protobuf::event::<K>(text, version)?),
    }
}

/// Why a server refuses, if it says so in words of the API.
pub fn refusal(encoding: Encoding, text: &[u8]) -> Result<Status, Unreadable> {
    match encoding {
        Encoding::Json => Ok(serde_json::from_slice(text)?),
        Encoding::Protobuf => Ok(protobuf::refusal(text)?),
    }
}

/// Says that an object exists, or is gone.
fn said<K: Kind>(what: &str, read: K::Object<'_>, version: &mut String) -> Said {
    let metadata = K::metadata(&read);
    keep_version(version, metadata);
    if what == "DELETED" {
        Said::Gone(reduce::object_name(metadata))
    } else {
        Said::Object(object::<K>(read))
    }
}

fn bookmark(metadata: &Metadata<'_>, version: &mut String) -> Said {
    keep_version(version, metadata);
    Said::Bookmark { ends_list: metadata.annotation(reduce::INITIAL_EVENTS_END) == Some("true") }
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
mod tests;
