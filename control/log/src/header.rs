//! The header that every segment file begins with, open or sealed. docs/formats/log.md is the reference.

use crate::error::{LogError, Problem, ProblemKind};
use farshore_schemas::frame::genesis_hash;
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::path::Path;

/// Bytes of the header.
pub const SEGMENT_HEADER_LEN: usize = 160;
/// First bytes of every segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"FSLOGSEG";
/// The format that this program writes.
pub const SEGMENT_VERSION: u16 = 1;

const SITE_AT: usize = 72;
const SITE_MAX: usize = 64;
const CRC_AT: usize = SEGMENT_HEADER_LEN - 4;

/// The two forms of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Groups of frames as they were written; the last one is being appended to.
    Plain,
    /// Compressed blocks, an index and a trailer; never changed.
    Sealed,
}

/// A segment's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Open or sealed.
    pub form: Form,
    /// Whether its first frame is the first of the lineage.
    pub begins_lineage: bool,
    /// The site.
    pub site: SiteName,
    /// The lineage of every frame in it.
    pub lineage: Lineage,
    /// Seq of its first frame.
    pub first: Seq,
    /// Hash of the frame before its first one; zeros when that is seq 1.
    pub previous: Digest,
}

impl SegmentHeader {
    /// What the first frame must name as the frame before it.
    pub fn chain_start(&self) -> Digest {
        if self.first == Seq(1) { genesis_hash(self.lineage) } else { self.previous }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut raw = [0; SEGMENT_HEADER_LEN];
        let name = self.site.as_str().as_bytes();
        raw[..8].copy_from_slice(&SEGMENT_MAGIC);
        raw[8..10].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        raw[10] = match self.form {
            Form::Plain => 1,
            Form::Sealed => 2,
        };
        raw[11] = u8::from(self.begins_lineage);
        raw[12] = u8::try_from(name.len()).expect("a site name has at most 63 bytes");
        raw[16..32].copy_from_slice(&self.lineage.0);
        raw[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        raw[40..72].copy_from_slice(&self.previous.0);
        raw[SITE_AT..SITE_AT + name.len()].copy_from_slice(name);
        let crc = crc32c::crc32c(&raw[..CRC_AT]);
        raw[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    /// Reads a header; `file` and `name_seq` (from the file's name) are for the report.
    ///
    /// # Errors
    /// [`LogError::Newer`], or [`LogError::Damaged`] naming the file.
    pub fn decode(bytes: &[u8], file: &Path, name_seq: Seq) -> Result<SegmentHeader, LogError> {
        let damaged = |why| LogError::from(Problem::at(file, 0, name_seq, ProblemKind::SegmentHeader(why)));
        let raw: &[u8; SEGMENT_HEADER_LEN] =
            bytes.first_chunk().ok_or_else(|| damaged("the file is shorter than a segment header"))?;
        if raw[..8] != SEGMENT_MAGIC {
            return Err(damaged("its first eight bytes are not FSLOGSEG"));
        }
        if crc32c::crc32c(&raw[..CRC_AT]).to_le_bytes() != raw[CRC_AT..] {
            return Err(damaged("its crc32c does not match"));
        }
        let version = u16::from_le_bytes([raw[8], raw[9]]);
        if version > SEGMENT_VERSION {
            return Err(LogError::Newer { file: file.to_owned(), found: version, known: SEGMENT_VERSION });
        }
        let form = match raw[10] {
            1 => Form::Plain,
            2 => Form::Sealed,
            _ => return Err(damaged("it has an unknown form")),
        };
        let site_len = usize::from(raw[12]);
        if version == 0 || raw[11] > 1 || site_len > SITE_MAX {
            return Err(damaged("a field has a value that is never written"));
        }
        let site = std::str::from_utf8(&raw[SITE_AT..SITE_AT + site_len])
            .ok()
            .and_then(|text| SiteName::parse(text).ok())
            .ok_or_else(|| damaged("the site name is not one"))?;
        let header = SegmentHeader {
            form,
            begins_lineage: raw[11] == 1,
            site,
            lineage: Lineage(array(&raw[16..32])),
            first: Seq(u64::from_le_bytes(array(&raw[32..40]))),
            previous: Digest(array(&raw[40..72])),
        };
        if header.first != name_seq {
            return Err(Problem::at(file, 32, name_seq, ProblemKind::Name).into());
        }
        Ok(header)
    }
}

/// A slice of known length as an array.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
