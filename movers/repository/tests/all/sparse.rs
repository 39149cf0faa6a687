//! Holes stay holes.

use crate::common::noise;
use farshore_format::{BLOCK, DigestMap, checksum};
use farshore_repository::sparse::{self, Extent};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

fn image(path: &Path, size: u64, parts: &[(u64, &[u8])]) -> File {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(size).unwrap();
    parts.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
    file
}

#[test]
fn extents_checksum_and_digests_of_a_sparse_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let size = 40 * 1024 * 1024 + 777;
    let data = noise(1, 2 * 1024 * 1024 + 5000);
    let file = image(&path, size, &[(8 * 1024 * 1024, &data), (size - 777, &[9; 777])]);
    let extents = sparse::extents(&file).unwrap();
    assert_eq!(extents[0].offset, 8 * 1024 * 1024);
    assert_eq!(extents.last().map(Extent::end), Some(size));
    let whole = std::fs::read(&path).unwrap();
    let (found, read) = sparse::checksum(&file).unwrap();
    assert_eq!(found, checksum(&whole));
    assert!(read < 4 * 1024 * 1024, "{read} bytes were read of {} that hold data", data.len());
    assert_eq!(sparse::digests(&file).unwrap(), (DigestMap::of(&whole), checksum(&whole)));
}

#[test]
fn walking_a_part_meets_every_byte_once_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let data = noise(1, 300_000);
    let file = image(&path, 3_000_000, &[(1_000_000, &data)]);
    let whole = std::fs::read(&path).unwrap();
    for (from, to) in [(0, u64::MAX), (BLOCK as u64 * 250, 2_000_000), (2_998_272, 3_000_000), (0, 0)] {
        let mut seen = Vec::new();
        sparse::walk::<std::io::Error>(&file, from, to, |offset, piece| {
            assert_eq!(offset, from + seen.len() as u64);
            match piece {
                sparse::Piece::Data(bytes) => seen.extend_from_slice(bytes),
                sparse::Piece::Hole(length) => seen.resize(seen.len() + length as usize, 0),
            }
            Ok(())
        })
        .unwrap();
        assert!(seen == whole[from as usize..to.min(3_000_000) as usize], "{from}..{to}");
    }
}

#[test]
fn a_copy_is_equal_and_as_sparse() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(1, 1_000_000);
    let file = image(&folder.path().join("a.img"), 64 * 1024 * 1024, &[(0, &data), (30_000_000, &data)]);
    let copy = sparse::copy(&file, &folder.path().join("b.img")).unwrap();
    assert_eq!(sparse::checksum(&copy).unwrap().0, sparse::checksum(&file).unwrap().0);
    copy.sync_all().unwrap();
    file.sync_all().unwrap();
    let (wanted, found) = (sparse::allocated(&file).unwrap(), sparse::allocated(&copy).unwrap());
    assert!(found <= wanted + wanted / 20, "{found} bytes for {wanted}");
}

#[test]
fn writing_zeros_makes_holes_and_overwrites_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let file = image(&path, 1 << 20, &[(0, &noise(1, 1 << 20))]);
    let mut content = vec![0; 1 << 20];
    content[5 * BLOCK..6 * BLOCK].copy_from_slice(&noise(2, BLOCK));
    sparse::write_sparse(&file, &content, 0).unwrap();
    assert!(std::fs::read(&path).unwrap() == content);
    assert!(sparse::allocated(&file).unwrap() <= 64 * 1024);
}
