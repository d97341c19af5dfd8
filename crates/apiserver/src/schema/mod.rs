//! The table of built-in kinds and their fields.
