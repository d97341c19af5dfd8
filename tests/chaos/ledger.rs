//! The ledger of everything that was asked, and the judgement over it. Pure: times are nanoseconds of the
//! monotonic clock, which all processes share.

use std::collections::{BTreeMap, BTreeSet};

pub type Time = u64;

/// A set of backends that was written to the slices.
#[derive(Clone, Debug)]
pub struct Era {
    /// When the write was first sent, and when it was acknowledged.
    pub sent: Time,
    pub acknowledged: Time,
    pub ready: BTreeSet<String>,
    /// Terminating, but serving: they keep what they have.
    pub draining: BTreeSet<String>,
}

/// A time in which a node's agent could not learn of changes: it was dead, or the API server was.
#[derive(Clone, Debug)]
pub struct Outage {
    pub node: String,
    pub from: Time,
    pub until: Time,
}

/// One request, and who answered it or what went wrong.
#[derive(Clone, Debug)]
pub struct Request {
    pub load: String,
    #[allow(dead_code, reason = "shown when it fails")]
    pub id: u64,
    /// The node whose data plane chooses.
    pub node: String,
    pub start: Time,
    pub end: Time,
    pub answer: Result<String, String>,
    /// A datagram may belong to a flow that there was before, be it of an earlier socket with this port.
    pub datagram: bool,
}

impl Era {
    fn allows(&self, backend: &str, request: &Request) -> bool {
        self.ready.contains(backend) || (request.datagram && self.draining.contains(backend))
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub eras: Vec<Era>,
    pub outages: Vec<Outage>,
    pub requests: Vec<Request>,
}

#[derive(Debug, Default)]
pub struct Judgement {
    /// Requests that failed.
    pub broken: Vec<String>,
    /// Requests that reached a backend which was not, or no longer, in the slices.
    pub wrong: Vec<String>,
    pub answered_by: BTreeMap<String, usize>,
    pub by_load: BTreeMap<String, usize>,
    /// The longest after its removal was acknowledged that a backend got a request, all agents being well.
    pub latest: Time,
}

impl Ledger {
    /// `window`: how long an agent that is well may take to obey a change.
    pub fn judge(&self, window: Time) -> Judgement {
        let mut judgement = Judgement::default();
        for request in &self.requests {
            *judgement.by_load.entry(request.load.clone()).or_default() += 1;
            match &request.answer {
                Err(why) => {
                    judgement.broken.push(format!("{why}{}: {request:?}", self.circumstances(request)));
                }
                // Connections that are held say nothing about choosing.
                Ok(backend) if backend.is_empty() => {}
                Ok(backend) => {
                    *judgement.answered_by.entry(backend.clone()).or_default() += 1;
                    if !self.may_answer(backend, request, window) {
                        judgement.wrong.push(format!("{backend} was not to be chosen: {request:?}"));
                    }
                    judgement.latest = judgement.latest.max(self.lateness(backend, request, window));
                }
            }
        }
        judgement
    }

    /// What had just happened, for who looks for the cause.
    fn circumstances(&self, request: &Request) -> String {
        let ago = |then: Time| (request.start as i64 - then as i64) / 1_000_000;
        let near = |outage: &&Outage| (-500..5000).contains(&ago(outage.from));
        let outages: Vec<String> = self
            .outages
            .iter()
            .filter(near)
            .map(|o| format!(", {} away {} to {} ms before", o.node, ago(o.from), ago(o.until)))
            .collect();
        let changed = self.eras.iter().rfind(|era| era.sent <= request.start);
        outages.concat()
            + &changed.map_or(String::new(), |era| format!(", {:?} since {} ms", era.ready, ago(era.sent)))
    }

    /// Eras with the time in which each was or may have been in force.
    fn in_force(&self) -> impl Iterator<Item = (&Era, Time)> {
        let next = self.eras.iter().skip(1).map(|era| era.acknowledged).chain([Time::MAX]);
        self.eras.iter().zip(next)
    }

