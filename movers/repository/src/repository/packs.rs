//! Writing packs. Records are appended to one open pack; a pack that is full is finished and handed to the syncer.

use super::{Repository, random_id};
use crate::Result;
use farshore_format::repository::{
    ChunkId, DirectoryEntry, FileId, PackHeader, Place, RecordKind, SealKey, encode_directory,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

/// A pack is finished when it has this many bytes: small enough to be synced while the next one fills, and large enough
/// that a TiB is some ten thousand files.
const FULL: u64 = 32 << 20;
/// Bytes gathered before they are written.
const GATHER: usize = 1 << 20;

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
    id: FileId,
    /// Its number in the index's table.
    pack: u32,
    key: SealKey,
    file: File,
    temporary: PathBuf,
    /// Bytes handed to the file.
    written: u64,
    /// Bytes gathered behind them.
    buffer: Vec<u8>,
    entries: Vec<DirectoryEntry>,
}

/// A whole pack, not yet durable.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: FileId,
    pub(super) file: File,
    pub(super) temporary: PathBuf,
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
        let mut open = self.open_pack();
        let mut places = Vec::with_capacity(records.len());
        let mut added = 0;
        for record in records {
            let filling = match &mut open.0 {
                Some(filling) => filling,
                none => none.insert(self.begin_pack()?),
            };
            let place = filling.add(record);
            {
                let mut pinned = self.pinned();
                if pinned.sessions > 0 {
                    pinned.packs.insert(place.pack);
                }
            }
            added += u64::from(place.stored);
            places.push((record.id, place));
            let appended = self.write_out(filling);
            if appended.is_err() {
                // Half a record may be there now: what is in this pack is lost, and is not found in the index.
                self.abandon(&mut open);
                return appended.map(|()| 0);
            }
            if filling.length() >= FULL {
                // Before the pack is whole, so that a segment never holds a part of one.
                self.index_mut().note(&places);
                places.clear();
                self.finish(&mut open)?;
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
        let mut buffer = Vec::with_capacity(GATHER + (GATHER >> 2));
        buffer.extend_from_slice(&header.encode());
        let pack = self.index_mut().begin_pack(id);
        self.pinned().vetted.insert(pack);
        Ok(Filling { id, pack, key, file, temporary, written: 0, buffer, entries: Vec::new() })
    }

    fn write_out(&self, filling: &mut Filling) -> Result<()> {
        if filling.buffer.len() < GATHER {
            return Ok(());
        }
        self.io.write_at(&filling.file, &filling.temporary, &filling.buffer, filling.written)?;
        filling.written += filling.buffer.len() as u64;
        filling.buffer.clear();
        Ok(())
    }

    fn abandon(&self, open: &mut Open) {
        if let Some(filling) = open.0.take() {
            self.index_mut().drop_pack(filling.pack);
            // What is left of it would only take space from a disk that may be full; opening the repository deletes it too.
            let _ = std::fs::remove_file(&filling.temporary);
        }
    }

    fn finish(&self, open: &mut Open) -> Result<()> {
        let Some(filling) = &mut open.0 else { return Ok(()) };
        let directory = encode_directory(&filling.key, &filling.entries, filling.length());
        filling.buffer.extend_from_slice(&directory);
        if let Err(error) = self.io.write_at(&filling.file, &filling.temporary, &filling.buffer, filling.written) {
            self.abandon(open);
            return Err(error);
        }
        let Some(Filling { id, pack, file, temporary, .. }) = open.0.take() else { return Ok(()) };
        self.index_mut().end_pack(pack);
        self.syncer.finish(Finished { id, file, temporary });
        Ok(())
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::Sync`]: then nothing that was appended since the last flush may be named by a point.
    pub fn flush(&self) -> Result<()> {
        let mut open = self.open_pack();
        let finished = self.finish(&mut open);
        let flushed = self.syncer.flush();
        let outcome = finished.and(flushed);
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
        self.written + self.buffer.len() as u64
    }

    fn add(&mut self, record: &Packed<'_>) -> Place {
        let offset = self.length() as u32;
        let number = self.entries.len() as u32;
        let from = self.buffer.len();
        self.buffer.extend_from_slice(record.bytes);
        self.key.seal((record.kind as u8, number), &mut self.buffer, from);
        let stored = (self.buffer.len() - from) as u32;
        let plain = record.plain as u32;
        self.entries.push(DirectoryEntry { id: record.id, kind: record.kind, plain, stored });
        Place { pack: self.pack, number, offset, stored, plain: plain_word(record.kind, record.plain) }
    }
}
