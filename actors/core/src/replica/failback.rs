//! The way back: the production VM's disks are brought up to the working VM's while that runs (failback), then once more
//! with it off (switch), then the production VM is started; commit or undo.

use super::decide::{Decided, Me, ReplicaTurn};
use super::{Guest, finish};
use crate::decider::Decision;
use crate::limits;
use crate::naming::{commit_point, failback_slot};
use crate::session::broker_of;
use farshore_schemas::ids::{Address, DiskName, Kind, Name};
use farshore_schemas::messages::agent::{DiskFacts, DiskRef, DiskSink, Endpoint, Failure, TaskSpec};
use farshore_schemas::messages::broker::{self, Priority};
use farshore_schemas::messages::mover::Role;
use farshore_schemas::messages::replica::{Event, Rest, Side, Step, Transition};
use farshore_schemas::messages::{Message, Override, host};

/// Phase 1. The production guest must be off before its disks are written.
pub(super) fn start(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    finish::stop_guest(&mut turn, Side::Source);
    turn.done()
}

/// Phase 2. A production guest that an earlier try may have started is stopped first.
pub(super) fn switch(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    let epoch = super::failover::next_epoch(&turn);
    turn.log(Event::EpochTaken { epoch });
    let first = if turn.known().production.may_run { Side::Source } else { Side::Target };
    finish::stop_guest(&mut turn, first);
    turn.done()
}

/// The production VM is gone: it is made again, with the disks of the working VM.
pub(super) fn create(turn: &mut ReplicaTurn<'_>, mover: &Name) {
    turn.log(Event::ProductionGone { mover: mover.clone() });
    let known = turn.known();
    let (to, origin) = (known.source_host().clone(), known.protection.origin.clone());
    let disks = disks(turn);
    turn.log(Event::StepStarted { step: Step::Create, until: turn.now().after(limits::POWER) });
    let vm = origin.vm.clone();
    turn.send_within(&to, Message::Host(host::Command::CreateVm { vm, disks, origin }), limits::POWER_ORDER);
}

fn disks(turn: &ReplicaTurn<'_>) -> Vec<DiskFacts> {
    turn.known().working.as_ref().map(|working| working.disks.clone()).unwrap_or_default()
}

pub(super) fn slot_names(round: u64) -> (Name, Name) {
    (failback_slot("source", round), failback_slot("here", round))
}

/// A slot at each end: the mover of the source's host writes, ours reads.
pub(super) fn ask_slots(turn: &mut ReplicaTurn<'_>) {
    let known = turn.known();
    let round = known.rounds.saturating_add(1);
    let (there, here) = slot_names(round);
    let request = |slot, role, must| {
        Message::Broker(broker::Command::RequestSlot { slot, role, must, priority: Priority::Restore })
    };
    let ask_there = request(there, Role::Target, known.production.mover.clone());
    let ask_here = request(here, Role::Source, Some(known.protection.mover.clone()));
    let far = broker_of(&known.source_host().site);
    turn.log(Event::StepStarted { step: Step::Slots { round }, until: turn.now().after(limits::SLOT) });
    turn.send(&far, ask_there);
    turn.send(&broker_of(&turn.context.me.site), ask_here);
}

/// Both slots are held: a running VM is frozen first, one that is off is read as it is.
pub(super) fn slots_held(turn: &mut ReplicaTurn<'_>) {
    let Some(transition) = turn.work().map(|work| work.transition) else { return };
    match transition {
        Transition::Failback => {
            let to = turn.known().own_host(&turn.context.me);
            let Some(vm) = turn.known().working.as_ref().map(|working| working.vm.clone()) else { return };
            turn.log(Event::StepStarted { step: Step::Prepare, until: turn.now().after(limits::ANSWER) });
            turn.send(&to, Message::Host(host::Command::PrepareRead { vm }));
        }
        Transition::Switch => send_disks(turn),
        Transition::Failover
        | Transition::Undo
        | Transition::Commit
        | Transition::UndoFailback
        | Transition::Permanent
        | Transition::Remove => {}
    }
}

/// Two tasks per disk, the receiving end first: the sender names its task.
pub(super) fn send_disks(turn: &mut ReplicaTurn<'_>) {
    let disks = disks(turn);
    let until = limits::move_until(turn.now(), &disks);
    turn.log(Event::StepStarted { step: Step::Move, until });
    let carry = turn.work().map(|work| (work.carry.source.clone(), work.carry.here.clone()));
    let Some((Some(source), Some(here))) = carry else { return };
    if disks.is_empty() {
        return finish::broken(turn, no_disks());
    }
    for disk in disks {
        send_disk(turn, disk, &source, &here);
    }
}

fn no_disks() -> Failure {
    Failure {
        code: "FS-REPLICA-NO-DISKS".to_owned(),
        message: "the working VM was made without a disk: there is nothing to send back".to_owned(),
        advice: "see the working VM's host; undo the failover or report this".to_owned(),
        transient: false,
    }
}

