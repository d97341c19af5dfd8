//! Model against machine: random objects and connections go through a reference that was written from the
//! definition of a Service's behaviour, and through the real planner, maps, programs and sockets. They must
//! agree at every step.
//!
//! `DAYMARK_FUZZ_SEED=n` starts at that seed, `DAYMARK_FUZZ_ROUNDS=n` runs so many seeds from it, and
//! `DAYMARK_FUZZ_STEPS=n` makes each history so long.

mod common;
#[path = "fuzz/history.rs"]
mod history;
#[path = "fuzz/machine.rs"]
mod machine;
#[path = "fuzz/reference.rs"]
mod reference;
#[path = "fuzz/servers.rs"]
mod servers;
#[path = "fuzz/sockets.rs"]
mod sockets;
#[path = "fuzz/universe.rs"]
mod universe;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::net::Space;
use daymark_model::AddressFamily;
use history::Step;
use machine::Machine;
use universe::Universe;

/// How often a failing history is tried again with less in it.
const SHRINKING: usize = 120;

/// Not a test: the process that [`common::net::Client`] starts.
#[test]
fn client() {
    common::net::client_main();
}

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

/// Where a history fails, and how.
struct Failure {
    step: usize,
    why: String,
}

fn run(universe: Universe, history: &[Step]) -> Result<(), Failure> {
    let space = Space::new();
    space.run(|| {
        let mut machine = Machine::new(universe, &space);
        for (index, step) in history.iter().enumerate() {
            let failed = |why: String| Failure { step: index, why };
            // A wrong checksum panics.
            match catch_unwind(AssertUnwindSafe(|| machine.step(step))) {
                Ok(result) => result.map_err(failed)?,
                Err(panic) => return Err(failed(message(panic.as_ref()))),
            }
        }
        Ok(())
    })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

/// Takes out of a failing history what it fails without, as far as patience goes.
fn shrink(universe: Universe, mut history: Vec<Step>, mut failure: Failure) -> (Vec<Step>, Failure) {
    history.truncate(failure.step + 1);
    let mut tries = 0;
    let mut chunk = history.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < history.len().saturating_sub(1) && tries < SHRINKING {
            tries += 1;
            let end = (at + chunk).min(history.len() - 1);
            let mut shorter = history.clone();
            shorter.drain(at..end);
            match run(universe, &shorter) {
                Err(again) => {
                    shorter.truncate(again.step + 1);
                    (history, failure) = (shorter, again);
                }
                Ok(()) => at = end,
            }
        }
        chunk /= 2;
    }
    (history, failure)
}

fn agree(family: AddressFamily, first: u64, rounds: u64) {
    let steps = number("DAYMARK_FUZZ_STEPS", 500) as usize;
    let first = number("DAYMARK_FUZZ_SEED", first);
    for seed in first..first + number("DAYMARK_FUZZ_ROUNDS", rounds) {
        let universe = Universe { family, seed };
        let history = history::draw(&universe, steps);
        if let Err(failure) = run(universe, &history) {
            let (history, failure) = shrink(universe, history, failure);
            let steps: Vec<String> = history.iter().map(|step| format!("{step:?}")).collect();
            panic!("{family:?}, DAYMARK_FUZZ_SEED={seed}:\n{}\n{}", steps.join("\n"), failure.why);
        }
    }
}

#[test]
fn machine_agrees_with_the_reference_over_ipv4() {
    agree(AddressFamily::Ipv4, 1, 8);
}

#[test]
fn machine_agrees_with_the_reference_over_ipv6() {
    agree(AddressFamily::Ipv6, 1, 8);
}
