//! `log/tail`: the log's own note of how far it has acknowledged. Written after each group without a sync (it costs no
//! disk write), synced on a clean stop. It is a hint: a log opens without it. It shows what a segment file alone
//! cannot: that acknowledged frames have been cut off cleanly, or overwritten with zeros.

use crate::header::array;
use farshore_schemas::ids::{Digest, Seq};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const NAME: &str = "tail";
const MAGIC: [u8; 8] = *b"FSTAIL01";
const LEN: usize = 52;

/// The file, open for writing.
pub(crate) struct Hint {
    file: File,
}

impl Hint {
    pub(crate) fn open(log: &Path) -> io::Result<Hint> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(log.join(NAME))?;
        Ok(Hint { file })
    }

    /// Notes the last acknowledged frame. A failure is no harm: the hint is only older then.
    pub(crate) fn note(&self, seq: Seq, hash: Digest) {
        let mut raw = [0; LEN];
        raw[..8].copy_from_slice(&MAGIC);
        raw[8..16].copy_from_slice(&seq.0.to_le_bytes());
        raw[16..48].copy_from_slice(&hash.0);
        let crc = crc32c::crc32c(&raw[..48]);
        raw[48..].copy_from_slice(&crc.to_le_bytes());
        if let Err(error) = self.file.write_all_at(&raw, 0) {
            tracing::debug!(%error, "the tail hint of the log could not be written");
        }
    }

    pub(crate) fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::debug!(%error, "the tail hint of the log could not be synced");
        }
    }
}

/// The last frame known to have been acknowledged, if a readable hint is there.
pub(crate) fn read(log: &Path) -> Option<(Seq, Digest)> {
    let raw = fs::read(log.join(NAME)).ok()?;
    let raw: &[u8; LEN] = raw.as_slice().try_into().ok()?;
    if raw[..8] != MAGIC || crc32c::crc32c(&raw[..48]).to_le_bytes() != raw[48..] {
        return None;
    }
    Some((Seq(u64::from_le_bytes(array(&raw[8..16]))), Digest(array(&raw[16..48]))))
}
