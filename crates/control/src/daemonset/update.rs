//! Rolling updates of DaemonSets: within `maxUnavailable`, or by surging.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Sync, pod};
use crate::template::share;

/// The pods of a node that are not being deleted: of the present template, and of an older one.
struct Pair {
    new: Option<Arc<Pod>>,
    old: Option<Arc<Pod>>,
}

impl Sync<'_> {
    fn is_rolling(&self) -> bool {
        self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    /// `maxSurge` and `maxUnavailable` for so many nodes, rounded up; never both zero.
    fn limits(&self, nodes: i32) -> (usize, usize) {
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let of = |value: Option<_>| value.map_or(0, |v| share(&v, nodes, true));
        let surge = of(rolling.and_then(|r| r.max_surge.clone()));
        let unavailable = match rolling {
            Some(r) => r.max_unavailable.as_ref().map_or(1, |v| share(v, nodes, true)),
            None => 1,
        };
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        (usize::try_from(surge).unwrap_or(0), usize::try_from(unavailable).unwrap_or(0))
    }

    /// Whether a node may have two pods for a while.
    pub(super) fn surges(&self) -> bool {
        self.is_rolling() && self.limits(1).0 > 0
    }

    /// Nodes that should run a pod, or have one.
    fn nodes(&self) -> Vec<(String, Vec<Arc<Pod>>)> {
        let mut all = self.pods.clone();
        for name in self.eligible() {
            all.entry(name).or_default();
        }
        all.into_iter().collect()
    }

    fn eligible(&self) -> Vec<String> {
        let fit = self.view.state.nodes.iter().filter(|n| pod::fits(self.set, n).0);
        fit.filter_map(|n| n.metadata.name.clone()).collect()
    }

    /// `None` if there are more than one of either.
    fn pair(&self, pods: &[Arc<Pod>]) -> Option<Pair> {
        let staying = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        let (new, old): (Vec<_>, Vec<_>) = staying.cloned().partition(|p| self.is_new(p));
        (new.len() <= 1 && old.len() <= 1)
            .then(|| Pair { new: new.first().cloned(), old: old.first().cloned() })
    }

    /// Takes the next step of the update.
    pub(super) fn roll(&mut self) {
        if !self.is_rolling() {
            return;
        }
        let nodes = i32::try_from(self.eligible().len()).unwrap_or(i32::MAX);
        match self.limits(nodes) {
            (0, unavailable) => self.replace(unavailable),
            (surge, _) => self.surge(surge, usize::try_from(nodes).unwrap_or(0)),
        }
    }

    /// Deletes old pods: those that are unavailable anyway, and others while no more than `most` nodes are
    /// without an available pod.
    fn replace(&mut self, most: usize) {
        let mut unavailable = 0;
        let mut candidates = Vec::new();
        for (_, pods) in self.nodes() {
            match self.pair(&pods) {
                Some(Pair { new: Some(new), old: None }) => {
                    unavailable += usize::from(!self.is_available(&new));
                }
                Some(Pair { new: None, old: Some(old) }) if self.is_available(&old) => candidates.push(old),
                Some(Pair { new: None, old: Some(old) }) => {
                    unavailable += 1;
                    self.remove(&old);
                }
                _ => unavailable += 1,
            }
        }
        let free = most.saturating_sub(unavailable);
        candidates.iter().take(free).for_each(|pod| self.remove(pod));
    }

    /// Creates new pods beside old ones: where the old is unavailable, and elsewhere while no more than `most`
    /// nodes wait for theirs. Nodes that must not run it keep their pod until enough others are available.
    fn surge(&mut self, most: usize, desired: usize) {
        let (mut surging, mut available) = (0, 0);
        let (mut candidates, mut unwanted) = (Vec::new(), Vec::new());
        for (name, pods) in self.nodes() {
            let Some(pair) = self.pair(&pods) else {
                surging += 1;
                continue;
            };
            let shown = pair.old.as_ref().or(pair.new.as_ref());
            available += usize::from(shown.is_some_and(|p| self.is_available(p)));
            let Some(old) = pair.old else { continue };
            if let Some(new) = pair.new {
                if self.is_available(&new) {
                    self.remove(&old);
                } else {
                    surging += 1;
                }
                continue;
            }
            let wanted = self.node(&name).is_some_and(|node| pod::fits(self.set, node).0);
            match (wanted, self.is_available(&old)) {
                (false, false) => self.remove(&old),
                (false, true) => unwanted.push(old),
                (true, false) => {
                    self.create.insert(name);
                }
                (true, true) => candidates.push(name),
            }
        }
        unwanted.iter().take(available.saturating_sub(desired)).for_each(|pod| self.remove(pod));
        self.create.extend(candidates.into_iter().take(most.saturating_sub(surging)));
    }
}
