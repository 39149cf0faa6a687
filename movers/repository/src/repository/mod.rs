//! Repository format 1, `docs/formats/repository.md`: sealed packs of chunks, an index that can be rebuilt from them, and a
//! small file for each restore point. Every point is a full by reference. Used by the repository's agent, and by
//! `farshore repo` on a folder alone.
//!
//! What makes a chunk durable is its pack: written under a temporary name, synced, renamed. A crash leaves whole packs or
//! none, so that what the index finds can be counted on, and what is in no pack is sent again.

use crate::io::Io;
use farshore_format::repository::{ChunkId, Cutter, Domain, FileId, RepositoryKey, SealKey, Suite};
use farshore_schemas::ids::{Digest, Name};
use farshore_schemas::messages::agent::FolderOwner;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

mod backup;
mod changed;
mod check;
mod clocks;
mod damaged;
mod digests;
mod home;
mod immutable;
mod index;
mod load;
mod log;
mod log_gaps;
mod log_keeper;
mod marks;
mod merge;
mod owner;
mod packs;
mod points;
mod prove;
mod prune;
mod records;
mod regions;
mod relied;
mod remote;
mod repair;
mod restore;
mod room;
mod roster;
mod segment;
mod slots;
mod source;
mod spare;
mod stages;
mod strays;
mod syncer;
mod target;
mod trash;
mod verify;
mod view;
mod whole;

pub use backup::{BackedUp, BackupOptions, Changes};
pub use clocks::Clock;
pub use damaged::Marks;
pub use home::{Create, Unlock};
pub use immutable::Immutability;
pub use log::KeptLog;
pub use log_gaps::LogGap;
pub use log_keeper::{LogKeeper, Shipped, SiteLog};
pub use owner::{Owner, OwnerFile};
pub use prove::ProvenPoint;
pub use prune::Pruned;
pub use regions::within;
pub use remote::SentRecord;
pub use repair::{Repaired, Spares};
pub use restore::Restored;
pub use slots::SharedDomain;
pub use source::{RawSource, Source};
pub use stages::Stages;
pub use target::{DeviceTarget, RawTarget, Target};
pub use trash::Monotonic;
pub use verify::{Damage, HurtPoint, Sample, Verified};
pub use view::DiskView;

/// An open repository. Shared between threads as `Arc`.
#[derive(Debug)]
pub struct Repository {
    io: Io,
    root: PathBuf,
    name: Name,
    domain_name: Name,
    /// Held while the repository is open for writing; none when it was opened to be read.
    lock: Option<File>,
    sealing: Sealing,
    /// Whether records are padded.
    padding: bool,
    domain: Domain,
    cutter: Cutter,
    packs: Mutex<packs::Open>,
    syncer: syncer::Syncer,
    index: RwLock<index::Index>,
    /// What is known of packs here: those that open sessions were told of, which a prune leaves, and those that count.
    pinned: Mutex<Pinned>,
    /// One commit or prune at a time: a prune must not look for live records while a point is being made.
    deciding: Mutex<()>,
    /// One shipment of the site's log at a time: a shorter piece must not take the place of a longer one.
    keeping: Mutex<log_gaps::ReadThrough>,
    /// For whom it was opened, and whose the folder was then; none when it was opened without an owner.
    owned: OnceLock<(owner::Owner, FolderOwner)>,
    /// Until when the time that the trash has served is counted, by its folder's name.
    counted: Mutex<BTreeMap<String, Monotonic>>,
    /// What time it is for what must stay until a date.
    clocks: clocks::Clocks,
    /// Which of that bears the file system's attribute.
    attributes: Mutex<immutable::Attributes>,
    /// Random; see [`Repository::opening`].
    opening: FileId,
    /// What disks added that no point names yet.
    added: Mutex<BTreeMap<ChunkId, u64>>,
    /// What was looked for and found since the last point was made.
    whole: Mutex<whole::Whole>,
    /// Disks that were read, each with the disk of a point that it follows.
    followed: Mutex<BTreeMap<Digest, Digest>>,
    /// What the roster says of the points' files.
    named: Mutex<roster::Named>,
}

#[derive(Debug, Default)]
struct Pinned {
    /// Open sessions by their numbers, and the number of the next.
    sessions: BTreeSet<u64>,
    next: u64,
    /// Packs, each with the newest session that was open when it was last stored to or found: no later one counts on it.
    packs: HashMap<u32, u64>,
    /// Packs that were looked at in this opening and are whole, and those that it has begun.
    vetted: HashSet<u32>,
}

/// How this repository seals.
#[derive(Debug, Clone)]
struct Sealing {
    suite: Suite,
    key: Option<RepositoryKey>,
}

impl Sealing {
    /// What a new file is sealed with.
    fn fresh(&self) -> (Suite, Option<&RepositoryKey>, FileId) {
        (self.suite, self.key.as_ref(), random_id())
    }

    fn key_of(&self, suite: Suite, file: &FileId) -> Option<SealKey> {
        SealKey::new(suite, self.key.as_ref(), file)
    }
}

/// 256 random bits.
fn random_id() -> FileId {
    let mut id = FileId([0; 32]);
    // The kernel's own generator: another one on top of it takes a twentieth of a second to begin with.
    let mut filled = 0;
    while filled < id.0.len() {
        match rustix::rand::getrandom(&mut id.0[filled..], rustix::rand::GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            got => filled += got.expect("the system's source of randomness works"),
        }
    }
    id
}

impl Pinned {
    /// Whoever is open may count on these packs.
    fn pin(&mut self, packs: impl IntoIterator<Item = u32>) {
        if let Some(newest) = self.sessions.last() {
            self.packs.extend(packs.into_iter().map(|pack| (pack, *newest)));
        }
    }
}

/// Keeps everything that is stored or found while it lives from a prune in this process.
#[derive(Debug)]
pub struct WriteSession(Arc<Repository>, u64);

impl Drop for WriteSession {
    fn drop(&mut self) {
        let mut pinned = self.0.pinned();
        pinned.sessions.remove(&self.1);
        let oldest = pinned.sessions.first().copied();
        // A pack stays while a session is open that was when it was pinned.
        pinned.packs.retain(|_, newest| oldest.is_some_and(|oldest| oldest <= *newest));
    }
}

impl Repository {
    fn pinned(&self) -> MutexGuard<'_, Pinned> {
        // A panic while it was held leaves at worst a pin too many.
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_pinned(&self, pack: u32) -> bool {
        self.pinned().packs.contains_key(&pack)
    }

    fn decide_alone(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a write session: see [`WriteSession`].
    pub fn write_session(self: &Arc<Self>) -> WriteSession {
        let mut pinned = self.pinned();
        let number = pinned.next;
        pinned.next += 1;
        pinned.sessions.insert(number);
        WriteSession(self.clone(), number)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The name of its dedup domain.
    pub fn domain_name(&self) -> &Name {
        &self.domain_name
    }

    /// Where disks are cut here.
    pub fn cutter(&self) -> &Cutter {
        &self.cutter
    }

    /// How chunks are named here.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether records are padded.
    pub fn padded(&self) -> bool {
        self.padding
    }

    /// Whether what it holds is encrypted.
    pub fn encrypted(&self) -> bool {
        self.sealing.suite != Suite::None
    }
}
