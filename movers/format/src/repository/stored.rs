//! The stored form of a record's content: one byte how (0 plain, 1 zstd, 2 lz4 block), then the bytes. Its plain length
//! stands in the pack's directory and is known before it is unpacked, so that nothing longer is ever made.
//!
//! Padded, so that its length tells less of how well it compressed: the highest bit of the first byte is set, the length of
//! what is packed follows in 4 bytes, then that, then zeros up to one of few lengths ([`padded_len`]).

use super::cut::MAX_CHUNK;
use zstd::zstd_safe::CParameter;

/// How hard to compress; a class, so that levels can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// lz4.
    Fast,
    /// zstd level 1, that looks for matches of seven bytes and more.
    #[default]
    Balanced,
    /// zstd level 9.
    High,
}

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const LZ4: u8 = 2;
/// In the first byte: padded.
const PADDED: u8 = 0x80;
/// Bytes before what is packed, of a padded record.
const PADDED_HEAD: usize = 5;

/// Bytes looked at to tell whether content is worth compressing.
const SAMPLES: usize = 8;
const SAMPLE: usize = 128;

/// Why stored bytes do not unpack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Empty, or packed in a way that is not known.
    #[error("the record is packed in a way that is not known")]
    How,
    /// The content has another length than its directory says, or cannot be unpacked.
    #[error("the record does not unpack to {length} bytes")]
    Content {
        /// Length in the directory.
        length: usize,
    },
}

/// Compresses; one for each thread, since it keeps its tables.
pub struct Packer {
    class: Compression,
    zstd: zstd::bulk::Compressor<'static>,
    /// What is compressed before it is known whether it shrinks.
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("class", &self.class).finish_non_exhaustive()
    }
}

impl Packer {
    /// A packer of this class.
    pub fn new(class: Compression) -> Packer {
        let level = match class {
            Compression::None | Compression::Fast | Compression::Balanced => 1,
            Compression::High => 9,
        };
        let mut zstd = zstd::bulk::Compressor::new(level).expect("these levels are zstd's own");
        if class == Compression::Balanced {
            // Measured (0007): a tenth faster than what level 1 is for chunks of this size, for less than one part in a hundred more.
            let parameters = [CParameter::MinMatch(7), CParameter::HashLog(14)];
            for parameter in parameters {
                zstd.set_parameter(parameter).expect("these values are within zstd's bounds");
            }
        }
        Packer { class, zstd, scratch: Vec::new() }
    }

    /// Appends the stored form of `content` to `out`.
    pub fn pack(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let how = if self.class != Compression::None && worth_it(content) { self.shrink(content) } else { None };
        out.push(how.unwrap_or(PLAIN));
        out.extend_from_slice(if how.is_some() { &self.scratch } else { content });
    }

    /// Compresses into the scratch. Answers how, if it was worth it.
    fn shrink(&mut self, content: &[u8]) -> Option<u8> {
        self.scratch.clear();
        let how = match self.class {
            Compression::Fast => {
                self.scratch.resize(lz4_flex::block::get_maximum_output_size(content.len()), 0);
                let length = lz4_flex::block::compress_into(content, &mut self.scratch).ok()?;
                self.scratch.truncate(length);
                LZ4
            }
            Compression::None | Compression::Balanced | Compression::High => {
                self.scratch.reserve(zstd::zstd_safe::compress_bound(content.len()));
                self.zstd.compress_to_buffer(content, &mut self.scratch).ok()?;
                ZSTD
            }
        };
        // What does not shrink by a thirty-second is not worth unpacking again.
        (self.scratch.len() < content.len() - content.len() / 32).then_some(how)
    }
}

/// A guess from a few bytes: whether they are not spread like noise.
fn worth_it(content: &[u8]) -> bool {
    if content.len() < SAMPLES * SAMPLE {
        return content.len() > 64;
    }
    let mut counts = [0u16; 256];
    let stride = content.len() / SAMPLES;
    for sample in 0..SAMPLES {
        content[sample * stride..][..SAMPLE].iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    }
    // 1,024 even bytes give each value four times: squares sum to about 5,120 for noise, more for anything else.
    let squares: u32 = counts.iter().map(|count| u32::from(*count) * u32::from(*count)).sum();
    squares > 5_700
}

/// How long a record of so many bytes is when it is padded: a length of which only the first bits of the binary number are set, as many
/// as its exponent has bits, so that lengths up to `n` are told apart in `log n * log log n` classes and none grows by more than
/// an eighth (Padmé; Nikitin and others, "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019).
pub const fn padded_len(length: usize) -> usize {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let bits = exponent.ilog2() + 1;
    let mask = (1 << (exponent - bits)) - 1;
    (length + mask) & !mask
}

/// Appends a stored form to `out`, padded; as it is when it is padded already.
pub fn pad(stored: &[u8], out: &mut Vec<u8>) {
    let Some((how, body)) = stored.split_first().filter(|(how, _)| **how & PADDED == 0) else {
        out.extend_from_slice(stored);
        return;
    };
    let end = out.len() + padded_len(PADDED_HEAD + body.len());
    out.push(how | PADDED);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out.resize(end, 0);
}

/// How it is packed and what is packed, without the padding, which is zeros and as long as it should be.
fn unpad(stored: &[u8]) -> Result<(u8, &[u8]), StoredError> {
    let (how, rest) = stored.split_first().ok_or(StoredError::How)?;
    if how & PADDED == 0 {
        return Ok((*how, rest));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(StoredError::How)?;
    let (body, padding) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(StoredError::How)?;
    let sound = stored.len() == padded_len(PADDED_HEAD + body.len()) && padding.iter().all(|byte| *byte == 0);
    if sound { Ok((how & !PADDED, body)) } else { Err(StoredError::How) }
}

/// Unpacks; one for each thread.
pub struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unpacker")
    }
}

impl Default for Unpacker {
    fn default() -> Self {
        Unpacker { zstd: zstd::bulk::Decompressor::new().expect("zstd gives a context while there is memory") }
    }
}

impl Unpacker {
    /// Unpacks `stored` to exactly `length` bytes at the end of `out`.
    ///
    /// # Errors
    /// [`StoredError`] for any other bytes; `out` is then as it was.
    pub fn unpack(&mut self, stored: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), StoredError> {
        let (how, body) = unpad(stored)?;
        let wrong = StoredError::Content { length };
        if length > MAX_CHUNK.max(super::tree::MAX_RECORD) {
            return Err(wrong);
        }
        let from = out.len();
        if how == PLAIN {
            if body.len() != length {
                return Err(wrong);
            }
            out.extend_from_slice(body);
            return Ok(());
        }
        out.resize(from + length, 0);
        let unpacked = match how {
            ZSTD => self.zstd.decompress_to_buffer(body, &mut out[from..]).ok(),
            LZ4 => lz4_flex::block::decompress_into(body, &mut out[from..]).ok(),
            _ => None,
        };
        if unpacked == Some(length) {
            return Ok(());
        }
        out.truncate(from);
        Err(if matches!(how, ZSTD | LZ4) { wrong } else { StoredError::How })
    }
}
