//! What the transitions share: orders to hosts and movers, grants, and how a transition ends, well or badly. A step that
//! fails never leaves the replica between two states: it lands where an operator can try again or go back.

use super::Guest;
use super::decide::ReplicaTurn;
use crate::decider::Decision;
use crate::limits;
use crate::session::broker_of;
use farshore_schemas::ids::{Address, TaskId, VmName, VmRef};
use farshore_schemas::messages::agent::{Failure, TaskSpec};
use farshore_schemas::messages::plan::{self, Action};
use farshore_schemas::messages::replica::{Event, Rest, Side, Step, Transition};
use farshore_schemas::messages::{Epoch, Message, broker, host, mover};

/// The VM and the newest epoch: what an order that touches the VM's disks acts under.
pub(super) fn fence(turn: &ReplicaTurn<'_>) -> Option<(VmRef, Epoch)> {
    let known = turn.known();
    Some((known.protection.origin.clone(), known.right.epoch.clone()))
}

/// Orders a task of our own mover.
pub(super) fn assign(turn: &mut ReplicaTurn<'_>, task: &TaskId, fence: Option<(VmRef, Epoch)>, spec: TaskSpec) {
    let mover = turn.known().own_mover(&turn.context.me);
    assign_to(turn, &mover, task, fence, spec);
}

pub(super) fn assign_to(
    turn: &mut ReplicaTurn<'_>,
    mover: &Address,
    task: &TaskId,
    fence: Option<(VmRef, Epoch)>,
    spec: TaskSpec,
) {
    let assign = mover::Command::Assign { task: task.clone(), fence, spec: Box::new(spec) };
    turn.send(mover, Message::Mover(assign));
}

/// The VM of a side, as its host names it.
fn vm_at(turn: &ReplicaTurn<'_>, side: Side) -> VmName {
    let known = turn.known();
    match side {
        Side::Source => known.protection.origin.vm.clone(),
        Side::Target => known
            .working
            .as_ref()
            .map_or_else(|| crate::naming::working_vm(&turn.context.me.entity.name), |working| working.vm.clone()),
    }
}

/// Stops the guest of a side and fences it at the newest epoch.
pub(super) fn stop_guest(turn: &mut ReplicaTurn<'_>, side: Side) {
    let known = turn.known();
    let to = known.host_of(side, &turn.context.me);
    let (origin, epoch) = (known.protection.origin.clone(), known.right.epoch.clone());
    let vm = vm_at(turn, side);
    turn.log(Event::StepStarted { step: Step::Stop { side }, until: turn.now().after(limits::POWER) });
    turn.send_within(&to, Message::Host(host::Command::StopGuest { vm, origin, epoch }), limits::POWER_ORDER);
}

/// Grants the newest epoch: recorded first, then told. A guest that is started is waited for.
pub(super) fn grant(turn: &mut ReplicaTurn<'_>, side: Side, power_on: bool) {
    let known = turn.known();
    let to = known.host_of(side, &turn.context.me);
    let (origin, epoch) = (known.protection.origin.clone(), known.right.epoch.clone());
    let vm = vm_at(turn, side);
    turn.log(Event::Granted { side, epoch: epoch.clone(), power_on });
    let grant = Message::Host(host::Command::Grant { vm, origin, epoch, power_on });
    if power_on {
        turn.log(Event::StepStarted { step: Step::Start { side }, until: turn.now().after(limits::POWER) });
        turn.send_within(&to, grant, limits::POWER_ORDER);
    } else {
        turn.send(&to, grant);
    }
}

/// A guest runs that was waited for: the transition has come to its end.
pub(super) fn started(turn: &mut ReplicaTurn<'_>, side: Side) {
    turn.log(Event::GuestOn { side, at: turn.now() });
    let Some(transition) = turn.work().map(|work| work.transition) else { return };
    let rest = match transition {
        Transition::Failover | Transition::UndoFailback => Rest::Failover,
        Transition::Undo => Rest::Ready,
        Transition::Switch => Rest::Failback,
        Transition::Failback | Transition::Commit | Transition::Permanent | Transition::Remove => return,
    };
    land(turn, rest, None);
}

