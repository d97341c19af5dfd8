//! The pod machine: pure decisions over what is known of one pod, and the thin workers that perform them.

pub mod adopt;
pub mod backoff;
pub mod container_status;
pub mod decide;
pub mod qos;
pub mod spec;
pub mod state;
pub mod status;

pub use decide::{Action, PodView, decide};
pub use state::{Observation, PodState};
pub use status::status;
