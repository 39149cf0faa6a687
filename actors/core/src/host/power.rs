//! Starting, stopping and making VMs, always under the VM's epoch.

use super::decide::{HostDraft, draft, from_my_agent, host_failed, known, me};
use super::{Defined, Rejection, inventory, itself, question};
use crate::decider::{Context, Decision};
use crate::limits;
use crate::orders::Open;
use farshore_schemas::ids::{Address, Kind, VmName, VmRef};
use farshore_schemas::messages::agent::{DiskFacts, Failure, TaskSpec};
use farshore_schemas::messages::host::{Event, StopAsker, VmFacts, Work};
use farshore_schemas::messages::{Epoch, Message, Override, replica, session};

/// What an order that touches this VM's guest or disks is done under.
pub(super) fn fence(host: &Defined, vm: &VmName, context: &Context) -> (VmRef, Epoch) {
    let origin = host.origin(vm, context);
    let epoch = host.right(&origin, context).epoch;
    (origin, epoch)
}

/// What an order was given under.
pub(super) fn fence_of(host: &Defined, open: &Open<Work>, vm: &VmName, context: &Context) -> (VmRef, Epoch) {
    open.order.fence.clone().unwrap_or_else(|| fence(host, vm, context))
}

/// Whether the VM is being started or stopped.
pub(super) fn under_way(host: &Defined, vm: &VmName) -> bool {
    host.orders.open.values().any(|open| match &open.work {
        Work::Start { vm: at, .. } | Work::Stop { vm: at, .. } => at == vm,
        Work::Discover | Work::BeginRead { .. } | Work::EndRead { .. } | Work::Create { .. } | Work::Write { .. } => {
            false
        }
    })
}

/// Whether the VM is being started under an epoch that this site granted itself.
pub(super) fn starts_by_override(host: &Defined, vm: &VmName, context: &Context) -> bool {
    let own = |epoch: &Epoch| epoch.counter > 0 && epoch.site == context.me.site;
    host.orders.open.values().any(|open| match &open.work {
        Work::Start { vm: at, asker: None } => at == vm && open.order.fence.iter().any(|(_, epoch)| own(epoch)),
        Work::Start { .. }
        | Work::Stop { .. }
        | Work::Discover
        | Work::BeginRead { .. }
        | Work::EndRead { .. }
        | Work::Create { .. }
        | Work::Write { .. } => false,
    })
}

pub(super) fn running(host: &Defined, vm: &VmName) -> bool {
    host.inventory.get(vm).is_some_and(|facts| facts.running)
}

pub(super) fn order_start(
    fence: (VmRef, Epoch),
    (vm, asker): (&VmName, Option<Address>),
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    let spec = TaskSpec::PowerOn { host: me(context).clone(), vm: vm.clone() };
    draft.order_within(limits::START, (spec, Some(fence)), Work::Start { vm: vm.clone(), asker });
}

pub(super) fn order_stop(
    fence: (VmRef, Epoch),
    (vm, asker): (&VmName, StopAsker),
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    let spec = TaskSpec::PowerOff { host: me(context).clone(), vm: vm.clone() };
    draft.order(spec, Some(fence), Work::Stop { vm: vm.clone(), asker });
}

/// By the operator. A VM that replicas protect is asked about first. Without the right, or the answers, only by override,
/// which takes the next epoch in this site's name.
pub(super) fn on(
    host: &Defined,
    vm: &VmName,
    forced: Option<&Override>,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    known(host, vm)?;
    if under_way(host, vm) {
        return Err(Rejection::Busy { vm: vm.clone() });
    }
    if running(host, vm) {
        return Err(Rejection::AlreadyOn { vm: vm.clone() });
    }
    let (origin, known) = fence(host, vm, context);
    let allowed = host.may_run(vm, context) && !host.asked.contains_key(vm);
    let mut draft = draft(host, context);
    match (forced, question::replicas(host, vm)) {
        (_, None) if allowed => order_start((origin, known), (vm, None), &mut draft, context),
        (None, Some(replicas)) if allowed => question::wanted(vm, replicas, &mut draft, context),
        (Some(forced), Some(_) | None) => {
            if forced.by.trim().is_empty() || forced.reason.trim().is_empty() {
                return Err(Rejection::NoReason { vm: vm.clone() });
            }
            let epoch =
                Epoch { counter: known.counter.saturating_add(1), site: context.me.site.clone(), frame: context.frame };
            let (vm, forced) = (vm.clone(), forced.clone());
            draft.event(Event::RightForced { vm: vm.clone(), origin: origin.clone(), epoch: epoch.clone(), forced });
            order_start((origin, epoch), (&vm, None), &mut draft, context);
        }
        (None, Some(_) | None) => return Err(question::why_not(host, vm, (origin, known))),
    }
    Ok(draft.done())
}

/// By the operator. A VM that waits for leave to start does not any more.
pub(super) fn off(host: &Defined, vm: &VmName, context: &Context) -> Result<Decision<Event>, Rejection> {
    known(host, vm)?;
    if under_way(host, vm) {
        return Err(Rejection::Busy { vm: vm.clone() });
    }
    let (runs, asked) = (running(host, vm), host.asked.contains_key(vm));
    if !runs && !asked {
        return Err(Rejection::AlreadyOff { vm: vm.clone() });
    }
    let mut draft = draft(host, context);
    if asked {
        draft.event(Event::QuestionDropped { vm: vm.clone() });
    }
    if runs {
        order_stop(fence(host, vm, context), (vm, StopAsker::Nobody), &mut draft, context);
    }
    Ok(draft.done())
}

