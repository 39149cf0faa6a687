//! Who may run a VM, asked of the replicas that protect it (P5): before an operator's start, and before a guest that ran and was
//! found down after a return is started again. What this host knows is not enough: a replica may have failed over by override
//! while the link was down, and may have undone that again. The VM starts once every replica has said yes; one no keeps it
//! down. Asked again until answered, so that neither a lost message nor a refusal leaves it waiting for ever.

use super::decide::{HostDraft, draft};
use super::rights::{Standing, from_replica, standing};
use super::{Defined, Question, Rejection, Why, power};
use crate::decider::{Context, Decision, Send};
use crate::limits;
use farshore_schemas::ids::{Address, VmName, VmRef};
use farshore_schemas::messages::host::{Command, Event, StopAsker};
use farshore_schemas::messages::{Epoch, Message, replica};
use farshore_schemas::units::{Millis, Timestamp};

/// The replicas of a VM, when there are any.
pub(super) fn replicas(host: &Defined, vm: &VmName) -> Option<Vec<Address>> {
    host.protected.get(vm).map(|replicas| replicas.iter().cloned().collect())
}

/// A guest that ran was found down.
pub(super) fn found_down(vm: &VmName, asked: Vec<Address>, draft: &mut HostDraft<'_>, context: &Context) {
    send(vm, &asked, draft, context);
    draft.event(Event::GuestFoundDown { vm: vm.clone(), asked, again: again(0, context) });
}

/// An operator wants it to run.
pub(super) fn wanted(vm: &VmName, asked: Vec<Address>, draft: &mut HostDraft<'_>, context: &Context) {
    send(vm, &asked, draft, context);
    draft.event(Event::StartAsked { vm: vm.clone(), asked, again: again(0, context) });
}

/// Those who have not answered are asked again when it is time.
pub(super) fn due(host: &Defined, draft: &mut HostDraft<'_>, context: &Context) {
    for (vm, question) in host.asked.iter().filter(|(_, question)| question.again <= context.now) {
        let asked: Vec<Address> = question.awaited.iter().cloned().collect();
        send(vm, &asked, draft, context);
        let again = again(question.repeated.saturating_add(1), context);
        draft.event(Event::QuestionRepeated { vm: vm.clone(), asked, again });
    }
}

/// A question that still waits to be delivered is not asked twice.
fn send(vm: &VmName, asked: &[Address], draft: &mut HostDraft<'_>, context: &Context) {
    for replica in asked {
        let question = replica::Command::WhoRuns { vm: vm.clone(), host: context.me.clone() };
        let send = Send::new(replica.clone(), Message::Replica(question));
        draft.push(send.superseding(format!("who-runs/{vm}")));
    }
}

fn again(repeated: u32, context: &Context) -> Timestamp {
    let wait = limits::QUESTION.0.saturating_mul(1 << repeated.min(16));
    context.now.after(Millis(wait).min(limits::QUESTION_MOST))
}

/// Whether this replica's answer about a VM is awaited.
pub(super) fn awaited(host: &Defined, vm: &VmName, replica: &Address) -> bool {
    host.asked.get(vm).is_some_and(|question| question.awaited.contains(replica))
}

/// Whether nobody else's answer is awaited.
fn last(question: &Question, replica: &Address) -> bool {
    question.awaited.iter().all(|awaited| awaited == replica)
}

