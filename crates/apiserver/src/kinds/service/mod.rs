//! Services: defaults, validation and the allocation of cluster IPs and node ports.

mod alloc;

pub use alloc::{Allocator, AllocatorConfig, Reservation};
