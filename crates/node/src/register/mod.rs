//! The Node object of this node and its heartbeat.
