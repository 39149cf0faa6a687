//! What a qcow2 image says of itself, before anything goes by it (docs/interop/qcow2.rst of QEMU has the fields). Imago reads
//! as zeros what lies behind the end of a file, and takes encrypted clusters for what is on the disk: neither is a backup.

use crate::{ImageError, QCOW2, compressed};
use farshore_repository::{RawSource, Source};
use std::path::Path;

/// No hypervisor makes a larger disk; a header that says more would keep us busy for ever.
const LARGEST: u64 = 64 << 40;
/// Bytes of the table of level 1 at most: QEMU opens no image with a longer one.
const LONGEST_TABLE: u64 = 32 << 20;
/// Of a header of version 3; one of version 2 is shorter, and what would follow counts as zeros.
const HEADER: usize = 104;
/// Incompatible features that a reader has to know of, by their bits, which imago does not.
const FEATURES: [(u64, &str); 2] =
    [(3, "its clusters are compressed in another way than by zlib"), (4, "its clusters are divided (extended_l2)")];
/// Where an entry leads.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

struct Header([u8; HEADER]);

impl Header {
    fn four(&self, at: usize) -> u64 {
        self.0[at..at + 4].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn eight(&self, at: usize) -> u64 {
        self.four(at) << 32 | self.four(at + 4)
    }
}

/// Whether an image can be read as what it was made as: nothing in it is encrypted or of a kind that is not known here, and its
/// tables are there and lead to all of its disk. Says nothing of what does not begin like a qcow2 image.
pub(crate) fn check(path: &Path, file: &RawSource) -> Result<(), ImageError> {
    let unsound = |why: String| Err(ImageError::Unsound { path: path.to_owned(), why });
    let read = |at: u64, into: &mut [u8]| file.read_at(at, into).map_err(|source| ImageError::disk(path, source));
    let mut header = Header([0; HEADER]);
    let there = file.size().min(HEADER as u64) as usize;
    read(0, &mut header.0[..there])?;
    if !header.0.starts_with(QCOW2) {
        return Ok(());
    }
    if let Some(what) = unsupported(&header) {
        return Err(ImageError::Unsupported { path: path.to_owned(), what });
    }
    let (cluster_bits, size) = (header.four(20), header.eight(24));
    let (entries, table) = (header.four(36), header.eight(40));
    if !(9..=21).contains(&cluster_bits) {
        return unsound(format!("it says that its clusters have 2^{cluster_bits} bytes"));
    }
    if size > LARGEST {
        return unsound(format!("it says that its disk has {size} bytes, and no disk has more than {LARGEST}"));
    }
    // An entry leads to one cluster of entries of 8 bytes, of which each leads to a cluster.
    if entries << (2 * cluster_bits - 3) < size {
        let why = format!("its disk has {size} bytes, and its table of {entries} entries does not lead to all of them");
        return unsound(why);
    }
    let length = entries * 8;
    if length > LONGEST_TABLE {
        return unsound(format!("it says that its table has {length} bytes, and none has more than {LONGEST_TABLE}"));
    }
    let cut_short =
        |needed: u64| format!("it was cut short: it has {} bytes, and names some up to {needed}", file.size());
    let end = table.saturating_add(length);
    if end > file.size() {
        return unsound(cut_short(end));
    }
    let mut bytes = vec![0; length as usize];
    read(table, &mut bytes)?;
    let (entries, _) = bytes.as_chunks::<8>();
    let mut tables: Vec<u64> =
        entries.iter().map(|entry| u64::from_be_bytes(*entry) & OFFSET).filter(|at| *at != 0).collect();
    tables.sort_unstable();
    if let Some(last) = tables.last()
        && last + (1 << cluster_bits) > file.size()
    {
        return unsound(cut_short(last + (1 << cluster_bits)));
    }
    // No writer does that, and a small file would make a disk without end.
    if let Some([twice, _]) = tables.array_windows().find(|[one, next]| one == next) {
        return unsound(format!("it names its table at byte {twice} more than once"));
    }
    match compressed::cut_off(file, cluster_bits, &tables).map_err(|source| ImageError::disk(path, source))? {
        Some(needed) => unsound(cut_short(needed)),
        None => Ok(()),
    }
}

/// What of an image cannot be read here, if anything.
fn unsupported(header: &Header) -> Option<String> {
    if header.four(32) != 0 {
        return Some("it is encrypted, and its key is nothing that a backup has".to_owned());
    }
    let features = if header.four(4) < 3 { 0 } else { header.eight(72) };
    let known = FEATURES.iter().find(|(bit, _)| features >> bit & 1 == 1).map(|(_, what)| (*what).to_owned());
    // Dirty, corrupt, an external data file: bits 0 to 2, of which imago says its own.
    known.or_else(|| (features >> 5 != 0).then(|| format!("it has features that are not known here ({features:#x})")))
}
