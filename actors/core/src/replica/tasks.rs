//! What the ends of tasks mean.

use super::decide::{At, Decided, Me, ReplicaTurn, at};
use super::{Making, Processing, Rejection, Work, failback, failover, finish, points};
use crate::limits;
use farshore_schemas::ids::{DiskName, PointId, TaskId};
use farshore_schemas::messages::agent::{DiskPoint, Failure, Moved, Outcome};
use farshore_schemas::messages::replica::{Event, ReplicaPoint, Rest, Side, Step, Transition};
use farshore_schemas::messages::session::End;
use farshore_schemas::units::{ByteCount, Timestamp};

pub(super) fn ended(me: &Me<'_>, task: &TaskId, outcome: &Outcome) -> Decided {
    let unknown =
        || Rejection::NoSuchTask { replica: me.name(), task: task.to_string(), from: me.context.from.clone() };
    match at(me.state) {
        At::New => Err(me.unknown()),
        At::Rest(_) => Err(unknown()),
        At::Processing(processing) => {
            let turn = me.turn();
            let ours = turn.known().own_mover(&me.context.me) == me.context.from;
            match &processing.making {
                Making::Sealing { task: open, .. } if ours && open == task => Ok(sealed(turn, processing, outcome)),
                Making::RollingBack { task: open } if ours && open == task => {
                    Ok(rolled_back(turn, processing, outcome))
                }
                Making::Receiving
                | Making::Sealing { .. }
                | Making::RollingBack { .. }
                | Making::RollbackWait { .. } => Err(unknown()),
            }
        }
        At::Working(work) => match work.carry.transfer.open.get(task) {
            Some(open) if open.mover == me.context.from => {
                let (disk, end) = (open.disk.clone(), open.end);
                Ok(disk_ended(me.turn(), task, (&disk, end), outcome))
            }
            Some(_) => Err(unknown()),
            None => step_ended(me, work, task, outcome).ok_or_else(unknown),
        },
    }
}

/// Why a task that ended otherwise than it must has failed.
fn why(outcome: &Outcome) -> Failure {
    let (code, message) = match outcome {
        Outcome::Failed(failure) => return failure.clone(),
        Outcome::Cancelled => ("FS-REPLICA-CANCELLED", "the task was cancelled at its agent"),
        Outcome::Done
        | Outcome::Inventory { .. }
        | Outcome::Snapshot { .. }
        | Outcome::DiskStored { .. }
        | Outcome::PointDurable { .. }
        | Outcome::Pruned { .. }
        | Outcome::TooEarly { .. }
        | Outcome::Verified { .. }
        | Outcome::LogKept { .. }
        | Outcome::DiskRestored { .. }
        | Outcome::DiskSent { .. }
        | Outcome::DiskReceived { .. } => {
            ("FS-REPLICA-NO-PROOF", "the task ended without the proof that it must bring")
        }
    };
    Failure {
        code: code.to_owned(),
        message: message.to_owned(),
        advice: "try again; if it comes back, see the agent's version and its log".to_owned(),
        transient: true,
    }
}

fn durable(outcome: &Outcome) -> Option<(ByteCount, &[DiskPoint])> {
    match outcome {
        Outcome::PointDurable { stored, disks, .. } => Some((*stored, disks)),
        Outcome::Done
        | Outcome::Inventory { .. }
        | Outcome::Snapshot { .. }
        | Outcome::DiskStored { .. }
        | Outcome::Pruned { .. }
        | Outcome::TooEarly { .. }
        | Outcome::Verified { .. }
        | Outcome::LogKept { .. }
        | Outcome::DiskRestored { .. }
        | Outcome::DiskSent { .. }
        | Outcome::DiskReceived { .. }
        | Outcome::Failed(_)
        | Outcome::Cancelled => None,
    }
}

