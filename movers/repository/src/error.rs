//! What can go wrong in a store. Codes, and what to do: `advice.rs`.

use crate::repository::OwnerFile;
use farshore_format::ChunkId;
use farshore_schemas::ids::{DiskName, Lineage, Name, PointId, Seq};
use farshore_schemas::units::Millis;
use std::path::PathBuf;

/// Which of the two stores an error speaks of; a part of its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A repository: `FS-REPO-…`.
    Repository,
    /// A replica store: `FS-STORE-…`.
    Replica,
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Store::Repository => "repository",
            Store::Replica => "replica store",
        })
    }
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("the {store} could not {action} {}: {source}", path.display())]
    Io {
        /// Which store.
        store: Store,
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The disk is full. Nothing was announced; what was sealed or committed is intact.
    #[error("the disk under the {store} is full: {} could not be written", path.display())]
    Full {
        /// Which store.
        store: Store,
        /// What was written.
        path: PathBuf,
    },
    /// A sync failed now or earlier in this opening: what the disk holds is unknown, so nothing more is done.
    #[error("the {store} stopped because {} could not be made durable: {why}", path.display())]
    Sync {
        /// Which store.
        store: Store,
        /// What should have been durable.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Another process, or this one, holds it.
    #[error("the {store} at {} is in use by another process", path.display())]
    Locked {
        /// Which store.
        store: Store,
        /// Its folder.
        path: PathBuf,
    },
    /// Made by a newer farshore.
    #[error("the {store} at {} has format {found}; this build reads up to format {known}", path.display())]
    Newer {
        /// Which store.
        store: Store,
        /// Its folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Made by a version that this build does not read any more.
    #[error("the repository at {} has format {found}, which this build does not read any more", path.display())]
    Older {
        /// Its folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The folder belongs to another.
    #[error(
        "the repository at {} belongs to {} of site {}, lineage {}, epoch {}, not to {name} of lineage {lineage}",
        path.display(), found.repository, found.site, found.lineage, found.epoch
    )]
    Owner {
        /// Its folder.
        path: PathBuf,
        /// Who asked.
        name: Name,
        /// Lineage of who asked.
        lineage: Lineage,
        /// The owner.
        found: Box<OwnerFile>,
    },
    /// It cannot be opened with what was given.
    #[error("the repository at {} could not be unlocked: {why}", path.display())]
    Key {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The file that should hold its passphrase does not.
    #[error("the passphrase file {}: {why}", path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A key slot that is not there.
    #[error("the repository at {} has no key slot {slot}", path.display())]
    NoSlot {
        /// Its folder.
        path: PathBuf,
        /// The slot asked for.
        slot: String,
    },
    /// Without this slot nobody could read it.
    #[error("the repository at {} keeps key slot {slot}: {why}", path.display())]
    LastSlot {
        /// Its folder.
        path: PathBuf,
        /// The slot that was to go.
        slot: String,
        /// Why not.
        why: &'static str,
    },
    /// It has no key.
    #[error("the repository at {} is not encrypted: it has no key", path.display())]
    NoKey {
        /// Its folder.
        path: PathBuf,
    },
    /// The folder holds a repository already.
    #[error("{} holds a repository already", path.display())]
    Already {
        /// Its folder.
        path: PathBuf,
    },
    /// What should be read as a disk is something else.
    #[error("{} is {what}, not a disk", path.display())]
    NotADisk {
        /// Which.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// What should be written to as a device is something else.
    #[error("{} is not a block device", path.display())]
    NotADevice {
        /// Which.
        path: PathBuf,
    },
    /// The disk does not fit on it.
    #[error("the device {} has {found} bytes, and the disk has {size}", path.display())]
    SmallDevice {
        /// Which.
        path: PathBuf,
        /// Bytes of the disk.
        size: u64,
        /// Bytes of the device.
        found: u64,
    },
    /// There is no repository.
    #[error("{} is not a repository", path.display())]
    NotHere {
        /// The folder.
        path: PathBuf,
    },
    /// A disk could not be read or written.
    #[error("the disk {} could not be {action}: {source}", path.display())]
    Disk {
        /// The image or device.
        path: PathBuf,
        /// What was tried, as a participle.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Another repository names the same content otherwise.
    #[error(
        "{} is of another dedup domain than {}: it names the same content otherwise",
        other.display(), path.display()
    )]
    Domain {
        /// The repository's folder.
        path: PathBuf,
        /// The other's.
        other: PathBuf,
    },
    /// The folder holds other things.
    #[error("{} is not a {store} and not empty", path.display())]
    Foreign {
        /// Which store was wanted.
        store: Store,
        /// The folder.
        path: PathBuf,
    },
    /// A prune by an owner that has decided less than the folder has seen.
    #[error("a prune at log position {asked} was refused: the folder has seen position {seen}")]
    Position {
        /// Position of the order.
        asked: u64,
        /// Highest position seen.
        seen: u64,
    },
    /// A sweep of a prune that the folder knows no mark of: the folder was put back, or another mark took its place.
    #[error("a sweep was refused: the folder knows no mark at log position {mark}")]
    NoMark {
        /// The mark that was named.
        mark: u64,
    },
    /// What is in the trash has not lain there long enough.
    #[error("the trash of the prune at log position {mark} is held for {} s more", left.0.div_ceil(1000))]
    Held {
        /// The prune.
        mark: u64,
        /// How long it still lies there at least.
        left: Millis,
    },
    /// A point must stay until a date.
    #[error("the point {point} is immutable for {} more", spelled(*left))]
    Immutable {
        /// Which.
        point: PointId,
        /// For how long.
        left: Millis,
    },
    /// A record that was sent is not what it says.
    #[error("record {id} was refused: {why}")]
    BadRecord {
        /// What it says that it is.
        id: ChunkId,
        /// Why it is not.
        why: String,
    },
    /// A chunk is not there.
    #[error("chunk {id} is not in the repository")]
    NoChunk {
        /// Which.
        id: ChunkId,
    },
    /// A point cannot be made: something that it names is not there.
    #[error("point {point} cannot be made: {missing}")]
    Incomplete {
        /// The point.
        point: PointId,
        /// What is missing.
        missing: String,
    },
    /// The point exists, with other content.
    #[error("point {point} exists already in the {store} with other content")]
    PointDiffers {
        /// Which store.
        store: Store,
        /// The point.
        point: PointId,
    },
    /// There is no such point.
    #[error("the {store} has no point {point}")]
    NoPoint {
        /// Which store.
        store: Store,
        /// The point.
        point: PointId,
    },
    /// There is no such disk.
    #[error("point {point} has no disk {disk}")]
    NoDisk {
        /// The point.
        point: PointId,
        /// The disk.
        disk: DiskName,
    },
    /// What is stored is not what was stored.
    #[error("damage in the {store}: {}: {why}", path.display())]
    Damage {
        /// Which store.
        store: Store,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another point is being made.
    #[error("the replica store is making point {open}, not {asked}")]
    Unfinished {
        /// The point being made.
        open: PointId,
        /// The point asked for.
        asked: PointId,
    },
    /// The point to begin exists.
    #[error("point {point} is sealed already in the replica store")]
    PointSealed {
        /// The point.
        point: PointId,
    },
    /// Nobody is making this point.
    #[error("the replica store is not making point {point}")]
    NotBegun {
        /// The point.
        point: PointId,
    },
    /// A disk has a writer already, or is asked for while it has one.
    #[error("disk {disk} of the replica store is being written")]
    DiskBusy {
        /// The disk.
        disk: DiskName,
    },
    /// A block beyond the disk's end, or of a wrong length.
    #[error("block {block} does not fit on disk {disk} of {size} bytes")]
    BadBlock {
        /// The disk.
        disk: DiskName,
        /// The block.
        block: u64,
        /// The disk's size.
        size: u64,
    },
    /// The site's log ends before what is kept of it: it was put back from a copy, and has not taken a new lineage.
    #[error(
        "the site's log ends at frame {last}, but the repository keeps frames up to {kept} of its lineage {lineage}"
    )]
    LogBehind {
        /// The lineage of both.
        lineage: Lineage,
        /// The last frame kept.
        kept: Seq,
        /// The last frame of the log.
        last: Seq,
    },
    /// The site's log is not the one that is kept, though it bears its lineage.
    #[error("frame {seq} of the site's log does not go on from the log that the repository keeps: they have parted")]
    LogFork {
        /// Where they differ.
        seq: Seq,
    },
    /// Frames are needed that the site's log has archived.
    #[error("the site's log begins at frame {first}, and the repository has none of the frames before it")]
    LogArchived {
        /// The first frame that the site has.
        first: Seq,
    },
    /// What was sent is no frame of this log.
    #[error("what was sent as frame {seq} of the site's log is not that: {why}")]
    LogFrame {
        /// Which frame was expected.
        seq: Seq,
        /// What is wrong.
        why: String,
    },
    /// A log cannot be put together from what is kept.
    #[error("in {} are not the frames of the log before {before} of lineage {lineage}", path.display())]
    LogIncomplete {
        /// The folder.
        path: PathBuf,
        /// The lineage.
        lineage: Lineage,
        /// The first frame that is there, or the last that is wanted.
        before: Seq,
    },
    /// What the store holds is not what the source read.
    #[error("disk {disk} of point {point} holds other bytes than the source read: {found} here, {wanted} there")]
    Proof {
        /// The point.
        point: PointId,
        /// The disk.
        disk: DiskName,
        /// Checksum here.
        found: farshore_schemas::ids::Digest,
        /// Checksum at the source.
        wanted: farshore_schemas::ids::Digest,
    },
}

/// A span in hours, or in days when there are several, rounded up.
fn spelled(span: Millis) -> String {
    const HOUR: u64 = 60 * 60 * 1_000;
    let hours = span.0.div_ceil(HOUR);
    if hours > 48 { format!("{} days", hours.div_ceil(24)) } else { format!("{hours} h") }
}
