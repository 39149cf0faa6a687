//! Failover and its undoing. Planned: the source gives up its right first. Forced: by a recorded override. Every grant is
//! an event before the host is told.

use super::decide::{Decided, Me, ReplicaTurn};
use super::{Guest, Known, Rejection, Work, finish};
use crate::decider::Decision;
use crate::limits;
use crate::naming::working_vm;
use farshore_schemas::ids::PointId;
use farshore_schemas::messages::agent::TaskSpec;
use farshore_schemas::messages::replica::{Event, FailoverRequest, PointChoice, Rest, Side, Step, Transition};
use farshore_schemas::messages::{Epoch, Message, Override, host};

/// The point that fits a choice.
pub(super) fn choose(known: &Known, choice: &PointChoice) -> Option<PointId> {
    let chosen = match choice {
        PointChoice::Newest => known.points.last(),
        PointChoice::Point(wanted) => known.points.iter().find(|point| point.point == *wanted),
        PointChoice::AtOrBefore(at) => known.points.iter().rev().find(|point| point.taken <= *at),
    };
    chosen.map(|point| point.point.clone())
}

/// The same, or why not.
pub(super) fn checked(me: &Me<'_>, known: &Known, choice: &PointChoice) -> Result<PointId, Rejection> {
    choose(known, choice).ok_or_else(|| Rejection::NoPoint {
        replica: me.name(),
        choice: choice.clone(),
        have: known.points.len(),
    })
}

/// The next epoch. Its counter is one more than any before.
pub(super) fn next_epoch(turn: &ReplicaTurn<'_>) -> Epoch {
    Epoch {
        counter: turn.known().right.epoch.counter.saturating_add(1),
        site: turn.context.me.site.clone(),
        frame: turn.context.frame,
    }
}

pub(super) fn start(me: &Me<'_>, request: FailoverRequest) -> Decided {
    let mut turn = me.turn();
    let point = checked(me, turn.known(), &request.choice)?;
    begin(&mut turn, request, point);
    Ok(turn.done())
}

pub(super) fn begin(turn: &mut ReplicaTurn<'_>, request: FailoverRequest, point: PointId) {
    let epoch = next_epoch(turn);
    turn.log(Event::FailoverStarted { request, point, epoch, at: turn.now() });
    clear_working(turn);
}

/// What an earlier try has left is taken away first: its guest, then its disks.
fn clear_working(turn: &mut ReplicaTurn<'_>) {
    match turn.known().working.as_ref().map(|working| working.guest) {
        None => on_cleared(turn),
        Some(Guest::Off) => drop_working(turn),
        Some(Guest::Unknown | Guest::On) => finish::stop_guest(turn, Side::Target),
    }
}

pub(super) fn drop_working(turn: &mut ReplicaTurn<'_>) {
    let known = turn.known();
    let Some(vm) = known.working.as_ref().map(|working| working.vm.clone()) else { return on_cleared(turn) };
    let task = turn.context.task(known.next_task);
    let spec =
        TaskSpec::DropWorking { host: known.protection.host.clone(), replica: turn.context.me.entity.name.clone(), vm };
    let fence = finish::fence(turn);
    finish::assign(turn, &task, fence, spec);
    turn.log(Event::StepStarted { step: Step::Drop { task }, until: turn.now().after(limits::STORE) });
}

/// No working VM is left: a failover goes on with the release, an undoing with giving the right back.
pub(super) fn on_cleared(turn: &mut ReplicaTurn<'_>) {
    let Some(work) = turn.work() else { return };
    match &work.transition {
        Transition::Failover => {
            let forced = work.failover.as_ref().is_some_and(|(request, _)| request.forced.is_some());
            if forced { make_working(turn) } else { ask_release(turn) }
        }
        Transition::Undo => give_back(turn),
        Transition::Failback
        | Transition::Switch
        | Transition::Commit
        | Transition::UndoFailback
        | Transition::Permanent
        | Transition::Remove => {}
    }
}

fn ask_release(turn: &mut ReplicaTurn<'_>) {
    let known = turn.known();
    let (to, vm, epoch) = (known.source_host().clone(), known.protection.origin.vm.clone(), known.right.epoch.clone());
    turn.log(Event::StepStarted { step: Step::Release, until: turn.now().after(limits::POWER) });
    turn.send_within(&to, Message::Host(host::Command::Release { vm, epoch }), limits::POWER_ORDER);
}

/// While the source's release is waited for, an override may take its place. A plan that gives it is answered, unless
/// another one is to be answered already.
pub(super) fn override_release(me: &Me<'_>, work: &Work, forced: Option<&Override>) -> Decided {
    let asker = me.asker();
    let other_plan = work.asker.is_some() && asker.is_some() && work.asker != asker;
    match (&work.wait, forced) {
        (Some((Step::Release, _)), Some(forced)) if !other_plan => {
            let mut turn = me.turn();
            turn.log(Event::OverrideGiven { forced: forced.clone(), asker });
            make_working(&mut turn);
            Ok(turn.done())
        }
        (Some(_) | None, _) => Err(me.busy_with(work)),
    }
}

pub(super) fn make_working(turn: &mut ReplicaTurn<'_>) {
    let Some((_, point)) = turn.work().and_then(|work| work.failover.clone()) else { return };
    let known = turn.known();
    let replica = turn.context.me.entity.name.clone();
    let (vm, task) = (working_vm(&replica), turn.context.task(known.next_task));
    let spec = TaskSpec::MakeWorking {
        host: known.protection.host.clone(),
        replica,
        point: point.clone(),
        vm: vm.clone(),
        origin: known.protection.origin.clone(),
    };
    let fence = finish::fence(turn);
    finish::assign(turn, &task, fence, spec);
    turn.log(Event::StepStarted { step: Step::Make { task, vm, point }, until: turn.now().after(limits::STORE) });
}

/// Back to the source: the working VM's guest off, its disks away, the right given back.
pub(super) fn undo(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    let epoch = next_epoch(&turn);
    turn.log(Event::EpochTaken { epoch });
    clear_working(&mut turn);
    turn.done()
}

/// The source may run again; it is started when it was running until this replica asked for its release.
fn give_back(turn: &mut ReplicaTurn<'_>) {
    let power_on = turn.known().production.release_asked;
    finish::grant(turn, Side::Source, power_on);
    if !power_on {
        finish::land(turn, Rest::Ready, None);
    }
}
