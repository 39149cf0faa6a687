//! What a point relies on is known without walking it, and only as long as it is there.

use crate::repository::{back_up, content, create, create_padded, manifest, read_in, restore, unlock};
use farshore_repository::{BackedUp, Changes, Repository};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const REGION: u64 = 4 << 20;

/// A disk of some regions and a repository with a point of it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let disk = File::create(place.image()).unwrap();
        (0..4).for_each(|region| disk.write_all_at(&content(2 * region + 1, 1 << 20), region * REGION).unwrap());
        back_up(&create(&place.root(), Some("p")), "one", &place.image());
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("r")
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("disk.raw")
    }

    fn open(&self) -> Arc<Repository> {
        Arc::new(Repository::open(&self.root(), &unlock(Some("p"))).unwrap())
    }

    fn relied(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.root().join("relied")).unwrap();
        let mut names: Vec<PathBuf> = names.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    /// A point that follows another, of which nothing is said to have changed but the first block.
    fn follow(&self, point: &str, before: &str) -> BackedUp {
        let repository = self.open();
        let base = repository.point(&crate::repository::point_id(before)).unwrap().unwrap();
        let session = repository.write_session();
        let ranges: Vec<std::ops::Range<u64>> = std::iter::once(0..4096).collect();
        let changes = Changes { disk: &base.disks[0], ranges: Some(&ranges) };
        let disk = read_in(&session, &self.image(), Some(changes));
        repository.commit_point(&manifest(point, &disk)).unwrap();
        disk
    }

    #[track_caller]
    fn is_whole(&self, point: &str) {
        let out = self.0.path().join("out");
        restore(&self.open(), point, &out).unwrap();
        assert!(std::fs::read(&out).unwrap() == std::fs::read(self.image()).unwrap(), "{point} is the disk");
    }
}

fn packs(root: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(root.join("packs")).unwrap().map(|folder| folder.unwrap().path());
    folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|pack| pack.unwrap().path())).collect()
}

#[test]
fn what_a_point_relies_on_is_kept_for_the_newest_and_goes_with_its_point() {
    let place = Place::new();
    let first = place.relied();
    assert_eq!(first.len(), 1);
    let file = File::options().write(true).open(place.image()).unwrap();
    file.write_all_at(&content(77, 4096), 0).unwrap();
    let second = place.follow("two", "one");
    assert!(second.read.0 < REGION, "only what changed is read: {second:?}");
    let kept = place.relied();
    assert!(kept.len() == 1 && kept != first, "the newer point's, not the older's: {kept:?}");
    place.is_whole("two");
    place.open().prune(&[crate::repository::point_id("two")], 1).unwrap();
    assert_eq!(place.relied(), Vec::<PathBuf>::new(), "no point names it any more");
}

#[test]
fn a_pack_that_is_gone_is_missed() {
    let place = Place::new();
    for pack in packs(&place.root()) {
        std::fs::remove_file(pack).unwrap();
    }
    let read = place.follow("two", "one").read.0;
    assert_eq!(read, std::fs::metadata(place.image()).unwrap().len() - 9 * (1 << 20), "all that holds data is read");
    place.is_whole("two");
}

#[test]
fn what_is_kept_and_cannot_be_read_costs_a_walk_and_no_more() {
    let place = Place::new();
    let kept = place.relied();
    let sound = std::fs::read(&kept[0]).unwrap();
    let mut flipped = sound.clone();
    flipped[60] ^= 1;
    for (number, bytes) in
        [Vec::new(), b"rubbish".to_vec(), sound[..sound.len() - 1].to_vec(), flipped].into_iter().enumerate()
    {
        std::fs::write(&kept[0], bytes).unwrap();
        let point = format!("p{number}");
        assert!(place.follow(&point, "one").read.0 < REGION);
        place.is_whole(&point);
        std::fs::write(&kept[0], &sound).unwrap();
    }
    std::fs::remove_dir_all(place.root().join("relied")).unwrap();
    assert!(place.follow("last", "one").read.0 < REGION);
    place.is_whole("last");
}

#[test]
fn what_another_disk_relies_on_is_not_taken_for_it() {
    let place = Place::new();
    let of_one = place.relied().remove(0);
    let small = place.0.path().join("small.raw");
    std::fs::write(&small, content(55, 9000)).unwrap();
    back_up(&place.open(), "small", &small);
    let of_small = place.relied().into_iter().find(|path| *path != of_one).unwrap();
    std::fs::copy(of_small, of_one).unwrap();
    // All packs but the small disk's go: who believed the small disk's list would miss none.
    let there = packs(&place.root());
    let largest = there.iter().max_by_key(|pack| std::fs::metadata(pack).unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    assert!(place.follow("two", "one").read.0 > REGION / 2, "what is gone is read again");
    place.is_whole("two");
}

#[test]
fn padded_records_take_few_lengths_and_come_back() {
    use farshore_format::repository::{PACK_HEADER_LEN, padded_len};
    let folder = tempfile::tempdir().unwrap();
    let (root, disk, out) = (folder.path().join("r"), folder.path().join("disk.raw"), folder.path().join("out"));
    std::fs::write(&disk, [content(1, 300_000), content(2, 300_000), vec![0; 5000]].concat()).unwrap();
    let repository = create_padded(&root, Some("p"), true);
    assert!(repository.padded());
    back_up(&repository, "one", &disk);
    restore(&repository, "one", &out).unwrap();
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&disk).unwrap());
    assert!(repository.verify(crate::repository::threads()).unwrap().sound());
    drop(repository);
    let again = Arc::new(Repository::open(&root, &unlock(Some("p"))).unwrap());
    assert!(again.padded(), "who opens it pads, too");
    back_up(&again, "two", &disk);
    for length in [1usize, 5, 100, 4096, 65_541, 262_185] {
        let padded = padded_len(length);
        assert!(padded >= length && padded <= length + length / 8 + 1 && padded_len(padded) == padded);
    }
    assert!(packs(&root).iter().all(|pack| std::fs::metadata(pack).unwrap().len() > PACK_HEADER_LEN as u64));
}
