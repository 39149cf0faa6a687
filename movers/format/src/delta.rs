//! Reverse deltas: the before-images that turn the next newer state of a disk back into an older one. A delta is
//! written as a journal while the disk is overwritten, so each record stands alone under a checksum of its own and a
//! torn end is told from a whole one; the trailer makes it complete.
//!
//! Header: magic `FSDELTA0`, size after (the older state) u64, size before (the newer) u64, first 8 bytes of BLAKE3.
//! Record: start block u64, blocks u32, kind u8 (1 data, 2 zeros), payload length u32, payload (zstd of blocks * 4096
//! bytes), first 8 bytes of BLAKE3 over the record before it. Trailer: `FSDELEND`, records u64, blocks u64, BLAKE3 over
//! the checks of all records in order, first 8 bytes of BLAKE3. Little-endian. A short last block is padded with zeros.

use crate::sealed::unpack;
use crate::{BLOCK, blocks_in};

/// Bytes of a header.
pub const HEADER_LEN: usize = 32;
/// Bytes of a trailer.
pub const TRAILER_LEN: usize = 64;
/// The most blocks in one record of data.
pub const MAX_RUN: u32 = 64;

const MAGIC: &[u8; 8] = b"FSDELTA0";
const END: &[u8; 8] = b"FSDELEND";
const RECORD_HEAD: usize = 17;
const CHECK: usize = 8;
const DATA: u8 = 1;
const ZEROS: u8 = 2;

/// Why bytes are not a part of a delta.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It ends in the middle of something: the end of a journal that was being written.
    #[error("the delta ends in the middle of a part")]
    Torn,
    /// Not what belongs here.
    #[error("not a delta's {part}")]
    Magic {
        /// What was expected.
        part: &'static str,
    },
    /// A part's own checksum does not fit.
    #[error("a damaged {part} of a delta: its checksum does not fit")]
    Check {
        /// Which part.
        part: &'static str,
    },
    /// A record that makes no sense.
    #[error("a record of a delta makes no sense: {why}")]
    Record {
        /// Why.
        why: &'static str,
    },
    /// The trailer counts something else than the records before it.
    #[error("the delta's trailer does not fit the records before it")]
    Totals,
}

/// The head of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaHeader {
    /// The disk's size in the newer state, in bytes.
    pub from_size: u64,
    /// The disk's size in the older state, which the delta gives back.
    pub to_size: u64,
}

/// What the blocks of a record held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeltaContent {
    /// These bytes: whole blocks, the disk's last one padded with zeros.
    Data(Vec<u8>),
    /// Zeros, or a hole.
    Zeros,
}

/// Before-images of a run of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaRecord {
    /// The first block.
    pub start: u64,
    /// How many.
    pub blocks: u32,
    /// What they held.
    pub content: DeltaContent,
}

/// Running totals over a delta's records: what its trailer proves.
#[derive(Debug, Clone, Default)]
pub struct DeltaTotals {
    records: u64,
    blocks: u64,
    hasher: blake3::Hasher,
}

impl DeltaTotals {
    /// Counts one encoded record.
    pub fn count(&mut self, record: &DeltaRecord, encoded: &[u8]) {
        self.records += 1;
        self.blocks += u64::from(record.blocks);
        self.hasher.update(&encoded[encoded.len().saturating_sub(CHECK)..]);
    }

    /// Records counted.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Blocks counted.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }
}

fn check_of(bytes: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECK]);
    check
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Encodes a header.
pub fn encode_header(header: &DeltaHeader) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&header.to_size.to_le_bytes());
    bytes.extend_from_slice(&header.from_size.to_le_bytes());
    bytes.extend_from_slice(&check_of(&bytes));
    bytes
}

/// Reads the header at the start of `bytes`.
///
/// # Errors
/// [`DeltaError::Torn`] when there are too few bytes, others for bytes that are no header.
pub fn decode_header(bytes: &[u8]) -> Result<DeltaHeader, DeltaError> {
    let head = bytes.get(..HEADER_LEN).ok_or(DeltaError::Torn)?;
    if !head.starts_with(MAGIC) {
        return Err(DeltaError::Magic { part: "header" });
    }
    if check_of(&head[..HEADER_LEN - CHECK]) != head[HEADER_LEN - CHECK..] {
        return Err(DeltaError::Check { part: "header" });
    }
    Ok(DeltaHeader { to_size: u64_at(head, 8), from_size: u64_at(head, 16) })
}

