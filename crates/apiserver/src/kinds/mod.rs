//! Per-kind defaults, validation and strategies.