/// A replica's answer. Not ours: the VM stays down, under the newer fence. Ours: it is started once every replica has said so.
pub(super) fn epoch_is(
    host: &Defined,
    (vm, epoch, yours): (&VmName, &Epoch, bool),
    command: &Command,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let by = from_replica(context)?;
    let question = host.asked.get(vm).filter(|question| question.awaited.contains(&by));
    if yours && question.is_none() {
        return Err(Rejection::NotAsked { vm: vm.clone() });
    }
    let origin = host.origin(vm, context);
    let known = host.right(&origin, context).epoch;
    let kept_down = Event::KeptDown { vm: vm.clone(), by: by.clone(), epoch: epoch.clone() };
    let older = epoch.counter < known.counter;
    // One that does not know of an override here may still agree with it. If it does not, that override is not enough.
    if older && question.is_some() && !(yours && host.may_run(vm, context)) {
        return Ok(Decision::event(kept_down));
    }
    if !(older && question.is_some())
        && let Standing::Conflict(mut decision) = standing(host, (&origin, epoch), command, context)?
    {
        decision.events.extend(question.map(|_| kept_down));
        return Ok(decision);
    }
    let fence = (origin.clone(), if older { known } else { epoch.clone() });
    let mut draft = draft(host, context);
    draft.event(Event::EpochLearned { vm: vm.clone(), origin, epoch: epoch.clone(), yours, by: by.clone() });
    match question {
        Some(question) if yours && last(question, &by) => start(host, (vm, fence), &mut draft, context),
        Some(_) | None if !yours => keep_down(host, (vm, fence), &mut draft, context),
        Some(_) | None => {}
    }
    Ok(draft.done())
}

/// Every replica has said yes.
fn start(host: &Defined, (vm, fence): (&VmName, (VmRef, Epoch)), draft: &mut HostDraft<'_>, context: &Context) {
    if !power::running(host, vm) && !power::under_way(host, vm) {
        power::order_start(fence, (vm, None), draft, context);
    }
}

/// Off already: the order raises the agent's fence. A guest that runs, or that an override starts, is never stopped by an
/// answer alone.
fn keep_down(host: &Defined, (vm, fence): (&VmName, (VmRef, Epoch)), draft: &mut HostDraft<'_>, context: &Context) {
    if !power::running(host, vm) && !power::starts_by_override(host, vm, context) {
        power::order_stop(fence, (vm, StopAsker::Nobody), draft, context);
    }
}

/// One more replica protects a VM: it is asked as well.
pub(super) fn protected(
    host: &Defined,
    (vm, replica): (&VmName, Address),
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    let known = host.protected.get(vm).is_some_and(|replicas| replicas.contains(&replica));
    if let Some(question) = host.asked.get(vm).filter(|_| !known) {
        let asked = vec![replica];
        send(vm, &asked, draft, context);
        draft.event(Event::QuestionRepeated { vm: vm.clone(), asked, again: question.again });
    }
}

/// A replica no longer protects a VM: its answer is not awaited any more. A guest that was found down and that nobody protects
/// is left as it was found.
pub(super) fn unprotected(
    host: &Defined,
    (vm, replica): (&VmName, &Address),
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    let Some(question) = host.asked.get(vm).filter(|question| question.awaited.contains(replica)) else { return };
    let alone = host.protected.get(vm).is_none_or(|replicas| replicas.len() <= 1);
    let starts = match question.why {
        Why::Wanted => true,
        Why::FoundDown => !alone,
    };
    if starts && last(question, replica) && host.may_run(vm, context) {
        start(host, (vm, power::fence(host, vm, context)), draft, context);
    }
}

/// A replica has granted the right without a start: to a VM whose start is wanted it has said yes by that.
pub(super) fn granted(
    host: &Defined,
    (vm, fence): (&VmName, (VmRef, Epoch)),
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    let Some(question) = host.asked.get(vm) else { return };
    match question.why {
        Why::Wanted if last(question, &context.from) => start(host, (vm, fence), draft, context),
        Why::Wanted | Why::FoundDown => {}
    }
}

/// Nobody waits for leave to start it any more.
pub(super) fn dropped(host: &Defined, vm: &VmName, draft: &mut HostDraft<'_>) {
    if host.asked.contains_key(vm) {
        draft.event(Event::QuestionDropped { vm: vm.clone() });
    }
}

/// Why a VM may not be started.
pub(super) fn why_not(host: &Defined, vm: &VmName, (origin, known): (VmRef, Epoch)) -> Rejection {
    match host.asked.get(vm) {
        Some(question) => Rejection::Asking { vm: vm.clone(), awaited: question.awaited.iter().cloned().collect() },
        None => Rejection::NotYours { vm: vm.clone(), origin, known },
    }
}
