//! Cluster IPs and node ports: allocated before the write, kept if it succeeded, given back if not.

use ipnet::IpNet;
use serde_json::Value;

use super::Registry;
use super::object::is_being_deleted;
use crate::error::ApiError;
use crate::kinds::Reservation;
use crate::schema::Resource;

/// An allocation that is undone unless it is kept.
#[must_use]
pub(super) struct Allocation<'a> {
    registry: &'a Registry,
    reservation: Option<Reservation>,
}

impl Allocation<'_> {
    /// The write succeeded.
    pub fn keep(mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.registry.allocator().commit(reservation);
        }
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.registry.allocator().rollback(reservation);
        }
    }
}

pub(super) fn is_service(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
}

/// The ranges of a ServiceCIDR, and whether it is on its way out.
pub fn ranges(cidr: &Value) -> Vec<(IpNet, bool)> {
    let list = cidr.pointer("/spec/cidrs").and_then(Value::as_array);
    let nets = list.into_iter().flatten().filter_map(Value::as_str).filter_map(|c| c.parse().ok());
    nets.map(|net| (net, is_being_deleted(cidr))).collect()
}

impl Registry {
    /// Makes the ranges that cluster IPs come from, beside those of the start, these.
    pub fn set_further_ranges(&self, wanted: &[(IpNet, bool)]) {
        self.allocator().set_further_ranges(wanted);
    }

    /// Whether a cluster IP of this range is in use that no other range has.
    pub fn is_range_needed(&self, cidr: IpNet) -> bool {
        self.allocator().is_range_needed(cidr)
    }

    /// Allocates what a Service needs; nothing for other kinds.
    pub(super) fn allocate(
        &self,
        resource: &Resource,
        old: Option<&Value>,
        new: &mut Value,
    ) -> Result<Allocation<'_>, ApiError> {
        let reservation =
            if is_service(resource) { Some(self.allocator().allocate(old, new)?) } else { None };
        Ok(Allocation { registry: self, reservation })
    }

    /// Gives back what a deleted Service had.
    pub(super) fn release(&self, resource: &Resource, object: &Value) {
        if is_service(resource) {
            self.allocator().release(object);
        }
    }
}