/// By the operator, for drills.
pub(super) fn write(host: &Defined, vm: &VmName, seed: u64, context: &Context) -> Result<Decision<Event>, Rejection> {
    known(host, vm)?;
    if !running(host, vm) {
        return Err(Rejection::GuestOff { vm: vm.clone() });
    }
    let mut draft = draft(host, context);
    let spec = TaskSpec::GuestWrite { host: me(context).clone(), vm: vm.clone(), seed };
    draft.order(spec, Some(fence(host, vm, context)), Work::Write { vm: vm.clone() });
    Ok(draft.done())
}

/// A guest runs, or could not be started. One that no listing has shown yet (a replica's working VM) is listed.
pub(super) fn started(
    host: &Defined,
    (vm, asker, (origin, epoch)): (&VmName, Option<&Address>, (VmRef, Epoch)),
    failure: Option<Failure>,
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    if failure.is_none() {
        draft.event(Event::GuestStarted { vm: vm.clone(), origin, epoch: epoch.clone() });
        if !host.inventory.contains_key(vm) && !inventory::listing(host) {
            inventory::order(host, draft, context);
        }
    }
    if let Some(asker) = asker {
        let told = replica::Command::PoweredOn { host: context.me.clone(), epoch, failure };
        draft.send(asker.clone(), Message::Replica(told));
    }
}

/// A guest is off and its fence raised, or could not be stopped.
pub(super) fn stopped(
    host: &Defined,
    (vm, asker, epoch): (&VmName, &StopAsker, Epoch),
    failure: Option<Failure>,
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    if failure.is_none() {
        draft.event(Event::GuestStopped { vm: vm.clone() });
    }
    let (to, told) = match asker {
        StopAsker::Nobody => return,
        StopAsker::Release(to) => (to, replica::Command::Released { epoch, failure }),
        StopAsker::StopGuest(to) => {
            let (host, mover) = (context.me.clone(), host.spec.mover.clone());
            (to, replica::Command::PoweredOff { host, mover, epoch, failure })
        }
    };
    draft.send(to.clone(), Message::Replica(told));
}

/// Makes a VM. A replica that brings a production VM back wants it to be there: one that is there as it should be is as
/// good as made. A restore must not write over what it did not make.
pub(super) fn create(
    host: &Defined,
    (vm, work): (&VmName, Work),
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let Work::Create { disks, origin, asker, .. } = &work else { return Ok(Decision::none()) };
    if !matches!(asker.entity.kind, Kind::Session | Kind::Replica) {
        return Err(Rejection::AskerKind { from: asker.clone() });
    }
    let being_made = |open: &Open<Work>| matches!(&open.work, Work::Create { vm: other, .. } if other == vm);
    if host.orders.open.values().any(being_made) {
        return Err(Rejection::VmBeingMade { vm: vm.clone() });
    }
    let mut draft = draft(host, context);
    if let Some(there) = host.inventory.get(vm) {
        let same = host.origin(vm, context) == *origin && same_disks(&there.disks, disks);
        if asker.entity.kind != Kind::Replica || !same {
            return Err(Rejection::VmExists { vm: vm.clone() });
        }
        draft.send(asker.clone(), made(asker, vm));
        return Ok(draft.done());
    }
    let spec =
        TaskSpec::CreateVm { host: me(context).clone(), vm: vm.clone(), disks: disks.clone(), origin: origin.clone() };
    let fence = (origin.clone(), host.right(origin, context).epoch);
    draft.order(spec, Some(fence), work);
    Ok(draft.done())
}

fn same_disks(a: &[DiskFacts], b: &[DiskFacts]) -> bool {
    a.len() == b.len() && a.iter().all(|disk| b.contains(disk))
}

fn made(asker: &Address, vm: &VmName) -> Message {
    let vm = vm.clone();
    if asker.entity.kind == Kind::Replica {
        Message::Replica(replica::Command::VmCreated { vm })
    } else {
        Message::Session(session::Command::VmCreated { vm })
    }
}

pub(super) fn created(work: &Work, failure: Option<Failure>, draft: &mut HostDraft<'_>, context: &Context) {
    let Work::Create { vm, disks, origin, asker } = work else { return };
    if let Some(failure) = failure {
        host_failed(draft, asker, vm, failure);
        return;
    }
    let origin = (*origin != itself(vm, context)).then(|| origin.clone());
    let facts = VmFacts { vm: vm.clone(), disks: disks.clone(), running: false, origin };
    draft.event(Event::VmMade { facts });
    draft.send(asker.clone(), made(asker, vm));
}

/// A guest stopped or started without an order. Found down during a return, it is asked about like one that a listing shows.
pub(super) fn observed(
    host: &Defined,
    (vm, running): (&VmName, bool),
    seen: Event,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    from_my_agent(host, context)?;
    known(host, vm)?;
    let ran = self::running(host, vm);
    let mut draft = draft(host, context);
    if let Event::GuestObserved { vm, running, at, right: _ } = seen {
        let right = host.may_run(&vm, context);
        draft.event(Event::GuestObserved { vm, running, at, right });
    }
    let down = ran && !running && host.returning && !under_way(host, vm);
    if let Some(asked) = question::replicas(host, vm).filter(|_| down) {
        question::found_down(vm, asked, &mut draft, context);
    }
    Ok(draft.done())
}
