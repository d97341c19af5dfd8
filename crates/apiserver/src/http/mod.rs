//! TLS, request parsing, content types and responses.
