//! Who may run a VM (P5): protection, grants, releases. Who is asked, and what follows from answers, is in `question`.

use super::decide::{draft, from_my_agent, known};
use super::rejection::conflict;
use super::{Defined, Rejection, power, question};
use crate::decider::{Context, Decision, Send};
use farshore_schemas::ids::{Address, Kind, VmName, VmRef};
use farshore_schemas::messages::host::{Command, Event, StopAsker};
use farshore_schemas::messages::{Epoch, Message, Refused};

pub(super) fn from_replica(context: &Context) -> Result<Address, Rejection> {
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
    let mut draft = draft(host, context);
    draft.event(Event::Protected { vm: vm.clone(), replica: from.clone() });
    question::protected(host, (vm, from), &mut draft, context);
    Ok(draft.done())
}

pub(super) fn unprotect(host: &Defined, vm: &VmName, context: &Context) -> Result<Decision<Event>, Rejection> {
    let replica = from_replica(context)?;
    if !host.protected.get(vm).is_some_and(|replicas| replicas.contains(&replica)) {
        return Err(Rejection::NotProtected { vm: vm.clone(), replica });
    }
    let mut draft = draft(host, context);
    draft.event(Event::Unprotected { vm: vm.clone(), replica: replica.clone() });
    question::unprotected(host, (vm, &replica), &mut draft, context);
    Ok(draft.done())
}

/// How an offered epoch stands to the one known.
pub(super) enum Standing {
    /// Not older: it may be taken.
    Good,
    /// The same counter, granted by another site.
    Conflict(Decision<Event>),
}

/// Compares by counter. A conflict is recorded and refused; nothing else follows from it.
pub(super) fn standing(
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
                question::dropped(host, grant.vm, &mut draft);
                power::order_start((origin, epoch), (grant.vm, Some(by)), &mut draft, context);
            } else {
                question::granted(host, (grant.vm, (origin, epoch)), &mut draft, context);
            }
            Ok(draft.done())
        }
    }
}

/// The agent knows epochs that this log has forgotten: it was put back. They stand from now on, held by nobody here: a guest that
/// runs goes on, and one that is down stays so until a replica grants it a newer epoch, or an operator overrides it.
pub(super) fn recall(
    host: &Defined,
    epochs: &[(VmRef, Epoch)],
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    from_my_agent(host, context)?;
    let newer = |(origin, epoch): &&(VmRef, Epoch)| epoch.counter > host.right(origin, context).epoch.counter;
    let epochs: Vec<(VmRef, Epoch)> = epochs.iter().filter(newer).cloned().collect();
    Ok(if epochs.is_empty() { Decision::none() } else { Decision::event(Event::EpochsRecalled { epochs }) })
}
