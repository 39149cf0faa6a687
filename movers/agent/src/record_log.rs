//! The agent's record log: an append-only file of [`Record`]s, durable before anything that follows from them. The format
//! is described in `docs/formats/agent-log.md`. One process writes it (the data folder's lock sees to that); one
//! thread owns it, so nothing here locks.
//!
//! A file that ends inside a record was cut by a crash before the record was promised to anyone: the tail is kept aside and
//! the log goes on before it. Anything else that does not fit is damage, and damage is refused.

use farshore_schemas::codec;
use farshore_tasks::Record;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"FSAGLOG0";
/// Length, crc of the length, crc of the body.
const HEAD: usize = 12;
/// The longest record. A page of an inventory is far below; a snapshot of everything remembered stays below too.
const MAX_RECORD: usize = 256 * 1024 * 1024;
/// A rewrite is due when the file has grown by this much since the last one.
const REWRITE_AFTER: u64 = 8 * 1024 * 1024;
const FILE: &str = "records";

/// What is wrong with a record log.
#[derive(Debug, thiserror::Error)]
pub enum RecordLogError {
    /// The file system refused.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Bytes that are not what was written.
    #[error("{} is damaged at byte {offset}, record {record}: {why}", path.display())]
    Damage {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// Which record, from 1.
        record: u64,
        /// What does not fit.
        why: String,
    },
    /// An earlier append failed.
    #[error("{} stopped after an earlier failure", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
}

/// What was found when a log was opened.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready for appends.
    pub log: RecordLog,
    /// All its records, in order.
    pub records: Vec<Record>,
    /// Where a tail that a crash had cut was put, if there was one.
    pub torn: Option<PathBuf>,
}

