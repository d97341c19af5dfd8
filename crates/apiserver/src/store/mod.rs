//! Revisions, events and watches on an embedded database.
