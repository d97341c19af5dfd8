//! The garbage collector: objects whose owners are gone go too.

mod decide;
mod graph;
mod run;
#[cfg(test)]
mod tests;

pub use run::{Input, channel, run};
