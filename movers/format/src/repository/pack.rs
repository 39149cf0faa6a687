//! A pack: a header, sealed records one after the other, a sealed directory of them, a footer. Written once, in one go, and
//! never opened for writing again. A file without its footer is what a crash left, and is nothing.

use super::RecordKind;
use super::keys::{FileId, SealKey, Suite};
use super::stored::padded_len;
use super::tree::MAX_RECORD;
use crate::chunk::ChunkId;

/// Bytes of the header.
pub const PACK_HEADER_LEN: usize = 64;
/// Bytes of the footer.
pub const FOOTER_LEN: usize = 32;
/// Version of the format that this build writes, and the newest that it reads.
pub(super) const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"FSPACK01";
const ENTRY: usize = 41;
/// Most bytes of a record's plain content.
const MAX_PLAIN: u32 = if super::MAX_CHUNK > MAX_RECORD { super::MAX_CHUNK as u32 } else { MAX_RECORD as u32 };
/// Most bytes that a record takes in a pack: content that did not shrink, how it is packed, padding, and the seal.
pub const MAX_STORED: u32 = padded_len(MAX_PLAIN as usize + 16) as u32 + 16;
/// What the directory is sealed as; its number is the count of records before it.
const DIRECTORY: u8 = 128;

/// Why bytes are not a pack's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The header is not one.
    #[error("it does not begin as a pack")]
    Header,
    /// Made by a newer farshore.
    #[error("it is a pack of format {found}; this build reads up to format {VERSION}")]
    Newer {
        /// Its format.
        found: u16,
    },
    /// The footer is not one, or not of these bytes.
    #[error("it does not end as a pack: it was cut short or changed")]
    Footer,
    /// The directory cannot be opened, or does not add up.
    #[error("its directory is damaged, or sealed under another key")]
    Directory,
}

/// How a pack begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHeader {
    /// Its random id, from which its key is derived.
    pub id: FileId,
    /// How its records are sealed.
    pub suite: Suite,
}

fn check(bytes: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    bytes.iter().for_each(|part| {
        hasher.update(part);
    });
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

impl PackHeader {
    /// Magic, version (u16), suite (u8), five zeros, id, first 16 bytes of BLAKE3 of these.
    pub fn encode(&self) -> [u8; PACK_HEADER_LEN] {
        let mut bytes = [0; PACK_HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.suite as u8;
        bytes[16..48].copy_from_slice(&self.id.0);
        let check = check(&[&bytes[..48]]);
        bytes[48..].copy_from_slice(&check);
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`PackError::Header`], [`PackError::Newer`].
    pub fn decode(bytes: &[u8; PACK_HEADER_LEN]) -> Result<PackHeader, PackError> {
        if &bytes[..8] != MAGIC || bytes[48..] != check(&[&bytes[..48]]) {
            return Err(PackError::Header);
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found > VERSION {
            return Err(PackError::Newer { found });
        }
        let suite = Suite::from_byte(bytes[10]).ok_or(PackError::Header)?;
        let mut id = FileId([0; 32]);
        id.0.copy_from_slice(&bytes[16..48]);
        Ok(PackHeader { id, suite })
    }
}

/// One record of a pack. Its number is its place in the directory, its offset follows from the lengths before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Id of its plain content.
    pub id: ChunkId,
    /// What it is.
    pub kind: RecordKind,
    /// Bytes of its plain content.
    pub plain: u32,
    /// Bytes that it takes in the pack, tag included.
    pub stored: u32,
}

/// How a pack ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFooter {
    /// Records in it.
    pub count: u32,
    /// Bytes of the sealed directory.
    pub directory: u32,
    /// Bytes of the whole pack.
    pub length: u64,
}

/// The directory, sealed, with the footer: what is appended to a pack whose `length` bytes so far hold these records.
pub fn encode_directory(key: &SealKey, entries: &[DirectoryEntry], length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY + FOOTER_LEN + 16);
    for entry in entries {
        bytes.extend_from_slice(&entry.id.0);
        bytes.push(entry.kind as u8);
        bytes.extend_from_slice(&entry.plain.to_le_bytes());
        bytes.extend_from_slice(&entry.stored.to_le_bytes());
    }
    let count = entries.len() as u32;
    key.seal((DIRECTORY, count), &mut bytes, 0);
    let directory = bytes.len() as u32;
    let mut footer = [0; 16];
    footer[..4].copy_from_slice(&count.to_le_bytes());
    footer[4..8].copy_from_slice(&directory.to_le_bytes());
    footer[8..].copy_from_slice(&(length + u64::from(directory) + FOOTER_LEN as u64).to_le_bytes());
    let check = check(&[&bytes, &footer]);
    bytes.extend_from_slice(&footer);
    bytes.extend_from_slice(&check);
    bytes
}

