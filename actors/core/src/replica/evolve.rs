//! What each event of a replica changes.

use super::{Carry, Guest, Known, Making, Phase, Processing, Production, Right, State, Work, WorkingVm};
use crate::transfer::OpenTask;
use farshore_schemas::ids::{Address, PointId, Seq, TaskId};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::replica::{Event, Protection, Rest, Side, Step, Transition};
use farshore_schemas::messages::session::End;
use farshore_schemas::units::Timestamp;

pub(super) fn evolve(state: &mut State, event: &Event) {
    match state {
        State::New => begin(state, event),
        State::Known(known) => fold(known, event),
    }
}

fn begin(state: &mut State, event: &Event) {
    // A log that begins otherwise is not one of ours and changes nothing.
    if let Event::PointOpened { protection, session, point, .. } = event {
        let epoch = Epoch { counter: 0, site: protection.origin.site.clone(), frame: Seq(0) };
        *state = State::Known(Box::new(Known {
            protection: protection.clone(),
            points: Vec::new(),
            keep: 0,
            right: Right { epoch, holder: Some(Side::Source) },
            next_task: 0,
            rounds: 0,
            working: None,
            production: Production { may_run: true, ..Production::default() },
            phase: receiving(session, point),
        }));
    }
}

fn receiving(session: &Address, point: &PointId) -> Phase {
    Phase::Processing(Box::new(Processing {
        session: session.clone(),
        point: point.clone(),
        making: Making::Receiving,
        queued: None,
    }))
}

fn rest(rest: Rest, since: Timestamp) -> Phase {
    Phase::Rest { rest, failure: None, since }
}

fn fold(known: &mut Known, event: &Event) {
    match event {
        Event::PointOpened { protection, session, point, .. } => {
            known.protection = Protection::clone(protection);
            known.phase = receiving(session, point);
        }
        Event::SealOrdered { taken, disks, keep, forget, task, .. } => {
            known.keep = *keep;
            took(known, task);
            let (taken, disks, forget) = (*taken, disks.clone(), forget.clone());
            making(known, Making::Sealing { task: task.clone(), taken, disks, forget });
        }
        Event::PointAdded { point, merged } => {
            known.points.retain(|have| !merged.contains(&have.point));
            known.points.push(point.clone());
            point_ended(known, point.usable);
        }
        Event::PointGivenUp { task, .. } | Event::RollbackOrdered { task } => {
            took(known, task);
            making(known, Making::RollingBack { task: task.clone() });
        }
        Event::RollbackFailed { again, .. } => making(known, Making::RollbackWait { again: *again }),
        Event::RolledBack { at } => point_ended(known, *at),
        Event::FailoverQueued { request, until } => processing(known, |it| it.queued = Some((request.clone(), *until))),
        Event::FailoverDropped { .. } => processing(known, |it| it.queued = None),
        Event::FailoverStarted { request, point, epoch, .. } => {
            known.phase = begun(known, Transition::Failover, request.asker.clone());
            working(known, |work| work.failover = Some((request.clone(), point.clone())));
            known.right = Right { epoch: epoch.clone(), holder: None };
        }
        Event::OverrideGiven { forced, asker } => working(known, |work| {
            work.asker = work.asker.take().or_else(|| asker.clone());
            if let Some((request, _)) = &mut work.failover {
                request.forced = Some(forced.clone());
            }
        }),
        Event::Started { transition, asker, .. } => known.phase = begun(known, *transition, asker.clone()),
        Event::StepStarted { step, until } => step_started(known, step, *until),
        Event::PointsDropped => known.points.clear(),
        Event::Ended { rest, failure, at, .. } => ended(known, *rest, failure.clone(), *at),
        Event::EpochTaken { .. }
        | Event::RightKept { .. }
        | Event::Granted { .. }
        | Event::SourceReleased
        | Event::GuestOff { .. }
        | Event::GuestOn { .. }
        | Event::ProductionGone { .. }
        | Event::ProductionMade
        | Event::WorkingMade { .. }
        | Event::WorkingDropped => fold_guests(known, event),
        Event::SlotGranted { .. }
        | Event::ReadPrepared { .. }
        | Event::TaskOrdered { .. }
        | Event::TaskDone { .. }
        | Event::TaskLost { .. } => fold_carry(known, event),
    }
}

fn took(known: &mut Known, task: &TaskId) {
    known.next_task = known.next_task.max(task.ordinal.saturating_add(1));
}

fn processing(known: &mut Known, change: impl FnOnce(&mut Processing)) {
    match &mut known.phase {
        Phase::Processing(it) => change(it),
        Phase::Rest { .. } | Phase::Working(_) => {}
    }
}

fn working(known: &mut Known, change: impl FnOnce(&mut Work)) {
    match &mut known.phase {
        Phase::Working(work) => change(work),
        Phase::Rest { .. } | Phase::Processing(_) => {}
    }
}

fn making(known: &mut Known, making: Making) {
    processing(known, |it| it.making = making);
}

/// A session's point has ended; a point made by a commit leaves the transition as it is.
fn point_ended(known: &mut Known, at: Timestamp) {
    match &known.phase {
        Phase::Processing(_) => known.phase = rest(Rest::Ready, at),
        Phase::Rest { .. } | Phase::Working(_) => {}
    }
}

fn begun(known: &Known, transition: Transition, asker: Option<Address>) -> Phase {
    let from = known.rest().unwrap_or(Rest::Ready);
    Phase::Working(Box::new(Work { transition, from, asker, wait: None, failover: None, carry: Carry::default() }))
}

