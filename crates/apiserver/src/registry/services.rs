//! Cluster IPs and node ports: allocated before the write, kept if it succeeded, given back if not.

use serde_json::Value;

use super::Registry;
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

impl Registry {
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
