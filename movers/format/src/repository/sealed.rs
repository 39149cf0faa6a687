//! Small sealed files: restore points, the roster, the list of what is damaged. Magic, version (u16), suite (u8), kind (u8), four zeros, the random id
//! of this writing (32 bytes), then the record: the plain length (u32) and the body compressed by zstd, sealed; last 32 bytes
//! BLAKE3 over all before. The body is one MessagePack map with named fields.

use super::keys::{FileId, RepositoryKey, SealKey, Suite};
use super::pack::VERSION;
use farshore_schemas::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

const HEAD: usize = 48;
const TRAILER: usize = 32;
const MAGIC: &[u8; 8] = b"FSREPO01";
/// Begins a frame that readers of zstd skip (RFC 8878, 3.1.2); its length (u32) follows.
const SKIPPED: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();

/// What a sealed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SealedKind {
    /// A restore point.
    Point = 129,
    /// The roster.
    Roster = 130,
    /// What is known to be damaged.
    Damaged = 132,
    /// Digests of a disk of a replica's point.
    Digests = 133,
    /// A piece of the site's log.
    Log = 134,
    /// Which packs a disk relies on.
    Reliance = 135,
    /// What must stay until a date.
    Immutable = 136,
}

impl SealedKind {
    /// Bytes that a body may have whose packed form has so many: a few bytes may not ask their reader for much memory. With what
    /// is made of it a body takes up to eight times its length, a piece of a log twice. A digest map has a length that its disk gives it.
    fn longest(self, packed: usize) -> usize {
        match self {
            SealedKind::Log => packed.saturating_mul(4).saturating_add(448 << 10),
            SealedKind::Digests => usize::MAX,
            SealedKind::Point
            | SealedKind::Roster
            | SealedKind::Damaged
            | SealedKind::Reliance
            | SealedKind::Immutable => packed.saturating_add(128 << 10),
        }
    }

    /// Makes the packed form of a body as long as it has to be.
    fn pad(self, body: usize, packed: &mut Vec<u8>) {
        let least = match self {
            SealedKind::Log => body.saturating_sub(448 << 10).div_ceil(4),
            SealedKind::Digests => 0,
            SealedKind::Point
            | SealedKind::Roster
            | SealedKind::Damaged
            | SealedKind::Reliance
            | SealedKind::Immutable => body.saturating_sub(128 << 10),
        };
        if packed.len() < least {
            let zeros = (least - packed.len()).saturating_sub(2 * SKIPPED.len());
            packed.extend_from_slice(&SKIPPED);
            packed.extend_from_slice(&(zeros as u32).to_le_bytes());
            packed.resize(packed.len() + zeros, 0);
        }
    }
}

impl std::fmt::Display for SealedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SealedKind::Point => "restore point",
            SealedKind::Roster => "roster",
            SealedKind::Damaged => "list of what is damaged",
            SealedKind::Digests => "digest map",
            SealedKind::Log => "piece of a log",
            SealedKind::Reliance => "list of packs that a disk relies on",
            SealedKind::Immutable => "list of what must stay",
        })
    }
}

/// Why bytes are not the file that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// Another kind of file, or none of ours.
    #[error("it does not begin as a {0}")]
    Head(SealedKind),
    /// Made by a newer farshore.
    #[error("it has format {found}; this build reads up to format {VERSION}")]
    Newer {
        /// Its version.
        found: u16,
    },
    /// The hash at its end does not fit.
    #[error("the hash at its end does not fit its content")]
    Hash,
    /// It is encrypted and no key was given, or it was sealed under another key.
    #[error("it cannot be opened with this repository's key")]
    Key,
    /// It is not sealed, and everything that this key opens is.
    #[error("it is not sealed, as everything in this repository is")]
    Unsealed,
    /// The body is longer than allowed, or not what it should be.
    #[error("its body makes no sense: {0}")]
    Body(String),
}

/// Seals a value as a file of this kind; `id` is 256 random bits, used once.
pub fn seal_file<T: Serialize>(
    kind: SealedKind,
    (suite, key, id): (Suite, Option<&RepositoryKey>, FileId),
    value: &T,
) -> Option<Vec<u8>> {
    let seal = SealKey::new(suite, key, &id)?;
    let body = codec::encode(value);
    let mut packed = zstd::bulk::compress(&body, 3).expect("compressing memory into memory has nothing that can fail");
    kind.pad(body.len(), &mut packed);
    let mut bytes = Vec::with_capacity(HEAD + 4 + packed.len() + 16 + TRAILER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[suite as u8, kind as u8, 0, 0, 0, 0]);
    bytes.extend_from_slice(&id.0);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&packed);
    seal.seal((kind as u8, 0), &mut bytes, HEAD);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    Some(bytes)
}

/// Opens a file of this kind whose plain body has at most `max` bytes.
///
/// # Errors
/// [`SealedError`].
pub fn open_file<T: DeserializeOwned>(
    kind: SealedKind,
    key: Option<&RepositoryKey>,
    (bytes, max): (&[u8], usize),
) -> Result<T, SealedError> {
    let (content, hash) = bytes.split_at_checked(bytes.len().saturating_sub(TRAILER)).ok_or(SealedError::Hash)?;
    let (head, record) = content.split_at_checked(HEAD).ok_or(SealedError::Head(kind))?;
    if !head.starts_with(MAGIC) || head[11] != kind as u8 {
        return Err(SealedError::Head(kind));
    }
    let found = u16::from_le_bytes([head[8], head[9]]);
    if found > VERSION {
        return Err(SealedError::Newer { found });
    }
    if blake3::hash(content).as_bytes() != hash {
        return Err(SealedError::Hash);
    }
    let suite = Suite::from_byte(head[10]).ok_or(SealedError::Head(kind))?;
    if suite == Suite::None && key.is_some() {
        // Or a file that anybody can write would pass where only holders of the key can.
        return Err(SealedError::Unsealed);
    }
    let mut id = FileId([0; 32]);
    id.0.copy_from_slice(&head[16..HEAD]);
    let seal = SealKey::new(suite, key, &id).ok_or(SealedError::Key)?;
    let mut record = record.to_vec();
    let plain = seal.open((kind as u8, 0), &mut record).ok_or(SealedError::Key)?;
    let (length, packed) = plain.split_first_chunk::<4>().ok_or_else(|| SealedError::Body("it is empty".into()))?;
    let length = u32::from_le_bytes(*length) as usize;
    let max = max.min(kind.longest(packed.len()));
    if length > max {
        return Err(SealedError::Body(format!("it has {length} bytes, at most {max} are allowed")));
    }
    let body = crate::sealed::unpack(packed, length)
        .ok_or_else(|| SealedError::Body(format!("it does not unpack to {length} bytes")))?;
    codec::decode_limited(&body, body.len()).map_err(|error| SealedError::Body(error.to_string()))
}
