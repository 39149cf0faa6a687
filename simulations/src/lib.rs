//! The same kernel, actors, frames and task tables as in production, in a fake world: single-threaded, on virtual time,
//! with a bus that loses, doubles and delays, disks that lose what was not synced, processes that crash, links that fail
//! and operators that change their minds. Checkers hold the promises at every step. A failing run is a seed and a commit.
//!
//! - [`run`], [`run_seed`], [`replay`]: what other crates call.
//! - `sim`, `schedule`, `choices`, `faults`: what happens next, and what goes wrong.
//! - `control`, `recovery`, `agent`, `effects`, `transfers`, `bus`, `disk`: the drivers around the production code.
//! - `world`: hosts, guests, repositories and replica stores.
//! - `story`, `scenario`, `demo`: what operators do.
//! - `checkers`: the promises. `bug`: what shows that they are held.

mod agent;
mod bug;
mod bus;
mod checkers;
mod choices;
mod control;
mod defects;
mod demo;
mod disk;
mod effects;
mod faults;
mod layout;
mod recovery;
mod report;
mod run;
mod scenario;
mod schedule;
mod sim;
mod story;
mod trace;
mod transfers;
mod vault;
mod words;
mod world;

pub use bug::{BUGS, Bug};
pub use checkers::Violation;
pub use choices::Choice;
pub use faults::{FAULTS, Fault};
pub use report::{Report, SIMULATED, SeedViolation, Totals};
pub use run::{Options, Outcome, Progress, UnknownScenario, replay, run, run_seed};
pub use scenario::SCENARIOS;

#[cfg(test)]
mod tests;
