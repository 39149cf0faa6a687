//! A snapshot's file: `run/snap-NAME.cow`. It opens with what the disks were at the beginning and grows by the old
//! content of each block that a guest is about to overwrite, so that image and file together always give the disks as
//! they were. Whoever holds the disks appends (the guest, or the agent while no guest runs); any number of readers tail it.
//!
//! A record is: magic, kind, length (little-endian u32 each), content, crc32c of kind, length and content. The file is
//! not synced: a snapshot does not outlive the boot that it was made in, and says which one that was. A record cut short
//! at the end of the file is a guest that was killed before it overwrote anything: it is not there.

use crate::error::{HostError, Result};
use crate::image::ImageFacts;
use crate::stamps::BLOCK;
use farshore_schemas::ids::{DiskName, Name};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::{ByteCount, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u32 = u32::from_le_bytes(*b"FSCW");
const HEAD: usize = 12;
const CRC: usize = 4;
/// The longest content of a record: a header with many disks.
const LONGEST: usize = 4 * 1024 * 1024;
/// Bytes before the data of a block record: disk (u32) and offset (u64).
const BLOCK_HEAD: usize = 12;

/// The first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    pub(crate) snapshot: Name,
    /// The machine's boot in which it is valid.
    pub(crate) boot: String,
    pub(crate) taken: Timestamp,
    pub(crate) disks: Vec<FrozenDisk>,
}

/// A disk at the beginning. Block records name disks by their place in this list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrozenDisk {
    pub(crate) name: DiskName,
    pub(crate) facts: ImageFacts,
}

impl Begin {
    pub(crate) fn disk_facts(&self) -> Vec<DiskFacts> {
        let facts = |disk: &FrozenDisk| DiskFacts { name: disk.name.clone(), size: ByteCount(disk.facts.size) };
        self.disks.iter().map(facts).collect()
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Begin(Begin),
    /// A guest took the disks over; the facts of each, in the order of the beginning.
    GuestStarted(Vec<ImageFacts>),
    /// That guest ended in good order and left the disks so.
    GuestEnded(Vec<ImageFacts>),
    /// The old content of a block; where its data lies in this file.
    Block {
        disk: u32,
        offset: u64,
        at: u64,
        length: u32,
    },
}

fn frame(kind: u32, content: &[u8], into: &mut Vec<u8>) {
    let from = into.len();
    into.extend_from_slice(&MAGIC.to_le_bytes());
    into.extend_from_slice(&kind.to_le_bytes());
    // Contents are at most LONGEST: blocks are 4 KiB, headers are checked when they are written.
    into.extend_from_slice(&(content.len() as u32).to_le_bytes());
    into.extend_from_slice(content);
    let crc = crc32c::crc32c(&into[from + 4..]);
    into.extend_from_slice(&crc.to_le_bytes());
}

fn frame_json(kind: u32, value: &impl Serialize, path: &Path) -> Result<Vec<u8>> {
    let refused = |why: String| HostError::SnapshotLost { path: path.to_owned(), why };
    let json = serde_json::to_vec(value).map_err(|error| refused(error.to_string()))?;
    if json.len() > LONGEST {
        return Err(refused("the VM has too many disks for a snapshot".to_owned()));
    }
    let mut bytes = Vec::new();
    frame(kind, &json, &mut bytes);
    Ok(bytes)
}

/// Makes a snapshot's file, whole or not at all.
pub(crate) fn create(run: &Path, begin: &Begin) -> Result<()> {
    let path = cow_path(run, &begin.snapshot);
    let draft = run.join(format!("snap-{}.new", begin.snapshot));
    std::fs::write(&draft, frame_json(1, begin, &path)?).map_err(HostError::io("writing", &draft))?;
    std::fs::rename(&draft, &path).map_err(HostError::io("naming", &path))
}

/// Where a snapshot's file lies.
pub(crate) fn cow_path(run: &Path, snapshot: &Name) -> PathBuf {
    run.join(format!("snap-{snapshot}.cow"))
}

/// The end that whoever holds the disks appends to.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) begin: Begin,
    file: File,
    end: u64,
    /// Per disk of the beginning: the blocks that are kept already.
    kept: Vec<std::collections::BTreeSet<u64>>,
    pending: Vec<u8>,
}

impl Writer {
    /// Opens an existing snapshot to go on with it; cuts off what a killed guest left half-written.
    pub(crate) fn open(path: &Path) -> Result<Writer> {
        let mut reader = Tail::open(path)?;
        let begin = reader.begin.clone();
        let mut kept = vec![std::collections::BTreeSet::new(); begin.disks.len()];
        while let Some(record) = reader.next()? {
            if let Record::Block { disk, offset, .. } = record
                && let Some(blocks) = kept.get_mut(disk as usize)
            {
                blocks.insert(offset / BLOCK as u64);
            }
        }
        let file = File::options().read(true).write(true).open(path).map_err(HostError::io("opening", path))?;
        file.set_len(reader.at).map_err(HostError::io("cutting", path))?;
        Ok(Writer { path: path.to_owned(), begin, file, end: reader.at, kept, pending: Vec::new() })
    }

    /// The place of a disk in this snapshot.
    pub(crate) fn disk(&self, name: &DiskName) -> Option<usize> {
        self.begin.disks.iter().position(|disk| &disk.name == name)
    }

