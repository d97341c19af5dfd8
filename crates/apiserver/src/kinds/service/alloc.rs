//! Allocation of cluster IPs, node ports and health check node ports for Services.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde_json::Value;

use crate::error::ApiError;

/// What may be given out.
#[derive(Clone, Debug)]
pub struct AllocatorConfig {
    /// One CIDR, or one per family; the first is the default family.
    pub service_cidrs: Vec<IpNet>,
    pub node_port_range: RangeInclusive<u16>,
}

/// Cluster IPs and ports in use; rebuilt from the stored Services at start.
#[derive(Debug)]
pub struct Allocator;

/// What one write took and will give back; hand it to `commit` or `rollback`.
#[derive(Debug)]
#[must_use = "commit or roll back"]
pub struct Reservation;

impl Allocator {
    pub fn new<'a>(_cfg: AllocatorConfig, _existing: impl Iterator<Item = &'a Value>) -> Self {
        Self
    }

    /// Completes `svc` with addresses and ports; on `Err` nothing is taken.
    pub fn allocate(&mut self, _old: Option<&Value>, _svc: &mut Value) -> Result<Reservation, ApiError> {
        Ok(Reservation)
    }

    /// The write succeeded: gives back what the old object no longer needs.
    pub fn commit(&mut self, _reservation: Reservation) {}

    /// The write failed: gives back what was taken for it.
    pub fn rollback(&mut self, _reservation: Reservation) {}

    /// The Service is gone.
    pub fn release(&mut self, _svc: &Value) {}
}
