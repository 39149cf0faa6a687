//! Repository v0, `docs/formats/repository-v0.md`: chunks by content, a manifest per disk, a manifest per restore point,
//! digests of replicas, and a trash that makes deletion two-phase. Every point is a full by reference.

use crate::io::Io;
use farshore_format::ChunkId;
use farshore_schemas::ids::{Digest, PointId};
use farshore_schemas::units::ByteCount;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod chunks;
mod digests;
mod header;
mod points;
mod prune;

/// An open repository. Shared between threads as `Arc`.
#[derive(Debug)]
pub struct Repository {
    io: Io,
    root: PathBuf,
    /// Opened before anything is written, so that `syncfs` on it tells of every write error since.
    root_folder: File,
    _lock: File,
    state: Mutex<State>,
    /// One commit or prune at a time: a prune must not look for live chunks while a point is being made.
    deciding: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Chunks that committed points name.
    named: HashSet<ChunkId>,
    /// Chunks whose stored bytes were read and proven, or written, in this opening.
    proven: HashSet<ChunkId>,
    /// Chunks in the trash, by file.
    trashed: HashMap<ChunkId, PathBuf>,
    /// Chunks and disk manifests that open write sessions have asked for or stored.
    pinned: HashSet<ChunkId>,
    pinned_disks: HashSet<Digest>,
    sessions: usize,
    /// Makes names of temporary files differ.
    counter: u64,
}

impl State {
    fn pin(&mut self, id: ChunkId) {
        if self.sessions > 0 {
            self.pinned.insert(id);
        }
    }
}

/// Keeps everything that is stored or found while it lives from a prune in this process.
#[derive(Debug)]
pub struct WriteSession(Arc<Repository>);

impl Drop for WriteSession {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.sessions -= 1;
        if state.sessions == 0 {
            state.pinned.clear();
            state.pinned_disks.clear();
        }
    }
}

/// What a prune did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// The points asked for: all are gone now.
    pub points: Vec<PointId>,
    /// What was unlinked: chunks that an earlier prune had marked.
    pub freed: ByteCount,
    /// What was marked now, for the next prune to unlink.
    pub marked: ByteCount,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Chunks read.
    pub chunks: u64,
    /// The first five damages.
    pub damage: Vec<String>,
    /// How many there are.
    pub damaged: u64,
}

impl Repository {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves sets that are at worst too small: files decide, not these.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide_alone(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a write session: see [`WriteSession`].
    pub fn write_session(self: &Arc<Self>) -> WriteSession {
        self.state().sessions += 1;
        WriteSession(self.clone())
    }
}
