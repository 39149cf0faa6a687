//! One runner per kind of task. Each is idempotent, can be stopped between steps, and goes on after a crash by finding out
//! what is there already. None decides anything: what to do is all in the order.

mod backup;
mod cut;
mod host;
mod keep_log;
mod receive;
mod restore;
mod send;
mod stores;

pub(crate) use receive::serve as serve_sender;

use crate::task::{Task, TaskResult};
use farshore_schemas::messages::agent::{Outcome, TaskSpec};

/// Who carries a task out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// One of the mover's slots: it moves or reads whole disks.
    Slot,
    /// It is done soon, and must not wait for those that take long (a power-off above all).
    Quick,
    /// The connection of its sender, when that comes.
    Listener,
}

/// Where a task belongs.
pub(crate) fn lane(spec: &TaskSpec) -> Lane {
    match spec {
        TaskSpec::BackupDisk { .. }
        | TaskSpec::RestoreDisk { .. }
        | TaskSpec::SendDisk { .. }
        | TaskSpec::KeepLog { .. }
        | TaskSpec::VerifyPoint { .. }
        | TaskSpec::MakeWorking { .. }
        | TaskSpec::AbsorbWorking { .. } => Lane::Slot,
        TaskSpec::Discover { .. }
        | TaskSpec::SnapshotBegin { .. }
        | TaskSpec::SnapshotEnd { .. }
        | TaskSpec::PowerOn { .. }
        | TaskSpec::PowerOff { .. }
        | TaskSpec::CreateVm { .. }
        | TaskSpec::GuestWrite { .. }
        | TaskSpec::OpenAccess { .. }
        | TaskSpec::CloseAccess { .. }
        | TaskSpec::CommitPoint { .. }
        | TaskSpec::PrunePoints { .. }
        | TaskSpec::SealReplicaPoint { .. }
        | TaskSpec::RollBackReplica { .. }
        | TaskSpec::DropWorking { .. }
        | TaskSpec::DropReplica { .. } => Lane::Quick,
        TaskSpec::ReceiveDisk { .. } => Lane::Listener,
    }
}

/// Carries a task out to its end.
pub(crate) fn run(task: &Task) -> TaskResult<Vec<Outcome>> {
    task.go_on()?;
    task.shared.check_fence(&task.order)?;
    let one = |outcome: Outcome| vec![outcome];
    match &task.order.spec {
        TaskSpec::Discover { host } => host::discover(task, host),
        TaskSpec::SnapshotBegin { host, vm, snapshot } => host::snapshot_begin(task, (host, vm), snapshot).map(one),
        TaskSpec::SnapshotEnd { host, vm, snapshot } => host::snapshot_end(task, (host, vm), snapshot).map(one),
        TaskSpec::PowerOn { host, vm } => host::power_on(task, host, vm).map(one),
        TaskSpec::PowerOff { host, vm } => host::power_off(task, host, vm).map(one),
        TaskSpec::CreateVm { host, vm, disks, origin } => host::create_vm(task, (host, vm), disks, origin).map(one),
        TaskSpec::GuestWrite { host, vm, seed } => host::guest_write(task, (host, vm), *seed).map(one),
        TaskSpec::BackupDisk { .. } => backup::run(task).map(one),
        TaskSpec::RestoreDisk { .. } => restore::run(task).map(one),
        TaskSpec::SendDisk { .. } => send::run(task).map(one),
        // Begun by its sender's connection; see `serve_sender`.
        TaskSpec::ReceiveDisk { .. } => Ok(Vec::new()),
        TaskSpec::OpenAccess { .. }
        | TaskSpec::CloseAccess { .. }
        | TaskSpec::CommitPoint { .. }
        | TaskSpec::PrunePoints { .. }
        | TaskSpec::VerifyPoint { .. } => stores::run_repository(task).map(one),
        TaskSpec::KeepLog { repository, source, least } => keep_log::run(task, repository, (source, *least)).map(one),
        TaskSpec::SealReplicaPoint { .. }
        | TaskSpec::RollBackReplica { .. }
        | TaskSpec::MakeWorking { .. }
        | TaskSpec::DropWorking { .. }
        | TaskSpec::AbsorbWorking { .. }
        | TaskSpec::DropReplica { .. } => stores::run_replica(task).map(one),
    }
}
