//! Compressed clusters that reach behind the end of their file. Imago fills up with zeros what is not there and unpacks that;
//! deflate has no checksum, so what an image lost that was cut short would be read as something else.

use farshore_repository::{RawSource, Source};
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use std::io::Result;

/// Of an entry of a table of level 2: its cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// What is compressed is counted in these.
const SECTOR: u64 = 512;
/// Clusters that may end in the last sector of a file, which QEMU does not always fill: more than fit into one.
const IN_LAST_SECTOR: usize = 512;

/// Where the bytes of a compressed cluster lie (docs/interop/qcow2.rst of QEMU, "Compressed Clusters Descriptor").
fn place(entry: u64, cluster_bits: u64) -> Option<(u64, u64)> {
    let split = 70 - cluster_bits;
    let (start, sectors) = (entry & ((1 << split) - 1), entry >> split & ((1 << (cluster_bits - 8)) - 1));
    (entry & COMPRESSED != 0).then(|| (start, start / SECTOR * SECTOR + (sectors + 1) * SECTOR))
}

/// The end of a compressed cluster of which the file does not hold all; none when it holds all of each. Each table of level 2
/// begins at one of `tables` and takes a cluster.
///
/// # Errors
/// What the disk says.
pub(crate) fn cut_off(file: &RawSource, cluster_bits: u64, tables: &[u64]) -> Result<Option<u64>> {
    let mut table = vec![0; 1 << cluster_bits];
    let mut over = 0;
    for at in tables {
        file.read_at(*at, &mut table)?;
        let (entries, _) = table.as_chunks::<8>();
        let places = entries.iter().filter_map(|entry| place(u64::from_be_bytes(*entry), cluster_bits));
        for (start, end) in places.filter(|(_, end)| *end > file.size()) {
            over += 1;
            if over > IN_LAST_SECTOR || !is_whole(file, start, 1 << cluster_bits)? {
                return Ok(Some(end));
            }
        }
    }
    Ok(None)
}

/// Whether the file holds what unpacks to a cluster, from `start` on.
fn is_whole(file: &RawSource, start: u64, cluster: usize) -> Result<bool> {
    // The sectors that an entry counts are at most two clusters.
    let there = file.size().saturating_sub(start).min(2 * cluster as u64);
    let mut packed = vec![0; there as usize];
    file.read_at(start.min(file.size()), &mut packed)?;
    Ok(decompress_to_vec_with_limit(&packed, cluster).is_ok_and(|content| content.len() == cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_where_its_cluster_lies() {
        // Clusters of 64 KiB: 54 bits of offset, 8 of sectors.
        assert_eq!(place(COMPRESSED | 3 << 54 | 1000, 16), Some((1000, 512 + 4 * 512)));
        assert_eq!(place(COMPRESSED | 512, 16), Some((512, 1024)));
        assert_eq!(place(1 << 63 | 65536, 16), None);
        // The smallest and the largest clusters.
        assert_eq!(place(COMPRESSED | 1 << 61 | 7, 9), Some((7, 1024)));
        assert_eq!(place(COMPRESSED | 0x1fff << 49 | 7, 21), Some((7, 8192 * 512)));
    }
}
