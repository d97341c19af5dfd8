//! Kinds whose objects are read with the fields that agents need alone, under the names of the whole kinds.

use std::borrow::Cow;

use daymark_model::wire;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

/// An object of kind `W::Whole`, read as `W`.
#[derive(Clone, Debug)]
pub struct Lean<W>(pub W);

/// What an object of a kind is read as.
pub trait Wire {
    type Whole: kube::Resource<DynamicType = ()>;

    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

macro_rules! wire {
    ($($kind:ident),*) => {$(
        impl Wire for wire::$kind {
            type Whole = $kind;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

wire!(Service, EndpointSlice, Node, Pod);

impl<'de, W: Deserialize<'de>> Deserialize<'de> for Lean<W> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        W::deserialize(from).map(Self)
    }
}

impl<W: Wire> kube::Resource for Lean<W> {
    type DynamicType = ();
    type Scope = <W::Whole as kube::Resource>::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        W::Whole::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        W::Whole::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        W::Whole::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        W::Whole::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}
