//! Chunks in files named by their content.

use super::{Repository, State};
use crate::{Error, Result};
use farshore_format::{ChunkId, MAX_ENCODED_CHUNK, decode_chunk};
use farshore_schemas::units::ByteCount;
use std::path::PathBuf;

impl Repository {
    pub(super) fn chunk_path(&self, id: &ChunkId) -> PathBuf {
        let hex = id.to_string();
        self.root.join("chunks").join(&hex[..2]).join(hex)
    }

    /// Whether each of these chunks is stored, in the order asked; a chunk of zeros always is. A chunk that no committed
    /// point names may be what a crash left, so its bytes are read and proven before it is counted on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn have(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        ids.iter().map(|id| self.has(id)).collect()
    }

    pub(super) fn has(&self, id: &ChunkId) -> Result<bool> {
        if id.is_zero() {
            return Ok(true);
        }
        let path = self.chunk_path(id);
        let known = {
            let mut state = self.state();
            state.pin(*id);
            self.bring_back(&mut state, id)?;
            state.named.contains(id) || state.proven.contains(id)
        };
        let there = std::fs::metadata(&path).is_ok_and(|file| plausible(file.len()));
        if known || !there {
            return Ok(known && there);
        }
        let bytes = self.io.read(&path)?;
        let sound = bytes.is_some_and(|bytes| decode_chunk(*id, &bytes).is_ok());
        if sound {
            self.state().proven.insert(*id);
        }
        Ok(sound)
    }

    /// Takes a chunk out of the trash, if that is where it is and it is not stored anew.
    fn bring_back(&self, state: &mut State, id: &ChunkId) -> Result<()> {
        let Some(trashed) = state.trashed.get(id) else { return Ok(()) };
        let path = self.chunk_path(id);
        if !path.exists() {
            self.io.rename(trashed, &path)?;
        }
        state.trashed.remove(id);
        Ok(())
    }

    /// Stores a chunk, if it is not stored already; its bytes must be those that `id` names. Answers the bytes added.
    /// Durable only once a point that names it is committed.
    ///
    /// # Errors
    /// [`Error::BadChunk`], [`Error::Full`], or what the disk says.
    pub fn put_chunk(&self, id: ChunkId, encoded: &[u8]) -> Result<ByteCount> {
        self.io.usable()?;
        decode_chunk(id, encoded)?;
        if self.has(&id)? {
            return Ok(ByteCount(0));
        }
        let path = self.chunk_path(&id);
        self.io.make_folder(path.parent().expect("a chunk lies in a folder"))?;
        let temporary = self.temporary();
        self.io.place(&path, &temporary, encoded)?;
        self.state().proven.insert(id);
        Ok(ByteCount(encoded.len() as u64))
    }

    pub(super) fn temporary(&self) -> PathBuf {
        let mut state = self.state();
        state.counter += 1;
        self.root.join("tmp").join(format!("{}", state.counter))
    }

    /// The stored form of a chunk. Whoever decodes it proves it by its id.
    ///
    /// # Errors
    /// [`Error::NoChunk`], or what the disk says.
    pub fn get_chunk(&self, id: ChunkId) -> Result<Vec<u8>> {
        self.io.read(&self.chunk_path(&id))?.ok_or(Error::NoChunk { id })
    }
}

/// Whether a file of this length can be a stored chunk.
pub(super) fn plausible(length: u64) -> bool {
    length > 5 && length <= MAX_ENCODED_CHUNK as u64
}
