//! What is said: one module per actor with its commands (what it accepts, answers included) and events (what its
//! log tells), and one for agents. `Message` closes the set: there is no open-ended payload anywhere.

pub mod agent;
pub mod broker;
pub mod host;
pub mod job;
pub mod keep;
pub mod mover;
pub mod plan;
pub mod replica;
pub mod repository;
pub mod session;
pub mod site;

use crate::ids::Seq;
use crate::ids::{Address, Kind, SiteName};
use serde::{Deserialize, Serialize};

/// Any message, by the kind of party that accepts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// For the site actor.
    Site(site::Command),
    /// For a host actor.
    Host(host::Command),
    /// For a mover actor.
    Mover(mover::Command),
    /// For a repository actor.
    Repository(repository::Command),
    /// For the broker.
    Broker(broker::Command),
    /// For a job.
    Job(job::Command),
    /// For a session.
    Session(session::Command),
    /// For a replica.
    Replica(replica::Command),
    /// For a failover plan.
    Plan(plan::Command),
    /// For an agent.
    Agent(agent::Command),
    /// For any actor: what it sent earlier was refused.
    Refused(Box<Refused>),
}

impl Message {
    /// The kind of party that this is for; none for a refusal, which goes to whoever asked.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Message::Site(_) => Some(Kind::Site),
            Message::Host(_) => Some(Kind::Host),
            Message::Mover(_) => Some(Kind::Mover),
            Message::Repository(_) => Some(Kind::Repository),
            Message::Broker(_) => Some(Kind::Broker),
            Message::Job(_) => Some(Kind::Job),
            Message::Session(_) => Some(Kind::Session),
            Message::Replica(_) => Some(Kind::Replica),
            Message::Plan(_) => Some(Kind::Plan),
            Message::Agent(_) => Some(Kind::Agent),
            Message::Refused(_) => None,
        }
    }
}

/// A refusal sent back to whoever asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Who refused.
    pub by: Address,
    /// What was refused, as it was sent.
    pub message: Message,
    /// Why, and what to do.
    pub refusal: Refusal,
}

/// A normal "no": what happened, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable code, `FS-<KIND>-<WHAT>`.
    pub code: String,
    /// What happened, to what, and why.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

/// The right to run a VM. Higher counters win; the same counter from two sites is a conflict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// Grows with every grant.
    pub counter: u64,
    /// The site whose log grants it.
    pub site: SiteName,
    /// A seq in the granting site's log that is not after the granting frame: with site and counter it finds it.
    pub frame: Seq,
}

/// Who acted, with a reason: for everything that overrides a guard (P5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Override {
    /// The operator's name.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What became of a piece of work. Unknown is a value (P9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SessionResult {
    /// Not ended yet.
    None,
    /// Positive proof for every object.
    Success,
    /// All objects are safe, something wants attention.
    Warning,
    /// At least one object is not safe.
    Failed,
}
