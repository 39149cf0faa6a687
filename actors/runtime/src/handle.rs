//! The door into a running site for the API, the demo and tests: thread-safe, bounded.

use farshore_kernel::entity::Memory;
use farshore_schemas::envelope::Wire;
use farshore_schemas::ids::{Digest, EntityId, Kind, Lineage, Name, Seq, SiteName};
use farshore_schemas::messages::{Message, Refusal};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};

/// A command's answer, given once its frame is durable.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Answer {
    /// Decided, in this frame.
    Accepted {
        /// The frame.
        seq: Seq,
    },
    /// A normal no, recorded in this frame.
    Rejected {
        /// The frame.
        seq: Seq,
        /// Why, and what to do.
        refusal: Refusal,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The site stopped, or stops.
    #[error("FS-CONTROL-STOPPED: the control of this site does not run: {0}")]
    Stopped(String),
    /// Too many commands wait already.
    #[error("FS-CONTROL-BUSY: too many commands wait for this actor; try again in a moment")]
    Busy,
    /// There is no such kind of actor.
    #[error("FS-CONTROL-NO-ACTOR: {0} is not an actor that takes commands")]
    NoActor(EntityId),
}

/// How the site is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The site.
    pub site: SiteName,
    /// Its log's lineage.
    pub lineage: Lineage,
    /// The last frame decided.
    pub last: Seq,
    /// The last frame that is durable.
    pub durable: Seq,
    /// Actors.
    pub actors: usize,
    /// Messages that wait for confirmation, per receiver.
    pub waiting: Vec<(String, usize)>,
    /// Whether the bus is joined.
    pub bus_up: bool,
    /// Why the site stopped deciding, if it did.
    pub halted: Option<String>,
    /// Things that an operator should look at, newest last: forks, panics, refused senders.
    pub alarms: Vec<String>,
    /// Agents of this site that were heard since this control started.
    pub agents: Vec<AgentHeard>,
    /// Counters since the start.
    pub counters: Counters,
}

/// An agent of this site that was heard. Not kept over a restart of the control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentHeard {
    /// The agent: the name of its mover.
    pub agent: Name,
    /// When it was last heard.
    pub heard: Timestamp,
    /// Whether that was so lately that it is taken to be there: agents are asked every 5 s, and are gone after 15 s.
    pub there: bool,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Frames decided.
    pub decisions: u64,
    /// Of these, rejections.
    pub rejections: u64,
    /// Messages seen before.
    pub repeats: u64,
    /// Messages that came too early.
    pub gaps: u64,
    /// Panics caught in deciders.
    pub panics: u64,
    /// Bus messages that could not be read, or were not for us.
    pub refused: u64,
    /// Messages put on the bus, repeats included.
    pub published: u64,
}

/// A frame that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FrameNotice {
    /// Its seq.
    pub seq: Seq,
    /// Who decided.
    pub actor: EntityId,
}

/// What a site had in memory when it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalState {
    /// The site.
    pub site: SiteName,
    /// The last frame, durable.
    pub seq: Seq,
    /// Its hash.
    pub frame: Digest,
    /// The state hash over all actors in memory.
    pub state: Digest,
}

pub(crate) enum Request {
    Command {
        to: EntityId,
        message: Box<Message>,
        principal: String,
        trace: Option<String>,
        reply: oneshot::Sender<Result<Answer, NoAnswer>>,
    },
    Memories {
        kind: Option<Kind>,
        reply: oneshot::Sender<Vec<Memory>>,
    },
    Memory {
        id: EntityId,
        reply: oneshot::Sender<Option<Memory>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    Shutdown {
        reply: oneshot::Sender<Result<FinalState, String>>,
    },
}

/// See the module.
#[derive(Clone)]
pub struct ControlHandle {
    pub(crate) site: SiteName,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) frames: broadcast::Sender<FrameNotice>,
    pub(crate) progress: broadcast::Sender<Wire>,
}

impl ControlHandle {
    /// The site.
    pub fn site(&self) -> &SiteName {
        &self.site
    }

    /// Asks an actor to do something on behalf of `principal`; answers when the decision is durable.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn command(
        &self,
        to: &EntityId,
        message: Message,
        principal: &str,
        trace: Option<String>,
    ) -> Result<Answer, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Command {
            to: to.clone(),
            message: Box::new(message),
            principal: principal.to_owned(),
            trace,
            reply,
        };
        self.requests.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Everything that the actors of a kind (or all) know, in order.
    ///
    /// # Errors
    /// [`NoAnswer::Stopped`].
    pub async fn memories(&self, kind: Option<Kind>) -> Result<Vec<Memory>, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Memories { kind, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// What one actor knows; none if it never took anything.
    ///
    /// # Errors
    /// [`NoAnswer::Stopped`].
    pub async fn memory(&self, id: &EntityId) -> Result<Option<Memory>, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Memory { id: id.clone(), reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// How the site is.
    ///
    /// # Errors
    /// [`NoAnswer::Stopped`].
    pub async fn status(&self) -> Result<Status, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Status { reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Waits until the site's control has ended: after a shutdown, or because its thread died.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// Frames as they become durable; a slow listener misses some and is told how many.
    pub fn frames(&self) -> broadcast::Receiver<FrameNotice> {
        self.frames.subscribe()
    }

    /// Progress of tasks: lossy, for eyes only.
    pub fn progress(&self) -> broadcast::Receiver<Wire> {
        self.progress.subscribe()
    }

    /// Stops deciding, waits until everything decided is durable and the view stored, and says what was in memory.
    ///
    /// # Errors
    /// Why the site had stopped before, if it had.
    pub async fn shutdown(&self) -> Result<FinalState, String> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Shutdown { reply }).await.map_err(|_| "it does not run".to_owned())?;
        answer.await.map_err(|_| "it ended without an answer".to_owned())?
    }
}

fn gone() -> NoAnswer {
    NoAnswer::Stopped("it has ended".to_owned())
}