    /// Whether a block's old content must still be kept before it may be overwritten.
    pub(crate) fn wants(&self, disk: usize, block: u64) -> bool {
        let offset = block.saturating_mul(BLOCK as u64);
        self.begin.disks.get(disk).is_some_and(|frozen| offset < frozen.facts.size)
            && self.kept.get(disk).is_some_and(|blocks| !blocks.contains(&block))
    }

    /// Takes a block's old content; nothing is kept before [`Writer::flush`].
    pub(crate) fn keep(&mut self, disk: usize, block: u64, data: &[u8]) {
        let mut content = Vec::with_capacity(BLOCK_HEAD + data.len());
        content.extend_from_slice(&(disk as u32).to_le_bytes());
        content.extend_from_slice(&block.saturating_mul(BLOCK as u64).to_le_bytes());
        content.extend_from_slice(data);
        frame(4, &content, &mut self.pending);
        if let Some(blocks) = self.kept.get_mut(disk) {
            blocks.insert(block);
        }
    }

    /// Writes what was taken. After an error the snapshot is of no use.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.append(&pending)
    }

    pub(crate) fn guest_started(&mut self, facts: &[ImageFacts]) -> Result<()> {
        let bytes = frame_json(2, &facts, &self.path)?;
        self.append(&bytes)
    }

    pub(crate) fn guest_ended(&mut self, facts: &[ImageFacts]) -> Result<()> {
        let bytes = frame_json(3, &facts, &self.path)?;
        self.append(&bytes)
    }

    /// From now on the file cannot be written, as on a disk that is full.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&mut self) -> Result<()> {
        self.file = File::open(&self.path).map_err(HostError::io("opening", &self.path))?;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.end).map_err(HostError::io("writing", &self.path))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// The reading end: goes through the records and stops where the file ends, to go on later.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: File,
    /// Where the next record starts.
    pub(crate) at: u64,
    pub(crate) begin: Begin,
}

impl Tail {
    pub(crate) fn open(path: &Path) -> Result<Tail> {
        let file = File::open(path).map_err(HostError::io("opening", path))?;
        let begin = Begin {
            snapshot: Name::parse("unread").map_err(HostError::Name)?,
            boot: String::new(),
            taken: Timestamp(0),
            disks: Vec::new(),
        };
        let mut tail = Tail { path: path.to_owned(), file, at: 0, begin };
        match tail.next()? {
            Some(Record::Begin(begin)) => tail.begin = begin,
            Some(_) | None => return Err(tail.damaged("it does not start with a header")),
        }
        if tail.begin.boot != crate::process::boot_id()? {
            return Err(tail.damaged("the machine was restarted since it was made"));
        }
        Ok(tail)
    }

    /// The file's device and inode, to tell whether the name still means this file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next whole record, if there is one by now.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        let length = self.file.metadata().map_err(HostError::io("looking at", &self.path))?.len();
        let left = length.saturating_sub(self.at);
        if left < (HEAD + CRC) as u64 {
            return Ok(None);
        }
        let mut head = [0u8; HEAD];
        self.read(&mut head, self.at)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (kind, size) = (number(4), number(8) as usize);
        if number(0) != MAGIC || size > LONGEST {
            return Err(self.damaged("it holds something that is no record"));
        }
        if left < (HEAD + size + CRC) as u64 {
            return Ok(None);
        }
        let mut body = vec![0u8; size + CRC];
        self.read(&mut body, self.at + HEAD as u64)?;
        let (content, crc) = body.split_at(size);
        if crc32c::crc32c_append(crc32c::crc32c(&head[4..]), content).to_le_bytes() != crc {
            return Err(self.damaged("a record's checksum is wrong"));
        }
        let record = self.decode(kind, content)?;
        self.at += (HEAD + size + CRC) as u64;
        Ok(Some(record))
    }

    fn decode(&self, kind: u32, content: &[u8]) -> Result<Record> {
        let bad = || self.damaged("a record cannot be understood");
        match kind {
            1 => serde_json::from_slice(content).map(Record::Begin).map_err(|_| bad()),
            2 => serde_json::from_slice(content).map(Record::GuestStarted).map_err(|_| bad()),
            3 => serde_json::from_slice(content).map(Record::GuestEnded).map_err(|_| bad()),
            4 if (BLOCK_HEAD..=BLOCK_HEAD + BLOCK).contains(&content.len()) => {
                let (disk, rest) = content.split_at(4);
                let disk = disk.try_into().map(u32::from_le_bytes).map_err(|_| bad())?;
                let offset = rest[..8].try_into().map(u64::from_le_bytes).map_err(|_| bad())?;
                let at = self.at + (HEAD + BLOCK_HEAD) as u64;
                Ok(Record::Block { disk, offset, at, length: (content.len() - BLOCK_HEAD) as u32 })
            }
            _ => Err(bad()),
        }
    }

    pub(crate) fn read(&self, into: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(into, at).map_err(HostError::io("reading", &self.path))
    }

    pub(crate) fn damaged(&self, why: &str) -> HostError {
        HostError::SnapshotLost { path: self.path.clone(), why: why.to_owned() }
    }
}
