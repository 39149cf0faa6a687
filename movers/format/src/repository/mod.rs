//! Repository format 1, `docs/formats/repository.md`: how a disk is cut into chunks, how chunks are named, compressed,
//! sealed and packed, how a disk is described by a tree of lists, and the index that finds a chunk again. Pure: who keeps
//! these bytes in files is `farshore-repository`.
//!
//! Integers are little-endian. Ids of chunks and the borders between them are keyed by the dedup domain; what is sealed is
//! sealed under a key of its own file, derived from the repository's key and the file's random id.

mod cut;
mod damaged;
mod immutable;
mod index;
mod keys;
mod log_piece;
mod pack;
mod point;
mod region;
mod reliance;
mod roster;
mod sealed;
mod slot;
mod stored;
mod tree;

pub use crate::chunk::ChunkId;
pub use cut::{Cutter, MAX_BLOCKS, MAX_CHUNK, MIN_BLOCKS};
pub use damaged::{Damaged, DamagedPack};
pub use immutable::{Immutable, ImmutablePoint};
pub use index::{ENTRIES_PER_PAGE, Filter, IndexError, IndexHeader, PAGE, Place, decode_page, encode_page, page_guess};
pub use keys::{Domain, DomainKeys, FileId, RepositoryKey, SealKey, Suite};
pub use log_piece::{LOG_PIECE_FULL, LogFrame, LogPiece};
pub use pack::{
    DirectoryEntry, FOOTER_LEN, MAX_STORED, PACK_HEADER_LEN, PackError, PackFooter, PackHeader, decode_directory,
    encode_directory,
};
pub use point::{PointDisk, PointManifest};
pub use region::{CutRegion, cut_region, zero_region};
pub use reliance::Reliance;
pub use roster::{Roster, RosterPoint};
pub use sealed::{SealedError, SealedKind, open_file, seal_file};
pub use slot::{KeySlot, SlotError};
pub use stored::{Compression, Packer, StoredError, Unpacker, pad, padded_len};
pub use tree::{
    DiskTree, Extent, LEAVES_PER_LIST, Leaf, LeafList, Listed, REGION, REGION_BLOCKS, TreeError, checksum_of,
    region_len, regions_in,
};

/// What a sealed record is: authenticated with it, so that nothing passes for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Content of a disk.
    Data = 1,
    /// The extents of one region of a disk.
    Leaf = 2,
    /// Ids of leaves.
    List = 3,
    /// A disk: its size, checksum and lists.
    Disk = 4,
}

impl RecordKind {
    /// The kind of this number, if there is one.
    pub fn from_byte(byte: u8) -> Option<RecordKind> {
        match byte {
            1 => Some(RecordKind::Data),
            2 => Some(RecordKind::Leaf),
            3 => Some(RecordKind::List),
            4 => Some(RecordKind::Disk),
            0 | 5..=u8::MAX => None,
        }
    }
}
