//! Writing packs. Records are appended to one open pack, in memory; what is gathered of it is handed to a thread that writes,
//! and a pack that is full is finished there.

use super::{Repository, random_id};
use crate::Result;
use crate::direct::{ALIGN, Direct, to_aligned};
use farshore_format::repository::{
    ChunkId, DirectoryEntry, FileId, PackHeader, Place, RecordKind, SealKey, encode_directory, pad,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

/// A pack is finished when it has this many bytes: small enough to be synced while the next one fills, and large enough
/// that a TiB is some ten thousand files.
const FULL: u64 = 32 << 20;
/// Bytes gathered before they are written.
const GATHER: usize = 1 << 20;
/// Room of a buffer: for what is gathered, a record more, and to be aligned.
const ROOM: usize = GATHER + (GATHER >> 1) + ALIGN;

/// Where a pack lies.
pub(super) fn pack_path(root: &Path, id: &FileId) -> PathBuf {
    let hex = id.to_string();
    root.join("packs").join(&hex[..2]).join(hex)
}

/// The pack that is being filled, if any.
#[derive(Debug, Default)]
pub(super) struct Open(Option<Filling>);

#[derive(Debug)]
struct Filling {
    /// Its number in the index's table.
    pack: u32,
    key: SealKey,
    file: Arc<PackFile>,
    /// Bytes handed over to be written.
    written: u64,
    /// Bytes gathered behind them.
    gathered: Gathered,
    entries: Vec<DirectoryEntry>,
    padding: bool,
}

/// A pack's file, not yet durable.
#[derive(Debug)]
pub(super) struct PackFile {
    pub(super) id: FileId,
    pub(super) file: File,
    pub(super) direct: Direct,
    pub(super) temporary: PathBuf,
}

/// Bytes that begin at an aligned place in memory.
#[derive(Debug)]
pub(super) struct Gathered {
    memory: Vec<u8>,
    /// Bytes at its beginning that are left out.
    skip: usize,
}

impl Gathered {
    /// None yet, in memory that was used before, if there is any.
    pub(super) fn new(used: Option<Vec<u8>>) -> Gathered {
        let mut memory = used.unwrap_or_else(|| Vec::with_capacity(ROOM));
        memory.clear();
        let skip = to_aligned(&memory);
        memory.resize(skip, 0);
        Gathered { memory, skip }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.skip..]
    }

    /// The memory, to be used again; none when it has grown.
    pub(super) fn memory(self) -> Option<Vec<u8>> {
        Some(self.memory).filter(|memory| memory.capacity() < 2 * ROOM)
    }
}

/// A record ready to be sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) id: ChunkId,
    pub(super) kind: RecordKind,
    /// Bytes of its plain content.
    pub(super) plain: usize,
    pub(super) bytes: &'a [u8],
}

/// A record's kind and plain length in one number of the index.
pub(super) fn plain_word(kind: RecordKind, plain: usize) -> u32 {
    (plain as u32) | u32::from(kind as u8) << 24
}

