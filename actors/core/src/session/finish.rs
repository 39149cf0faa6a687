//! How VMs and the session end. Whatever happened, all that was asked for is let go: slots, snapshots, points of replicas
//! that are not sealed, the access, and at last whatever a broker may still hold for us.

use super::decide::SessionTurn;
use super::steps::{restored_point, vm};
use super::{Access, Phase, Run, Step, Vm, start};
use crate::decider::Decision;
use crate::limits;
use farshore_schemas::ids::{Kind, PointId, VmName, VmRef};
use farshore_schemas::messages::agent::Failure;
use farshore_schemas::messages::job::{self, Work};
use farshore_schemas::messages::session::{Event, VmEnd};
use farshore_schemas::messages::{Message, SessionResult, broker, host, mover, replica, repository};
use farshore_schemas::units::ByteCount;

/// Whether a VM has ended as failed.
pub(super) fn failed(vm: &Vm) -> bool {
    vm.step.end().is_some_and(|end| end.result == SessionResult::Failed)
}

/// A VM cannot be finished: open tasks are cancelled and waited for, then it ends.
pub(super) fn fail(turn: &mut SessionTurn<'_>, name: &VmName, failure: Failure) {
    let open: Vec<_> =
        vm(turn, name).transfer.open.iter().map(|(task, open)| (task.clone(), open.mover.clone())).collect();
    if open.is_empty() {
        end_failed(turn, name, failure);
        return settle(turn);
    }
    for (task, mover) in open {
        turn.send(&mover, Message::Mover(mover::Command::Cancel { task }));
    }
    let until = turn.now().after(limits::CANCEL);
    turn.log(Event::WindingDown { vm: name.clone(), failure, until });
}

/// A VM ends without its point.
pub(super) fn end_failed(turn: &mut SessionTurn<'_>, name: &VmName, failure: Failure) {
    let end = VmEnd { result: SessionResult::Failed, point: None, stored: ByteCount(0), failure: Some(failure) };
    abandon(turn, name);
    end_vm(turn, name, end);
}

/// A VM is left out with a warning: its replica serves something else (docs/flows.md).
pub(super) fn skip(turn: &mut SessionTurn<'_>, name: &VmName, failure: Failure) {
    let end = VmEnd { result: SessionResult::Warning, point: None, stored: ByteCount(0), failure: Some(failure) };
    end_vm(turn, name, end);
    settle(turn);
}

/// The point is proven.
pub(super) fn succeed(turn: &mut SessionTurn<'_>, name: &VmName, stored: ByteCount) {
    let point: PointId = vm(turn, name).point.clone();
    end_vm(turn, name, VmEnd { result: SessionResult::Success, point: Some(point), stored, failure: None });
    settle(turn);
}

/// All disks of a restore are written: the proof is that each has the point's checksum.
pub(super) fn restored(turn: &mut SessionTurn<'_>, name: &VmName) {
    let written = &vm(turn, name).transfer.written;
    let disks = restored_point(turn.run()).map(|point| point.disks.clone()).unwrap_or_default();
    let differing = disks.iter().find(|disk| written.get(&disk.name).map(|is| is.checksum) != Some(disk.checksum));
    match differing {
        None if !disks.is_empty() => succeed(turn, name, ByteCount(0)),
        None => fail(turn, name, unproven(name, "its point was gone before it could be compared with")),
        Some(disk) => {
            let what = format!("disk {} does not have the checksum of the point", disk.name);
            fail(turn, name, unproven(name, &what));
        }
    }
}

fn unproven(vm: &VmName, what: &str) -> Failure {
    Failure {
        code: "FS-SESSION-CHECKSUM".to_owned(),
        message: format!("VM {vm}: {what}; the restored VM is not to be used"),
        advice: "delete the restored VM, verify the point, restore again".to_owned(),
        transient: true,
    }
}

/// The replica that was asked to receive is told to give the point up.
fn abandon(turn: &mut SessionTurn<'_>, name: &VmName) {
    let one = vm(turn, name);
    if let Some(replica) = one.replica.clone() {
        let point = one.point.clone();
        turn.send(&replica, Message::Replica(replica::Command::AbandonPoint { point }));
    }
}

/// A VM ends; what it holds is let go.
pub(super) fn end_vm(turn: &mut SessionTurn<'_>, name: &VmName, end: VmEnd) {
    let one = vm(turn, name);
    let reading = one.reading.clone();
    let slots: Vec<_> = one.slots.iter().map(|(slot, held)| (held.broker.clone(), slot.clone())).collect();
    if let Some(host) = reading {
        turn.send(&host, Message::Host(host::Command::EndRead { vm: name.clone() }));
    }
    for (broker, slot) in slots {
        turn.send(&broker, Message::Broker(broker::Command::ReleaseSlot { slot }));
    }
    turn.log(Event::VmEnded { vm: name.clone(), end, at: turn.now() });
}

/// When every VM has ended: another attempt for those that failed, or the end.
pub(super) fn settle(turn: &mut SessionTurn<'_>) {
    let run = turn.run();
    if run.vms.values().any(|vm| vm.step.end().is_none()) {
        return;
    }
    let retries = match &run.phase {
        Phase::Starting { .. } | Phase::Working => run.retry.filter(|retry| run.attempt <= retry.attempts),
        Phase::RetryWait { .. } | Phase::Stopping | Phase::Stopped { .. } => None,
    };
    let some_failed = run.failure.is_some() || run.vms.values().any(failed);
    match retries {
        Some(retry) if some_failed => {
            let when = turn.now().after(retry.wait);
            let attempt = run.attempt.saturating_add(1);
            turn.log(Event::RetryScheduled { attempt, when });
        }
        Some(_) | None => end_session(turn),
    }
}

