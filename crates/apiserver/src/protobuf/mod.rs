//! Protobuf request bodies, decoded to JSON.