/// Encodes a record and counts it.
///
/// # Panics
/// When data is not `blocks * 4096` bytes of 1 to [`MAX_RUN`] blocks, or a run of zeros is empty: the writer cuts runs.
pub fn encode_record(record: &DeltaRecord, totals: &mut DeltaTotals) -> Vec<u8> {
    let (kind, payload) = match &record.content {
        DeltaContent::Data(data) => {
            assert!((1..=MAX_RUN).contains(&record.blocks), "a record of data has 1 to {MAX_RUN} blocks");
            assert!(data.len() == record.blocks as usize * BLOCK, "a record of data has whole blocks");
            let packed =
                zstd::bulk::compress(data, 1).expect("compressing memory into memory has nothing that can fail");
            (DATA, packed)
        }
        DeltaContent::Zeros => {
            assert!(record.blocks > 0, "a run of zeros has at least one block");
            (ZEROS, Vec::new())
        }
    };
    let mut bytes = Vec::with_capacity(RECORD_HEAD + payload.len() + CHECK);
    bytes.extend_from_slice(&record.start.to_le_bytes());
    bytes.extend_from_slice(&record.blocks.to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&check_of(&bytes));
    totals.count(record, &bytes);
    bytes
}

/// Reads the record at the start of `bytes` and counts it; also says how many bytes it takes.
///
/// # Errors
/// [`DeltaError::Torn`] when it goes on beyond `bytes`, others for bytes that are no record of this delta.
pub fn decode_record(
    bytes: &[u8],
    header: &DeltaHeader,
    totals: &mut DeltaTotals,
) -> Result<(DeltaRecord, usize), DeltaError> {
    let head = bytes.get(..RECORD_HEAD).ok_or(DeltaError::Torn)?;
    let (start, blocks, kind, payload) = (u64_at(head, 0), u32_at(head, 8), head[12], u32_at(head, 13));
    let wrong = |why| DeltaError::Record { why };
    // zstd never grows data by more than a small part, so a longer payload is no record of ours.
    if payload as usize > 2 * MAX_RUN as usize * BLOCK {
        return Err(wrong("its payload is longer than any of ours"));
    }
    let end = RECORD_HEAD + payload as usize;
    let whole = bytes.get(..end + CHECK).ok_or(DeltaError::Torn)?;
    if check_of(&whole[..end]) != whole[end..] {
        return Err(DeltaError::Check { part: "record" });
    }
    let last = start.checked_add(u64::from(blocks)).ok_or(wrong("it ends beyond any disk"))?;
    if blocks == 0 || last > blocks_in(header.to_size.max(header.from_size)) {
        return Err(wrong("its blocks are not on this disk"));
    }
    let content = match kind {
        DATA if blocks > MAX_RUN => return Err(wrong("its run is too long")),
        DATA => {
            let data = unpack(&whole[RECORD_HEAD..end], blocks as usize * BLOCK);
            DeltaContent::Data(data.ok_or(wrong("its payload is not as long as its blocks"))?)
        }
        ZEROS if payload == 0 => DeltaContent::Zeros,
        ZEROS => return Err(wrong("zeros have no payload")),
        0 | 3..=u8::MAX => return Err(wrong("its kind is not known")),
    };
    let record = DeltaRecord { start, blocks, content };
    totals.count(&record, whole);
    Ok((record, whole.len()))
}

/// Encodes the trailer over everything counted.
pub fn encode_trailer(totals: &DeltaTotals) -> Vec<u8> {
    let mut bytes = END.to_vec();
    bytes.extend_from_slice(&totals.records.to_le_bytes());
    bytes.extend_from_slice(&totals.blocks.to_le_bytes());
    bytes.extend_from_slice(totals.hasher.finalize().as_bytes());
    bytes.extend_from_slice(&check_of(&bytes));
    bytes
}

/// Checks the trailer, which must be all of `bytes`, against the records counted before it.
///
/// # Errors
/// [`DeltaError`] when it is torn, damaged, followed by anything, or counts something else.
pub fn check_trailer(bytes: &[u8], totals: &DeltaTotals) -> Result<(), DeltaError> {
    if bytes.len() < TRAILER_LEN {
        return Err(DeltaError::Torn);
    }
    if !bytes.starts_with(END) {
        return Err(DeltaError::Magic { part: "trailer" });
    }
    if bytes != encode_trailer(totals) {
        return Err(DeltaError::Totals);
    }
    Ok(())
}
