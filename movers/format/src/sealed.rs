//! The envelope of manifests and digest maps: 8 bytes magic, 2 bytes format version, 8 bytes length of the plain body,
//! the body compressed by zstd, 32 bytes BLAKE3 over all of that. Integers are little-endian. The body is one
//! MessagePack value with named fields, as everywhere in farshore.

use farshore_schemas::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

const HEAD: usize = 18;
const TRAILER: usize = 32;
/// The version that this build writes, and the newest that it reads.
const VERSION: u16 = 0;

/// Why bytes are not the file that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of file, or none of ours.
    #[error("not a {what}: it does not begin as one")]
    Magic {
        /// What was expected.
        what: &'static str,
    },
    /// Made by a newer farshore.
    #[error("a {what} of format {found}; this build reads up to format {VERSION}")]
    Newer {
        /// What it is.
        what: &'static str,
        /// Its version.
        found: u16,
    },
    /// The hash at the end does not fit the bytes.
    #[error("a damaged {what}: the hash at its end does not fit its content")]
    Hash {
        /// What it is.
        what: &'static str,
    },
    /// The body is longer than allowed, or not as long as its head claims.
    #[error("a {what} whose body is not the {claimed} bytes that it claims, or more than is allowed here")]
    Length {
        /// What it is.
        what: &'static str,
        /// The length in its head.
        claimed: u64,
    },
    /// The body is not what it should be.
    #[error("a {what} with a body that makes no sense: {why}")]
    Body {
        /// What it is.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// One kind of sealed file.
pub(crate) struct Kind {
    pub(crate) magic: &'static [u8; 8],
    pub(crate) what: &'static str,
}

impl Kind {
    pub(crate) fn body(&self, why: impl Into<String>) -> FormatError {
        FormatError::Body { what: self.what, why: why.into() }
    }
}

pub(crate) fn seal<T: Serialize>(kind: &Kind, value: &T) -> Vec<u8> {
    let body = codec::encode(value);
    let packed = zstd::bulk::compress(&body, 1).expect("compressing memory into memory has nothing that can fail");
    let mut bytes = Vec::with_capacity(HEAD + packed.len() + TRAILER);
    bytes.extend_from_slice(kind.magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&packed);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// Opens a sealed file whose plain body has at most `max` bytes.
pub(crate) fn open<T: DeserializeOwned>(kind: &Kind, bytes: &[u8], max: u64) -> Result<T, FormatError> {
    let what = kind.what;
    if bytes.len() < HEAD + TRAILER || !bytes.starts_with(kind.magic) {
        return Err(FormatError::Magic { what });
    }
    let found = u16::from_le_bytes([bytes[8], bytes[9]]);
    if found > VERSION {
        return Err(FormatError::Newer { what, found });
    }
    let (sealed, hash) = bytes.split_at(bytes.len() - TRAILER);
    if blake3::hash(sealed).as_bytes() != hash {
        return Err(FormatError::Hash { what });
    }
    let mut length = [0u8; 8];
    length.copy_from_slice(&sealed[10..HEAD]);
    let claimed = u64::from_le_bytes(length);
    let wrong = FormatError::Length { what, claimed };
    if claimed > max {
        return Err(wrong);
    }
    let body = unpack(&sealed[HEAD..], claimed as usize).ok_or(wrong)?;
    codec::decode_limited(&body, body.len()).map_err(|error| kind.body(error.to_string()))
}

/// Decompresses to exactly `length` bytes, or not at all. Takes memory for these and no more, whatever window the content asks for.
pub(crate) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(length);
    zstd::bulk::Decompressor::new().ok()?.decompress_to_buffer(packed, &mut content).ok()?;
    (content.len() == length).then_some(content)
}
