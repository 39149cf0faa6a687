//! Repository format 1: what goes in comes out, whatever the disk looks like, and an incremental backup of what changed is
//! the same as a full one.

use farshore_format::repository::{Compression, PointDisk, PointManifest};
use farshore_repository::{
    BackedUp, BackupOptions, Changes, Create, RawSource, RawTarget, Repository, Source, Stages, Unlock, WriteSession,
};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId, SiteName, VmName, VmRef};
use farshore_schemas::units::{ByteCount, Timestamp};
use proptest::prelude::*;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCK: u64 = 4096;
/// Four regions.
const SPAN: u64 = 4096 * BLOCK;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn threads() -> NonZeroUsize {
    NonZeroUsize::new(2).unwrap()
}

pub(crate) fn create(path: &Path, passphrase: Option<&str>) -> Arc<Repository> {
    create_padded(path, passphrase, false)
}

pub(crate) fn create_padded(path: &Path, passphrase: Option<&str>, padding: bool) -> Arc<Repository> {
    let passphrase = passphrase.map(|text| text.as_bytes().to_vec());
    let make = Create { name: name("r"), domain: name("d"), domain_secret: Some([7; 32]), passphrase, padding };
    Arc::new(Repository::create(path, &make).unwrap())
}

pub(crate) fn unlock(passphrase: Option<&str>) -> Unlock {
    Unlock { passphrase: passphrase.map(|text| text.as_bytes().to_vec()) }
}

pub(crate) fn options() -> BackupOptions {
    BackupOptions { compression: Compression::Balanced, threads: threads(), path: PathBuf::from("test.raw") }
}

pub(crate) fn disk_name() -> DiskName {
    DiskName::parse("disk").unwrap()
}

pub(crate) fn point_id(text: &str) -> PointId {
    PointId(name(text))
}

pub(crate) fn read_in(session: &WriteSession, image: &Path, changes: Option<Changes<'_>>) -> BackedUp {
    let source = RawSource::open(image).unwrap();
    session.repository().backup_disk(&disk_name(), (&source, &options(), changes), &Stages::default()).unwrap()
}

pub(crate) fn manifest(point: &str, disk: &BackedUp) -> PointManifest {
    let vm = VmRef { site: SiteName::parse("s").unwrap(), host: name("h"), vm: VmName::parse("v").unwrap() };
    let disk =
        PointDisk { name: disk.name.clone(), size: disk.size, checksum: disk.checksum, disk: Digest(disk.disk.0) };
    PointManifest { point: point_id(point), vm, taken: Timestamp(1), disks: vec![disk], stored: ByteCount(0) }
}

pub(crate) fn back_up(repository: &Arc<Repository>, point: &str, image: &Path) -> PointManifest {
    try_back_up(repository, point, image).unwrap()
}

pub(crate) fn try_back_up(
    repository: &Arc<Repository>,
    point: &str,
    image: &Path,
) -> farshore_repository::Result<PointManifest> {
    let _session = repository.write_session();
    let source = RawSource::open(image).unwrap();
    let disk = repository.backup_disk(&disk_name(), (&source, &options(), None), &Stages::default())?;
    let manifest = manifest(point, &disk);
    repository.commit_point(&manifest)?;
    Ok(manifest)
}

pub(crate) fn restore(repository: &Repository, point: &str, to: &Path) -> Result<(), farshore_repository::Error> {
    let manifest = repository.point(&point_id(point))?.expect("the point is there");
    let file = File::create(to).unwrap();
    let target = RawTarget::new(&file, to, manifest.disks[0].size.0)?;
    repository.restore_disk(&manifest.disks[0], &target, (threads(), &Stages::default())).map(drop)
}

/// Bytes that look like noise or like text, the same for the same seed.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    if seed.is_multiple_of(2) {
        bytes.iter_mut().for_each(|byte| *byte = b"etaoin shrdlu"[usize::from(*byte) % 13]);
    }
    bytes
}

/// Writes a run of blocks: content by seed, or real zeros for seed 0.
fn lay(file: &File, (start, blocks, seed): (u64, u64, u64)) {
    let length = (blocks * BLOCK) as usize;
    let bytes = if seed == 0 { vec![0; length] } else { content(seed, length) };
    file.write_all_at(&bytes, start * BLOCK).unwrap();
}

pub(crate) fn image(path: &Path, size: u64, runs: &[(u64, u64, u64)]) {
    let file = File::create(path).unwrap();
    runs.iter().for_each(|run| lay(&file, *run));
    file.set_len(size).unwrap();
}