/// The worst part, and what went wrong first.
fn outcome(run: &Run) -> (SessionResult, Option<Failure>) {
    let worst = run.vms.values().filter_map(|vm| vm.step.end()).max_by_key(|end| end.result);
    match (&run.failure, worst) {
        (Some(failure), _) => (SessionResult::Failed, Some(failure.clone())),
        (None, Some(end)) => (end.result, end.failure.clone()),
        (None, None) => {
            let (result, failure) = start::nothing_found(run);
            (result, Some(failure))
        }
    }
}

fn end_session(turn: &mut SessionTurn<'_>) {
    let run = turn.run();
    let me = turn.context.me.clone();
    let now = turn.now();
    let (result, failure) = outcome(run);
    let protected = protected(run);
    let (moved, stored) = (run.moved, run.stored());
    let brokers = run.brokers.clone();
    let job = turn.context.here(Kind::Job, &run.job);
    close_access(turn);
    for broker in brokers {
        turn.send(&broker, Message::Broker(broker::Command::ReleaseAll { holder: me.clone() }));
    }
    let session = me.entity.name.clone();
    let ended = job::Command::SessionEnded { session, result, protected: protected.clone(), ended: now };
    turn.send(&job, Message::Job(ended));
    turn.log(Event::Ended { result, protected, moved, stored, failure, at: now });
}

/// VMs whose newest point is from this run. A restore makes no point.
fn protected(run: &Run) -> Vec<VmRef> {
    match &run.spec.work {
        Work::Restore { .. } => Vec::new(),
        Work::Backup { .. } | Work::Replication { .. } => {
            let proven = |vm: &&Vm| vm.step.end().is_some_and(|end| end.result == SessionResult::Success);
            run.vms.values().filter(proven).map(|vm| vm.vm.clone()).collect()
        }
    }
}

fn close_access(turn: &mut SessionTurn<'_>) {
    let repository = match &turn.run().access {
        Access::Asked { repository, .. } | Access::Open { repository, .. } => repository.clone(),
        Access::None | Access::Failed { .. } => return,
    };
    turn.send(&repository, Message::Repository(repository::Command::CloseAccess));
}

/// The repository does not let us in: every VM that waits for it fails.
pub(super) fn access_failed(turn: &mut SessionTurn<'_>, failure: &Failure) {
    close_access(turn);
    turn.log(Event::AccessFailed { failure: failure.clone() });
    let waits = |vm: &Vm| matches!(vm.step, Step::Access { .. });
    let waiting: Vec<VmName> =
        turn.run().vms.iter().filter(|(_, vm)| waits(vm)).map(|(name, _)| name.clone()).collect();
    for name in waiting {
        end_failed(turn, &name, failure.clone());
    }
    settle(turn);
}

/// The operator's stop: what can be cancelled is, what is about to be proven is waited for.
pub(super) fn stop(mut turn: SessionTurn<'_>) -> Decision<Event> {
    let failure = Failure {
        code: "FS-SESSION-STOPPED".to_owned(),
        message: format!("session {} was stopped by {}", turn.context.me.entity.name, turn.context.principal),
        advice: "run the job again when it suits".to_owned(),
        transient: false,
    };
    turn.log(Event::StopRequested { failure: failure.clone(), at: turn.now() });
    let stops = |step: &Step| match step {
        Step::Planned
        | Step::Slots { .. }
        | Step::Access { .. }
        | Step::Read { .. }
        | Step::Create { .. }
        | Step::Point { .. }
        | Step::Moving { .. } => true,
        Step::Committing { .. } | Step::Winding { .. } | Step::Ended(_) => false,
    };
    let names: Vec<VmName> =
        turn.run().vms.iter().filter(|(_, vm)| stops(&vm.step)).map(|(name, _)| name.clone()).collect();
    for name in names {
        let open = !vm(&turn, &name).transfer.open.is_empty();
        if open { fail(&mut turn, &name, failure.clone()) } else { end_failed(&mut turn, &name, failure.clone()) }
    }
    settle(&mut turn);
    turn.done()
}

/// Waits that have come to their end.
pub(super) fn expire(mut turn: SessionTurn<'_>) -> Decision<Event> {
    let now = turn.now();
    let access_due = match &turn.run().access {
        Access::Asked { until, .. } => *until <= now,
        Access::None | Access::Open { .. } | Access::Failed { .. } => false,
    };
    if access_due {
        let failure = Failure {
            code: "FS-SESSION-TIMEOUT".to_owned(),
            message: format!("repository {} did not let us in in time", turn.run().repository(&turn.context.me)),
            advice: "see whether its site and its agent are up, then run the job again".to_owned(),
            transient: true,
        };
        access_failed(&mut turn, &failure);
    }
    let due = |vm: &Vm| vm.step.until().is_some_and(|until| until <= now);
    let names: Vec<VmName> = turn.run().vms.iter().filter(|(_, vm)| due(vm)).map(|(name, _)| name.clone()).collect();
    for name in names {
        match vm(&turn, &name).step.clone() {
            Step::Winding { failure, .. } => {
                end_failed(&mut turn, &name, failure);
                settle(&mut turn);
            }
            step @ (Step::Planned
            | Step::Slots { .. }
            | Step::Access { .. }
            | Step::Read { .. }
            | Step::Create { .. }
            | Step::Point { .. }
            | Step::Moving { .. }
            | Step::Committing { .. }
            | Step::Ended(_)) => {
                fail(&mut turn, &name, limits::timeout("FS-SESSION-TIMEOUT", step.waits_for(), &name));
            }
        }
    }
    turn.done()
}
