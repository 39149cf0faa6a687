//! How messages travel: a lossy datagram service under one trait, in process ([`LocalBus`], which processes of one machine
//! can share over a socket: [`SocketBus`]) or over NATS ([`NatsBus`]).
//!
//! A publish that succeeds promises nothing: the bus may lose, double, delay and reorder. Numbers, acks and asking again
//! are the kernel's (docs/decisions/0001). What the bus does promise: every queue is bounded, nothing ever waits inside
//! [`Bus::publish`], what is refused or dropped is counted, and both implementations refuse the same things.
//!
//! Called by the runtime for control and by the agents. Encoding is done here in one place ([`send_wire`],
//! [`Subscription::next_wire`]), in process too, so that both run through the same codec. No bulk data travels here.

mod counters;
mod error;
mod local;
mod nats;
mod options;
mod socket;
mod subscription;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod wire;

pub use counters::{Counters, Counts};
pub use error::BusError;
pub use local::LocalBus;
pub use nats::NatsBus;
pub use options::{NatsOptions, Tls};
pub use socket::{SocketBus, SocketHub};
pub use subscription::{BusMessage, Subscription};
pub use wire::{decode_wire, send_wire};

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::watch;

/// Whether the bus is joined to a server now, and how often it has joined. The runtime probes its channels each time that
/// `connects` grows: what was published in between may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether messages can leave now.
    pub up: bool,
    /// Times that the connection was made, from 1.
    pub connects: u64,
}

/// What a process calls itself where NATS lists its micro services (`nats micro ls`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Letters, digits, `-` and `_`: `farshore-control`, `farshore-agent`.
    pub name: String,
    /// A semantic version.
    pub version: String,
    /// Anything that helps an operator to tell instances apart, such as the site's name. No secrets.
    pub metadata: BTreeMap<String, String>,
}

/// Keeps a [`Service`] listed; dropping it takes the service off the list.
pub struct Announcement {
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcement").field("listed", &self.on_drop.is_some()).finish()
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Some(withdraw) = self.on_drop.take() {
            withdraw();
        }
    }
}

/// The lossy datagram service.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Puts a message on its way, without waiting. `Ok` promises nothing; an error means that at least one receiver
    /// surely does not get it.
    ///
    /// # Errors
    /// [`BusError::TooLarge`], [`BusError::Subject`], [`BusError::Full`] when a bounded queue has no room, and over NATS
    /// [`BusError::Down`] while there is no connection.
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError>;

    /// Receives what is published from now on under a subscription (`*` stands for one token, a last `>` for one or
    /// more). At most `capacity` messages, each of at most [`farshore_schemas::codec::MAX_MESSAGE`] bytes, wait; what
    /// comes on top is dropped and counted.
    ///
    /// # Errors
    /// [`BusError::Subject`], [`BusError::Down`].
    async fn subscribe(&self, subscription: &str, capacity: NonZeroUsize) -> Result<Subscription, BusError>;

    /// Waits until what this side published has reached the server (in process: nothing to wait for).
    ///
    /// # Errors
    /// [`BusError::Down`].
    async fn flush(&self) -> Result<(), BusError>;

    /// See [`Link`].
    fn connected(&self) -> watch::Receiver<Link>;

    /// What this side has counted.
    fn counters(&self) -> &Arc<Counters>;

    /// Lists this process as a NATS micro service (in process: there is no list) as long as the answer lives.
    ///
    /// # Errors
    /// [`BusError::Announce`] for a name or version that NATS does not take, [`BusError::Down`].
    async fn announce(&self, service: &Service) -> Result<Announcement, BusError>;
}
