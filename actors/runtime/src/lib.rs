//! The actix shell around the kernel: one generic actor per entity, all on one arbiter with the sequencer, so that command,
//! state and append never cross threads. The log's thread makes frames durable in groups; sends, acks and answers are
//! released when it says so. No rule is made here: everything that is decided is decided by the kernel's parts.
//!
//! - [`start`]: brings a site up on its own thread and gives a [`handle::ControlHandle`].
//! - [`ports`]: what the wiring plugs in: clock, log, view, and how an actor is rebuilt from the log.
//! - `entity_actor`: one actor: decide, apply, append; a panic rebuilds it from the log.
//! - `shared`: what they share; `inbound`: the bus; `release`: what follows when frames are durable.

mod entity_actor;
pub mod handle;
mod inbound;
pub mod log_port;
pub mod ports;
mod presence;
mod release;
mod shared;
mod start;

#[cfg(test)]
mod tests;

pub use start::{Opened, Options, start};
