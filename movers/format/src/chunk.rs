//! Chunks: a disk cut every 256 KiB. A chunk is named by the BLAKE3 of its plain content, so equal chunks are stored
//! once and a stored chunk proves itself. A chunk of zeros is only a mark in the disk's manifest and is never stored.
//!
//! Stored form: 1 byte how (0 plain, 1 zstd), 4 bytes length of the plain content (little-endian), the content.

use std::io::Read;

/// Bytes in a chunk; the last one of a disk may be shorter.
pub const CHUNK: usize = 256 * 1024;
/// The longest stored form: content that did not shrink, with its head.
pub const MAX_ENCODED_CHUNK: usize = CHUNK + HEAD;

const HEAD: usize = 5;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// The BLAKE3 of a chunk's plain content. All zeros in a manifest marks a chunk of zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The mark of a chunk of zeros, which is never stored.
    pub const ZERO: ChunkId = ChunkId([0; 32]);

    /// The id of this content; [`ChunkId::ZERO`] when it is all zeros.
    pub fn of(content: &[u8]) -> ChunkId {
        if crate::is_zero(content) { ChunkId::ZERO } else { ChunkId(*blake3::hash(content).as_bytes()) }
    }

    /// Whether it marks a chunk of zeros.
    pub fn is_zero(&self) -> bool {
        *self == ChunkId::ZERO
    }
}

impl std::fmt::Display for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        farshore_schemas::ids::Digest(self.0).fmt(f)
    }
}

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

impl std::str::FromStr for ChunkId {
    type Err = farshore_schemas::ids::BadId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<farshore_schemas::ids::Digest>().map(|digest| ChunkId(digest.0))
    }
}

/// Why bytes are not the chunk that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Shorter than its head, or of a kind that is not known.
    #[error("the chunk's head is not one of this format")]
    Head,
    /// The head names a length that a chunk cannot have.
    #[error("the chunk claims {claimed} bytes; a chunk has 1 to {CHUNK}")]
    Length {
        /// The length in the head.
        claimed: u32,
    },
    /// The content does not decompress to the length in its head.
    #[error("the chunk's content does not decompress to the {claimed} bytes that its head claims")]
    Content {
        /// The length in the head.
        claimed: u32,
    },
    /// The content is not what the id names.
    #[error("the chunk's content has id {found}, not {wanted}")]
    Id {
        /// The id asked for.
        wanted: ChunkId,
        /// The id of the content.
        found: ChunkId,
    },
}

/// A chunk ready to be stored or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk {
    /// The id of its plain content.
    pub id: ChunkId,
    /// Its stored form; empty for a chunk of zeros.
    pub bytes: Vec<u8>,
}

/// How many chunks a disk of `size` bytes has.
pub const fn chunks_in(size: u64) -> u64 {
    size.div_ceil(CHUNK as u64)
}

/// Encodes a chunk of 1 to [`CHUNK`] bytes: zstd level 1, plain when that is not smaller.
///
/// # Panics
/// When `content` is empty or longer than [`CHUNK`]: the caller cuts disks into chunks.
pub fn encode_chunk(content: &[u8]) -> EncodedChunk {
    assert!(!content.is_empty() && content.len() <= CHUNK, "a chunk has 1 to {CHUNK} bytes, not {}", content.len());
    let id = ChunkId::of(content);
    if id.is_zero() {
        return EncodedChunk { id, bytes: Vec::new() };
    }
    let packed = zstd::bulk::compress(content, 1).expect("compressing memory into memory has nothing that can fail");
    let (how, body) = if packed.len() < content.len() { (ZSTD, packed.as_slice()) } else { (PLAIN, content) };
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.push(how);
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    EncodedChunk { id, bytes }
}

/// Decodes a stored chunk and proves that it is the one named `id`.
///
/// # Errors
/// [`ChunkError`] for any other bytes. Never allocates more than [`CHUNK`] and a little.
pub fn decode_chunk(id: ChunkId, bytes: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let (head, body) = bytes.split_at_checked(HEAD).ok_or(ChunkError::Head)?;
    let claimed = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if claimed == 0 || claimed as usize > CHUNK {
        return Err(ChunkError::Length { claimed });
    }
    let content = match head[0] {
        PLAIN if body.len() == claimed as usize => body.to_vec(),
        PLAIN => return Err(ChunkError::Content { claimed }),
        ZSTD => unpack(body, claimed as usize).ok_or(ChunkError::Content { claimed })?,
        2..=u8::MAX => return Err(ChunkError::Head),
    };
    let found = ChunkId::of(&content);
    if found != id || found.is_zero() {
        return Err(ChunkError::Id { wanted: id, found });
    }
    Ok(content)
}

/// Decompresses to exactly `length` bytes, or not at all.
pub(crate) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let reader = zstd::stream::read::Decoder::with_buffer(packed).ok()?;
    let mut content = Vec::with_capacity(length.min(256 << 10));
    // One byte more than claimed is asked for, so that a longer content is noticed and never produced in full.
    reader.take(length as u64 + 1).read_to_end(&mut content).ok()?;
    (content.len() == length).then_some(content)
}