/// The store has sealed the point, with the source's checksums: it is usable.
fn sealed(mut turn: ReplicaTurn<'_>, processing: &Processing, outcome: &Outcome) -> crate::decider::Decision<Event> {
    let (taken, wanted, merged) = match &processing.making {
        Making::Sealing { taken, disks, forget, .. } => (*taken, disks.clone(), forget.clone()),
        Making::Receiving | Making::RollingBack { .. } | Making::RollbackWait { .. } => {
            (Timestamp::default(), Vec::new(), Vec::new())
        }
    };
    let same = |disks: &[DiskPoint]| {
        let has = |disk: &DiskPoint| disks.iter().any(|is| is.name == disk.name && is.checksum == disk.checksum);
        wanted.iter().all(has)
    };
    match durable(outcome) {
        Some((stored, disks)) if same(disks) => {
            let point = added(&processing.point, taken, turn.now(), (stored, disks));
            turn.log(Event::PointAdded { point, merged });
            points::tell_session(&mut turn, &processing.session, Ok(stored));
            points::go_on(&mut turn, processing.queued.clone());
        }
        Some(_) => {
            let failure = Failure {
                code: "FS-REPLICA-CHECKSUM".to_owned(),
                message: format!("point {}: the store holds other bytes than the source read", processing.point),
                advice: "run the job again; if it comes back, check the target's storage and memory".to_owned(),
                transient: true,
            };
            seal_failed(&mut turn, processing, failure);
        }
        None => seal_failed(&mut turn, processing, why(outcome)),
    }
    turn.done()
}

fn added(point: &PointId, taken: Timestamp, usable: Timestamp, store: (ByteCount, &[DiskPoint])) -> ReplicaPoint {
    ReplicaPoint { point: point.clone(), taken, usable, disks: store.1.to_vec(), stored: store.0 }
}

pub(super) fn seal_failed(turn: &mut ReplicaTurn<'_>, processing: &Processing, failure: Failure) {
    points::roll_back(turn, &processing.point, Some(failure.clone()));
    points::tell_session(turn, &processing.session, Err(failure));
}

fn rolled_back(
    mut turn: ReplicaTurn<'_>,
    processing: &Processing,
    outcome: &Outcome,
) -> crate::decider::Decision<Event> {
    if *outcome == Outcome::Done {
        turn.log(Event::RolledBack { at: turn.now() });
        points::go_on(&mut turn, processing.queued.clone());
    } else {
        let again = turn.now().after(limits::ROLLBACK_AGAIN);
        turn.log(Event::RollbackFailed { failure: why(outcome), again });
    }
    turn.done()
}

/// One end of a disk's way back.
fn disk_ended(
    mut turn: ReplicaTurn<'_>,
    task: &TaskId,
    (disk, end): (&DiskName, End),
    outcome: &Outcome,
) -> crate::decider::Decision<Event> {
    let lost = match proof(end, outcome) {
        Some((proof, moved)) if proof.name == *disk => {
            turn.log(Event::TaskDone { task: task.clone(), disk: proof.clone(), moved });
            None
        }
        Some(_) | None => {
            let failure = why(outcome);
            let cancelled = *outcome == Outcome::Cancelled;
            turn.log(Event::TaskLost { task: task.clone(), failure: (!cancelled).then(|| failure.clone()) });
            Some(failure)
        }
    };
    let Some(work) = turn.work() else { return turn.done() };
    let last = work.carry.transfer.open.is_empty();
    match (&work.wait, lost) {
        (Some((Step::Cancel { failure }, _)), _) => {
            let failure = failure.clone();
            if last {
                finish::broken(&mut turn, failure);
            }
        }
        (_, Some(failure)) => finish::broken(&mut turn, failure),
        (_, None) if last => failback::sent(&mut turn),
        (_, None) => {}
    }
    turn.done()
}

