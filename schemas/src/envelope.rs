//! How a message travels. A *channel* runs from one sender (a site's control, or an agent, in one lineage) to one
//! receiving party. Each message on it carries the next number, given when the frame that sends it is appended. The
//! receiver keeps one mark per channel, accepts only the next number, acks what it has made durable and asks for what
//! it lacks; so the bus may lose, double, delay and reorder.

use crate::ids::{Address, Digest, Lineage, MessageId, Name, SiteName};
use crate::messages::Message;
use crate::units::{Hlc, Timestamp};
use serde::{Deserialize, Serialize};

/// Who speaks on a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sender {
    /// The control of a site: all its actors share one lineage and one outbox.
    Control,
    /// An agent; its lineage is its incarnation.
    Agent(Name),
    /// The operator's door: commands come in by a call, not over the bus, so they have no numbers.
    Api,
}

/// The sending end of a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Channel {
    /// The sender's site.
    pub site: SiteName,
    /// Who at that site.
    pub sender: Sender,
    /// Its lineage.
    pub lineage: Lineage,
}

/// How far a channel has come: the last number accepted, and the digest of that message. The same number with another
/// digest is a fork: two histories under one lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// The last number accepted.
    pub number: u64,
    /// [`Envelope::digest`] of that message.
    pub digest: Digest,
}

/// Messages of a channel that a receiver had acked and lost again: its log was put back to before it took them, and the
/// sender no longer has them. Folded from the jump of a mark, so that the alarm stays as long as the log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lost {
    /// The first number that is lost.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sending party.
    pub from: Address,
    /// The channel.
    pub channel: Channel,
    /// Who shall have it.
    pub to: Address,
    /// Its place on the channel, from 1; 0 from the API.
    pub number: u64,
    /// The first number of the channel that the sender can still say. Everything before it was acked by this receiver as
    /// durable; one that stands further back has lost it with a log that was put back, and goes on from here. 1 where the
    /// sender never asks for that: between actors of one log, and from agents, which begin a new incarnation instead.
    pub floor: u64,
    /// Its id: the frame (or the agent's record) that sent it.
    pub id: MessageId,
    /// When it was sent, by the sender's clock.
    pub sent: Hlc,
    /// Not to be acted on after this; it is then recorded as expired and the channel moves on.
    pub expires: Option<Timestamp>,
    /// A later message on the same channel with the same key stands for this one.
    pub supersede: Option<String>,
    /// On whose behalf: an operator's name, or the actor's address.
    pub principal: String,
    /// W3C trace context (`traceparent`), if there is one.
    pub trace: Option<String>,
    /// What is said; none when a later message with the same key has superseded it.
    pub body: Option<Message>,
}

impl Envelope {
    /// BLAKE3 over id, receiver and body: what has to be equal when the same number comes again. The trace is left out.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let part = (&self.id, &self.to, &self.body);
        hasher.update(&crate::codec::encode(&part));
        Digest(*hasher.finalize().as_bytes())
    }
}

/// What control and agents put on the bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Wire {
    /// A message.
    Deliver(Box<Envelope>),
    /// From a receiver to the sending end: everything up to `number` is durable here. Also the answer to what was seen
    /// before and to what comes too early (the sender then goes on from there).
    Ack {
        /// The channel.
        channel: Channel,
        /// The receiving party.
        receiver: Address,
        /// The last number accepted; 0 for none.
        number: u64,
    },
    /// From a sending end on connect: how far have you heard me? Answered by `Ack`.
    Probe {
        /// The channel.
        channel: Channel,
        /// Who is asked.
        receiver: Address,
    },
    /// From a receiver: this channel forked (same number, other content), or its lineage is refused. The sender stops it
    /// and raises an alarm.
    Fork {
        /// The channel.
        channel: Channel,
        /// The receiving party.
        receiver: Address,
        /// The number in question.
        number: u64,
    },
    /// Lossy, for eyes only: how far a task is.
    Progress {
        /// The task.
        task: crate::ids::TaskId,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// In the agent's words.
        note: String,
    },
}
