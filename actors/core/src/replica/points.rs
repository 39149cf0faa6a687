//! Points: opened, sealed, given up. A failover that is asked for meanwhile takes the point back.

use super::decide::{At, Decided, Me, ReplicaTurn, at};
use super::{Known, Making, Processing, Rejection, State, failover, finish};
use crate::decider::Decision;
use crate::limits;
use farshore_schemas::ids::{Address, PointId};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint, Failure, TaskSpec};
use farshore_schemas::messages::replica::{Event, FailoverRequest, Protection, Rest, Side, Transition};
use farshore_schemas::messages::{Message, host, session};
use farshore_schemas::units::{ByteCount, Timestamp};

pub(super) fn open(me: &Me<'_>, protection: Protection, point: &PointId) -> Decided {
    match at(me.state) {
        At::New => Ok(opened(me, protection, point, true)),
        At::Rest(Rest::Ready) => {
            let changed = check(me, &protection, point)?;
            Ok(opened(me, protection, point, changed))
        }
        At::Rest(Rest::Removed) => match me.state {
            State::Known(known) if known.right.holder == Some(Side::Target) => {
                Err(Rejection::RightHeldHere { replica: me.name() })
            }
            State::Known(_) | State::New => Ok(opened(me, protection, point, true)),
        },
        At::Rest(Rest::PermanentFailover) => Err(Rejection::Permanent { replica: me.name() }),
        At::Rest(rest @ (Rest::Failover | Rest::FailedFailover | Rest::ReadyToSwitch | Rest::Failback)) => {
            Err(me.busy(format!("it stands in {rest:?}, where no points are made")))
        }
        At::Processing(processing) => Err(me.processing(processing)),
        At::Working(work) => Err(me.busy_with(work)),
    }
}

/// What was protected so far must fit; says whether the source's host has to be told (again) that it is protected.
fn check(me: &Me<'_>, wants: &Protection, point: &PointId) -> Result<bool, Rejection> {
    let known = match me.state {
        State::Known(known) => known,
        State::New => return Ok(true),
    };
    let (replica, has) = (me.name(), &known.protection);
    if known.points.iter().any(|have| have.point == *point) {
        return Err(Rejection::PointExists { replica, point: point.clone() });
    }
    if has.origin != wants.origin {
        return Err(Rejection::OtherVm { replica, has: has.origin.to_string(), wants: wants.origin.to_string() });
    }
    if !known.points.is_empty() && has.host != wants.host {
        return Err(Rejection::OtherHost { replica, has: has.host.clone(), wants: wants.host.clone() });
    }
    if !known.points.is_empty() && !same_disks(&has.disks, &wants.disks) {
        return Err(Rejection::OtherDisks { replica });
    }
    Ok(has.source_host != wants.source_host)
}

/// The same disks, in whatever order a host lists them.
fn same_disks(a: &[DiskFacts], b: &[DiskFacts]) -> bool {
    a.len() == b.len() && a.iter().all(|disk| b.contains(disk))
}

fn opened(me: &Me<'_>, protection: Protection, point: &PointId, protect: bool) -> Decision<Event> {
    let mut turn = me.turn();
    let session = me.context.from.clone();
    let (vm, source) = (protection.origin.vm.clone(), protection.source_host.clone());
    turn.log(Event::PointOpened { protection, session: session.clone(), point: point.clone(), at: me.context.now });
    if protect {
        turn.send(&source, Message::Host(host::Command::Protect { vm, replica: me.context.me.clone() }));
    }
    let base = turn.known().points.last().map(|point| point.point.clone());
    let answer = session::Command::PointOpened { replica: me.context.me.clone(), base };
    turn.send(&session, Message::Session(answer));
    turn.done()
}

/// The point in the making, when it is this one of this session.
fn its_point<'a>(me: &Me<'a>, point: &PointId) -> Result<&'a Processing, Rejection> {
    let other = || Rejection::NotItsPoint { replica: me.name(), point: point.clone(), from: me.context.from.clone() };
    match at(me.state) {
        At::New => Err(me.unknown()),
        At::Rest(_) | At::Working(_) => Err(other()),
        At::Processing(processing) if processing.point == *point && processing.session == me.context.from => {
            Ok(processing)
        }
        At::Processing(_) => Err(other()),
    }
}

pub(super) fn seal(me: &Me<'_>, point: &PointId, (taken, keep): (Timestamp, u32), disks: &[DiskPoint]) -> Decided {
    let processing = its_point(me, point)?;
    match &processing.making {
        Making::Receiving => {}
        Making::Sealing { .. } => return Err(Rejection::Sealing { replica: me.name(), point: point.clone() }),
        Making::RollingBack { .. } | Making::RollbackWait { .. } => {
            return Err(me.busy(format!("point {point} is being rolled back")));
        }
    }
    let mut turn = me.turn();
    let wanted = &turn.known().protection.disks;
    let proven = |name| disks.iter().any(|disk| disk.name == name);
    if wanted.len() != disks.len() || !wanted.iter().all(|disk| proven(disk.name.clone())) {
        return Err(Rejection::NoProof { replica: me.name(), point: point.clone() });
    }
    let forget = beyond(turn.known(), keep, queued_point(turn.known(), processing));
    let task = me.context.task(turn.known().next_task);
    let spec = TaskSpec::SealReplicaPoint {
        host: turn.known().protection.host.clone(),
        replica: me.name(),
        point: point.clone(),
        taken,
        disks: disks.to_vec(),
        forget: forget.clone(),
    };
    finish::assign(&mut turn, &task, None, spec);
    turn.log(Event::SealOrdered { point: point.clone(), taken, disks: disks.to_vec(), keep, forget, task });
    Ok(turn.done())
}

