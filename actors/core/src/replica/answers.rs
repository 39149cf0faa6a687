//! What hosts and brokers answer. An answer counts only from the party that was asked, for the epoch that is newest, in
//! the step that waits for it; anything else is rejected by name.

use super::decide::{At, Decided, Me, ReplicaTurn, at};
use super::{Making, Phase, State, failback, failover, finish, points, tasks};
use farshore_schemas::ids::{Address, Name, VmName};
use farshore_schemas::messages::agent::{Endpoint, Failure, Outcome};
use farshore_schemas::messages::replica::{Event, Rest, Side, Step, Transition};
use farshore_schemas::messages::{Epoch, Message, Refused, broker, host, mover, session};
use farshore_schemas::units::Timestamp;

/// What a host answers when it has no VM of that name: its actor's code and its driver's.
const NO_VM: [&str; 2] = ["FS-HOST-NO-VM", "FS-HOST-VM-MISSING"];

/// A turn, when the transition under way waits for this step.
fn waiting<'a>(
    me: &Me<'a>,
    what: &'static str,
    test: impl Fn(&Step) -> bool,
) -> Result<ReplicaTurn<'a>, super::Rejection> {
    match at(me.state) {
        At::New => Err(me.unknown()),
        At::Rest(_) | At::Processing(_) => Err(me.stale(what)),
        At::Working(work) => match &work.wait {
            Some((step, _)) if test(step) => Ok(me.turn()),
            Some(_) | None => Err(me.stale(what)),
        },
    }
}

/// Whether an answer is about the newest epoch and comes from the host of a side.
fn of_side(turn: &ReplicaTurn<'_>, side: Side, epoch: &Epoch) -> bool {
    let known = turn.known();
    known.right.epoch == *epoch && known.host_of(side, &turn.context.me) == turn.context.from
}

pub(super) fn released(me: &Me<'_>, epoch: &Epoch, failure: Option<&Failure>) -> Decided {
    let mut turn = waiting(me, "a release", |step| *step == Step::Release)?;
    if !of_side(&turn, Side::Source, epoch) {
        return Err(me.stale("a release of this epoch"));
    }
    match failure {
        Some(failure) => finish::broken(&mut turn, failure.clone()),
        None => {
            turn.log(Event::SourceReleased);
            failover::make_working(&mut turn);
        }
    }
    Ok(turn.done())
}

pub(super) fn powered_on(me: &Me<'_>, host: &Address, epoch: &Epoch, failure: Option<&Failure>) -> Decided {
    if let Some(decided) = late_start(me, host, epoch, failure) {
        return decided;
    }
    let mut turn = waiting(me, "a guest's start", |step| matches!(step, Step::Start { .. }))?;
    let side = match turn.work().and_then(|work| work.wait.as_ref()) {
        Some((Step::Start { side }, _)) => *side,
        Some(_) | None => return Err(me.stale("a guest's start")),
    };
    if !of_side(&turn, side, epoch) || turn.context.from != *host {
        return Err(me.stale("a guest's start under this epoch"));
    }
    match failure {
        Some(failure) => finish::broken(&mut turn, failure.clone()),
        None => finish::started(&mut turn, side),
    }
    Ok(turn.done())
}

/// A guest that was given up runs after all, under the newest epoch: the transition that waited for it has succeeded.
fn late_start(me: &Me<'_>, host: &Address, epoch: &Epoch, failure: Option<&Failure>) -> Option<Decided> {
    let rest = match me.state {
        State::New => return None,
        State::Known(known) => match &known.phase {
            Phase::Rest { rest, .. } => *rest,
            Phase::Processing(_) | Phase::Working(_) => return None,
        },
    };
    let mut turn = me.turn();
    let side = turn.known().right.holder?;
    let (transition, then) = match (rest, side) {
        (Rest::FailedFailover, Side::Target) => (Transition::Failover, Rest::Failover),
        (Rest::ReadyToSwitch, Side::Source) => (Transition::Switch, Rest::Failback),
        (Rest::ReadyToSwitch, Side::Target) if stopped_here(&turn) => (Transition::UndoFailback, Rest::Failover),
        (
            Rest::FailedFailover
            | Rest::ReadyToSwitch
            | Rest::Ready
            | Rest::Failover
            | Rest::Failback
            | Rest::PermanentFailover
            | Rest::Removed,
            _,
        ) => return None,
    };
    if failure.is_some() || !of_side(&turn, side, epoch) || turn.context.from != *host {
        return None;
    }
    let at = turn.now();
    turn.log(Event::GuestOn { side, at });
    turn.log(Event::Ended { transition, rest: then, failure: None, at });
    Some(Ok(turn.done()))
}

