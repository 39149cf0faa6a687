//! What hosts and repositories share: the link to their agent, and the orders that it has not answered yet.
//!
//! An order has a task id made of the owner's address and an ordinal that an event takes; it stays open until the agent
//! says how it ended. It is sent only once the agent is known, so that what the agent must enforce reaches it first;
//! an agent that lost its memory (a new incarnation) gets every open order again under the same id.

use crate::decider::{Context, Decision, Send};
use farshore_schemas::ids::{Address, Lineage, TaskId, VmRef};
use farshore_schemas::messages::agent::{self, Endpoint, Order, TaskSpec};
use farshore_schemas::messages::{Epoch, Message};
use farshore_schemas::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The link of a host or repository to the mover actor that it named.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Link {
    /// The agent, once its mover has said that it is there.
    pub agent: Option<Seen>,
    /// How often the mover has refused to know itself since it last did not: makes the wait longer.
    pub refusals: u32,
    /// When to register again, while refused.
    pub again: Option<Timestamp>,
}

/// An agent as it was last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Its incarnation.
    pub incarnation: Lineage,
    /// Its data channel.
    pub endpoint: Endpoint,
}

impl Link {
    /// When to register again after one more refusal: 5 s, doubled each time, at most about 5 minutes. A mover may be defined
    /// after what names it.
    pub(crate) fn again_at(&self, now: Timestamp) -> Timestamp {
        now.after(Millis::from_secs(5 << self.refusals.min(6)))
    }

    /// Folds a refusal.
    pub(crate) fn refused(&mut self, again: Timestamp) {
        self.refusals = self.refusals.saturating_add(1);
        self.again = Some(again);
    }

    /// Folds the agent's coming; whether it has lost its memory, or was not known.
    pub(crate) fn seen(&mut self, incarnation: Lineage, endpoint: &Endpoint) -> bool {
        let new = self.is_new(incarnation);
        *self = Link { agent: Some(Seen { incarnation, endpoint: endpoint.clone() }), refusals: 0, again: None };
        new
    }

    /// Whether this incarnation knows nothing of what was told before.
    pub(crate) fn is_new(&self, incarnation: Lineage) -> bool {
        self.agent.as_ref().is_none_or(|seen| seen.incarnation != incarnation)
    }
}

/// Orders of an actor; `W` is for what each was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Orders<W> {
    /// The ordinal of the next one.
    pub next: u64,
    /// Those without an answer, by ordinal.
    pub open: BTreeMap<u64, Open<W>>,
}

/// An order without an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open<W> {
    /// As it was, or will be, sent.
    pub order: Order,
    /// For what.
    pub work: W,
}

impl<W> Default for Orders<W> {
    fn default() -> Self {
        Orders { next: 0, open: BTreeMap::new() }
    }
}

impl<W: Clone> Orders<W> {
    /// Orders that go on counting where an entity of the same name stopped: task ids are never used twice.
    pub(crate) fn from_ordinal(next: u64) -> Self {
        Orders { next, open: BTreeMap::new() }
    }

    /// Folds an order.
    pub(crate) fn ordered(&mut self, order: &Order, work: &W) {
        let ordinal = order.task.ordinal;
        self.next = self.next.max(ordinal.saturating_add(1));
        self.open.insert(ordinal, Open { order: order.clone(), work: work.clone() });
    }

    /// Folds an end.
    pub(crate) fn ended(&mut self, ordinal: u64) -> Option<Open<W>> {
        self.open.remove(&ordinal)
    }

    /// The open order with this id.
    pub(crate) fn find(&self, task: &TaskId) -> Option<&Open<W>> {
        self.open.get(&task.ordinal).filter(|open| open.order.task == *task)
    }
}

/// A decision in the making that gives orders.
pub(crate) struct Draft<'a, E, W> {
    context: &'a Context,
    agent: Address,
    known: bool,
    next: u64,
    wrap: fn(Box<Order>, W) -> E,
    decision: Decision<E>,
}

impl<'a, E, W> Draft<'a, E, W> {
    /// For an actor with these orders, whose agent is `agent`. `wrap` makes the event of an order.
    pub(crate) fn new(
        context: &'a Context,
        (agent, link): (Address, &Link),
        next: u64,
        wrap: fn(Box<Order>, W) -> E,
    ) -> Self {
        Draft { context, agent, known: link.agent.is_some(), next, wrap, decision: Decision::none() }
    }

    /// The same, once the agent has said in this very decision that it is there.
    pub(crate) fn agent_known(mut self) -> Self {
        self.known = true;
        self
    }

    /// An event.
    pub(crate) fn event(&mut self, event: E) {
        self.decision.events.push(event);
    }

    /// A message.
    pub(crate) fn send(&mut self, to: Address, body: Message) {
        self.decision.sends.push(Send::new(to, body));
    }

    /// A message with an expiry or a supersede key.
    pub(crate) fn push(&mut self, send: Send) {
        self.decision.sends.push(send);
    }

    /// A message to the agent that is not an order.
    pub(crate) fn tell(&mut self, command: agent::Command) {
        self.send(self.agent.clone(), Message::Agent(command));
    }

    /// The ordinal that the next order will get.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// A new order.
    pub(crate) fn order(&mut self, spec: TaskSpec, fence: Option<(VmRef, Epoch)>, work: W) {
        let task = self.context.task(self.next);
        self.next += 1;
        self.order_as(Order { task, fence, expires: None, spec }, work);
    }

    /// A new order that the agent does not begin later than `span` from now.
    pub(crate) fn order_within(&mut self, span: Millis, (spec, fence): (TaskSpec, Option<(VmRef, Epoch)>), work: W) {
        let task = self.context.task(self.next);
        self.next += 1;
        let expires = Some(self.context.now.after(span));
        self.order_as(Order { task, fence, expires, spec }, work);
    }

    /// An order under an id that it had before.
    pub(crate) fn order_as(&mut self, order: Order, work: W) {
        if self.known {
            self.tell(agent::Command::Run(Box::new(order.clone())));
        }
        self.event((self.wrap)(Box::new(order), work));
    }

    /// The decision.
    pub(crate) fn done(self) -> Decision<E> {
        self.decision
    }
}