/// The point that a queued failover names: it is not merged away under its feet.
fn queued_point(known: &Known, processing: &Processing) -> Option<PointId> {
    let (request, _) = processing.queued.as_ref()?;
    failover::choose(known, &request.choice)
}

/// Points to merge away, oldest first, so that `keep` are left once one more is there.
pub(super) fn beyond(known: &Known, keep: u32, needed: Option<PointId>) -> Vec<PointId> {
    let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
    let surplus = (known.points.len() + 1).saturating_sub(keep);
    let oldest = known.points.iter().take(surplus).map(|point| point.point.clone());
    oldest.take_while(|point| needed.as_ref() != Some(point)).collect()
}

pub(super) fn abandon(me: &Me<'_>, point: &PointId) -> Decided {
    let processing = its_point(me, point)?;
    match &processing.making {
        Making::Receiving => {
            let mut turn = me.turn();
            roll_back(&mut turn, point, None);
            Ok(turn.done())
        }
        Making::Sealing { .. } => Err(Rejection::Sealing { replica: me.name(), point: point.clone() }),
        Making::RollingBack { .. } | Making::RollbackWait { .. } => {
            Err(me.busy(format!("point {point} is being rolled back already")))
        }
    }
}

pub(super) fn roll_back(turn: &mut ReplicaTurn<'_>, point: &PointId, failure: Option<Failure>) {
    let task = order_rollback(turn);
    turn.log(Event::PointGivenUp { point: point.clone(), failure, task });
}

fn order_rollback(turn: &mut ReplicaTurn<'_>) -> farshore_schemas::ids::TaskId {
    let task = turn.context.task(turn.known().next_task);
    let host = turn.known().protection.host.clone();
    let replica = turn.context.me.entity.name.clone();
    finish::assign(turn, &task, None, TaskSpec::RollBackReplica { host, replica });
    task
}

/// A failover while a point is made: the session is asked for the point; a seal under way is waited for.
pub(super) fn queue_failover(me: &Me<'_>, processing: &Processing, request: FailoverRequest) -> Decided {
    if processing.queued.is_some() {
        return Err(me.processing(processing));
    }
    let mut turn = me.turn();
    failover::checked(me, turn.known(), &request.choice)?;
    turn.log(Event::FailoverQueued { request, until: me.context.now.after(limits::REVOKE) });
    match &processing.making {
        Making::Receiving => {
            let failure = Failure {
                code: "FS-REPLICA-REVOKED".to_owned(),
                message: format!(
                    "replica {} takes point {} back: a failover is asked for",
                    me.name(),
                    processing.point
                ),
                advice: "nothing has to be done: replication goes on once the failover is undone or failed back"
                    .to_owned(),
                transient: false,
            };
            tell_session(&mut turn, &processing.session, Err(failure));
        }
        Making::Sealing { .. } | Making::RollingBack { .. } | Making::RollbackWait { .. } => {}
    }
    Ok(turn.done())
}

pub(super) fn tell_session(turn: &mut ReplicaTurn<'_>, session: &Address, sealed: Result<ByteCount, Failure>) {
    let replica = turn.context.me.clone();
    turn.send(session, Message::Session(session::Command::PointSealed { replica, sealed }));
}

/// The point has come to its end, well or badly: a failover that waited for it begins.
pub(super) fn go_on(turn: &mut ReplicaTurn<'_>, queued: Option<(FailoverRequest, Timestamp)>) {
    let Some((request, _)) = queued else { return };
    match failover::choose(turn.known(), &request.choice) {
        Some(point) => failover::begin(turn, request, point),
        None => {
            let failure = Failure {
                code: "FS-REPLICA-NO-POINT".to_owned(),
                message: "the point that the failover named is not there".to_owned(),
                advice: "choose one of the points that are listed".to_owned(),
                transient: false,
            };
            turn.log(Event::FailoverDropped { failure: failure.clone() });
            finish::answer(turn, request.asker.as_ref(), Transition::Failover, Some(failure));
        }
    }
}

/// A roll back that is due again, a queued failover that has waited too long.
pub(super) fn wake(mut turn: ReplicaTurn<'_>, processing: &Processing) -> Decision<Event> {
    let now = turn.now();
    match &processing.making {
        Making::RollbackWait { again } if *again <= now => {
            let task = order_rollback(&mut turn);
            turn.log(Event::RollbackOrdered { task });
        }
        Making::RollbackWait { .. } | Making::Receiving | Making::Sealing { .. } | Making::RollingBack { .. } => {}
    }
    match &processing.queued {
        Some((request, until)) if *until <= now => {
            let failure = limits::timeout(
                "FS-REPLICA-TIMEOUT",
                "the end of the point in the making",
                &turn.known().protection.origin.vm,
            );
            turn.log(Event::FailoverDropped { failure: failure.clone() });
            finish::answer(&mut turn, request.asker.as_ref(), Transition::Failover, Some(failure));
        }
        Some(_) | None => {}
    }
    turn.done()
}
