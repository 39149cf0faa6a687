//! The one trait that every actor implements, and the words it uses. Three drivers run it: the runtime, replay and the
//! simulator (all through `farshore-kernel`).

use farshore_schemas::ids::{Address, Kind, Lineage, Name, Seq, SiteName, TaskId};
use farshore_schemas::messages::{Message, Refusal, Refused};
use farshore_schemas::units::{Millis, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// What an actor is asked to decide on.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "an input is made once per decision and moved, never kept in numbers")]
pub enum Input<C> {
    /// A command, from whoever `Context::from` says.
    Command(C),
    /// Something that this actor sent was refused.
    Refused(Refused),
    /// The time that `next_wake` named has come.
    Wake,
}

/// Everything from outside that a decision may read besides state and input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// This actor.
    pub me: Address,
    /// The lineage of this site's log: part of every task id made here.
    pub lineage: Lineage,
    /// Who sent the input; this actor itself for a wake or a restart.
    pub from: Address,
    /// On whose behalf: an operator's name, or the sending actor's address.
    pub principal: String,
    /// The time of the decision, as the frame records it.
    pub now: Timestamp,
    /// A seq of this site's log that is not after the frame being decided: the first that it may get. Names epochs.
    pub frame: Seq,
}

impl Context {
    /// An actor of this site.
    pub fn here(&self, kind: Kind, name: &Name) -> Address {
        Address::new(&self.me.site, kind, name)
    }

    /// An actor of some site.
    pub fn at(site: &SiteName, kind: Kind, name: &Name) -> Address {
        Address::new(site, kind, name)
    }

    /// A task id of this actor; `ordinal` comes from its own state and is never used twice.
    pub fn task(&self, ordinal: u64) -> TaskId {
        TaskId { owner: self.me.clone(), lineage: self.lineage, ordinal }
    }
}

/// A message to be sent once the frame is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// To whom.
    pub to: Address,
    /// What.
    pub body: Message,
    /// Not to be acted on after this.
    pub expires: Option<Timestamp>,
    /// A later send to the same party with the same key stands for this one.
    pub supersede: Option<String>,
}

impl Send {
    /// A send without expiry.
    pub fn new(to: Address, body: Message) -> Self {
        Send { to, body, expires: None, supersede: None }
    }

    /// The same, not to be acted on later than `span` after `now`.
    #[must_use]
    pub fn expiring(mut self, now: Timestamp, span: Millis) -> Self {
        self.expires = Some(now.after(span));
        self
    }

    /// The same, standing for earlier ones with this key.
    #[must_use]
    pub fn superseding(mut self, key: impl Into<String>) -> Self {
        self.supersede = Some(key.into());
        self
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<E> {
    /// What happened: folded into the state, in order.
    pub events: Vec<E>,
    /// What shall be done: sent after the append, in order.
    pub sends: Vec<Send>,
}

impl<E> Default for Decision<E> {
    fn default() -> Self {
        Decision { events: Vec::new(), sends: Vec::new() }
    }
}

impl<E> Decision<E> {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// One event.
    pub fn event(event: E) -> Self {
        Decision { events: vec![event], sends: Vec::new() }
    }

    /// The same with one more event.
    #[must_use]
    pub fn and_event(mut self, event: E) -> Self {
        self.events.push(event);
        self
    }

    /// The same with one more send.
    #[must_use]
    pub fn and_send(mut self, send: Send) -> Self {
        self.sends.push(send);
        self
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.sends.is_empty()
    }
}

/// An actor's rules. `State` is the fold of its events from `Default` (the actor does not exist yet).
pub trait Decider: 'static {
    /// Which actor.
    const KIND: Kind;
    /// What it knows: ordered maps only, so that its encoding is canonical.
    type State: Clone + Default + fmt::Debug + PartialEq + Serialize + DeserializeOwned;
    /// What it accepts.
    type Command: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned;
    /// What its log tells.
    type Event: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned;
    /// How it says no: an enum with fields.
    type Rejection: Clone + fmt::Debug + PartialEq + Into<Refusal>;

    /// Takes this actor's commands out of the closed set of messages.
    fn command(message: &Message) -> Option<&Self::Command>;

    /// Decides.
    ///
    /// # Errors
    /// A rejection is a normal answer: it is recorded, and goes back to a sender that is an actor.
    fn decide(
        state: &Self::State,
        input: &Input<Self::Command>,
        context: &Context,
    ) -> Result<Decision<Self::Event>, Self::Rejection>;

    /// Folds one event. Total: it never fails and never panics on an event of any past version.
    fn evolve(state: &mut Self::State, event: &Self::Event);

    /// After a restart: what is owed. What still stands in the outbox is sent again by the kernel and must not be repeated
    /// here; most actors owe nothing.
    fn resume(_state: &Self::State, _context: &Context) -> Decision<Self::Event> {
        Decision::none()
    }

    /// When this actor wants `Input::Wake`, if it does. A wake that yields nothing must have moved this forward, else it
    /// is a defect that the kernel reports.
    fn next_wake(_state: &Self::State) -> Option<Timestamp> {
        None
    }
}

/// Decides and folds: what every driver does, and what tests call.
///
/// # Errors
/// The decider's rejection; the state is then as it was.
pub fn step<D: Decider>(
    state: &mut D::State,
    input: &Input<D::Command>,
    context: &Context,
) -> Result<Decision<D::Event>, D::Rejection> {
    let decision = D::decide(state, input, context)?;
    decision.events.iter().for_each(|event| D::evolve(state, event));
    Ok(decision)
}
