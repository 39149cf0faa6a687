//! How any actor lives: what it has seen and in which order, decide, append, evolve, send, be woken, restart, fold, decide
//! again. Pure: the runtime, replay and the simulator drive it, and none of them has rules of its own.
//!
//! - [`entity`]: one actor: its state, its marks, its decision on an input (a [`draft::Draft`]).
//! - [`sequencer`]: what all actors of a site share: seq, chain, clock, numbers on channels, outbox.
//! - [`site`]: all of a site's actors and its sequencer; folding frames into them.
//! - [`redecide`]: decides again on recorded inputs and compares.

mod answer;
pub mod draft;
pub mod entity;
pub mod outbox;
pub mod redecide;
pub mod sequencer;
pub mod site;

#[cfg(test)]
mod tests;
