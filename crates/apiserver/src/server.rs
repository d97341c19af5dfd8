//! Starting and stopping the server.

/// What a server needs to start.
pub struct Config {}

/// A running server.
pub struct Server {}
