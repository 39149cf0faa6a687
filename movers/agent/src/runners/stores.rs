//! What the keeper of a repository and of a replica's store does.

use crate::shared::Shared;
use crate::task::{Task, TaskError, TaskResult, failure};
use farshore_format::repository::{PointDisk, PointManifest};
use farshore_hosts::{FolderHost, HostError, NewVm};
use farshore_repository::{ReplicaStore, Repository};
use farshore_schemas::ids::{Name, PointId, VmName, VmRef};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint, Failure, Outcome, PruneStep, TaskSpec};
use farshore_schemas::units::{ByteCount, Timestamp};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::PoisonError;

fn wrong_lane() -> TaskError {
    TaskError::Failed(failure("FS-AGENT-LANE", "a task came to the wrong runner", "report this defect", false))
}

/// A disk of a point as the repository keeps it; the owner knows the id of its record as its manifest.
fn stored_disk(disk: &DiskPoint) -> PointDisk {
    PointDisk { name: disk.name.clone(), size: disk.size, checksum: Some(disk.checksum), disk: disk.manifest }
}

pub(super) fn run_repository(task: &Task) -> TaskResult<Outcome> {
    match &task.order.spec {
        // Who may come in is kept by the task table; here it is made sure that there is something to come to.
        TaskSpec::OpenAccess { repository, .. } => {
            task.shared.repository(repository)?;
            Ok(Outcome::Done)
        }
        TaskSpec::CloseAccess { .. } => Ok(Outcome::Done),
        TaskSpec::CommitPoint { repository, point, vm, taken, disks, immutable } => {
            let repository = task.shared.repository(repository)?;
            let stored: Vec<PointDisk> = disks.iter().map(stored_disk).collect();
            let manifest = PointManifest {
                point: point.clone(),
                vm: vm.clone(),
                taken: *taken,
                stored: ByteCount(repository.added(&stored)),
                disks: stored,
            };
            let stored = repository.commit_immutable(&manifest, *immutable)?;
            let until = repository.immutable_until(point)?;
            Ok(Outcome::PointDurable { stored, disks: disks.clone(), immutable: until })
        }
        TaskSpec::PrunePoints { repository, points, mark, position, step } => {
            let repository = task.shared.repository(repository)?;
            prune(task, &repository, (points, (*mark, *position)), *step)
        }
        TaskSpec::VerifyPoint { repository, point } => {
            let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            let found = task.shared.repository(repository)?.verify_point(point, threads)?;
            Ok(Outcome::Verified { chunks: found.chunks, damage: found.damage, damaged: found.damaged })
        }
        TaskSpec::Discover { .. }
        | TaskSpec::SnapshotBegin { .. }
        | TaskSpec::SnapshotEnd { .. }
        | TaskSpec::PowerOn { .. }
        | TaskSpec::PowerOff { .. }
        | TaskSpec::CreateVm { .. }
        | TaskSpec::GuestWrite { .. }
        | TaskSpec::BackupDisk { .. }
        | TaskSpec::RestoreDisk { .. }
        | TaskSpec::SendDisk { .. }
        | TaskSpec::ReceiveDisk { .. }
        | TaskSpec::SealReplicaPoint { .. }
        | TaskSpec::RollBackReplica { .. }
        | TaskSpec::MakeWorking { .. }
        | TaskSpec::DropWorking { .. }
        | TaskSpec::KeepLog { .. }
        | TaskSpec::AbsorbWorking { .. }
        | TaskSpec::DropReplica { .. } => Err(wrong_lane()),
    }
}

/// A step of a prune. The folder says itself whether it is time.
fn prune(
    task: &Task,
    repository: &Repository,
    (points, at): (&[PointId], (u64, u64)),
    step: PruneStep,
) -> TaskResult<Outcome> {
    let now = task.shared.uptime();
    match step {
        PruneStep::Mark => {
            repository.mark_points(&repository.may_go(points)?, at)?;
            Ok(Outcome::Done)
        }
        PruneStep::Sweep { hold } => {
            let swept = repository.sweep_marked(&repository.may_go(points)?, at, (hold, now))?;
            Ok(Outcome::Pruned { points: swept.points, bytes: swept.marked })
        }
        PruneStep::Empty { hold } => match repository.empty_trash(at, (hold, now)) {
            Ok(bytes) => Ok(Outcome::Pruned { points: Vec::new(), bytes }),
            Err(error) => {
                if let farshore_repository::Error::Held { left, .. } = &error {
                    return Ok(Outcome::TooEarly { failure: Failure::from(&error), left: *left });
                }
                Err(error.into())
            }
        },
    }
}

