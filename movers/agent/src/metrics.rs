//! What the data channels of an agent have done, counted at the sockets: TLS and framing included.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one agent. They only grow.
#[derive(Debug, Default)]
pub struct Metrics {
    sent: AtomicU64,
    received: AtomicU64,
    accepted: AtomicU64,
    refused_peers: AtomicU64,
    garbage: AtomicU64,
    crowded_out: AtomicU64,
    refused_messages: AtomicU64,
    started: AtomicU64,
    ended: AtomicU64,
}

/// [`Metrics`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes written to data channels.
    pub bytes_sent: u64,
    /// Bytes read from data channels.
    pub bytes_received: u64,
    /// Data channels that were accepted with a peer that an open order names.
    pub accepted: u64,
    /// Connections closed because no open order names the peer, or the peer was not the one named.
    pub refused_peers: u64,
    /// Connections closed because what came was no handshake, no hello or no message of ours.
    pub garbage: u64,
    /// Connections closed because as many as are served at once were there.
    pub crowded_out: u64,
    /// Messages on the bus that were not obeyed.
    pub refused_messages: u64,
    /// Tasks begun, or gone on with after a start.
    pub started: u64,
    /// Tasks ended.
    pub ended: u64,
}

macro_rules! count {
    ($($name:ident => $field:ident),*) => {
        $(pub(crate) fn $name(&self, by: u64) {
            self.$field.fetch_add(by, Ordering::Relaxed);
        })*
    };
}

impl Metrics {
    count!(
        add_sent => sent, add_received => received, add_accepted => accepted, add_refused_peers => refused_peers,
        add_garbage => garbage, add_crowded_out => crowded_out, add_refused_messages => refused_messages,
        add_started => started, add_ended => ended
    );

    /// The counts now.
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            bytes_sent: get(&self.sent),
            bytes_received: get(&self.received),
            accepted: get(&self.accepted),
            refused_peers: get(&self.refused_peers),
            garbage: get(&self.garbage),
            crowded_out: get(&self.crowded_out),
            refused_messages: get(&self.refused_messages),
            started: get(&self.started),
            ended: get(&self.ended),
        }
    }
}
