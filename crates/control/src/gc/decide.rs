//! What the garbage collector decides about one object.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{FOREGROUND, Graph, ORPHAN, Object, Presence};

/// One thing for the collector to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask the API server whether this owner of `of` exists.
    Verify { of: Object, owner: OwnerReference },
    /// Delete the object, with this propagation policy.
    Delete { object: Object, policy: &'static str },
    /// Take these owners (by UID) out of the object's references.
    Disown { object: Object, owners: Vec<String> },
    /// Take a finalizer off the object.
    Release { object: Object, finalizer: &'static str },
}

/// Looks at one object:
/// 1. if it is being deleted and orphans its dependents, they are let go, then it is released;
/// 2. if it waits for its dependents, it is released when none that blocks is left, but for those that wait for it;
/// 3. otherwise, if all its owners are gone (or wait for it to go), it is deleted; if some are, only
///    the references to those are removed. Owners nobody has heard of are asked for first.
pub fn decide(graph: &Graph, uid: &str) -> Vec<Step> {
    let Some(object) = graph.get(uid) else { return Vec::new() };
    if object.waits(ORPHAN) {
        return orphan(graph, object);
    }
    if object.waits(FOREGROUND) {
        let blocked = graph.dependents(uid).any(|d| blocks(d, uid) && !waits_for(graph, d, uid));
        if !blocked {
            return vec![Step::Release { object: object.clone(), finalizer: FOREGROUND }];
        }
    }
    if object.deleting {
        return Vec::new();
    }
    judge_owners(graph, object)
}

fn orphan(graph: &Graph, object: &Object) -> Vec<Step> {
    let disown = |d: &Object| Step::Disown { object: d.clone(), owners: vec![object.uid.clone()] };
    let mut steps: Vec<_> = graph.dependents(&object.uid).map(disown).collect();
    if steps.is_empty() {
        steps.push(Step::Release { object: object.clone(), finalizer: ORPHAN });
    }
    steps
}

fn blocks(dependent: &Object, owner: &str) -> bool {
    dependent.owners.iter().any(|o| o.uid == owner && o.block_owner_deletion == Some(true))
}

/// Whether an object waits, perhaps by way of others, for the object `uid` to go: they own each other in a circle.
fn waits_for(graph: &Graph, object: &Object, uid: &str) -> bool {
    let (mut next, mut seen) = (vec![object], BTreeSet::new());
    while let Some(object) = next.pop() {
        if object.uid == uid {
            return true;
        }
        if object.waits(FOREGROUND) && seen.insert(&object.uid) {
            next.extend(graph.dependents(&object.uid).filter(|d| blocks(d, &object.uid)));
        }
    }
    false
}

fn judge_owners(graph: &Graph, object: &Object) -> Vec<Step> {
    let mut solid = 0;
    let mut waiting = Vec::new();
    let mut dangling = Vec::new();
    for owner in &object.owners {
        match graph.presence(&owner.uid) {
            Presence::Unknown => {
                return vec![Step::Verify { of: object.clone(), owner: owner.clone() }];
            }
            Presence::Absent => dangling.push(owner.uid.clone()),
            Presence::Alive => {
                let waits = graph.get(&owner.uid).is_some_and(|o| o.waits(FOREGROUND));
                if waits {
                    waiting.push(owner.uid.clone());
                } else {
                    solid += 1;
                }
            }
        }
    }
    if dangling.is_empty() && waiting.is_empty() {
        return Vec::new();
    }
    if solid > 0 {
        dangling.extend(waiting);
        return vec![Step::Disown { object: object.clone(), owners: dangling }];
    }
    let has_blocking = graph.dependents(&object.uid).any(|d| blocks(d, &object.uid));
    let asked = |finalizer: &str| object.finalizers.iter().any(|f| f == finalizer);
    let policy = if asked(ORPHAN) {
        "Orphan"
    } else if asked(FOREGROUND) || (!waiting.is_empty() && has_blocking) {
        "Foreground"
    } else {
        "Background"
    };
    vec![Step::Delete { object: object.clone(), policy }]
}