#[test]
fn what_was_backed_up_is_restored_encrypted_or_not() {
    for passphrase in [None, Some("correct horse")] {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.raw");
        image(&disk, 3 * SPAN + 1234, &[(0, 9, 1), (100, 70, 2), (4090, 40, 4), (9000, 64, 0), (12_200, 20, 3)]);
        let repository = create(&folder.path().join("r"), passphrase);
        let manifest = back_up(&repository, "one", &disk);
        assert_eq!(manifest.disks[0].checksum, Some(farshore_format::checksum(&std::fs::read(&disk).unwrap())));
        drop(repository);
        let repository = Repository::open(&folder.path().join("r"), &unlock(passphrase)).unwrap();
        let out = folder.path().join("out.raw");
        restore(&repository, "one", &out).unwrap();
        assert!(std::fs::read(&disk).unwrap() == std::fs::read(&out).unwrap(), "the disk is the same");
        let takes = |path: &Path| farshore_repository::sparse::allocated(&File::open(path).unwrap()).unwrap();
        // A file system's own blocks for a file with many extents are counted, too.
        let (was, is) = (takes(&disk), takes(&out));
        assert!(was.abs_diff(is) <= 2 * BLOCK, "zeros that took space take it again, holes are holes: {was} and {is}");
        let verified = repository.verify(threads()).unwrap();
        assert!(verified.sound(), "{verified:?}");
        assert!(verified.records > 5 && verified.points == 1, "{verified:?}");
    }
}

#[test]
fn nothing_is_stored_twice_and_a_moved_file_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.raw"), folder.path().join("b.raw"));
    image(&first, SPAN, &[(10, 1000, 3)]);
    image(&second, 2 * SPAN, &[(5000, 1000, 3)]);
    let repository = create(&folder.path().join("r"), None);
    let session = repository.write_session();
    let full = read_in(&session, &first, None);
    let moved = read_in(&session, &second, None);
    assert_eq!(full.new, ByteCount(1000 * BLOCK));
    assert_eq!(moved.new, ByteCount(0), "the same blocks at another place are the same chunks");
}

#[test]
fn a_wrong_passphrase_opens_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    drop(create(&path, Some("right")));
    for given in [None, Some("wrong")] {
        let error = Repository::open(&path, &unlock(given)).unwrap_err();
        assert_eq!(error.code(), "FS-REPO-KEY", "{error}");
    }
}

#[test]
fn only_one_opens_it_for_writing() {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&folder.path().join("r"), None);
    let error = Repository::open(repository.path(), &unlock(None)).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-LOCKED", "{error}");
    Repository::open_to_read(repository.path(), &unlock(None)).unwrap();
}

#[test]
fn a_prune_keeps_what_a_point_names_and_frees_the_rest_in_two_steps() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let repository = create(&folder.path().join("r"), Some("x"));
    image(&disk, SPAN, &[(0, 2000, 1)]);
    back_up(&repository, "one", &disk);
    image(&disk, SPAN, &[(0, 500, 1), (500, 1500, 5)]);
    back_up(&repository, "two", &disk);
    let before = repository.stored().unwrap();
    let pruned = repository.prune(&[point_id("one")], 7).unwrap();
    assert_eq!(pruned.freed, ByteCount(0), "the first step only marks");
    assert!(pruned.marked.0 > 0 && pruned.rewritten.0 > 0, "{pruned:?}");
    assert!(repository.stored().unwrap() < before);
    let freed = repository.prune(&[], 8).unwrap();
    assert!(freed.freed >= pruned.marked, "{freed:?} {pruned:?}");
    assert_eq!(repository.prune(&[], 7).unwrap_err().code(), "FS-REPO-POSITION");
    let out = folder.path().join("out.raw");
    restore(&repository, "two", &out).unwrap();
    assert!(std::fs::read(&disk).unwrap() == std::fs::read(&out).unwrap());
    assert!(repository.verify(threads()).unwrap().sound());
}

#[test]
fn a_prune_with_nothing_to_drop_rewrites_nothing_however_small_the_packs() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    image(&disk, SPAN, &[(0, 3, 1)]);
    let repository = create(&folder.path().join("r"), Some("x"));
    back_up(&repository, "one", &disk);
    let pruned = repository.prune(&[], 1).unwrap();
    assert_eq!((pruned.marked, pruned.rewritten), (ByteCount(0), ByteCount(0)));
}

#[test]
fn a_prune_leaves_what_an_open_session_has_stored_or_found() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let repository = create(&folder.path().join("r"), None);
    image(&disk, SPAN, &[(0, 300, 1)]);
    back_up(&repository, "one", &disk);
    let session = repository.write_session();
    let found = read_in(&session, &disk, None);
    image(&disk, SPAN, &[(0, 300, 1), (400, 300, 3)]);
    let stored = read_in(&session, &disk, None);
    repository.prune(&[point_id("one")], 1).unwrap();
    repository.prune(&[], 2).unwrap();
    repository.commit_point(&manifest("two", &found)).unwrap();
    repository.commit_point(&manifest("three", &stored)).unwrap();
    drop(session);
    assert!(repository.verify(threads()).unwrap().sound());
}

