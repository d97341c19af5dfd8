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

#[test]
fn a_service_and_its_slices_share_its_name_whichever_comes_first() {
    let service = || Change::Service(Service::new(ObjectName::new("default", "web")));
    let slice = || Change::Slice(slice("a", "web"));
    for changes in [[service(), slice()], [slice(), service()]] {
        let mut world = World::new();
        for change in changes {
            world.apply(change);
        }
        let owner = ObjectName::new("default", "web");
        let name = &world.service(&owner).expect("the Service").name;
        let of = world.slices(&owner).next().expect("its slice");
        assert!(Arc::ptr_eq(&name.name, &of.service));
        assert!(Arc::ptr_eq(&name.namespace, &of.name.namespace));
    }
}

#[test]
fn a_service_that_goes_leaves_its_slices() {
    let mut world = World::new();
    let web = ObjectName::new("default", "web");
    world.apply(Change::Slice(slice("a", "web")));
    world.apply(Change::Service(Service::new(web.clone())));
    assert_eq!(names(&world.apply(Change::ServiceGone(web.clone()))), ["default/web"]);
    assert!(world.apply(Change::ServiceGone(web.clone())).is_empty());
    assert_eq!((world.service(&web), world.services().count()), (None, 0));
    assert!(world.everything().is_empty(), "nobody asks for what has no Service");
    assert_eq!(world.slices(&web).count(), 1);
    world.apply(Change::SliceGone(ObjectName::new("default", "a")));
    assert!(world.services.is_empty());
}

#[test]
fn equal_hints_are_shared() {
    let with_hints = |name: &str| {
        let hints = Some(Arc::new(Hints { zones: vec!["a".into()], nodes: Vec::new() }));
        let endpoint = crate::Endpoint { hints, ..crate::Endpoint::ready([10, 0, 0, 1].into()) };
        Change::Slice(Slice { endpoints: vec![endpoint.clone(), endpoint], ..slice(name, "web") })
    };
    let mut world = World::new();
    world.apply(with_hints("a"));
    world.apply(with_hints("b"));
    let owner = ObjectName::new("default", "web");
    let endpoints = world.slices(&owner).flat_map(|slice| slice.endpoints);
    let hints: Vec<Arc<Hints>> = endpoints.filter_map(|endpoint| endpoint.hints).collect();
    assert_eq!(hints.len(), 4);
    assert!(hints.iter().all(|one| Arc::ptr_eq(one, &hints[0])));
}

#[test]
fn slices_come_in_order_of_their_names() {
    let mut world = World::new();
    for name in ["b", "c", "a", "b"] {
        world.apply(Change::Slice(slice(name, "web")));
    }
    world.apply(Change::SliceGone(ObjectName::new("default", "c")));
    let owner = ObjectName::new("default", "web");
    let names: Vec<String> = world.slices(&owner).map(|slice| slice.name.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
}
