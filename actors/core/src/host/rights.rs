//! Who may run a VM (P5): protection, grants, releases, and the question after a return.

use super::decide::{HostDraft, draft, known};
use super::rejection::conflict;
use super::{Defined, Rejection, power};
use crate::decider::{Context, Decision, Send};
use farshore_schemas::ids::{Address, Kind, VmName, VmRef};
use farshore_schemas::messages::host::{Command, Event, StopAsker};
use farshore_schemas::messages::{Epoch, Message, Refused};

fn from_replica(context: &Context) -> Result<Address, Rejection> {
    let from = context.from.clone();
    if from.entity.kind == Kind::Replica { Ok(from) } else { Err(Rejection::AskerKind { from }) }
}

pub(super) fn protect(
    host: &Defined,
    vm: &VmName,
    replica: &Address,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let from = from_replica(context)?;
    if from != *replica {
        return Err(Rejection::NotTheReplica { replica: replica.clone(), from });
    }
    known(host, vm)?;
    Ok(Decision::event(Event::Protected { vm: vm.clone(), replica: from }))
}

pub(super) fn unprotect(host: &Defined, vm: &VmName, context: &Context) -> Result<Decision<Event>, Rejection> {
    let replica = from_replica(context)?;
    if !host.protected.get(vm).is_some_and(|replicas| replicas.contains(&replica)) {
        return Err(Rejection::NotProtected { vm: vm.clone(), replica });
    }
    Ok(Decision::event(Event::Unprotected { vm: vm.clone(), replica }))
}

/// How an offered epoch stands to the one known.
enum Standing {
    /// Not older: it may be taken.
    Good,
    /// The same counter, granted by another site.
    Conflict(Decision<Event>),
}

/// Compares by counter. A conflict is recorded and refused; nothing else follows from it.
fn standing(
    host: &Defined,
    (origin, offered): (&VmRef, &Epoch),
    command: &Command,
    context: &Context,
) -> Result<Standing, Rejection> {
    let known = host.right(origin, context).epoch;
    if offered.counter < known.counter {
        return Err(Rejection::EpochOld { origin: origin.clone(), known, offered: offered.clone() });
    }
    if offered.counter > known.counter || offered.site == known.site {
        return Ok(Standing::Good);
    }
    let refused = Refused {
        by: context.me.clone(),
        message: Message::Host(command.clone()),
        refusal: conflict(origin, &known, offered),
    };
    let (by, offered) = (context.from.clone(), offered.clone());
    let event = Event::EpochConflict { origin: origin.clone(), known, offered, by: by.clone() };
    Ok(Standing::Conflict(Decision::event(event).and_send(Send::new(by, Message::Refused(Box::new(refused))))))
}

/// A VM here must stand for what the replica says it does.
fn stands_for(host: &Defined, vm: &VmName, origin: &VmRef, context: &Context) -> Result<(), Rejection> {
    if !host.inventory.contains_key(vm) || host.origin(vm, context) == *origin {
        return Ok(());
    }
    Err(Rejection::OtherOrigin { vm: vm.clone(), origin: host.origin(vm, context) })
}

/// The right goes elsewhere; the guest is stopped, and the agent raises its fence.
pub(super) fn release(
    host: &Defined,
    (vm, epoch): (&VmName, &Epoch),
    command: &Command,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let by = from_replica(context)?;
    let origin = host.origin(vm, context);
    give_up(host, (vm, &origin, epoch), StopAsker::Release(by), (command, context))
}

pub(super) fn stop_guest(
    host: &Defined,
    (vm, origin, epoch): (&VmName, &VmRef, &Epoch),
    command: &Command,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let by = from_replica(context)?;
    stands_for(host, vm, origin, context)?;
    give_up(host, (vm, origin, epoch), StopAsker::StopGuest(by), (command, context))
}