fn proof(end: End, outcome: &Outcome) -> Option<(&DiskPoint, Moved)> {
    match (outcome, end) {
        (Outcome::DiskSent { disk, moved, .. }, End::Read) => Some((disk, Moved { written: ByteCount(0), ..*moved })),
        (Outcome::DiskReceived { disk, moved }, End::Write) => {
            Some((disk, Moved { written: moved.written, ..Moved::default() }))
        }
        (
            Outcome::DiskSent { .. }
            | Outcome::DiskReceived { .. }
            | Outcome::Done
            | Outcome::Inventory { .. }
            | Outcome::Snapshot { .. }
            | Outcome::DiskStored { .. }
            | Outcome::PointDurable { .. }
            | Outcome::Pruned { .. }
            | Outcome::TooEarly { .. }
            | Outcome::Verified { .. }
            | Outcome::LogKept { .. }
            | Outcome::DiskRestored { .. }
            | Outcome::Failed(_)
            | Outcome::Cancelled,
            _,
        ) => None,
    }
}

/// The task of a step of the transition; none when it is not the one that is waited for.
fn step_ended(me: &Me<'_>, work: &Work, task: &TaskId, outcome: &Outcome) -> Option<crate::decider::Decision<Event>> {
    let mut turn = me.turn();
    if turn.known().own_mover(&me.context.me) != me.context.from {
        return None;
    }
    let (step, _) = work.wait.as_ref()?;
    match step {
        Step::Make { task: open, .. } if open == task => match outcome {
            Outcome::Snapshot { disks, .. } => {
                turn.log(Event::WorkingMade { disks: disks.clone() });
                finish::grant(&mut turn, Side::Target, true);
            }
            Outcome::Done
            | Outcome::Inventory { .. }
            | Outcome::DiskStored { .. }
            | Outcome::PointDurable { .. }
            | Outcome::Pruned { .. }
            | Outcome::TooEarly { .. }
            | Outcome::Verified { .. }
            | Outcome::LogKept { .. }
            | Outcome::DiskRestored { .. }
            | Outcome::DiskSent { .. }
            | Outcome::DiskReceived { .. }
            | Outcome::Failed(_)
            | Outcome::Cancelled => finish::broken(&mut turn, why(outcome)),
        },
        Step::Drop { task: open } if open == task => {
            if *outcome == Outcome::Done {
                turn.log(Event::WorkingDropped);
                failover::on_cleared(&mut turn);
            } else {
                finish::broken(&mut turn, why(outcome));
            }
        }
        Step::Absorb { task: open, point, forget } if open == task => match durable(outcome) {
            Some(store) => {
                let taken = turn.known().working.as_ref().map(|working| working.off_at).unwrap_or_default();
                let point = added(point, taken, turn.now(), store);
                turn.log(Event::PointAdded { point, merged: forget.clone() });
                turn.log(Event::WorkingDropped);
                finish::land(&mut turn, Rest::Ready, None);
            }
            None => finish::broken(&mut turn, why(outcome)),
        },
        Step::DropStore { task: open } if open == task => {
            if *outcome == Outcome::Done {
                finish::store_dropped(&mut turn, rest_without_store(work.transition));
            } else {
                finish::broken(&mut turn, why(outcome));
            }
        }
        Step::Make { .. }
        | Step::Drop { .. }
        | Step::Absorb { .. }
        | Step::DropStore { .. }
        | Step::Release
        | Step::Stop { .. }
        | Step::Start { .. }
        | Step::Create
        | Step::Slots { .. }
        | Step::Prepare
        | Step::Move
        | Step::Cancel { .. } => return None,
    }
    Some(turn.done())
}

/// Where a replica comes to rest once its store is gone.
fn rest_without_store(transition: Transition) -> Rest {
    match transition {
        Transition::Permanent => Rest::PermanentFailover,
        Transition::Remove
        | Transition::Failover
        | Transition::Undo
        | Transition::Failback
        | Transition::Switch
        | Transition::Commit
        | Transition::UndoFailback => Rest::Removed,
    }
}
