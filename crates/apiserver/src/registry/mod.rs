//! Generic handlers for every built-in resource.