/// Whether the working VM's guest was told to start and has not said that it runs.
fn stopped_here(turn: &ReplicaTurn<'_>) -> bool {
    turn.known().working.as_ref().is_some_and(|working| working.guest == super::Guest::Unknown)
}

pub(super) fn powered_off(
    me: &Me<'_>,
    (host, mover): (&Address, &Name),
    epoch: &Epoch,
    failure: Option<&Failure>,
) -> Decided {
    let mut turn = waiting(me, "a guest's stop", |step| matches!(step, Step::Stop { .. }))?;
    let (side, transition) = match turn.work().map(|work| (work.transition, &work.wait)) {
        Some((transition, Some((Step::Stop { side }, _)))) => (*side, transition),
        Some(_) | None => return Err(me.stale("a guest's stop")),
    };
    if !of_side(&turn, side, epoch) || turn.context.from != *host {
        return Err(me.stale("a guest's stop under this epoch"));
    }
    let at = turn.now();
    match failure {
        None => {
            turn.log(Event::GuestOff { side, mover: mover.clone(), at });
            finish::stopped(&mut turn, side);
        }
        Some(failure) if NO_VM.contains(&failure.code.as_str()) && side == Side::Source => match transition {
            Transition::Failback | Transition::Switch => failback::create(&mut turn, mover),
            // What is not there does not run.
            Transition::UndoFailback => {
                turn.log(Event::ProductionGone { mover: mover.clone() });
                finish::stopped(&mut turn, side);
            }
            Transition::Failover
            | Transition::Undo
            | Transition::Commit
            | Transition::Permanent
            | Transition::Remove => finish::broken(&mut turn, failure.clone()),
        },
        Some(failure) => finish::broken(&mut turn, failure.clone()),
    }
    Ok(turn.done())
}

pub(super) fn slot_granted(me: &Me<'_>, slot: &Name, by: (&Name, &Endpoint), reasons: &[String]) -> Decided {
    let mut turn = waiting(me, "a slot", |step| matches!(step, Step::Slots { .. }))?;
    let side = slot_side(&turn, slot).ok_or_else(|| me.stale("this slot"))?;
    turn.log(Event::SlotGranted { side, mover: by.0.clone(), endpoint: by.1.clone(), reasons: reasons.to_vec() });
    let held = turn.work().is_some_and(|work| work.carry.source.is_some() && work.carry.here.is_some());
    if held {
        finish_slots(&mut turn);
    }
    Ok(turn.done())
}

fn finish_slots(turn: &mut ReplicaTurn<'_>) {
    failback::slots_held(turn);
}

/// Which side's slot this is, when it was asked for of whoever says so and is not held yet.
fn slot_side(turn: &ReplicaTurn<'_>, slot: &Name) -> Option<Side> {
    let carry = &turn.work()?.carry;
    let (there, here) = failback::slot_names(carry.round?);
    let from = &turn.context.from;
    let far = crate::session::broker_of(&turn.known().source_host().site);
    let near = crate::session::broker_of(&turn.context.me.site);
    if *slot == there && *from == far && carry.source.is_none() {
        Some(Side::Source)
    } else if *slot == here && *from == near && carry.here.is_none() {
        Some(Side::Target)
    } else {
        None
    }
}

pub(super) fn read_prepared(me: &Me<'_>, vm: &VmName, snapshot: &Name, taken: Timestamp) -> Decided {
    let mut turn = waiting(me, "a snapshot", |step| *step == Step::Prepare)?;
    let ours = turn.known().working.as_ref().is_some_and(|working| working.vm == *vm);
    if !ours || turn.known().own_host(&me.context.me) != me.context.from {
        return Err(me.stale("a snapshot of this VM"));
    }
    turn.log(Event::ReadPrepared { snapshot: snapshot.clone(), taken });
    failback::send_disks(&mut turn);
    Ok(turn.done())
}

