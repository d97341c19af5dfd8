//! Pods and pod templates: defaults, validation, what an update may change.

mod container;
mod defaults;
mod env;
mod probe;
mod resources;
mod spec;
#[cfg(test)]
mod tests;
mod update;
mod volumes;

pub use defaults::{default, default_template};
pub use resources::qos_class;
pub use spec::{TAINT_EFFECTS, check_template, validate_create};
pub use update::{prepare_create, prepare_update, validate_ephemeral, validate_status, validate_update};
