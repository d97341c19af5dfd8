//! What *should be*, decided purely from the model. No I/O, no clock, no randomness, no logging.

pub mod announce;
pub mod choose;
pub mod compile;
pub mod diff;
mod hash;
pub mod health;
mod host_ports;
pub mod issue;
pub mod ledger;
pub mod maglev;
pub mod planner;
pub mod tables;
pub mod view;
pub mod zone;

pub use announce::{Announcer, elect};
pub use diff::{apply_ops, diff};
pub use health::{HealthCheck, HealthChecks};
pub use issue::{Issue, SpecialAddress};
pub use ledger::IdLedger;
pub use planner::{Planner, compile};
pub use view::{NodePortAddresses, NodeView};
pub use zone::{Zone, ZoneBuilder};