/// A host could not freeze the working VM, or not make the production VM.
pub(super) fn host_failed(me: &Me<'_>, vm: &VmName, failure: &Failure) -> Decided {
    let mut turn = waiting(me, "a host's failure", |step| matches!(step, Step::Prepare | Step::Create))?;
    let known = turn.known();
    let create = turn.work().is_some_and(|work| matches!(work.wait, Some((Step::Create, _))));
    let (host, named) = if create {
        (known.source_host().clone(), known.protection.origin.vm == *vm)
    } else {
        (known.own_host(&me.context.me), known.working.as_ref().is_some_and(|working| working.vm == *vm))
    };
    if !named || host != me.context.from {
        return Err(me.stale("a failure with this VM"));
    }
    finish::broken(&mut turn, failure.clone());
    Ok(turn.done())
}

pub(super) fn vm_created(me: &Me<'_>, vm: &VmName) -> Decided {
    let mut turn = waiting(me, "a new VM", |step| *step == Step::Create)?;
    if turn.known().protection.origin.vm != *vm || *turn.known().source_host() != me.context.from {
        return Err(me.stale("this VM"));
    }
    turn.log(Event::ProductionMade);
    finish::stopped(&mut turn, Side::Source);
    Ok(turn.done())
}

/// A refusal fails the step that it is about. A refused release of something held is not waited for.
#[expect(clippy::wildcard_enum_match_arm, reason = "a replica sends nothing else, so nothing else can come back")]
pub(super) fn refused(me: &Me<'_>, refused: &Refused) -> Decided {
    let failure = Failure {
        code: refused.refusal.code.clone(),
        message: refused.refusal.message.clone(),
        advice: refused.refusal.advice.clone(),
        transient: true,
    };
    match &refused.message {
        Message::Host(command) => host_refused(me, command, &failure),
        Message::Mover(mover::Command::Assign { task, .. }) => tasks::ended(me, task, &Outcome::Failed(failure)),
        Message::Mover(mover::Command::Cancel { task }) => tasks::ended(me, task, &Outcome::Cancelled),
        Message::Broker(broker::Command::RequestSlot { slot, .. }) => {
            let mut turn = waiting(me, "a slot", |step| matches!(step, Step::Slots { .. }))?;
            slot_side(&turn, slot).ok_or_else(|| me.stale("this slot"))?;
            finish::broken(&mut turn, failure);
            Ok(turn.done())
        }
        Message::Session(session::Command::PointOpened { .. }) => point_unwanted(me, failure),
        _ => Err(me.stale("a refusal of this")),
    }
}

/// The session does not want the point that was opened for it: it is given up.
fn point_unwanted(me: &Me<'_>, failure: Failure) -> Decided {
    match at(me.state) {
        At::New => Err(me.unknown()),
        At::Rest(_) | At::Working(_) => Err(me.stale("a refusal of a point")),
        At::Processing(processing) => match &processing.making {
            Making::Receiving if processing.session == me.context.from => {
                let mut turn = me.turn();
                points::roll_back(&mut turn, &processing.point, Some(failure));
                Ok(turn.done())
            }
            Making::Receiving | Making::Sealing { .. } | Making::RollingBack { .. } | Making::RollbackWait { .. } => {
                Err(me.stale("a refusal of a point"))
            }
        },
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a replica waits for the answers to these orders only")]
fn host_refused(me: &Me<'_>, command: &host::Command, failure: &Failure) -> Decided {
    let from = me.context.from.clone();
    match command {
        host::Command::Release { epoch, .. } => released(me, epoch, Some(failure)),
        host::Command::Grant { epoch, power_on: true, .. } => powered_on(me, &from, epoch, Some(failure)),
        host::Command::StopGuest { epoch, .. } => {
            let mut turn = waiting(me, "a guest's stop", |step| matches!(step, Step::Stop { .. }))?;
            let side = match turn.work().and_then(|work| work.wait.as_ref()) {
                Some((Step::Stop { side }, _)) => *side,
                Some(_) | None => return Err(me.stale("a guest's stop")),
            };
            if !of_side(&turn, side, epoch) {
                return Err(me.stale("a guest's stop under this epoch"));
            }
            finish::broken(&mut turn, failure.clone());
            Ok(turn.done())
        }
        host::Command::PrepareRead { vm } | host::Command::CreateVm { vm, .. } => host_failed(me, vm, failure),
        _ => Err(me.stale("a refusal of a host")),
    }
}
