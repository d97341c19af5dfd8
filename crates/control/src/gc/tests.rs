//! What the garbage collector decides.

use super::decide::{Step, decide};
use super::graph::{FOREGROUND, Graph, ORPHAN, Object, Presence, Resource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

fn object(uid: &str, owners: &[&str]) -> Object {
    let owner = |uid: &&str| OwnerReference {
        api_version: "v1".into(),
        kind: "Thing".into(),
        name: (*uid).into(),
        uid: (*uid).into(),
        block_owner_deletion: Some(true),
        controller: None,
    };
    Object {
        resource: Resource { api_version: "v1".into(), plural: "things".into() },
        namespace: "n".into(),
        name: uid.into(),
        uid: uid.into(),
        owners: owners.iter().map(owner).collect(),
        deleting: false,
        finalizers: vec![],
    }
}

fn ending(uid: &str, finalizer: &str, owners: &[&str]) -> Object {
    Object { deleting: true, finalizers: vec![finalizer.into()], ..object(uid, owners) }
}

fn graph(objects: &[Object]) -> Graph {
    let mut graph = Graph::default();
    objects.iter().for_each(|o| drop(graph.seen(o.clone())));
    graph
}

fn words(graph: &Graph, uid: &str) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Verify { owner, .. } => format!("verify {}", owner.uid),
        Step::Delete { object, policy } => format!("delete {} {policy}", object.uid),
        Step::Disown { object, owners } => format!("disown {} of {}", object.uid, owners.join(",")),
        Step::Release { object, finalizer } => format!("release {} from {finalizer}", object.uid),
    };
    decide(graph, uid).iter().map(word).collect()
}

#[test]
fn dependents_of_what_is_gone_go_too() {
    let mut graph = graph(&[object("owner", &[]), object("child", &["owner"])]);
    assert_eq!(words(&graph, "child"), Vec::<String>::new());
    assert_eq!(graph.gone("owner").into_iter().collect::<Vec<_>>(), ["child"]);
    assert_eq!(words(&graph, "child"), ["delete child Background"]);
}

#[test]
fn an_owner_nobody_has_heard_of_is_asked_for() {
    let mut graph = graph(&[object("child", &["stranger"])]);
    assert_eq!(words(&graph, "child"), ["verify stranger"]);
    graph.learn("stranger", Presence::Absent);
    assert_eq!(words(&graph, "child"), ["delete child Background"]);
}

#[test]
fn one_living_owner_is_enough() {
    let mut graph = graph(&[object("a", &[]), object("b", &[]), object("child", &["a", "b"])]);
    graph.gone("a");
    assert_eq!(words(&graph, "child"), ["disown child of a"]);
}

#[test]
fn in_the_foreground_the_leaves_go_first() {
    let mut graph =
        graph(&[ending("root", FOREGROUND, &[]), object("middle", &["root"]), object("leaf", &["middle"])]);
    assert_eq!(words(&graph, "root"), Vec::<String>::new(), "it waits");
    assert_eq!(words(&graph, "middle"), ["delete middle Foreground"]);
    let touched = graph.seen(ending("middle", FOREGROUND, &["root"]));
    assert!(touched.contains("leaf"));
    assert_eq!(words(&graph, "leaf"), ["delete leaf Background"]);
    graph.gone("leaf");
    assert_eq!(words(&graph, "middle"), [format!("release middle from {FOREGROUND}")]);
    assert!(graph.gone("middle").contains("root"));
    assert_eq!(words(&graph, "root"), [format!("release root from {FOREGROUND}")]);
}

#[test]
fn a_circle_of_owners_goes_as_one() {
    let release = |uid: &str| vec![format!("release {uid} from {FOREGROUND}")];
    let mut graph = graph(&[ending("a", FOREGROUND, &["c"]), object("b", &["a"]), object("c", &["b"])]);
    assert_eq!(words(&graph, "a"), Vec::<String>::new(), "it waits for b");
    assert_eq!(words(&graph, "b"), ["delete b Foreground"]);
    graph.seen(ending("b", FOREGROUND, &["a"]));
    assert_eq!(words(&graph, "c"), ["delete c Foreground"]);
    assert!(graph.seen(ending("c", FOREGROUND, &["b"])).contains("a"));
    assert_eq!(["a", "b", "c"].map(|uid| words(&graph, uid)), ["a", "b", "c"].map(release));
    graph.seen(object("d", &["a"]));
    assert_eq!(words(&graph, "a"), Vec::<String>::new(), "it still waits for what is not of the circle");
}

#[test]
fn a_dependent_that_does_not_block_is_not_waited_for() {
    let mut child = object("child", &["root"]);
    child.owners[0].block_owner_deletion = None;
    let graph = graph(&[ending("root", FOREGROUND, &[]), child]);
    assert_eq!(words(&graph, "root"), [format!("release root from {FOREGROUND}")]);
    assert_eq!(words(&graph, "child"), ["delete child Background"]);
}

#[test]
fn orphans_are_let_go_before_their_owner() {
    let mut graph = graph(&[ending("root", ORPHAN, &[]), object("child", &["root"])]);
    assert_eq!(words(&graph, "root"), ["disown child of root"]);
    let touched = graph.seen(object("child", &[]));
    assert!(touched.contains("root"), "the owner is looked at again");
    assert_eq!(words(&graph, "root"), ["release root from orphan"]);
}

#[test]
fn a_list_tells_what_is_gone() {
    let mut graph = graph(&[object("owner", &[]), object("child", &["owner"])]);
    let things = object("x", &[]).resource;
    graph.list_begins(&things);
    graph.seen(object("child", &["owner"]));
    assert!(graph.list_ends(&things).contains("child"));
    assert_eq!(words(&graph, "child"), ["delete child Background"]);
}
