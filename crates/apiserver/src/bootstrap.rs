//! Objects that every cluster starts with.
