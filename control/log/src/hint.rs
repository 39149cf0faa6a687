//! `log/tail`: the log's own note of how far it has acknowledged. Written after each group without a sync (it costs no
//! disk write), synced on a clean stop. It is a hint: a log opens without it. It shows what a segment file alone
//! cannot: that acknowledged frames have been cut off cleanly, or overwritten with zeros.

use crate::disk::sync_dir;
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
        if let Err(error) = self.file.write_all_at(&encode(seq, hash), 0) {
            tracing::debug!(%error, "the tail hint of the log could not be written");
        }
    }

    pub(crate) fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::debug!(%error, "the tail hint of the log could not be synced");
        }
    }
}

/// Notes, durably, that frames up to `seq` had been acknowledged, where something else than the log shows it: the loss is
/// reported at every start until the site has gone on.
pub(crate) fn raise(log: &Path, (seq, hash): (Seq, Digest)) -> io::Result<()> {
    if read(log).is_some_and(|(known, _)| known >= seq) {
        return Ok(());
    }
    fs::create_dir_all(log)?;
    let hint = Hint::open(log)?;
    hint.file.write_all_at(&encode(seq, hash), 0)?;
    hint.file.sync_all()?;
    sync_dir(log)
}

fn encode(seq: Seq, hash: Digest) -> [u8; LEN] {
    let mut raw = [0; LEN];
    raw[..8].copy_from_slice(&MAGIC);
    raw[8..16].copy_from_slice(&seq.0.to_le_bytes());
    raw[16..48].copy_from_slice(&hash.0);
    let crc = crc32c::crc32c(&raw[..48]);
    raw[48..].copy_from_slice(&crc.to_le_bytes());
    raw
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
