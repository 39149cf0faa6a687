//! The driver's side of four deliberate bugs (see `bug.rs`).

use crate::bug::{Bug, Chosen};
use crate::sim::Sim;
use farshore_core::host;
use farshore_kernel::draft::Receipt;
use farshore_kernel::site::{Site, Step};
use farshore_schemas::envelope::{Envelope, Wire};
use farshore_schemas::ids::{Address, Kind, Seq, VmRef};
use farshore_schemas::messages::agent::Command;
use farshore_schemas::messages::host::Command as Answer;
use farshore_schemas::messages::{Epoch, Message};
use farshore_schemas::units::Timestamp;
use farshore_tasks::TaskTable;
use std::borrow::Cow;
use std::collections::HashMap;

/// What `Site::deliver` does, with the decision's sends in the order of a hash map.
pub(crate) fn deliver_in_hash_order(kernel: &mut Site, envelope: &Envelope, now: Timestamp) -> Step {
    let around = kernel.around(now);
    let Some(entity) = kernel.entity_mut(&envelope.to.entity) else { return Step::NoActor };
    let mut draft = match entity.decide(envelope, &around) {
        Receipt::Decided(draft) => draft,
        Receipt::Idle => return Step::Idle,
        Receipt::Seen { number } | Receipt::Gap { number } => return Step::Ack { number },
        Receipt::Fork { number } => return Step::Fork { number },
    };
    let by_key: HashMap<usize, _> = std::mem::take(&mut draft.sends).into_iter().enumerate().collect();
    draft.sends = by_key.into_values().collect();
    let Ok(prepared) = kernel.sequencer.prepare(&draft) else { return Step::Idle };
    let Some(entity) = kernel.entity_mut(&draft.actor) else { return Step::NoActor };
    if entity.apply(&draft).is_err() {
        return Step::Idle;
    }
    let due = draft.actor_seq % farshore_kernel::entity::STATE_HASH_EVERY == 0;
    let hash = due.then(|| entity.memory().hash());
    let stamped = kernel.sequencer.stamp(prepared, hash);
    Step::Append { stamped, draft }
}

/// An order under an epoch that was overtaken is taken for one under the newest: an agent without the check.
pub(crate) fn blind_to_epochs(table: &TaskTable, wire: &mut Wire) {
    let Wire::Deliver(envelope) = wire else { return };
    let Some(Message::Agent(Command::Run(order))) = &mut envelope.body else { return };
    let Some((origin, epoch)) = &mut order.fence else { return };
    if let Some(highest) = table.epochs().get(origin).filter(|highest| highest.counter > epoch.counter) {
        *epoch = highest.clone();
    }
}

/// What a host that asks nobody takes for the answers of the replicas of which an operator's start waits: its own knowledge.
pub(crate) fn own_answers(sim: &Sim, host: &Address) -> Vec<(Address, Message)> {
    let state = (host.entity.kind == Kind::Host).then(|| sim.state::<host::State>(host)).flatten();
    let Some(host::State::Defined(defined)) = state else { return Vec::new() };
    let wanted = defined.asked.iter().filter(|(_, question)| question.why == host::Why::Wanted);
    let answers = wanted.flat_map(|(vm, question)| {
        let origin = VmRef { site: host.site.clone(), host: host.entity.name.clone(), vm: vm.clone() };
        let known = defined.rights.get(&origin).map(|right| right.epoch.clone());
        let epoch = known.unwrap_or(Epoch { counter: 0, site: host.site.clone(), frame: Seq(0) });
        let answer = Message::Host(Answer::EpochIs { vm: vm.clone(), epoch, yours: true });
        question.awaited.iter().map(move |replica| (replica.clone(), answer.clone()))
    });
    answers.collect()
}

/// A message as its receiver reads it: without its floor, if that is the bug.
pub(crate) fn as_heard(bug: Chosen, envelope: &Envelope) -> Cow<'_, Envelope> {
    if bug.is(Bug::FloorIgnored) {
        return Cow::Owned(Envelope { floor: 1, ..envelope.clone() });
    }
    Cow::Borrowed(envelope)
}
