//! What happens to nodes that fall silent, and to the pods on them.

pub mod cleanup;
pub mod eviction;
pub mod health;
#[cfg(test)]
mod tests;
