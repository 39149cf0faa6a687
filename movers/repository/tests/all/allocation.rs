//! Zeros that take space take it again, in every generation, and holes stay holes. On the file system of the temporary
//! folder, and on one that has no map of extents.

use crate::common::{BLOCK, disk, noise, point, proof, restored};
use farshore_format::Allocation;
use farshore_repository::{BlockContent, ReplicaStore, allocation, sparse};
use farshore_schemas::ids::PointId;
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::{ByteCount, Timestamp};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 32 * MIB + 700;

/// One folder per kind of file system.
fn folders() -> Vec<TempDir> {
    let shared_memory = Path::new("/dev/shm");
    let places = [std::env::temp_dir(), shared_memory.to_owned()];
    places.iter().filter(|place| place.is_dir()).map(|place| tempfile::tempdir_in(place).unwrap()).collect()
}

fn empty(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(SIZE).unwrap();
    file
}

fn set_aside(file: &File, offset: u64, length: u64) {
    fallocate(file, FallocateFlags::empty(), offset, length).unwrap();
}

/// Whether space that was set aside and never written can be told from a hole here.
fn told(file: &File) -> bool {
    fiemap::Fiemap::new(file).all(|extent| extent.is_ok())
}

/// 1 MiB of noise, 4 MiB of zeros that were written, 6 MiB that were set aside and never written (where that can be
/// told), and a written end.
fn loose_image(path: &Path) -> File {
    let file = empty(path);
    file.write_all_at(&noise(1, MIB as usize), 0).unwrap();
    file.write_all_at(&vec![0; 4 * MIB as usize], 2 * MIB).unwrap();
    if told(&file) {
        set_aside(&file, 10 * MIB, 6 * MIB);
    }
    file.write_all_at(&[1; 700], SIZE - 700).unwrap();
    file.sync_all().unwrap();
    file
}

#[track_caller]
fn takes_as_much(copy: &File, original: &File) {
    copy.sync_all().unwrap();
    original.sync_all().unwrap();
    let (copied, had) = (sparse::allocated(copy).unwrap(), sparse::allocated(original).unwrap());
    assert!(copied.abs_diff(had) * 20 <= had, "{copied} bytes where the original takes {had}");
    assert_eq!(sparse::checksum(copy).unwrap().0, sparse::checksum(original).unwrap().0);
}

#[test]
fn what_was_allocated_is_allocated_in_every_generation() {
    for folder in folders() {
        let source = loose_image(&folder.path().join("source"));
        let mut generation = source.try_clone().unwrap();
        let mut seen = allocation::of(&source).unwrap();
        assert!(seen.blocks() >= 5 * MIB / BLOCK, "data and written zeros are always seen: {seen:?}");
        for number in 1..=3 {
            // As a restore does it: the data, then the space.
            let next = empty(&folder.path().join(format!("generation-{number}")));
            let mut bytes = vec![0; SIZE as usize];
            generation.read_exact_at(&mut bytes, 0).unwrap();
            sparse::write_sparse(&next, &bytes, 0).unwrap();
            allocation::conform(&next, &seen).unwrap();
            next.sync_all().unwrap();
            let again = allocation::of(&next).unwrap();
            assert_eq!(again, seen, "generation {number} in {}", folder.path().display());
            assert_eq!(sparse::checksum(&next).unwrap().0, sparse::checksum(&source).unwrap().0);
            (generation, seen) = (next, again);
        }
    }
}

#[test]
fn what_is_seen_is_what_the_disk_takes_and_a_copy_takes_as_much() {
    for folder in folders() {
        let source = loose_image(&folder.path().join("source"));
        let (seen, taken) = (allocation::of(&source).unwrap().blocks() * BLOCK, sparse::allocated(&source).unwrap());
        assert!(seen.abs_diff(taken) <= 64 * 1024, "{seen} bytes seen of {taken} in {}", folder.path().display());
        takes_as_much(&sparse::copy(&source, &folder.path().join("copy")).unwrap(), &source);
    }
}

#[test]
fn conforming_changes_no_byte_frees_zeros_that_are_holes_there_and_leaves_data() {
    for folder in folders() {
        let file = loose_image(&folder.path().join("image"));
        let before = sparse::checksum(&file).unwrap().0;
        let wanted = Allocation::of_ranges(std::iter::once(20 * MIB..22 * MIB));
        for _ in 0..2 {
            allocation::conform(&file, &wanted).unwrap();
            file.sync_all().unwrap();
            assert_eq!(sparse::checksum(&file).unwrap().0, before);
            assert_eq!(file.metadata().unwrap().len(), SIZE);
            let taken = sparse::allocated(&file).unwrap();
            let right = 3 * MIB..3 * MIB + 64 * 1024;
            assert!(right.contains(&taken), "{taken} bytes in {}", folder.path().display());
        }
        allocation::conform(&file, &Allocation::default()).unwrap();
        assert_eq!(sparse::checksum(&file).unwrap().0, before);
        assert!(sparse::allocated(&file).unwrap() < MIB + 64 * 1024);
    }
}

