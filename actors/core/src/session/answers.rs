//! To which VM an answer belongs. An answer that nothing waits for is rejected by name: it is of an attempt that was
//! given up, and what it was about has been let go.

use super::decide::{Decided, SessionTurn};
use super::{Access, Rejection, Step, Vm, finish, start, steps, tasks};
use farshore_schemas::ids::{Address, Name, PointId, TaskId, VmName, VmRef};
use farshore_schemas::messages::agent::{DiskFacts, Endpoint, Failure, Outcome};
use farshore_schemas::messages::repository::RestorePoint;
use farshore_schemas::messages::session::Event;
use farshore_schemas::messages::{Message, Refusal, Refused, broker, host, mover, replica, repository};
use farshore_schemas::units::{ByteCount, Timestamp};

fn stale(turn: &SessionTurn<'_>, what: &'static str) -> Rejection {
    let context = turn.context;
    Rejection::Stale { session: context.me.entity.name.clone(), what, from: context.from.clone() }
}

/// The first VM that a test holds for.
fn find(turn: &SessionTurn<'_>, test: impl Fn(&VmName, &Vm) -> bool) -> Option<VmName> {
    turn.run().vms.iter().find(|(name, vm)| test(name, vm)).map(|(name, _)| name.clone())
}

pub(super) fn slot_granted(
    mut turn: SessionTurn<'_>,
    slot: &Name,
    by: (&Name, &Endpoint),
    reasons: &[String],
) -> Decided {
    let from = turn.context.from.clone();
    let waits = |vm: &Vm| {
        matches!(vm.step, Step::Slots { .. })
            && vm.slots.get(slot).is_some_and(|held| held.broker == from && held.granted.is_none())
    };
    let name = find(&turn, |_, vm| waits(vm)).ok_or_else(|| stale(&turn, "this slot"))?;
    turn.log(Event::SlotGranted {
        vm: name.clone(),
        slot: slot.clone(),
        mover: by.0.clone(),
        endpoint: by.1.clone(),
        reasons: reasons.to_vec(),
    });
    if steps::vm(&turn, &name).slots.values().all(|slot| slot.granted.is_some()) {
        steps::slots_held(&mut turn, &name);
    }
    Ok(turn.done())
}

pub(super) fn access_opened(
    mut turn: SessionTurn<'_>,
    by: (&Name, &Endpoint),
    access: &TaskId,
    points: &[RestorePoint],
) -> Decided {
    if !asked_access(&turn) {
        return Err(stale(&turn, "an access"));
    }
    turn.log(Event::AccessOpened {
        mover: by.0.clone(),
        endpoint: by.1.clone(),
        access: access.clone(),
        points: points.to_vec(),
    });
    let waiting: Vec<VmName> = turn
        .run()
        .vms
        .iter()
        .filter(|(_, vm)| matches!(vm.step, Step::Access { .. }))
        .map(|(name, _)| name.clone())
        .collect();
    for name in waiting {
        steps::access_held(&mut turn, &name);
    }
    Ok(turn.done())
}

fn asked_access(turn: &SessionTurn<'_>) -> bool {
    match &turn.run().access {
        Access::Asked { repository, .. } => *repository == turn.context.from,
        Access::None | Access::Open { .. } | Access::Failed { .. } => false,
    }
}

/// A VM that waits for its host in some step.
fn at_host(turn: &SessionTurn<'_>, vm: &VmName, waits: impl Fn(&Step) -> bool) -> Result<VmName, Rejection> {
    let from_host = turn.run().source_host(&turn.context.me) == turn.context.from;
    find(turn, |name, one| from_host && name == vm && waits(&one.step))
        .ok_or_else(|| stale(turn, "an answer about this VM"))
}

pub(super) fn read_prepared(
    mut turn: SessionTurn<'_>,
    vm: &VmName,
    view: (&Name, Timestamp),
    disks: &[DiskFacts],
) -> Decided {
    let name = at_host(&turn, vm, |step| matches!(step, Step::Read { .. }))?;
    turn.log(Event::ReadPrepared { vm: name.clone(), snapshot: view.0.clone(), disks: disks.to_vec(), taken: view.1 });
    steps::frozen(&mut turn, &name, disks);
    Ok(turn.done())
}