impl PackFooter {
    /// Reads the last [`FOOTER_LEN`] bytes of a pack file of `length` bytes. Its check is proven with the directory.
    ///
    /// # Errors
    /// [`PackError::Footer`] when it does not fit the file.
    pub fn decode(bytes: &[u8; FOOTER_LEN], length: u64) -> Result<PackFooter, PackError> {
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(PackError::Footer)?;
        let (directory, rest) = rest.split_first_chunk::<4>().ok_or(PackError::Footer)?;
        let (whole, _) = rest.split_first_chunk::<8>().ok_or(PackError::Footer)?;
        let footer = PackFooter {
            count: u32::from_le_bytes(*count),
            directory: u32::from_le_bytes(*directory),
            length: u64::from_le_bytes(*whole),
        };
        let entries = u64::from(footer.count) * ENTRY as u64;
        // Offsets in a pack are numbers of 32 bits.
        let fits = footer.length == length
            && length <= u64::from(u32::MAX)
            && entries + 16 == u64::from(footer.directory)
            && u64::from(footer.directory) + (FOOTER_LEN + PACK_HEADER_LEN) as u64 <= length;
        if fits { Ok(footer) } else { Err(PackError::Footer) }
    }
}

/// Reads the directory: `bytes` are the sealed directory and the footer as they end the file.
///
/// # Errors
/// [`PackError::Footer`] when they are not whole, [`PackError::Directory`] when they do not open or add up.
pub fn decode_directory(
    key: &SealKey,
    footer: &PackFooter,
    bytes: &mut [u8],
) -> Result<Vec<DirectoryEntry>, PackError> {
    let (content, expected) = bytes.split_at_checked(bytes.len().saturating_sub(16)).ok_or(PackError::Footer)?;
    if content.len() != footer.directory as usize + 16 || check(&[content]) != *expected {
        return Err(PackError::Footer);
    }
    let sealed = &mut bytes[..footer.directory as usize];
    let plain = key.open((DIRECTORY, footer.count), sealed).ok_or(PackError::Directory)?;
    let (entries, rest) = plain.as_chunks::<ENTRY>();
    if !rest.is_empty() || entries.len() != footer.count as usize {
        return Err(PackError::Directory);
    }
    let entries: Option<Vec<_>> = entries.iter().map(entry_of).collect();
    let entries = entries.ok_or(PackError::Directory)?;
    let records: u64 = entries.iter().map(|entry| u64::from(entry.stored)).sum();
    let whole = PACK_HEADER_LEN as u64 + records + u64::from(footer.directory) + FOOTER_LEN as u64;
    if whole == footer.length { Ok(entries) } else { Err(PackError::Directory) }
}

fn entry_of(bytes: &[u8; ENTRY]) -> Option<DirectoryEntry> {
    let (id, rest) = bytes.split_first_chunk::<32>()?;
    let (kind, rest) = rest.split_first()?;
    let (plain, stored) = rest.split_first_chunk::<4>()?;
    let entry = DirectoryEntry {
        id: ChunkId(*id),
        kind: RecordKind::from_byte(*kind)?,
        plain: u32::from_le_bytes(*plain),
        stored: u32::from_le_bytes(stored.try_into().ok()?),
    };
    let sane = entry.plain <= MAX_PLAIN && (1..=MAX_STORED).contains(&entry.stored);
    sane.then_some(entry)
}
