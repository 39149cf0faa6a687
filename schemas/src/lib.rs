//! What is said in farshore: identities, units, commands, events, agent messages, frames, and the one codec that writes
//! them. Everything here is data; nothing decides, and nothing reads a clock.

pub mod codec;
pub mod envelope;
pub mod frame;
pub mod ids;
pub mod messages;
pub mod subjects;
pub mod units;
pub mod upcast;
