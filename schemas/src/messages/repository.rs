//! The repository actor: restore points, retention, holds, prune by log position. A point exists once its agent has
//! confirmed that every chunk and the manifest are durable (P6).

mod hold;
mod work;

pub use hold::Hold;
pub use work::{Wanted, Work};

use super::Override;
use super::agent::{DiskPoint, Endpoint, Failure, FolderOwner, MissingFrames, Order, Outcome};
use super::keep::Keep;
use crate::ids::{Address, Digest, Lineage, Name, PointId, Seq, TaskId, VmRef};
use crate::units::{ByteCount, Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// A repository, as an operator defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositorySpec {
    /// The mover (agent) that keeps it: the only one that writes to the folder.
    pub mover: Name,
    /// The folder on the agent's machine.
    pub path: String,
    /// A file on the agent's machine with the passphrase of an encrypted repository; without one it is not encrypted. It is
    /// named here, never told.
    pub passphrase_file: Option<String>,
    /// How long what a prune has taken away lies in the trash before it is deleted.
    pub trash_hold: Millis,
    /// For how long a point must stay once it is made, whoever says otherwise; none: it may go at once.
    pub immutable: Option<Millis>,
}

/// How long the trash holds unless an operator says otherwise: long enough for a weekend.
pub const TRASH_HOLD: Millis = Millis::from_mins(72 * 60);

/// A restore point of a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Its id.
    pub point: PointId,
    /// Whose.
    pub vm: VmRef,
    /// When the VM was frozen.
    pub taken: Timestamp,
    /// When it became usable.
    pub usable: Timestamp,
    /// The job that made it.
    pub job: Name,
    /// Its disks.
    pub disks: Vec<DiskPoint>,
    /// What it added to the repository.
    pub stored: ByteCount,
}

/// What an access is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// New points or digests are written.
    Write,
    /// A point is read.
    Read,
}

/// What a repository accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From the operator.
    Define(RepositorySpec),
    /// From the operator: forget it. Refused while it holds points or accesses are open.
    Remove,
    /// From the mover actor: the agent is there.
    AgentReady {
        /// Its incarnation.
        incarnation: Lineage,
        /// Its data channel.
        endpoint: Endpoint,
    },
    /// From a session or replica of any site: let these movers in, and hold everything that is there now until
    /// `CloseAccess`. Answered by `session::Command::AccessOpened`.
    OpenAccess {
        /// Why.
        purpose: Purpose,
        /// Certificates of the movers that will come.
        peers: Vec<Digest>,
        /// The VMs concerned: their newest points come back.
        vms: Vec<VmRef>,
        /// For `Read`: the point that must be there.
        point: Option<PointId>,
    },
    /// From the same: done. Never refused. A session that ends by any way sends it.
    CloseAccess,
    /// From a session: all disks of a VM are stored; make the point. Answered by `session::Command::PointCommitted`.
    CommitPoint {
        /// The point.
        point: PointId,
        /// Whose.
        vm: VmRef,
        /// The job.
        job: Name,
        /// When the VM was frozen.
        taken: Timestamp,
        /// Which points of this VM and job stay; others are dropped after this one is usable.
        keep: Keep,
        /// The disks, as the source mover reported them.
        disks: Vec<DiskPoint>,
    },
    /// From the operator: read every chunk of a point and check it.
    Verify {
        /// The point.
        point: PointId,
    },
    /// From the operator: hold a point against retention. One that is held already is held anew.
    Hold {
        /// The point.
        point: PointId,
        /// Until when; none until it is released.
        until: Option<Timestamp>,
        /// Why.
        reason: String,
    },
    /// From the operator: let a point go.
    Release {
        /// The point.
        point: PointId,
    },
    /// From the agent.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// From the site's own control, at each of its starts: where it serves its log, so that the repository can keep a copy.
    LogServed {
        /// Where.
        source: Endpoint,
    },
    /// From the site's own control, after it was recovered: the folder that it came from bears this lineage, which a site that
    /// was recovered earlier took and of which no frame was kept.
    OwnedBefore {
        /// The lineage.
        lineage: Lineage,
    },
    /// From the operator: take the folder over from this owner, and no other. Who had it is refused from then on.
    Adopt {
        /// Whose it is.
        owner: FolderOwner,
        /// Who says so, and why.
        why: Override,
    },
    /// From the operator: an access whose holder will never close it (its site is gone for good) ends now.
    BreakAccess {
        /// Whose.
        holder: Address,
    },
}

