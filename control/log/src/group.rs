//! A commit group: what one write and one fdatasync made durable. Its header says where it ends, so that after a power
//! cut the frames of an unfinished group can be told from acknowledged ones: a group is written only after the one
//! before it is durable, so whatever stands before a readable group was acknowledged or could have been.
//!
//! Groups start at multiples of 32 bytes and end in at least four bytes of 0xFF, so that no sector holds just a byte or two
//! of a group: a single flipped byte can then never look like a sector that was not written.

use crate::header::array;
use farshore_schemas::ids::Seq;

/// Bytes of a group header.
pub const GROUP_HEADER_LEN: usize = 32;
/// First bytes of every group.
pub const GROUP_MAGIC: [u8; 4] = *b"FSG1";
/// Groups start at multiples of this.
pub const GROUP_ALIGN: u64 = 32;
/// What a group is filled up with.
pub const PADDING: u8 = 0xFF;
/// The least padding after the last frame.
pub const MIN_PADDING: u64 = 4;
/// The most bytes of frames in a group.
pub const MAX_GROUP: u64 = 8 << 20;

/// A group's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// Bytes of the frames in it, without padding.
    pub len: u32,
    /// How many frames.
    pub frames: u32,
    /// Seq of its first frame.
    pub first: Seq,
    /// Where it stands in its file.
    pub offset: u64,
}

impl GroupHeader {
    /// Where its frames end.
    pub const fn frames_end(&self) -> u64 {
        self.offset + GROUP_HEADER_LEN as u64 + self.len as u64
    }

    /// Where the next group starts.
    pub const fn end(&self) -> u64 {
        (self.frames_end() + MIN_PADDING).next_multiple_of(GROUP_ALIGN)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; GROUP_HEADER_LEN] {
        let mut raw = [0; GROUP_HEADER_LEN];
        raw[..4].copy_from_slice(&GROUP_MAGIC);
        raw[4..8].copy_from_slice(&self.len.to_le_bytes());
        raw[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        raw[16..24].copy_from_slice(&self.offset.to_le_bytes());
        raw[24..28].copy_from_slice(&self.frames.to_le_bytes());
        let crc = crc32c::crc32c(&raw[..28]);
        raw[28..].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    /// Reads the header that should stand at `offset`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn decode(raw: &[u8; GROUP_HEADER_LEN], offset: u64) -> Result<GroupHeader, &'static str> {
        if raw[..4] != GROUP_MAGIC {
            return Err("its first four bytes are not FSG1");
        }
        if crc32c::crc32c(&raw[..28]).to_le_bytes() != raw[28..] {
            return Err("its crc32c does not match");
        }
        let header = GroupHeader {
            len: u32::from_le_bytes(array(&raw[4..8])),
            first: Seq(u64::from_le_bytes(array(&raw[8..16]))),
            offset: u64::from_le_bytes(array(&raw[16..24])),
            frames: u32::from_le_bytes(array(&raw[24..28])),
        };
        if header.offset != offset {
            return Err("it was written for another place");
        }
        if header.frames == 0 || u64::from(header.len) > MAX_GROUP {
            return Err("it has a length that is never written");
        }
        Ok(header)
    }
}
