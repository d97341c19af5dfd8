//! Container logs in CRI format: parsing, selection, tails over rotated files, following.

pub mod filter;
pub mod read;
pub mod record;
pub mod tail;

pub use filter::{Filter, Options};
pub use record::{Record, Stream, parse};
