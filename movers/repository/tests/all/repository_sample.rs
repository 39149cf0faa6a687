//! A sample finds what it reads, and says of the rest that it did not.

use crate::repository::{back_up, content, create, threads, unlock};
use farshore_repository::{Repository, Sample, Verified};
use std::fs;
use std::path::{Path, PathBuf};

/// A repository of a dozen MiB, and its largest pack.
fn world() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk"), content(1, 12 << 20)).unwrap();
    back_up(&create(&folder.path().join("r"), None), "one", &folder.path().join("disk"));
    let packs = fs::read_dir(folder.path().join("r/packs")).unwrap();
    let packs = packs.flat_map(|part| fs::read_dir(part.unwrap().path()).unwrap()).map(|pack| pack.unwrap().path());
    let largest = packs.max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    (folder, largest)
}

fn open(folder: &Path) -> Repository {
    Repository::open(&folder.join("r"), &unlock(None)).unwrap()
}

fn read(repository: &Repository, percent: u8, seed: u64) -> Verified {
    repository.verify_sample(threads(), Sample { percent, seed }).unwrap()
}

#[test]
fn a_sample_reads_its_part_and_counts_what_it_left_out() {
    let (folder, _) = world();
    let repository = open(folder.path());
    let all = repository.verify(threads()).unwrap();
    assert_eq!((all.unread, all.unread_bytes), (0, 0));
    assert_eq!(read(&repository, 100, 3), all);
    for seed in 0..20 {
        let some = read(&repository, 50, seed);
        assert_eq!(some, read(&repository, 50, seed), "the same seed reads the same");
        assert!(some.sound() && some.points == 1);
        assert_eq!((some.records + some.unread, some.bytes + some.unread_bytes), (all.records, all.bytes));
    }
    let drawn: Vec<u64> = (0..20).map(|seed| read(&repository, 50, seed).records).collect();
    assert!(drawn.iter().any(|records| *records != drawn[0]), "another seed reads something else: {drawn:?}");
    let parts: u64 = drawn.iter().sum::<u64>() * 100 / (all.records * 20);
    assert!((30..70).contains(&parts), "about half is read: {parts} %");
}

#[test]
fn a_sample_finds_the_damage_that_it_reads_and_forgets_none_that_it_does_not() {
    let (folder, pack) = world();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let found = |seed| read(&open(folder.path()), 30, seed).hurt.len();
    let (hits, misses): (Vec<u64>, Vec<u64>) = (0..40).partition(|seed| found(*seed) == 1);
    assert!(!hits.is_empty() && !misses.is_empty(), "{hits:?} {misses:?}");
    let missed = read(&open(folder.path()), 30, misses[0]);
    assert!(missed.sound() && missed.unread > 0, "it says that it did not read all: {missed:?}");
    let repository = open(folder.path());
    let hit = read(&repository, 30, hits[0]);
    assert_eq!(hit.hurt.values().next().unwrap().disks.len(), 1, "{hit:?}");
    repository.keep_found(&hit.found).unwrap();
    drop(repository);
    // Now it is known, whatever is read.
    let missed = read(&open(folder.path()), 30, misses[0]);
    assert!(missed.damage[0].why.contains("an earlier verification") && missed.hurt.len() == 1, "{missed:?}");
    assert_eq!(missed.found, hit.found);
}

#[test]
fn heads_directories_index_and_points_are_read_in_every_sample() {
    let (folder, pack) = world();
    let index = fs::read_dir(folder.path().join("r/index")).unwrap().next().unwrap().unwrap().path();
    let point = folder.path().join("r/points/one");
    for (path, percent) in [(&pack, 0), (&pack, 100), (&index, 50), (&point, 50)] {
        let sound = fs::read(path).unwrap();
        let mut bytes = sound.clone();
        // Within the head of a pack, and within its directory.
        let at = (sound.len() * percent / 100).clamp(20, sound.len() - 50);
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
        let repository = Repository::open_to_read(&folder.path().join("r"), &unlock(None)).unwrap();
        for seed in 0..5 {
            assert!(!read(&repository, 1, seed).sound(), "{}", path.display());
        }
        fs::write(path, sound).unwrap();
    }
}