/// A guest is off that had to be: what follows depends on the transition.
pub(super) fn stopped(turn: &mut ReplicaTurn<'_>, side: Side) {
    let Some(transition) = turn.work().map(|work| work.transition) else { return };
    match (transition, side) {
        (Transition::Failover | Transition::Undo, Side::Target) => super::failover::drop_working(turn),
        (Transition::Failback, Side::Source) | (Transition::Switch, Side::Target) => super::failback::ask_slots(turn),
        (Transition::Switch, Side::Source) => stop_guest(turn, Side::Target),
        (Transition::UndoFailback, Side::Source) => super::failback::run_here(turn),
        (
            Transition::Failover
            | Transition::Undo
            | Transition::Failback
            | Transition::UndoFailback
            | Transition::Commit
            | Transition::Permanent
            | Transition::Remove,
            _,
        ) => {}
    }
}

/// A step has failed. Open tasks are cancelled and waited for; then the transition lands where it can be taken up again.
pub(super) fn broken(turn: &mut ReplicaTurn<'_>, failure: Failure) {
    let Some(work) = turn.work() else { return };
    let open: Vec<_> = work.carry.transfer.open.iter().map(|(task, open)| (task.clone(), open.mover.clone())).collect();
    let winding = matches!(work.wait, Some((Step::Cancel { .. }, _)));
    if open.is_empty() || winding {
        return fall_back(turn, failure);
    }
    for (task, mover) in open {
        turn.send(&mover, Message::Mover(mover::Command::Cancel { task }));
    }
    turn.log(Event::StepStarted { step: Step::Cancel { failure }, until: turn.now().after(limits::CANCEL) });
}

/// Where a transition that failed lands, and who keeps the right to run.
fn fall_back(turn: &mut ReplicaTurn<'_>, failure: Failure) {
    let Some(work) = turn.work() else { return };
    let (from, step) = (work.from, work.wait.as_ref().map(|(step, _)| step.clone()));
    let stopping = |side: Side| step == Some(Step::Stop { side });
    let starting = |side: Side| step == Some(Step::Start { side });
    let guest_may_run = turn.known().working.as_ref().is_some_and(|working| working.guest != Guest::Off);
    let mut kept = None;
    let rest = match work.transition {
        Transition::Failover => Rest::FailedFailover,
        Transition::Undo if stopping(Side::Target) && from == Rest::Failover => {
            kept = Some(Side::Target);
            Rest::Failover
        }
        Transition::Undo if starting(Side::Source) => Rest::Ready,
        Transition::Undo => Rest::FailedFailover,
        Transition::Failback | Transition::Permanent => Rest::Failover,
        Transition::Switch => {
            if stopping(Side::Target) && guest_may_run && !turn.known().production.may_run {
                kept = Some(Side::Target);
            }
            Rest::ReadyToSwitch
        }
        Transition::Commit => Rest::Failback,
        Transition::UndoFailback if stopping(Side::Source) && from == Rest::Failback => {
            kept = Some(Side::Source);
            Rest::Failback
        }
        Transition::UndoFailback => Rest::ReadyToSwitch,
        Transition::Remove => Rest::Ready,
    };
    if let Some(side) = kept {
        turn.log(Event::RightKept { side });
    }
    land(turn, rest, Some(failure));
}

