//! What a site's control orders from its agents, and what agents report. An agent acts and never decides: each
//! task is idempotent by its id, resumes after a crash and refuses an epoch lower than the highest it has seen.
//! Reports go back to the task's owner as that actor's `TaskEnded` command.

mod outcome;
mod prune;

pub use outcome::{Failure, Moved, Outcome};
pub use prune::PruneStep;

use super::Epoch;
use crate::ids::{Digest, DiskName, Lineage, Name, PointId, Seq, SiteName, TaskId, VmName, VmRef};
use crate::units::{ByteCount, Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// What an agent accepts, from its own site's control only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The answer to an agent's hello, before any task: the epochs that its hosts must enforce. Sent by the mover actor.
    Welcome {
        /// The incarnation that said hello.
        incarnation: Lineage,
    },
    /// A host's folder and the epochs granted for its VMs: told before any power-on (from the host actor).
    ServeHost {
        /// The host.
        host: Name,
        /// How the host is driven.
        driver: super::host::Driver,
        /// Highest epoch per VM that the log knows, by the VM's origin.
        epochs: Vec<(VmRef, Epoch)>,
    },
    /// A repository's folder (from the repository actor).
    ServeRepository {
        /// The repository.
        repository: Name,
        /// The folder on the agent's machine.
        path: String,
        /// A file there with its passphrase, when it is encrypted.
        passphrase_file: Option<String>,
        /// Owner's lineage; the folder refuses another one unless adopted.
        lineage: Lineage,
        /// Lineages that the owner's log had before, as far as the log knows: a folder that bears one of them is the same owner's.
        formerly: Vec<Lineage>,
        /// The owner from whom an operator decided to take the folder, if one did.
        adopted: Option<FolderOwner>,
    },
    /// Do this. Doing it twice is harmless.
    Run(Box<Order>),
    /// Stop this task at its next safe point; it ends as cancelled.
    Cancel {
        /// Which task.
        task: TaskId,
    },
}

/// Frames of the site's log that a repository should keep and does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MissingFrames {
    /// How many.
    pub frames: u64,
    /// The first and the last of each stretch, of at most five.
    pub stretches: Vec<(Seq, Seq)>,
}

impl MissingFrames {
    /// Of all stretches.
    pub fn of(stretches: impl IntoIterator<Item = (Seq, Seq)>) -> Self {
        let mut missing = MissingFrames::default();
        for (first, last) in stretches {
            missing.frames += (last.0 + 1).saturating_sub(first.0);
            if missing.stretches.len() < 5 {
                missing.stretches.push((first, last));
            }
        }
        missing
    }
}

/// Whose a repository's folder is: the lineage of the log in which it stands, and how often it has changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FolderOwner {
    /// The lineage.
    pub lineage: Lineage,
    /// The epoch.
    pub epoch: u64,
}

/// A task and the right to do it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub task: TaskId,
    /// The VM epoch it acts under, when it touches what a VM runs on; by the VM's origin.
    pub fence: Option<(VmRef, Epoch)>,
    /// Not started after this.
    pub expires: Option<Timestamp>,
    /// What to do.
    pub spec: TaskSpec,
}

/// Where another agent's data channel listens, and the key it must prove.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Site of the agent.
    pub site: SiteName,
    /// The agent.
    pub agent: Name,
    /// `host:port` of its data channel.
    pub address: String,
    /// BLAKE3 of its certificate (DER): both ends of a data channel check it.
    pub fingerprint: Digest,
}

/// A disk image on a host of this agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiskRef {
    /// The host.
    pub host: Name,
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DiskName,
}

/// A disk as a host lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Its name.
    pub name: DiskName,
    /// Its size as the guest sees it.
    pub size: ByteCount,
}

/// A disk inside a point, with the proof of its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiskPoint {
    /// The disk.
    pub name: DiskName,
    /// Its size.
    pub size: ByteCount,
    /// BLAKE3 over its content in order, holes read as zeros: computed where it was read.
    pub checksum: Digest,
    /// For a backup: the id of the disk's record in the repository; zeros for a replica.
    pub manifest: Digest,
}