/// What a repository's log tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// An operator defined it.
    Defined {
        /// The definition.
        spec: RepositorySpec,
    },
    /// An operator removed it.
    Removed,
    /// The mover did not know itself; it is asked again.
    RegisterRefused {
        /// The code of its refusal.
        code: String,
        /// When it is asked again.
        again: Timestamp,
    },
    /// The mover was asked again.
    RegisteredAgain,
    /// The agent is there. Another incarnation than before has lost its memory: accesses that were open are opened
    /// again there.
    AgentSeen {
        /// Its incarnation.
        incarnation: Lineage,
        /// Its data channel.
        endpoint: Endpoint,
    },
    /// The agent was given an order.
    Ordered {
        /// The order.
        order: Box<Order>,
        /// For what.
        work: Work,
    },
    /// An order ended.
    OrderEnded {
        /// Its ordinal.
        ordinal: u64,
        /// Why it failed, if it did.
        failure: Option<Failure>,
    },
    /// An access was asked for. What it finds stays until it is closed.
    AccessAsked {
        /// Whose.
        holder: Address,
        /// Why.
        purpose: Purpose,
        /// Certificates of the movers that will come.
        peers: Vec<Digest>,
        /// The VMs concerned.
        vms: Vec<VmRef>,
        /// For `Read`: the point.
        point: Option<PointId>,
    },
    /// The agent lets the movers in.
    AccessOpened {
        /// Whose.
        holder: Address,
    },
    /// The agent could not let them in. The hold stays until the holder closes.
    AccessFailed {
        /// Whose.
        holder: Address,
    },
    /// The holder is done, or an operator broke the access; it still holds until the agent has shut it.
    AccessClosing {
        /// Whose.
        holder: Address,
        /// The operator, when it was broken.
        broken_by: Option<String>,
    },
    /// The agent could not shut an access; it is told again.
    CloseFailed {
        /// Whose.
        holder: Address,
        /// When.
        again: Timestamp,
    },
    /// An access is shut; it holds nothing any more.
    AccessClosed {
        /// Whose.
        holder: Address,
    },
    /// A point is usable: every chunk that it names and its manifest are durable.
    PointAdded {
        /// The point.
        point: RestorePoint,
        /// Which points of its VM and job stay from now on.
        keep: Keep,
        /// Until when it must stay.
        immutable: Option<Timestamp>,
    },
    /// Retention looked at the calendar. `counts` is the time that it counts with: a clock that has jumped ahead is not
    /// believed at once.
    CalendarRead {
        /// By the clock.
        at: Timestamp,
        /// What it counts with.
        counts: Timestamp,
    },
    /// Retention forgot a point: it can no longer be opened, and is pruned.
    PointForgotten {
        /// Which.
        point: PointId,
    },
    /// What the agent made durable is not what was read: it is no point, and goes from the folder with those that are forgotten.
    PointRefused {
        /// As the session described it.
        point: RestorePoint,
        /// Until when the agent keeps it nonetheless.
        immutable: Option<Timestamp>,
    },
    /// The agent has written down what would go with forgotten points. The sweep waits for every access that stands now.
    PointsMarked {
        /// Which points.
        points: Vec<PointId>,
        /// The prune.
        mark: u64,
    },
    /// Points are gone from the folder, to its trash.
    PointsPruned {
        /// Which of those ordered.
        points: Vec<PointId>,
        /// What was moved into the trash.
        trashed: ByteCount,
    },
    /// A sweep has ended, well or not: what it moved lies in the trash from now on.
    TrashKept {
        /// The prune.
        mark: u64,
        /// Since when.
        since: Timestamp,
        /// How long at least.
        hold: Millis,
    },
    /// The trash of a prune could not be emptied yet.
    TrashHeld {
        /// The prune.
        mark: u64,
        /// When it is tried again.
        again: Timestamp,
    },
    /// The trash of a prune is empty.
    TrashEmptied {
        /// The prune.
        mark: u64,
        /// What was deleted.
        freed: ByteCount,
    },
    /// A prune failed or left points: it begins anew later.
    PruneDelayed {
        /// Not before.
        again: Timestamp,
    },
    /// Alarm: the agent says that points are gone which it was not told to drop.
    PointsLost {
        /// Which.
        points: Vec<PointId>,
    },
    /// Every chunk of a point was read.
    PointVerified {
        /// Which.
        point: PointId,
        /// When.
        at: Timestamp,
        /// Chunks read.
        chunks: u64,
        /// Damage found, at most five lines.
        damage: Vec<String>,
        /// How many in all.
        damaged: u64,
    },
    /// The control serves its log there, under this lineage.
    LogServed {
        /// Where.
        source: Endpoint,
        /// The log's lineage.
        lineage: Lineage,
    },
    /// The site had this lineage too, before it was recovered: a folder that bears it is this repository's.
    OwnedBefore {
        /// The lineage.
        lineage: Lineage,
    },
    /// An operator took the folder over from this owner.
    Adopted {
        /// Whose it was.
        owner: FolderOwner,
        /// Who said so, and why.
        why: Override,
    },
    /// The log up to this frame is to be kept once the order under way has ended.
    LogOwed {
        /// The frame.
        least: Seq,
    },
    /// The site's log is kept in the repository up to a frame, durable.
    LogKept {
        /// The lineage of the frame.
        lineage: Lineage,
        /// The frame.
        seq: Seq,
        /// Its hash.
        hash: Digest,
        /// Frames before it that are not there, and that the log has no more.
        missing: MissingFrames,
        /// When that was known.
        at: Timestamp,
    },
    /// Warning: the site's log could not be kept. No point suffers from it; it is tried again.
    LogNotKept {
        /// Why.
        failure: Failure,
        /// When that was known.
        at: Timestamp,
        /// Not before.
        again: Timestamp,
    },
    /// An operator holds a point against retention.
    HoldSet {
        /// Which.
        point: PointId,
        /// Who, why, and until when.
        hold: Hold,
    },
    /// An operator let a point go.
    HoldReleased {
        /// Which.
        point: PointId,
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
}