#[test]
fn a_lost_index_is_made_anew_and_a_damaged_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    image(&disk, 2 * SPAN, &[(0, 4000, 1), (4200, 2000, 3)]);
    let path = folder.path().join("r");
    let repository = create(&path, None);
    back_up(&repository, "one", &disk);
    let segment = std::fs::read_dir(path.join("index")).unwrap().next().unwrap().unwrap().path();
    let sound = std::fs::read(&segment).unwrap();
    for at in [0, 9, 5000, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&segment, &bytes).unwrap();
        let reader = Repository::open_to_read(&path, &unlock(None));
        let found = reader.map(|reader| reader.verify(threads()).unwrap().damage.len()).unwrap_or(1);
        assert!(found > 0, "byte {at}");
        std::fs::write(&segment, &sound).unwrap();
    }
    drop(repository);
    std::fs::remove_file(&segment).unwrap();
    let repository = Repository::open(&path, &unlock(None)).unwrap();
    assert!(repository.verify(threads()).unwrap().sound());
    restore(&repository, "one", &folder.path().join("out.raw")).unwrap();
}

/// A disk whose extents are what a test says, so that it does not depend on the file system.
struct Memory {
    bytes: Vec<u8>,
    extents: Vec<Range<u64>>,
    read: std::sync::atomic::AtomicU64,
}

impl Source for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn extents(&self) -> &[Range<u64>] {
        &self.extents
    }

    fn allocated(&self) -> &[Range<u64>] {
        &self.extents
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        let from = offset as usize;
        into.copy_from_slice(&self.bytes[from..from + into.len()]);
        self.read.fetch_add(into.len() as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

/// Runs of blocks: where, how long, and what (0 zeros, 1 a hole, anything else content).
type Runs = Vec<(u64, u64, u64)>;

fn memory(blocks: u64, tail: u64, runs: &Runs) -> Memory {
    let mut bytes = vec![0; (blocks * BLOCK) as usize];
    let mut allocated = vec![false; blocks as usize];
    for (start, length, seed) in runs {
        let (start, end) = ((start % blocks) as usize, ((start % blocks) + length).min(blocks) as usize);
        let range = start * BLOCK as usize..end * BLOCK as usize;
        match seed {
            0 | 1 => bytes[range].fill(0),
            seed => bytes[range.clone()].copy_from_slice(&content(*seed, range.len())),
        }
        allocated[start..end].fill(*seed != 1);
    }
    bytes.truncate(bytes.len() - tail as usize);
    let size = bytes.len() as u64;
    let mut extents: Vec<Range<u64>> = Vec::new();
    for (block, _) in (0u64..).zip(&allocated).filter(|(_, allocated)| **allocated) {
        let range = block * BLOCK..((block + 1) * BLOCK).min(size);
        match extents.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => extents.push(range),
        }
    }
    Memory { bytes, extents, read: std::sync::atomic::AtomicU64::new(0) }
}

fn runs(blocks: u64, most: usize) -> impl Strategy<Value = Runs> {
    let seed = prop_oneof![1 => Just(0u64), 1 => Just(1u64), 6 => 2u64..40];
    proptest::collection::vec((0..blocks, 1u64..200, seed), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Reading only what changed gives the very leaves that reading everything gives.
    #[test]
    fn a_backup_of_changes_is_the_same_as_a_full_one(
        blocks in 1u64..5000,
        tail in 0u64..BLOCK,
        base in runs(5000, 20),
        changes in runs(5000, 12),
        extra in proptest::collection::vec((0u64..5000, 1u64..40), 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let repository = create(&folder.path().join("r"), None);
        let session = repository.write_session();
        let before = memory(blocks, tail, &base);
        let stages = Stages::default();
        let first = repository.backup_disk(&disk_name(), (&before, &options(), None), &stages).unwrap();
        repository.commit_point(&manifest("one", &first)).unwrap();
        let now = memory(blocks, tail, &[base.clone(), changes.clone()].concat());
        let mut ranges: Vec<Range<u64>> = changes
            .iter()
            .map(|(start, length, _)| (start % blocks, *length))
            .chain(extra.iter().map(|(start, length)| (start % blocks, *length)))
            .map(|(start, length)| start * BLOCK..((start + length) * BLOCK).min(now.size()))
            .collect();
        ranges.sort_by_key(|range| range.start);
        let mut apart: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        let disk = manifest("one", &first).disks.remove(0);
        let changed = Changes { disk: &disk, ranges: Some(&apart) };
        let some = repository.backup_disk(&disk_name(), (&now, &options(), Some(changed)), &stages).unwrap();
        let all = repository.backup_disk(&disk_name(), (&now, &options(), None), &stages).unwrap();
        let regions = |disk| repository.disk_regions(disk).unwrap();
        for (some, all) in regions(&some.disk).iter().zip(regions(&all.disk)) {
            prop_assert_eq!(some.leaf, all.leaf);
            prop_assert!(all.sum.is_some() && (some.sum.is_none() || some.sum == all.sum));
        }
        // Without ranges, after a point of which some regions have no digest.
        let disk = manifest("two", &some).disks.remove(0);
        let again = Changes { disk: &disk, ranges: None };
        let again = repository.backup_disk(&disk_name(), (&now, &options(), Some(again)), &stages).unwrap();
        prop_assert_eq!((again.disk, again.checksum), (all.disk, Some(farshore_format::checksum(&now.bytes))));
        prop_assert_eq!(some.read.0 >= apart.iter().map(|range| range.end - range.start).sum::<u64>(), true);
        drop(session);
    }
}