impl Repository {
    fn open_pack(&self) -> MutexGuard<'_, Open> {
        // A panic while it was held leaves a pack without a footer, which is nothing.
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends records to the open pack and notes where they lie. Answers the bytes that they take. Durable once
    /// [`Repository::flush`] has returned.
    pub(super) fn append(&self, records: &[Packed<'_>]) -> Result<u64> {
        self.io.usable()?;
        if self.syncer.in_trouble() {
            // The disk may be full: there is no use in going on until it is told.
            self.flush()?;
        }
        let mut open = self.open_pack();
        let mut places = Vec::with_capacity(records.len());
        let mut added = 0;
        for record in records {
            let filling = match &mut open.0 {
                Some(filling) => filling,
                none => none.insert(self.begin_pack()?),
            };
            let place = filling.add(record);
            self.pinned().pin([place.pack]);
            added += u64::from(place.stored);
            places.push((record.id, place));
            if filling.gathered.bytes().len() >= GATHER {
                self.hand_over(filling);
            }
            if filling.length() >= FULL {
                // Before the pack is whole, so that a segment never holds a part of one.
                self.index_mut().note(&places);
                places.clear();
                self.finish(&mut open);
                self.settle_index(false)?;
            }
        }
        self.index_mut().note(&places);
        Ok(added)
    }

    fn begin_pack(&self) -> Result<Filling> {
        self.index().fall_behind()?;
        let id = random_id();
        let key = self.sealing.key_of(self.sealing.suite, &id).expect("an open repository that seals has its key");
        let temporary = self.root.join("packs").join(format!(".{id}.new"));
        let file = self.io.make_file(&temporary)?;
        let header = PackHeader { id, suite: self.sealing.suite };
        let mut gathered = Gathered::new(self.syncer.used_memory());
        gathered.memory.extend_from_slice(&header.encode());
        let pack = self.index_mut().begin_pack(id);
        self.pinned().vetted.insert(pack);
        let file = Arc::new(PackFile { id, direct: Direct::of(&file), file, temporary });
        Ok(Filling { pack, key, file, written: 0, gathered, entries: Vec::new(), padding: self.padding })
    }

    /// Has what was gathered written, but for what does not fill a block.
    fn hand_over(&self, filling: &mut Filling) {
        let mut rest = Gathered::new(self.syncer.used_memory());
        let whole = filling.gathered.bytes().len() / ALIGN * ALIGN;
        rest.memory.extend_from_slice(&filling.gathered.bytes()[whole..]);
        let mut full = std::mem::replace(&mut filling.gathered, rest);
        full.memory.truncate(full.skip + whole);
        self.syncer.write(&filling.file, full, filling.written);
        filling.written += whole as u64;
    }

    fn finish(&self, open: &mut Open) {
        let Some(mut filling) = open.0.take() else { return };
        let directory = encode_directory(&filling.key, &filling.entries, filling.length());
        filling.gathered.memory.extend_from_slice(&directory);
        self.index_mut().end_pack(filling.pack);
        self.syncer.write(&filling.file, filling.gathered, filling.written);
        self.syncer.finish(filling.file);
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Sync`]: then nothing that was appended since the last flush may be named by a point.
    pub fn flush(&self) -> Result<()> {
        let mut open = self.open_pack();
        self.finish(&mut open);
        let outcome = self.syncer.flush();
        if outcome.is_err() {
            // Which packs are there is known to the folder alone, and no pack is on its way there while this holds the lock.
            self.reload_packs(true)?;
        }
        outcome?;
        let settled = self.settle_index(true).and_then(|()| self.index().caught_up());
        drop(open);
        settled
    }

    /// Writes what the index has noted, if it is much or all of it is wanted. A damaged segment is made anew.
    fn settle_index(&self, all: bool) -> Result<()> {
        let settled = self.index_mut().settle(all);
        match settled {
            Err(error) if error.index_only(&self.root.join("index")) => self.rebuild_index(),
            other => other,
        }
    }
}

impl Filling {
    fn length(&self) -> u64 {
        self.written + self.gathered.bytes().len() as u64
    }

    fn add(&mut self, record: &Packed<'_>) -> Place {
        let offset = self.length() as u32;
        let number = self.entries.len() as u32;
        let memory = &mut self.gathered.memory;
        let from = memory.len();
        if self.padding {
            pad(record.bytes, memory);
        } else {
            memory.extend_from_slice(record.bytes);
        }
        self.key.seal((record.kind as u8, number), memory, from);
        let stored = (memory.len() - from) as u32;
        let plain = record.plain as u32;
        self.entries.push(DirectoryEntry { id: record.id, kind: record.kind, plain, stored });
        Place { pack: self.pack, number, offset, stored, plain: plain_word(record.kind, record.plain) }
    }
}