/// An open record log.
#[derive(Debug)]
pub struct RecordLog {
    folder: PathBuf,
    file: File,
    len: u64,
    /// The crc of the last record: seed of the next one, so that none can be left out or moved.
    chain: u32,
    rewritten_at: u64,
    stopped: bool,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RecordLogError {
    let path = path.to_owned();
    move |source| RecordLogError::Io { action, path, source }
}

fn sync_folder(folder: &Path) -> Result<(), RecordLogError> {
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(failed("sync", folder))
}

/// The record as bytes, and the crc that chains the next one to it.
fn encode(record: &Record, chain: u32) -> (Vec<u8>, u32) {
    let body = codec::encode(record);
    let length = u32::try_from(body.len()).expect("a record is far below 4 GiB");
    let head_crc = crc32c::crc32c_append(chain, &length.to_le_bytes());
    let body_crc = crc32c::crc32c_append(head_crc, &body);
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&head_crc.to_le_bytes());
    bytes.extend_from_slice(&body_crc.to_le_bytes());
    bytes.extend_from_slice(&body);
    (bytes, body_crc)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The records of a file, where they end, and the chain there.
struct Parsed {
    records: Vec<Record>,
    end: usize,
    chain: u32,
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Parsed, RecordLogError> {
    let mut parsed = Parsed { records: Vec::new(), end: MAGIC.len(), chain: 0 };
    while bytes.len() - parsed.end >= HEAD {
        let at = parsed.end;
        let damage = |why: String| RecordLogError::Damage {
            path: path.to_owned(),
            offset: at as u64,
            record: parsed.records.len() as u64 + 1,
            why,
        };
        // A file that grew before its new bytes were written ends in zeros after a power cut: nothing was acknowledged there.
        if bytes[at..].iter().all(|byte| *byte == 0) {
            break;
        }
        let head_crc = crc32c::crc32c_append(parsed.chain, &bytes[at..at + 4]);
        if u32_at(bytes, at + 4) != head_crc {
            return Err(damage("the crc of its length does not fit".into()));
        }
        let length = u32_at(bytes, at) as usize;
        if length > MAX_RECORD {
            return Err(damage(format!("it claims {length} bytes")));
        }
        let Some(body) = bytes.get(at + HEAD..at + HEAD + length) else { break };
        let body_crc = crc32c::crc32c_append(head_crc, body);
        if u32_at(bytes, at + 8) != body_crc {
            return Err(damage("the crc of its body does not fit".into()));
        }
        let record = codec::decode_checked(body).map_err(|error| damage(error.to_string()))?;
        parsed.records.push(record);
        parsed.end = at + HEAD + length;
        parsed.chain = body_crc;
    }
    Ok(parsed)
}

impl RecordLog {
    /// Opens the log in a folder, making both if needed, and recovers it.
    ///
    /// # Errors
    /// [`RecordLogError::Damage`] changes nothing; [`RecordLogError::Io`].
    pub fn open(folder: &Path) -> Result<Opened, RecordLogError> {
        std::fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        let path = folder.join(FILE);
        // Left by a rewrite that did not come to its rename.
        let _ = std::fs::remove_file(folder.join("records.tmp"));
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read", &path))?;
        let nothing_yet = bytes.len() <= MAGIC.len() && bytes.iter().all(|byte| *byte == 0);
        if nothing_yet || bytes.len() < MAGIC.len() && MAGIC.starts_with(&bytes) {
            file.set_len(0).and_then(|()| file.write_all(MAGIC)).map_err(failed("write", &path))?;
            bytes = MAGIC.to_vec();
        } else if !bytes.starts_with(MAGIC) {
            let why = "it does not begin as an agent's record log of a known format".to_owned();
            return Err(RecordLogError::Damage { path, offset: 0, record: 0, why });
        }
        let Parsed { records, end, chain } = parse(&path, &bytes)?;
        file.sync_data().map_err(failed("sync", &path))?;
        let torn = if end < bytes.len() { Some(set_aside(folder, &file, &bytes, end)?) } else { None };
        sync_folder(folder)?;
        let len = end as u64;
        let log = RecordLog { folder: folder.to_owned(), file, len, chain, rewritten_at: len, stopped: false };
        Ok(Opened { log, records, torn })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Appends records and makes them durable before it returns. After a failure the log takes nothing more: what the
    /// disk holds is then unknown.
    ///
    /// # Errors
    /// [`RecordLogError::Io`], [`RecordLogError::Stopped`].
    pub fn append<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) -> Result<(), RecordLogError> {
        let path = self.path();
        if self.stopped {
            return Err(RecordLogError::Stopped { path });
        }
        let mut bytes = Vec::new();
        let mut chain = self.chain;
        for record in records {
            let (encoded, next) = encode(record, chain);
            bytes.extend_from_slice(&encoded);
            chain = next;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.stopped = true;
            return Err(RecordLogError::Io { action: "append to", path, source });
        }
        self.chain = chain;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Whether it has grown so much that a snapshot should begin it anew.
    pub fn rewrite_due(&self) -> bool {
        self.len - self.rewritten_at >= REWRITE_AFTER
    }

    /// Begins the log anew with one record that stands for all so far.
    ///
    /// # Errors
    /// [`RecordLogError::Io`]; the log then takes nothing more.
    pub fn rewrite(&mut self, snapshot: &Record) -> Result<(), RecordLogError> {
        let path = self.path();
        if self.stopped {
            return Err(RecordLogError::Stopped { path });
        }
        self.stopped = true;
        let fresh = self.folder.join("records.tmp");
        let (encoded, chain) = encode(snapshot, 0);
        let mut file = File::create(&fresh).map_err(failed("create", &fresh))?;
        file.write_all(MAGIC)
            .and_then(|()| file.write_all(&encoded))
            .and_then(|()| file.sync_data())
            .map_err(failed("write", &fresh))?;
        std::fs::rename(&fresh, &path).map_err(failed("replace", &path))?;
        sync_folder(&self.folder)?;
        self.file = OpenOptions::new().append(true).open(&path).map_err(failed("open", &path))?;
        self.len = (MAGIC.len() + encoded.len()) as u64;
        self.chain = chain;
        self.rewritten_at = self.len;
        self.stopped = false;
        Ok(())
    }
}

/// Keeps a torn tail for whoever wants to look at it, and cuts it off.
fn set_aside(folder: &Path, file: &File, bytes: &[u8], end: usize) -> Result<PathBuf, RecordLogError> {
    let torn = folder.join("torn");
    std::fs::create_dir_all(&torn).map_err(failed("make the folder", &torn))?;
    let place = torn.join(format!("{end:012}"));
    std::fs::write(&place, &bytes[end..]).map_err(failed("write", &place))?;
    sync_folder(&torn)?;
    file.set_len(end as u64).and_then(|()| file.sync_data()).map_err(failed("cut", &place))?;
    Ok(place)
}

#[cfg(test)]
#[path = "record_log_tests.rs"]
mod tests;