fn step_started(known: &mut Known, step: &Step, until: Timestamp) {
    match step {
        Step::Release => known.production.release_asked = true,
        Step::Make { task, vm, point } => {
            took(known, task);
            let (vm, point) = (vm.clone(), point.clone());
            known.working =
                Some(WorkingVm { vm, point, disks: Vec::new(), guest: Guest::Off, off_at: Timestamp::default() });
        }
        Step::Drop { task } | Step::Absorb { task, .. } | Step::DropStore { task } => took(known, task),
        Step::Slots { round } => {
            known.rounds = known.rounds.max(*round);
            working(known, |work| work.carry.round = Some(*round));
        }
        Step::Prepare => working(known, |work| work.carry.reading = true),
        // Whatever was carried has arrived and was let go before a guest is started.
        Step::Start { .. } => working(known, |work| work.carry = Carry::default()),
        Step::Stop { .. } | Step::Create | Step::Move | Step::Cancel { .. } => {}
    }
    working(known, |work| work.wait = Some((step.clone(), until)));
}

fn ended(known: &mut Known, rest: Rest, failure: Option<farshore_schemas::messages::agent::Failure>, at: Timestamp) {
    match rest {
        Rest::Ready => {
            known.working = None;
            known.production.release_asked = false;
        }
        Rest::Failover
        | Rest::FailedFailover
        | Rest::ReadyToSwitch
        | Rest::Failback
        | Rest::PermanentFailover
        | Rest::Removed => {}
    }
    known.phase = Phase::Rest { rest, failure, since: at };
}

/// Who may run, and what runs.
fn fold_guests(known: &mut Known, event: &Event) {
    let guest = |known: &mut Known, guest: Guest| {
        if let Some(working) = &mut known.working {
            working.guest = guest;
        }
    };
    match event {
        Event::EpochTaken { epoch } => known.right = Right { epoch: epoch.clone(), holder: None },
        Event::RightKept { side } => known.right.holder = Some(*side),
        Event::Granted { side, epoch, .. } => {
            known.right = Right { epoch: epoch.clone(), holder: Some(*side) };
            match side {
                Side::Source => known.production.may_run = true,
                Side::Target => guest(known, Guest::Unknown),
            }
        }
        Event::SourceReleased => known.production.may_run = false,
        Event::GuestOff { side: Side::Source, mover, .. } | Event::ProductionGone { mover } => {
            known.production.may_run = false;
            known.production.mover = Some(mover.clone());
        }
        Event::GuestOff { side: Side::Target, at, .. } => {
            // Told to stop again when off already: the first time is when its content was last touched.
            if let Some(working) = &mut known.working
                && working.guest != Guest::Off
            {
                working.guest = Guest::Off;
                working.off_at = *at;
            }
        }
        Event::GuestOn { side: Side::Target, .. } => guest(known, Guest::On),
        Event::GuestOn { side: Side::Source, .. } | Event::ProductionMade => {}
        Event::WorkingMade { disks } => {
            if let Some(working) = &mut known.working {
                working.disks = disks.clone();
            }
        }
        Event::WorkingDropped => known.working = None,
        Event::PointOpened { .. }
        | Event::SealOrdered { .. }
        | Event::PointAdded { .. }
        | Event::PointGivenUp { .. }
        | Event::RollbackFailed { .. }
        | Event::RollbackOrdered { .. }
        | Event::RolledBack { .. }
        | Event::FailoverQueued { .. }
        | Event::FailoverDropped { .. }
        | Event::FailoverStarted { .. }
        | Event::OverrideGiven { .. }
        | Event::Started { .. }
        | Event::StepStarted { .. }
        | Event::SlotGranted { .. }
        | Event::ReadPrepared { .. }
        | Event::TaskOrdered { .. }
        | Event::TaskDone { .. }
        | Event::TaskLost { .. }
        | Event::PointsDropped
        | Event::Ended { .. } => {}
    }
}

/// The disks' way back.
fn fold_carry(known: &mut Known, event: &Event) {
    if let Event::TaskOrdered { task, .. } = event {
        took(known, task);
    }
    working(known, |work| {
        let carry = &mut work.carry;
        match event {
            Event::SlotGranted { side, mover, endpoint, .. } => {
                let slot = Some((mover.clone(), endpoint.clone()));
                match side {
                    Side::Source => carry.source = slot,
                    Side::Target => carry.here = slot,
                }
            }
            Event::ReadPrepared { snapshot, .. } => carry.snapshot = Some(snapshot.clone()),
            Event::TaskOrdered { task, disk, side, mover } => {
                let end = match side {
                    Side::Target => End::Read,
                    Side::Source => End::Write,
                };
                carry.transfer.ordered(task, OpenTask { disk: disk.clone(), end, mover: mover.clone() });
            }
            Event::TaskDone { task, disk, .. } => carry.transfer.done(task, disk),
            Event::TaskLost { task, .. } => carry.transfer.lost(task),
            Event::PointOpened { .. }
            | Event::SealOrdered { .. }
            | Event::PointAdded { .. }
            | Event::PointGivenUp { .. }
            | Event::RollbackFailed { .. }
            | Event::RollbackOrdered { .. }
            | Event::RolledBack { .. }
            | Event::FailoverQueued { .. }
            | Event::FailoverDropped { .. }
            | Event::FailoverStarted { .. }
            | Event::OverrideGiven { .. }
            | Event::Started { .. }
            | Event::EpochTaken { .. }
            | Event::RightKept { .. }
            | Event::Granted { .. }
            | Event::StepStarted { .. }
            | Event::SourceReleased
            | Event::GuestOff { .. }
            | Event::GuestOn { .. }
            | Event::ProductionGone { .. }
            | Event::ProductionMade
            | Event::WorkingMade { .. }
            | Event::WorkingDropped
            | Event::PointsDropped
            | Event::Ended { .. } => {}
        }
    });
}