fn send_disk(turn: &mut ReplicaTurn<'_>, disk: DiskFacts, source: &(Name, Endpoint), here: &(Name, Endpoint)) {
    let known = turn.known();
    let origin = known.protection.origin.clone();
    let Some(working) = known.working.as_ref().map(|working| working.vm.clone()) else { return };
    let receive = turn.context.task(known.next_task);
    let send = turn.context.task(known.next_task.saturating_add(1));
    let snapshot = turn.work().and_then(|work| work.carry.snapshot.clone());
    let there = DiskRef { host: origin.host.clone(), vm: origin.vm.clone(), disk: disk.name.clone() };
    let ours = DiskRef { host: known.protection.host.clone(), vm: working, disk: disk.name.clone() };
    let far = Address::new(&known.source_host().site, Kind::Mover, &source.0);
    let near = Address::new(&turn.context.me.site, Kind::Mover, &here.0);
    let fence = finish::fence(turn);
    let spec = TaskSpec::ReceiveDisk { peer: here.1.fingerprint, sink: DiskSink::VmDisk(there, disk.size) };
    finish::assign_to(turn, &far, &receive, fence, spec);
    let spec =
        TaskSpec::SendDisk { source: ours, snapshot, peer: source.1.clone(), receive: receive.clone(), digests: None };
    finish::assign_to(turn, &near, &send, None, spec);
    let disk = disk.name;
    turn.log(Event::TaskOrdered { task: receive, disk: disk.clone(), side: Side::Source, mover: far });
    turn.log(Event::TaskOrdered { task: send, disk, side: Side::Target, mover: near });
}

/// Every task has ended well: the two ends must agree on each disk.
pub(super) fn sent(turn: &mut ReplicaTurn<'_>) {
    let Some(work) = turn.work() else { return };
    let names: Vec<DiskName> = disks(turn).into_iter().map(|disk| disk.name).collect();
    let vm = &turn.known().protection.origin.vm;
    if let Some(failure) = crate::session::differs(vm, &work.carry.transfer, &names) {
        return finish::broken(turn, failure);
    }
    match work.transition {
        Transition::Failback => finish::land(turn, Rest::ReadyToSwitch, None),
        Transition::Switch => {
            finish::let_go(turn);
            finish::grant(turn, Side::Source, true);
        }
        Transition::Failover
        | Transition::Undo
        | Transition::Commit
        | Transition::UndoFailback
        | Transition::Permanent
        | Transition::Remove => {}
    }
}

/// The state at the switch becomes the newest point.
pub(super) fn commit(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    let known = turn.known();
    let Some(working) = known.working.clone() else {
        finish::land(&mut turn, Rest::Ready, None);
        return turn.done();
    };
    let point = commit_point(known.right.epoch.counter, turn.context.lineage);
    let forget = super::points::beyond(known, known.keep, None);
    let task = turn.context.task(known.next_task);
    let spec = TaskSpec::AbsorbWorking {
        host: known.protection.host.clone(),
        replica: turn.context.me.entity.name.clone(),
        vm: working.vm,
        point: point.clone(),
        taken: working.off_at,
        forget: forget.clone(),
    };
    let fence = finish::fence(&turn);
    finish::assign(&mut turn, &task, fence, spec);
    let until = turn.now().after(limits::STORE);
    turn.log(Event::StepStarted { step: Step::Absorb { task, point, forget }, until });
    turn.done()
}

/// Production off, the working VM on again. Where production is known to be off nobody has to be asked, so that this
/// works with the source out of reach.
pub(super) fn undo(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    let known = turn.known();
    let runs = known.working.as_ref().is_some_and(|working| working.guest == Guest::On);
    match (known.production.may_run, runs) {
        (false, true) => finish::land(&mut turn, Rest::Failover, None),
        (false, false) => run_here(&mut turn),
        (true, _) => {
            let epoch = super::failover::next_epoch(&turn);
            turn.log(Event::EpochTaken { epoch });
            finish::stop_guest(&mut turn, Side::Source);
        }
    }
    turn.done()
}

/// The same by override, when the source is out of reach a second time.
pub(super) fn forced_return(me: &Me<'_>, forced: &Override) -> Decided {
    let mut turn = me.turn();
    turn.log(Event::Started {
        transition: Transition::UndoFailback,
        asker: None,
        principal: me.context.principal.clone(),
        at: me.context.now,
    });
    turn.log(Event::OverrideGiven { forced: forced.clone(), asker: None });
    run_here(&mut turn);
    Ok(turn.done())
}

/// The working VM is granted a new epoch and started.
pub(super) fn run_here(turn: &mut ReplicaTurn<'_>) {
    let epoch = super::failover::next_epoch(turn);
    turn.log(Event::EpochTaken { epoch });
    finish::grant(turn, Side::Target, true);
}

/// An operator ends phase 1: back to Failover.
pub(super) fn cancel(mut turn: ReplicaTurn<'_>) -> Decision<Event> {
    let failure = Failure {
        code: "FS-REPLICA-CANCELLED".to_owned(),
        message: format!("the failback was cancelled by {}", turn.context.principal),
        advice: "start it again when it suits".to_owned(),
        transient: false,
    };
    finish::broken(&mut turn, failure);
    turn.done()
}