pub(super) fn host_failed(mut turn: SessionTurn<'_>, vm: &VmName, failure: &Failure) -> Decided {
    let name = at_host(&turn, vm, |step| matches!(step, Step::Read { .. } | Step::Create { .. }))?;
    finish::fail(&mut turn, &name, failure.clone());
    Ok(turn.done())
}

pub(super) fn vm_created(mut turn: SessionTurn<'_>, vm: &VmName) -> Decided {
    let name = at_host(&turn, vm, |step| matches!(step, Step::Create { .. }))?;
    turn.log(Event::VmCreated { vm: name.clone() });
    tasks::start(&mut turn, &name);
    Ok(turn.done())
}

fn from_repository(turn: &SessionTurn<'_>) -> bool {
    turn.run().repository(&turn.context.me) == turn.context.from
}

pub(super) fn point_committed(mut turn: SessionTurn<'_>, point: &PointId, stored: ByteCount) -> Decided {
    let ours = from_repository(&turn);
    let committing = |vm: &Vm| matches!(vm.step, Step::Committing { .. }) && vm.replica.is_none();
    let name = find(&turn, |_, vm| ours && vm.point == *point && committing(vm))
        .ok_or_else(|| stale(&turn, "a commit of this point"))?;
    finish::succeed(&mut turn, &name, stored);
    Ok(turn.done())
}

pub(super) fn repository_failed(mut turn: SessionTurn<'_>, vm: Option<&VmRef>, failure: &Failure) -> Decided {
    match vm {
        None if asked_access(&turn) => finish::access_failed(&mut turn, failure),
        None => return Err(stale(&turn, "an access")),
        Some(of) => {
            let ours = from_repository(&turn);
            let committing = |vm: &Vm| matches!(vm.step, Step::Committing { .. }) && vm.replica.is_none();
            let name = find(&turn, |_, vm| ours && vm.vm == *of && committing(vm))
                .ok_or_else(|| stale(&turn, "an answer about this VM"))?;
            finish::fail(&mut turn, &name, failure.clone());
        }
    }
    Ok(turn.done())
}

/// The VM whose replica this is, in some step.
fn at_replica(turn: &SessionTurn<'_>, replica: &Address, waits: impl Fn(&Step) -> bool) -> Result<VmName, Rejection> {
    let said_by_itself = turn.context.from == *replica;
    find(turn, |_, vm| said_by_itself && vm.replica.as_ref() == Some(replica) && waits(&vm.step))
        .ok_or_else(|| stale(turn, "an answer of this replica"))
}

pub(super) fn point_opened(mut turn: SessionTurn<'_>, replica: &Address, base: Option<&PointId>) -> Decided {
    let name = at_replica(&turn, replica, |step| matches!(step, Step::Point { .. }))?;
    turn.log(Event::PointOpened { vm: name.clone(), base: base.cloned() });
    tasks::start(&mut turn, &name);
    Ok(turn.done())
}

/// Sealed, or not. A replica whose store could not seal has rolled back by itself; one that takes the point back before
/// (a failover is asked for) waits to be told that nothing writes any more.
pub(super) fn point_sealed(
    mut turn: SessionTurn<'_>,
    replica: &Address,
    sealed: &Result<ByteCount, Failure>,
) -> Decided {
    let committing = |step: &Step| matches!(step, Step::Committing { .. });
    let before = |step: &Step| matches!(step, Step::Point { .. } | Step::Moving { .. });
    match sealed {
        Ok(stored) => {
            let name = at_replica(&turn, replica, committing)?;
            finish::succeed(&mut turn, &name, *stored);
        }
        Err(failure) => {
            let name = at_replica(&turn, replica, |step| committing(step) || before(step))?;
            finish::fail(&mut turn, &name, failure.clone());
        }
    }
    Ok(turn.done())
}

fn as_failure(refusal: &Refusal) -> Failure {
    Failure {
        code: refusal.code.clone(),
        message: refusal.message.clone(),
        advice: refusal.advice.clone(),
        transient: true,
    }
}

