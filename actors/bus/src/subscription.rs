//! The receiving end, the same for both implementations: a bounded queue that drops and counts.

use crate::counters::Counters;
use crate::wire::decode_wire;
use bytes::Bytes;
use farshore_schemas::codec::{CodecError, MAX_MESSAGE};
use farshore_schemas::envelope::Wire;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusMessage {
    /// The subject it was published under.
    pub subject: String,
    /// Its bytes, at most [`MAX_MESSAGE`].
    pub payload: Bytes,
}

/// A bounded queue of what came in under one subscription. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<BusMessage>,
    dropped: watch::Receiver<u64>,
    counters: Arc<Counters>,
}

/// The end that an implementation writes to.
#[derive(Debug)]
pub(crate) struct Inlet {
    queue: mpsc::Sender<BusMessage>,
    dropped: watch::Sender<u64>,
    counters: Arc<Counters>,
}

/// What became of a message at an inlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the queue.
    Queued,
    /// The queue was full, or the message too large.
    Dropped,
    /// Nobody listens any more.
    Gone,
}

/// A new queue.
pub(crate) fn queue(capacity: NonZeroUsize, counters: &Arc<Counters>) -> (Inlet, Subscription) {
    let (sender, receiver) = mpsc::channel(capacity.get());
    let (dropped, seen) = watch::channel(0);
    let inlet = Inlet { queue: sender, dropped, counters: Arc::clone(counters) };
    (inlet, Subscription { queue: receiver, dropped: seen, counters: Arc::clone(counters) })
}

impl Inlet {
    /// Puts a message into the queue or drops it; never waits.
    pub(crate) fn offer(&self, message: BusMessage) -> Taken {
        if message.payload.len() > MAX_MESSAGE {
            self.counters.add(|counts| counts.oversized += 1);
            return Taken::Dropped;
        }
        match self.queue.try_send(message) {
            Ok(()) => {
                self.counters.add(|counts| counts.delivered += 1);
                Taken::Queued
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.counters.add(|counts| counts.dropped += 1);
                self.dropped.send_modify(|dropped| *dropped += 1);
                Taken::Dropped
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Taken::Gone,
        }
    }

    /// Whether the subscription has been dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Waits until the subscription has been dropped.
    pub(crate) async fn gone(&self) {
        self.queue.closed().await;
    }
}

impl Subscription {
    /// The next message; none when the bus has been closed and everything received was read.
    pub async fn next(&mut self) -> Option<BusMessage> {
        self.queue.recv().await
    }

    /// The next message if one is waiting now.
    pub fn try_next(&mut self) -> Option<BusMessage> {
        self.queue.try_recv().ok()
    }

    /// The next message, decoded. What does not decode is counted and handed out as an error, so that the caller can
    /// say where it came from and go on.
    pub async fn next_wire(&mut self) -> Option<(String, Result<Wire, CodecError>)> {
        let message = self.next().await?;
        let wire = decode_wire(&message.payload);
        if wire.is_err() {
            self.counters.add(|counts| counts.undecodable += 1);
        }
        Some((message.subject, wire))
    }

    /// How many messages this subscription has dropped because its queue was full.
    pub fn dropped(&self) -> u64 {
        *self.dropped.borrow()
    }

    /// That count as it changes.
    pub fn watch_dropped(&self) -> watch::Receiver<u64> {
        self.dropped.clone()
    }
}