/// Where a stream of changed blocks comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DiskSink {
    /// The store of a replica: newest disk raw, before-images into the delta of the point that was newest.
    ReplicaStore {
        /// The host in whose folder the store lies.
        host: Name,
        /// The replica.
        replica: Name,
        /// The point being made.
        point: PointId,
        /// The disk.
        disk: DiskFacts,
    },
    /// The image of a VM that is off, changed in place (failback).
    VmDisk(DiskRef, ByteCount),
}

/// One piece of work for an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TaskSpec {
    /// List the VMs of a host. Answer: `Outcome::Inventory`, paged.
    Discover {
        /// The host.
        host: Name,
    },
    /// Freeze a consistent view of a VM's disks for reading. Answer: `Outcome::Snapshot`.
    SnapshotBegin {
        /// The host.
        host: Name,
        /// The VM.
        vm: VmName,
        /// The snapshot's name, made by the owner.
        snapshot: Name,
    },
    /// Let go of a snapshot. Answer: `Outcome::Done`, also when it is gone already.
    SnapshotEnd {
        /// The host.
        host: Name,
        /// The VM.
        vm: VmName,
        /// The snapshot.
        snapshot: Name,
    },
    /// Start the guest, under the order's fence. Answer: `Outcome::Done`, also when it runs already under this epoch.
    PowerOn {
        /// The host.
        host: Name,
        /// The VM.
        vm: VmName,
    },
    /// Stop the guest and raise the host's epoch for the VM to the order's fence, so that it cannot come back
    /// under an older one. Answer: `Outcome::Done`, also when it was off.
    PowerOff {
        /// The host.
        host: Name,
        /// The VM.
        vm: VmName,
    },
    /// Make a VM with empty disks. Answer: `Outcome::Done`; fails when a VM of that name exists that this task did not make.
    CreateVm {
        /// The host.
        host: Name,
        /// The VM.
        vm: VmName,
        /// Its disks.
        disks: Vec<DiskFacts>,
        /// The VM that it stands for, kept in the VM's folder.
        origin: VmRef,
    },
    /// Change the guest's content, for drills: write files inside its file system. Answer: `Outcome::Done`.
    GuestWrite {
        /// The host.
        host: Name,
        /// The VM.
        vm: VmName,
        /// What is written follows from this.
        seed: u64,
    },
    /// Source mover: read a disk, send the chunks that the repository lacks. Answer: `Outcome::DiskStored`.
    BackupDisk {
        /// The disk.
        source: DiskRef,
        /// The snapshot to read.
        snapshot: Name,
        /// The agent of the repository.
        target: Endpoint,
        /// The repository.
        repository: Name,
        /// The access that lets us in there.
        access: TaskId,
        /// The point being made.
        point: PointId,
        /// The newest point of this VM, to tell what changed since; a full otherwise.
        parent: Option<PointId>,
    },
    /// Repository agent: let these peers in until `CloseAccess`. Answer: `Outcome::Done`.
    OpenAccess {
        /// The repository.
        repository: Name,
        /// Certificates of the movers that may come.
        peers: Vec<Digest>,
    },
    /// Repository agent: shut an access. Answer: `Outcome::Done`.
    CloseAccess {
        /// The repository.
        repository: Name,
        /// The access.
        access: TaskId,
    },
    /// Repository agent: check that all is there and durable, then write the point. Answer: `Outcome::PointDurable`.
    CommitPoint {
        /// The repository.
        repository: Name,
        /// The point.
        point: PointId,
        /// Whose point.
        vm: VmRef,
        /// When the VM's disks were frozen.
        taken: Timestamp,
        /// The disks, as the source mover reported them.
        disks: Vec<DiskPoint>,
        /// For how long the agent is to refuse to drop it, whoever orders that.
        immutable: Option<Millis>,
    },
    /// Repository agent: one step of the prune that began at log position `mark`. Answer: `Outcome::Done` for a mark,
    /// `Outcome::Pruned` for a sweep and for an emptying, which may be too early (`Outcome::TooEarly`).
    PrunePoints {
        /// The repository.
        repository: Name,
        /// The points that go; none when the trash is emptied.
        points: Vec<PointId>,
        /// The log position at which the prune was decided: it names the prune.
        mark: u64,
        /// Log position up to which the owner had decided; the folder refuses a lower one than it has seen.
        position: u64,
        /// Which step.
        step: PruneStep,
    },
    /// Repository agent: read every chunk of a point and check it. Answer: `Outcome::Verified`.
    VerifyPoint {
        /// The repository.
        repository: Name,
        /// The point.
        point: PointId,
    },
    /// Repository agent: fetch the frames of the site's log that the repository does not hold, and keep them there, durable.
    /// Answer: `Outcome::LogKept`.
    KeepLog {
        /// The repository.
        repository: Name,
        /// Where the site's control serves its log.
        source: Endpoint,
        /// The frame that must be among them at least.
        least: Seq,
    },
    /// Target mover: fetch a disk of a point into an image. Answer: `Outcome::DiskRestored`.
    RestoreDisk {
        /// The agent of the repository.
        source: Endpoint,
        /// The repository.
        repository: Name,
        /// The access that lets us in there.
        access: TaskId,
        /// The point.
        point: PointId,
        /// The disk in the point.
        disk: DiskName,
        /// Where to write it.
        target: DiskRef,
    },
    /// Sending end of a stream of changed blocks. Connects to `peer` and its `ReceiveDisk`. Answer: `Outcome::DiskSent`.
    SendDisk {
        /// What to read.
        source: DiskRef,
        /// The snapshot to read; none for a VM that is off.
        snapshot: Option<Name>,
        /// The other end.
        peer: Endpoint,
        /// The task there that receives.
        receive: TaskId,
        /// The repository that holds the digests of the replica's newest point, with the access to it.
        digests: Option<DigestStore>,
    },
    /// Receiving end of a stream of changed blocks. Answer: `Outcome::DiskReceived`.
    ReceiveDisk {
        /// Certificate of the sender.
        peer: Digest,
        /// Where to.
        sink: DiskSink,
    },
    /// Seal a point of a replica's store: all its disks are received and durable. Answer: `Outcome::PointDurable`.
    SealReplicaPoint {
        /// The host.
        host: Name,
        /// The replica.
        replica: Name,
        /// The point.
        point: PointId,
        /// When the source's disks were frozen.
        taken: Timestamp,
        /// Content proof per disk, as the source computed it.
        disks: Vec<DiskPoint>,
        /// Points to merge away afterwards (oldest first).
        forget: Vec<PointId>,
    },
    /// Take back what a run that failed wrote since the last sealed point. Answer: `Outcome::Done`.
    RollBackReplica {
        /// The host.
        host: Name,
        /// The replica.
        replica: Name,
    },
    /// Make a VM from a replica's point: a working disk beside the store, which stays as it is. Answer: `Outcome::Snapshot`
    /// with the disks.
    MakeWorking {
        /// The host.
        host: Name,
        /// The replica.
        replica: Name,
        /// The point.
        point: PointId,
        /// The VM to make.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
    },
    /// Delete a working VM that is off. Answer: `Outcome::Done`.
    DropWorking {
        /// The host.
        host: Name,
        /// The replica.
        replica: Name,
        /// The VM.
        vm: VmName,
    },
    /// Make the content of a working VM that is off the newest point of the store, then delete it. Answer:
    /// `Outcome::PointDurable`.
    AbsorbWorking {
        /// The host.
        host: Name,
        /// The replica.
        replica: Name,
        /// The VM.
        vm: VmName,
        /// The new point.
        point: PointId,
        /// When the VM was switched off.
        taken: Timestamp,
        /// Points to merge away afterwards.
        forget: Vec<PointId>,
    },
    /// Delete a replica's store. Answer: `Outcome::Done`.
    DropReplica {
        /// The host.
        host: Name,
        /// The replica.
        replica: Name,
    },
}

/// Where the digests of a replica's newest point are kept: a repository near the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DigestStore {
    /// The agent of the repository.
    pub agent: Endpoint,
    /// The repository.
    pub repository: Name,
    /// The access that lets us in.
    pub access: TaskId,
    /// The replica whose digests they are.
    pub replica: Name,
    /// The point whose digests to compare with; a full compare with the receiver otherwise.
    pub base: Option<PointId>,
    /// The point whose digests to keep afterwards.
    pub point: PointId,
}
