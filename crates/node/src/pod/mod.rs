//! The pod machine: pure decisions over what is known of one pod, and the thin workers that perform them.

mod admission;
pub mod adopt;
pub mod backend;
pub mod backoff;
pub mod cluster;
pub mod container_status;
pub mod context;
pub mod decide;
mod ephemeral;
pub mod events;
mod hooks;
mod kill;
mod last_words;
mod life;
pub mod manager;
pub mod probes;
pub mod qos;
mod secrets;
mod services;
pub mod sources;
pub mod spec;
mod start;
pub mod state;
pub mod status;
mod tell;
mod tokens;
pub mod worker;
mod writer;

pub use context::{Context, Directory, Settings, Snapshot};
pub use decide::{Action, PodView, decide};
pub use state::{Observation, PodState};
pub use status::status;

#[cfg(test)]
mod tests;