/// Also for a VM that is gone from here: its fence must stand before it is made again.
fn give_up(
    host: &Defined,
    (vm, origin, epoch): (&VmName, &VmRef, &Epoch),
    asker: StopAsker,
    (command, context): (&Command, &Context),
) -> Result<Decision<Event>, Rejection> {
    match standing(host, (origin, epoch), command, context)? {
        Standing::Conflict(decision) => Ok(decision),
        Standing::Good => {
            let mut draft = draft(host, context);
            draft.event(Event::RightGivenUp {
                vm: vm.clone(),
                origin: origin.clone(),
                epoch: epoch.clone(),
                by: context.from.clone(),
            });
            power::order_stop((origin.clone(), epoch.clone()), (vm, asker), &mut draft, context);
            Ok(draft.done())
        }
    }
}

/// A grant, as a replica sends it.
pub(super) struct Grant<'a> {
    pub(super) vm: &'a VmName,
    pub(super) origin: &'a VmRef,
    pub(super) epoch: &'a Epoch,
    pub(super) power_on: bool,
}

/// The VM may run here. It need not have been listed: a replica's working VM is made behind this actor's back.
pub(super) fn grant(
    host: &Defined,
    grant: &Grant<'_>,
    command: &Command,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let by = from_replica(context)?;
    stands_for(host, grant.vm, grant.origin, context)?;
    match standing(host, (grant.origin, grant.epoch), command, context)? {
        Standing::Conflict(decision) => Ok(decision),
        Standing::Good => {
            let (vm, origin, epoch) = (grant.vm.clone(), grant.origin.clone(), grant.epoch.clone());
            let mut draft = draft(host, context);
            draft.event(Event::RightGranted { vm, origin: origin.clone(), epoch: epoch.clone(), by: by.clone() });
            if grant.power_on {
                power::order_start((origin, epoch), (grant.vm, Some(by)), &mut draft, context);
            }
            Ok(draft.done())
        }
    }
}

/// Whether this replica's answer about a VM that was found down is awaited.
pub(super) fn awaited(host: &Defined, vm: &VmName, replica: &Address) -> bool {
    host.asked.get(vm).is_some_and(|awaited| awaited.contains(replica))
}

/// The answer of a replica after a return. Not ours: it stays down, under the newer fence. Ours: it is started again once
/// every replica has said so.
pub(super) fn epoch_is(
    host: &Defined,
    (vm, epoch, yours): (&VmName, &Epoch, bool),
    command: &Command,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let by = from_replica(context)?;
    let asked = awaited(host, vm, &by);
    if yours && !asked {
        return Err(Rejection::NotAsked { vm: vm.clone() });
    }
    let origin = host.origin(vm, context);
    match standing(host, (&origin, epoch), command, context)? {
        Standing::Conflict(decision) => Ok(decision),
        Standing::Good => {
            let mut draft = draft(host, context);
            draft.event(Event::EpochLearned {
                vm: vm.clone(),
                origin: origin.clone(),
                epoch: epoch.clone(),
                yours,
                by: by.clone(),
            });
            let last = host.asked.get(vm).is_some_and(|awaited| awaited.len() == 1);
            follow(host, (vm, (origin, epoch.clone())), (yours, last), (&mut draft, context));
            Ok(draft.done())
        }
    }
}

fn follow(
    host: &Defined,
    (vm, fence): (&VmName, (VmRef, Epoch)),
    (yours, last): (bool, bool),
    (draft, context): (&mut HostDraft<'_>, &Context),
) {
    let runs = host.inventory.get(vm).is_some_and(|facts| facts.running);
    if yours && last && !runs {
        power::order_start(fence, (vm, None), draft, context);
    } else if !yours && !runs {
        // Off already: the order raises the agent's fence. A guest that runs is never stopped by an answer alone.
        power::order_stop(fence, (vm, StopAsker::Nobody), draft, context);
    }
}

/// Why a VM may not be started.
pub(super) fn why_not(host: &Defined, vm: &VmName, (origin, known): (VmRef, Epoch)) -> Rejection {
    match host.asked.get(vm) {
        Some(awaited) => Rejection::Asking { vm: vm.clone(), awaited: awaited.iter().cloned().collect() },
        None => Rejection::NotYours { vm: vm.clone(), origin, known },
    }
}
