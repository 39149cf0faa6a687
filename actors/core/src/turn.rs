//! One decision in the making. A step of a decision may depend on the events before it (the last VM of a session ends,
//! so the session ends), so each event is folded into a copy of the state at once: what is decided next sees it.

use crate::decider::{Context, Decider, Decision, Send};
use farshore_schemas::ids::Address;
use farshore_schemas::messages::Message;
use farshore_schemas::units::{Millis, Timestamp};

/// A copy of the state with the events so far folded in, and what shall be sent.
pub(crate) struct Turn<'a, D: Decider> {
    /// The state after the events so far.
    pub(crate) state: D::State,
    /// The circumstances.
    pub(crate) context: &'a Context,
    decision: Decision<D::Event>,
}

impl<'a, D: Decider> Turn<'a, D> {
    pub(crate) fn new(state: &D::State, context: &'a Context) -> Self {
        Turn { state: state.clone(), context, decision: Decision::none() }
    }

    /// An event happened.
    pub(crate) fn log(&mut self, event: D::Event) {
        D::evolve(&mut self.state, &event);
        self.decision.events.push(event);
    }

    /// A message shall be sent.
    pub(crate) fn send(&mut self, to: &Address, body: Message) {
        self.decision.sends.push(Send::new(to.clone(), body));
    }

    /// A message shall be sent that is not to be acted on later than `span` from now.
    pub(crate) fn send_within(&mut self, to: &Address, body: Message, span: Millis) {
        self.decision.sends.push(Send::new(to.clone(), body).expiring(self.context.now, span));
    }

    /// The time of the decision.
    pub(crate) fn now(&self) -> Timestamp {
        self.context.now
    }

    /// What was decided.
    pub(crate) fn done(self) -> Decision<D::Event> {
        self.decision
    }
}