/// What the way of the disks holds is let go.
pub(super) fn let_go(turn: &mut ReplicaTurn<'_>) {
    let Some(work) = turn.work() else { return };
    let (round, reading) = (work.carry.round, work.carry.reading);
    if reading {
        let to = turn.known().own_host(&turn.context.me);
        let vm = vm_at(turn, Side::Target);
        turn.send(&to, Message::Host(host::Command::EndRead { vm }));
    }
    if let Some(round) = round {
        let (there, here) = super::failback::slot_names(round);
        let far = broker_of(&turn.known().source_host().site);
        let near = broker_of(&turn.context.me.site);
        turn.send(&far, Message::Broker(broker::Command::ReleaseSlot { slot: there }));
        turn.send(&near, Message::Broker(broker::Command::ReleaseSlot { slot: here }));
    }
}

/// A transition has ended: its holds are let go, the plan that asked is answered.
pub(super) fn land(turn: &mut ReplicaTurn<'_>, rest: Rest, failure: Option<Failure>) {
    let_go(turn);
    let Some(work) = turn.work() else { return };
    let (transition, asker) = (work.transition, work.asker.clone());
    turn.log(Event::Ended { transition, rest, failure: failure.clone(), at: turn.now() });
    answer(turn, asker.as_ref(), transition, failure);
}

/// Tells the plan that asked, if one did.
pub(super) fn answer(
    turn: &mut ReplicaTurn<'_>,
    asker: Option<&Address>,
    transition: Transition,
    failure: Option<Failure>,
) {
    let action = match transition {
        Transition::Failover => Action::Failover,
        Transition::Undo => Action::Undo,
        Transition::Failback => Action::Failback,
        Transition::Switch => Action::Switch,
        Transition::Commit => Action::Commit,
        Transition::UndoFailback | Transition::Permanent | Transition::Remove => return,
    };
    if let Some(plan) = asker {
        let replica = turn.context.me.entity.name.clone();
        turn.send(plan, Message::Plan(plan::Command::StepEnded { replica, action, failure }));
    }
}

/// The store goes; its points can no longer be relied on from the moment it is ordered.
pub(super) fn drop_store(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    let known = turn.known();
    let (host, replica) = (known.protection.host.clone(), turn.context.me.entity.name.clone());
    let task = turn.context.task(known.next_task);
    turn.log(Event::PointsDropped);
    assign(&mut turn, &task, None, TaskSpec::DropReplica { host, replica });
    turn.log(Event::StepStarted { step: Step::DropStore { task }, until: turn.now().after(limits::STORE) });
    turn.done()
}

/// The store is gone. A source that may run its VM is told that nobody protects it any more; one whose VM lives here for
/// good is not: it must go on asking.
pub(super) fn store_dropped(turn: &mut ReplicaTurn<'_>, rest: Rest) {
    if rest == Rest::Removed {
        let to = turn.known().source_host().clone();
        let vm = turn.known().protection.origin.vm.clone();
        turn.send(&to, Message::Host(host::Command::Unprotect { vm }));
    }
    land(turn, rest, None);
}

/// A replica that became the production VM is forgotten; the right to run stays recorded as held here.
pub(super) fn forget(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    land(&mut turn, Rest::Removed, None);
    turn.done()
}

/// A wait has come to its end.
pub(super) fn expire(mut turn: ReplicaTurn<'_>, step: &Step) -> Decision<Event> {
    let what = match step {
        Step::Release => "the source's release",
        Step::Stop { .. } => "the confirmation that a guest is off",
        Step::Start { .. } => "the confirmation that a guest runs",
        Step::Make { .. } => "the working VM",
        Step::Drop { .. } => "the deletion of the working VM",
        Step::Create => "the new production VM",
        Step::Slots { .. } => "a slot at each end",
        Step::Prepare => "the working VM's snapshot",
        Step::Move => "the end of the transfer",
        Step::Absorb { .. } => "the commit of the working VM",
        Step::DropStore { .. } => "the deletion of the store",
        Step::Cancel { failure } => {
            broken(&mut turn, failure.clone());
            return turn.done();
        }
    };
    let failure = limits::timeout("FS-REPLICA-TIMEOUT", what, &turn.known().protection.origin.vm);
    broken(&mut turn, failure);
    turn.done()
}
