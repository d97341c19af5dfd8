//! The order of changes does not matter, and touching names what a change bears on.

use super::*;
use crate::AddressFamily;

fn slice(name: &str, service: &str) -> Slice {
    Slice {
        name: ObjectName::new("default", name),
        service: service.into(),
        family: AddressFamily::Ipv4,
        ports: Vec::new(),
        endpoints: Vec::new(),
    }
}

fn names(touched: &Touched) -> Vec<String> {
    touched.services.iter().map(ToString::to_string).collect()
}

#[test]
fn a_slice_touches_its_service_even_before_the_service_is_known() {
    let mut world = World::new();
    assert_eq!(names(&world.apply(Change::Slice(slice("web-1", "web")))), ["default/web"]);
    assert_eq!(world.slices(&ObjectName::new("default", "web")).count(), 1);
}

#[test]
fn a_known_slice_touches_nothing() {
    let mut world = World::new();
    world.apply(Change::Slice(slice("web-1", "web")));
    assert!(world.apply(Change::Slice(slice("web-1", "web"))).is_empty());
    assert!(world.apply(Change::SliceGone(ObjectName::new("default", "other"))).is_empty());
}

#[test]
fn a_slice_that_moves_touches_both_services() {
    let mut world = World::new();
    world.apply(Change::Slice(slice("s", "web")));
    assert_eq!(names(&world.apply(Change::Slice(slice("s", "api")))), ["default/api", "default/web"]);
    assert_eq!(world.slices(&ObjectName::new("default", "web")).count(), 0);
    assert_eq!(names(&world.apply(Change::SliceGone(ObjectName::new("default", "s")))), ["default/api"]);
    assert_eq!(world.slices(&ObjectName::new("default", "api")).count(), 0);
}

#[test]
fn repeated_strings_are_shared() {
    let mut world = World::new();
    world.apply(Change::Slice(slice("a", "web")));
    world.apply(Change::Slice(slice("b", "web")));
    let owner = ObjectName::new("default", "web");
    let mut slices = world.slices(&owner);
    let (a, b) = (slices.next().expect("slice a"), slices.next().expect("slice b"));
    assert!(Arc::ptr_eq(&a.service, &b.service));
}
