//! Environment of containers.
