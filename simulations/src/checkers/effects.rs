//! P4: effects carry the id of what caused them and an epoch; an overtaken epoch is never obeyed, and doing a thing twice
//! has no second effect. An input is accepted once.

use super::Checkers;
use farshore_kernel::draft::Draft;
use farshore_schemas::envelope::{Channel, Envelope, Sender};
use farshore_schemas::frame::Input;
use farshore_schemas::ids::{EntityId, MessageId, Seq, TaskId, VmRef};
use farshore_schemas::messages::agent::{Command, Order};
use farshore_schemas::messages::{Epoch, Message};
use std::collections::BTreeMap;

/// A message as its receiver took it.
type Taken = (usize, EntityId, Channel, MessageId);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct EffectChecker {
    /// Messages that were accepted, and in which frame of the receiver.
    accepted: BTreeMap<Taken, u64>,
    /// The epoch that each order was really given under.
    orders: BTreeMap<TaskId, Option<(VmRef, u64)>>,
    /// The highest epoch that an agent was told.
    told: BTreeMap<(usize, VmRef), u64>,
}

impl Checkers {
    /// A frame accepts a message.
    pub(super) fn note_accepted(&mut self, site: usize, seq: Seq, draft: &Draft) {
        let Input::Message(envelope) = &draft.input else { return };
        if envelope.channel.sender == Sender::Api {
            return;
        }
        let taken = (site, draft.actor.clone(), envelope.channel.clone(), envelope.id.clone());
        if let Some(before) = self.effects.accepted.insert(taken, seq.0) {
            self.violate(
                "P4",
                format!("{} accepted {} in frame {before} and again in {seq}", draft.actor, envelope.id),
            );
        }
    }

    /// What was accepted after `tail` is not in the log any more.
    pub(super) fn forget_accepted(&mut self, site: usize, tail: Seq) {
        self.effects.accepted.retain(|(of, _, _, _), seq| *of != site || *seq <= tail.0);
    }

    /// An order leaves a control.
    pub(super) fn note_order(&mut self, envelope: &Envelope) {
        if let Some(Message::Agent(Command::Run(order))) = &envelope.body {
            let fence = order.fence.as_ref().map(|(origin, epoch)| (origin.clone(), epoch.counter));
            self.effects.orders.insert(order.task.clone(), fence);
        }
    }

    /// An agent has made an epoch its highest.
    pub(crate) fn agent_told(&mut self, agent: usize, origin: &VmRef, epoch: &Epoch) {
        let told = self.effects.told.entry((agent, origin.clone())).or_default();
        *told = (*told).max(epoch.counter);
    }

    /// An agent has lost its memory.
    pub(crate) fn agent_forgets(&mut self, agent: usize) {
        self.effects.told.retain(|(of, _), _| *of != agent);
    }

    /// A task is about to change the world.
    pub(crate) fn takes_effect(&mut self, agent: usize, order: &Order) {
        let Some(Some((origin, counter))) = self.effects.orders.get(&order.task).cloned() else { return };
        let told = self.effects.told.get(&(agent, origin.clone())).copied().unwrap_or(0);
        if counter < told {
            self.violate(
                "P4",
                format!("task {} takes effect on {origin} under epoch {counter}, {told} is known", order.task),
            );
        }
    }
}
