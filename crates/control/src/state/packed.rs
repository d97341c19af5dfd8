//! Objects that are many and large, kept as JSON bytes with only what finds them beside.

use std::marker::PhantomData;

use daymark_model::ObjectName;

use crate::meta::label;
use crate::object::{Cached, key_of};
use crate::state::store::Entry;

/// An EndpointSlice or Endpoints object at rest.
pub struct Packed<T> {
    key: ObjectName,
    uid: String,
    version: u64,
    /// Label `kubernetes.io/service-name`.
    pub service: Option<String>,
    json: Box<[u8]>,
    of: PhantomData<fn() -> T>,
}

/// How an object of a kind is kept: as it is, or reduced.
pub trait Keep<T> {
    fn keep(object: T) -> Self;
}

impl<T: Cached> Keep<T> for T {
    fn keep(object: T) -> Self {
        object
    }
}

impl<T: Cached> Keep<T> for Packed<T> {
    fn keep(object: T) -> Self {
        Self::new(&object)
    }
}

impl<T: Cached> Packed<T> {
    /// Packs an object.
    pub fn new(object: &T) -> Self {
        let meta = object.metadata();
        Self {
            key: key_of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            version: object.version(),
            service: label(meta, "kubernetes.io/service-name").map(str::to_owned),
            json: serde_json::to_vec(object).unwrap_or_default().into(),
            of: PhantomData,
        }
    }

    /// The object. It was written by [`Packed::new`], so it reads back.
    pub fn unpack(&self) -> T {
        serde_json::from_slice(&self.json).expect("an object that was serialized from this type")
    }
}

impl<T> Entry for Packed<T> {
    fn key(&self) -> ObjectName {
        self.key.clone()
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn version(&self) -> u64 {
        self.version
    }
}