/// Makes a point from an image, as a receiver does.
fn replicate_image(store: &Arc<ReplicaStore>, id: &str, image: &File) {
    let (name, a) = (point(id), disk("a.img"));
    store.begin_point(&name, &[DiskFacts { name: a.clone(), size: ByteCount(SIZE) }]).unwrap();
    let mut writer = store.writer(&name, &a).unwrap();
    let mut bytes = vec![0; SIZE as usize];
    image.read_exact_at(&mut bytes, 0).unwrap();
    for (block, bytes) in (0..).zip(bytes.chunks(BLOCK as usize)) {
        writer.apply(block, BlockContent::Data(bytes)).unwrap();
    }
    writer.keep_allocation(&allocation::of(image).unwrap()).unwrap();
    writer.finish().unwrap();
    store.seal(&name, Timestamp(1), &[proof(&bytes)], &[]).unwrap();
}

fn working(store: &ReplicaStore, id: &str, folder: &Path) -> File {
    let into = folder.join(format!("working-{id}"));
    store.materialise(&point(id), &into).unwrap();
    File::open(into.join("a.img")).unwrap()
}

#[test]
fn working_disks_take_what_the_source_took_at_their_point() {
    for folder in folders() {
        let folder = folder.path();
        let store = Arc::new(ReplicaStore::open(&folder.join("store")).unwrap());
        let source = loose_image(&folder.join("source"));
        replicate_image(&store, "one", &source);
        let first = sparse::copy(&source, &folder.join("first")).unwrap();
        // Zeros become a hole, data becomes a hole, and a hole becomes zeros that take space.
        sparse::punch(&source, 2 * MIB, 4 * MIB).unwrap();
        sparse::punch(&source, 0, MIB / 2).unwrap();
        source.write_all_at(&vec![0; 2 * MIB as usize], 24 * MIB).unwrap();
        source.sync_all().unwrap();
        replicate_image(&store, "two", &source);
        takes_as_much(&working(&store, "one", folder), &first);
        takes_as_much(&working(&store, "two", folder), &source);
        takes_as_much(&store.newest(&disk("a.img")).unwrap(), &source);
        drop(store);
        let store = Arc::new(ReplicaStore::open(&folder.join("store")).unwrap());
        takes_as_much(&working(&store, "two", folder), &source);
        // Dropping the newer point's older neighbour leaves its allocation with it.
        replicate_image(&store, "three", &first);
        store.forget(&[point("two")]).unwrap();
        takes_as_much(&working(&store, "one", folder), &first);
        takes_as_much(&working(&store, "three", folder), &first);
    }
}

#[test]
fn a_point_whose_allocation_is_lost_or_damaged_still_gives_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(ReplicaStore::open(&folder.path().join("store")).unwrap());
    let source = loose_image(&folder.path().join("source"));
    replicate_image(&store, "one", &source);
    let mut bytes = vec![0; SIZE as usize];
    source.read_exact_at(&mut bytes, 0).unwrap();
    let kept = folder.path().join("store/points/00000001-one/a.img.allocation");
    std::fs::write(&kept, b"rotten").unwrap();
    assert!(restored(&store, "one").unwrap() == bytes);
    std::fs::remove_file(&kept).unwrap();
    assert!(restored(&store, "one").unwrap() == bytes);
}

#[test]
fn an_absorbed_disk_hands_its_allocation_to_the_newest_point() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(ReplicaStore::open(&folder.path().join("store")).unwrap());
    let source = loose_image(&folder.path().join("source"));
    replicate_image(&store, "one", &source);
    let into = folder.path().join("working-one");
    drop(working(&store, "one", folder.path()));
    let image = into.join("a.img");
    let file = OpenOptions::new().read(true).write(true).open(&image).unwrap();
    set_aside(&file, 18 * MIB, 5 * MIB);
    file.write_all_at(&noise(9, 8192), 30 * MIB).unwrap();
    let none: [PointId; 0] = [];
    store.absorb((&point("two"), Timestamp(2)), &[(disk("a.img"), image)], &none).unwrap();
    takes_as_much(&working(&store, "two", folder.path()), &file);
}

#[test]
fn blocks_beyond_the_disk_are_no_allocation_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(ReplicaStore::open(&folder.path().join("store")).unwrap());
    let (name, a) = (point("one"), disk("a.img"));
    store.begin_point(&name, &[DiskFacts { name: a.clone(), size: ByteCount(8 * BLOCK + 1) }]).unwrap();
    let writer = store.writer(&name, &a).unwrap();
    writer.keep_allocation(&Allocation::of_ranges(std::iter::once(0..9 * BLOCK))).unwrap();
    let refused = writer.keep_allocation(&Allocation::of_ranges(std::iter::once(0..9 * BLOCK + 1))).unwrap_err();
    assert!(matches!(refused, farshore_repository::Error::BadBlock { block: 9, .. }), "{refused}");
}