pub(super) fn run_replica(task: &Task) -> TaskResult<Outcome> {
    let shared = &task.shared;
    match &task.order.spec {
        TaskSpec::SealReplicaPoint { host, replica, point, taken, disks, forget } => {
            let sealed = shared.replica(host, replica)?.seal(point, *taken, disks, forget)?;
            Ok(Outcome::PointDurable { stored: sealed.stored, disks: sealed.disks, immutable: None })
        }
        TaskSpec::RollBackReplica { host, replica } => {
            shared.replica(host, replica)?.roll_back()?;
            Ok(Outcome::Done)
        }
        TaskSpec::MakeWorking { host, replica, point, vm, origin } => {
            make_working(task, (host, replica), point, (vm, origin))
        }
        TaskSpec::DropWorking { host, replica, vm } => {
            drop_working(task, host, replica, vm)?;
            Ok(Outcome::Done)
        }
        TaskSpec::AbsorbWorking { host, replica, vm, point, taken, forget } => {
            absorb_working(task, (host, replica), vm, (point, *taken, forget))
        }
        TaskSpec::DropReplica { host, replica } => drop_replica(task, host, replica),
        TaskSpec::Discover { .. }
        | TaskSpec::SnapshotBegin { .. }
        | TaskSpec::SnapshotEnd { .. }
        | TaskSpec::PowerOn { .. }
        | TaskSpec::PowerOff { .. }
        | TaskSpec::CreateVm { .. }
        | TaskSpec::GuestWrite { .. }
        | TaskSpec::BackupDisk { .. }
        | TaskSpec::RestoreDisk { .. }
        | TaskSpec::SendDisk { .. }
        | TaskSpec::ReceiveDisk { .. }
        | TaskSpec::OpenAccess { .. }
        | TaskSpec::CloseAccess { .. }
        | TaskSpec::CommitPoint { .. }
        | TaskSpec::PrunePoints { .. }
        | TaskSpec::KeepLog { .. }
        | TaskSpec::VerifyPoint { .. } => Err(wrong_lane()),
    }
}

/// Who made a working VM: only the replica's own is ever taken for it, or dropped.
fn maker(replica: &Name) -> String {
    format!("replica {replica}")
}

/// A working VM is made anew each time it is ordered: whoever orders it has not started it yet, or wants it fresh. It
/// is never touched while it runs.
fn make_working(
    task: &Task,
    (host, replica): (&Name, &Name),
    point: &PointId,
    (vm, origin): (&VmName, &VmRef),
) -> TaskResult<Outcome> {
    let store = task.shared.replica(host, replica)?;
    let Some(sealed) = store.points().into_iter().find(|sealed| sealed.point == *point) else {
        return Err(farshore_repository::Error::NoPoint {
            store: farshore_repository::Store::Replica,
            point: point.clone(),
        }
        .into());
    };
    let folder = task.shared.host(host)?;
    let lock = task.shared.power_lock(host, vm);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    task.shared.check_fence(&task.order)?;
    let facts = |disk: &DiskPoint| DiskFacts { name: disk.name.clone(), size: disk.size };
    let disks: Vec<DiskFacts> = sealed.disks.iter().map(facts).collect();
    let made_by = maker(replica);
    folder.remove_vm(vm, &made_by)?;
    folder.create_vm(&NewVm { vm, disks: &disks, origin, stamps: None, made_by: &made_by })?;
    task.go_on()?;
    store.materialise(point, &folder.path().join(vm.as_str()))?;
    Ok(Outcome::Snapshot { disks, taken: sealed.taken })
}

fn drop_working(task: &Task, host: &Name, replica: &Name, vm: &VmName) -> TaskResult<()> {
    let lock = task.shared.power_lock(host, vm);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    task.shared.check_fence(&task.order)?;
    Ok(task.shared.host(host)?.remove_vm(vm, &maker(replica))?)
}

fn absorb_working(
    task: &Task,
    (host, replica): (&Name, &Name),
    vm: &VmName,
    (point, taken, forget): (&PointId, Timestamp, &[PointId]),
) -> TaskResult<Outcome> {
    let folder = task.shared.host(host)?;
    let store = task.shared.replica(host, replica)?;
    let lock = task.shared.power_lock(host, vm);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let sealed = store.points().iter().any(|sealed| sealed.point == *point);
    let images = match images_at_rest(&folder, vm) {
        // An earlier attempt absorbed it and dropped the VM.
        Err(HostError::VmMissing { .. }) if sealed => Vec::new(),
        images => images?,
    };
    let absorbed = store.absorb((point, taken), &images, forget)?;
    folder.remove_vm(vm, &maker(replica))?;
    Ok(Outcome::PointDurable { stored: absorbed.stored, disks: absorbed.disks, immutable: None })
}

/// The images of a VM that is off.
fn images_at_rest(
    folder: &FolderHost,
    vm: &VmName,
) -> Result<Vec<(farshore_schemas::ids::DiskName, PathBuf)>, HostError> {
    if let farshore_hosts::VmStatus::Running(guest) = folder.status(vm)? {
        return Err(HostError::VmRuns { vm: vm.clone(), epoch: guest.epoch.counter });
    }
    let disks = folder.disks(vm)?;
    disks.into_iter().map(|disk| Ok((disk.name.clone(), folder.disk_path(vm, &disk.name)?))).collect()
}

fn drop_replica(task: &Task, host: &Name, replica: &Name) -> TaskResult<Outcome> {
    let path = Shared::replica_path(&task.shared.host(host)?, replica);
    let mut open = task.shared.open_replicas.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever else uses it keeps its lock, and dropping it is refused until that has ended.
    open.remove(&path);
    ReplicaStore::drop_store(&path)?;
    Ok(Outcome::Done)
}