/// A refusal fails what it was about: the listing, the access, a task, a VM. A refused release is not waited for.
#[expect(clippy::wildcard_enum_match_arm, reason = "a session sends nothing else, so nothing else can come back")]
pub(super) fn refused(turn: SessionTurn<'_>, refused: &Refused) -> Decided {
    let failure = as_failure(&refused.refusal);
    match &refused.message {
        Message::Host(command) => host_refused(turn, command, failure),
        Message::Broker(command) => broker_refused(turn, command, failure),
        Message::Repository(command) => repository_refused(turn, command, failure),
        Message::Mover(command) => mover_refused(turn, command, failure),
        Message::Replica(command) => replica_refused(turn, command, failure),
        _ => Err(stale(&turn, "a refusal of this")),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a session sends nothing else, so nothing else can come back")]
fn host_refused(mut turn: SessionTurn<'_>, command: &host::Command, failure: Failure) -> Decided {
    match command {
        host::Command::ListVms { .. } => {
            let asked = turn.run().asked_hosts(&turn.context.me).contains(&turn.context.from);
            let starting = matches!(turn.run().phase, super::Phase::Starting { .. });
            let heard = turn.run().hosts.contains_key(&turn.context.from);
            if !starting || !asked || heard {
                return Err(stale(&turn, "a list of this host"));
            }
            start::listing_failed(&mut turn, failure);
            Ok(turn.done())
        }
        host::Command::PrepareRead { vm } | host::Command::CreateVm { vm, .. } => {
            let vm = vm.clone();
            host_failed(turn, &vm, &failure)
        }
        _ => Err(stale(&turn, "a refusal of a host")),
    }
}

fn broker_refused(mut turn: SessionTurn<'_>, command: &broker::Command, failure: Failure) -> Decided {
    let slot = match command {
        broker::Command::RequestSlot { slot, .. } => slot,
        broker::Command::MoverIs { .. } | broker::Command::ReleaseSlot { .. } | broker::Command::ReleaseAll { .. } => {
            return Err(stale(&turn, "a refusal of a broker"));
        }
    };
    let from = turn.context.from.clone();
    let asked = |vm: &Vm| {
        matches!(vm.step, Step::Slots { .. })
            && vm.slots.get(slot).is_some_and(|held| held.broker == from && held.granted.is_none())
    };
    let name = find(&turn, |_, vm| asked(vm)).ok_or_else(|| stale(&turn, "this slot"))?;
    finish::fail(&mut turn, &name, failure);
    Ok(turn.done())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a session sends nothing else, so nothing else can come back")]
fn repository_refused(turn: SessionTurn<'_>, command: &repository::Command, failure: Failure) -> Decided {
    match command {
        repository::Command::OpenAccess { .. } => repository_failed(turn, None, &failure),
        repository::Command::CommitPoint { vm, .. } => {
            let vm = vm.clone();
            repository_failed(turn, Some(&vm), &failure)
        }
        _ => Err(stale(&turn, "a refusal of a repository")),
    }
}

/// A mover that does not take a task has ended it; one that does not know a task to cancel has none.
#[expect(clippy::wildcard_enum_match_arm, reason = "a session sends nothing else, so nothing else can come back")]
fn mover_refused(turn: SessionTurn<'_>, command: &mover::Command, failure: Failure) -> Decided {
    match command {
        mover::Command::Assign { task, .. } => tasks::ended(turn, task, &Outcome::Failed(failure)),
        mover::Command::Cancel { task } => tasks::ended(turn, task, &Outcome::Cancelled),
        _ => Err(stale(&turn, "a refusal of a mover")),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a session sends nothing else, so nothing else can come back")]
fn replica_refused(mut turn: SessionTurn<'_>, command: &replica::Command, failure: Failure) -> Decided {
    let replica = turn.context.from.clone();
    match command {
        replica::Command::OpenPoint { .. } => {
            let name = at_replica(&turn, &replica, |step| matches!(step, Step::Point { .. }))?;
            if crate::replica::Rejection::skips_session(&failure.code) {
                finish::skip(&mut turn, &name, failure);
            } else {
                finish::fail(&mut turn, &name, failure);
            }
            Ok(turn.done())
        }
        replica::Command::SealPoint { .. } => {
            let name = at_replica(&turn, &replica, |step| matches!(step, Step::Committing { .. }))?;
            finish::fail(&mut turn, &name, failure);
            Ok(turn.done())
        }
        _ => Err(stale(&turn, "a refusal of a replica")),
    }
}
