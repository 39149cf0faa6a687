//! Who decides: one folder per actor, pure. `decide` looks at a state and an input and says what happened (events) and
//! what shall be done (sends); `evolve` folds an event into the state and does nothing else. There is no clock, no
//! chance, no I/O and no async here: `now` and all ids come in with the input, so that the same code decides in
//! production, in replay and in simulation.

pub mod broker;
pub mod decider;
pub mod host;
pub mod job;
pub mod limits;
pub mod mover;
pub mod naming;
pub mod orders;
pub mod pairs;
pub mod plan;
pub mod replica;
pub mod repository;
pub mod session;
pub mod site;
pub mod transfer;

mod refusal;

#[cfg(test)]
mod testing;
mod turn;

/// Version of the decision code. Raised with every change that may decide otherwise on the same input; frames carry it,
/// and `redecide` demands equality only within one version.
pub const CORE_VERSION: u32 = 2;