    fn may_answer(&self, backend: &str, request: &Request, window: Time) -> bool {
        let known = self.surely_known(request, window);
        self.in_force()
            .any(|(era, until)| era.allows(backend, request) && era.sent <= request.end && until >= known)
    }

    /// The latest time whose changes the node certainly obeyed when the request began.
    fn surely_known(&self, request: &Request, window: Time) -> Time {
        let mut known = request.start.saturating_sub(window);
        loop {
            let blind = self.outages.iter().find(|outage| {
                outage.node == request.node
                    && outage.from.saturating_sub(window) < known
                    && outage.until.saturating_add(window) > known
                    && outage.from < request.start
            });
            match blind {
                Some(outage) => known = outage.from.saturating_sub(window),
                None => return known,
            }
        }
    }

    fn lateness(&self, backend: &str, request: &Request, window: Time) -> Time {
        let well = self.surely_known(request, window) == request.start.saturating_sub(window);
        let offered_now =
            self.in_force().any(|(era, until)| era.allows(backend, request) && until >= request.start);
        if !well || offered_now {
            return 0;
        }
        let left = self.in_force().filter(|(era, _)| era.allows(backend, request)).map(|(_, until)| until);
        request.start.saturating_sub(left.max().unwrap_or(request.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(answer: &str, start: Time, outages: &[(Time, Time)]) -> Ledger {
        let era = |sent, ready: &[&str]| Era {
            sent,
            acknowledged: sent + 5,
            ready: ready.iter().map(|name| (*name).to_owned()).collect(),
            draining: BTreeSet::from(["d".to_owned()]),
        };
        Ledger {
            eras: vec![era(0, &["a", "b"]), era(1000, &["a"]), era(3000, &["a", "c"])],
            outages: outages
                .iter()
                .map(|(from, until)| Outage { node: "n".into(), from: *from, until: *until })
                .collect(),
            requests: vec![Request {
                load: "l".into(),
                id: 1,
                node: "n".into(),
                start,
                end: start + 10,
                answer: Ok(answer.into()),
                datagram: false,
            }],
        }
    }

    fn wrong(answer: &str, start: Time, outages: &[(Time, Time)]) -> bool {
        !ledger(answer, start, outages).judge(100).wrong.is_empty()
    }

    #[test]
    fn a_removed_backend_is_wrong_once_the_window_is_over() {
        assert!(!wrong("a", 2000, &[]) && !wrong("b", 900, &[]) && !wrong("b", 1050, &[]));
        assert!(wrong("b", 1200, &[]) && wrong("nobody", 50, &[]));
        assert!(wrong("c", 2900, &[]), "not yet added");
        assert!(!wrong("c", 2995, &[]), "added while the request ran");
    }

    #[test]
    fn an_agent_that_was_away_is_excused_until_it_is_back() {
        assert!(!wrong("b", 1500, &[(950, 1450)]), "it died before it could obey");
        assert!(wrong("b", 1700, &[(950, 1450)]), "long back");
        assert!(wrong("b", 1700, &[(1300, 1650)]), "it had obeyed before it died");
        assert!(wrong("c", 2000, &[(0, 1950)]), "nobody excuses the future");
    }

    #[test]
    fn a_draining_backend_keeps_flows_of_datagrams_alone() {
        assert!(wrong("d", 2000, &[]));
        let mut ledger = ledger("d", 2000, &[]);
        ledger.requests[0].datagram = true;
        assert!(ledger.judge(100).wrong.is_empty());
    }

    #[test]
    fn lateness_counts_from_the_removal() {
        assert_eq!(ledger("b", 1205, &[]).judge(100).latest, 200);
        assert_eq!(ledger("a", 1205, &[]).judge(100).latest, 0);
        assert_eq!(ledger("b", 1205, &[(990, 1200)]).judge(100).latest, 0);
    }
}
