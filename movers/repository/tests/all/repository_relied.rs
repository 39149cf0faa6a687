//! What a point relies on is known without walking it, and only as long as it is there.

use crate::repository::{
    back_up, content, create, create_padded, manifest, point_id, read_in, restore, threads, unlock,
};
use crate::repository_mend::flip;
use farshore_format::repository::{
    ChunkId, Extent, FOOTER_LEN, FileId, Leaf, PACK_HEADER_LEN, PackFooter, PackHeader, Reliance, SealKey, Suite,
    decode_directory,
};
use farshore_repository::{BackedUp, Changes, Repository};
use farshore_schemas::ids::Digest;
use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const REGION: u64 = 4 << 20;

/// A disk of some regions and a repository with a point of it.
struct Place(tempfile::TempDir, Option<&'static str>);

impl Place {
    fn new() -> Place {
        Place::sealed(Some("p"))
    }

    fn sealed(passphrase: Option<&'static str>) -> Place {
        let place = Place(tempfile::tempdir().unwrap(), passphrase);
        let disk = File::create(place.image()).unwrap();
        (0..4).for_each(|region| disk.write_all_at(&content(2 * region + 1, 1 << 20), region * REGION).unwrap());
        back_up(&create(&place.root(), passphrase), "one", &place.image());
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("r")
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("disk.raw")
    }

    fn open(&self) -> Arc<Repository> {
        Arc::new(Repository::open(&self.root(), &unlock(self.1)).unwrap())
    }

    fn relied(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.root().join("relied")).unwrap();
        let mut names: Vec<PathBuf> = names.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    /// A point that follows another, of which nothing is said to have changed but the first block.
    fn follow(&self, point: &str, before: &str) -> BackedUp {
        self.follow_in(point, before, 0..4096)
    }

    fn follow_in(&self, point: &str, before: &str, changed: Range<u64>) -> BackedUp {
        let repository = self.open();
        let disk = self.read_after(&repository, before, changed);
        repository.commit_point(&manifest(point, &disk)).unwrap();
        disk
    }

    fn read_after(&self, repository: &Arc<Repository>, before: &str, changed: Range<u64>) -> BackedUp {
        let base = repository.point(&point_id(before)).unwrap().unwrap();
        let changes = Changes { disk: &base.disks[0], ranges: Some(&[changed]) };
        read_in(&repository.write_session(), &self.image(), Some(changes))
    }

    /// Whether a backup that follows this point walks its tree: then it misses a leaf that is rotten.
    fn walks(&self, before: &str) -> bool {
        let (pack, at) = self.last_leaf(before);
        flip(&pack, at);
        let read = self.read_after(&self.open(), before, 0..4096).read.0;
        flip(&pack, at);
        assert!(read < 2 << 20, "{read}: what is said to have changed, and a region at most");
        read >= 1 << 20
    }

    /// Where the leaf of the last region of a point is stored.
    fn last_leaf(&self, point: &str) -> (PathBuf, u64) {
        let repository = Repository::open_to_read(&self.root(), &unlock(self.1)).unwrap();
        let disk = repository.point(&point_id(point)).unwrap().unwrap().disks[0].record();
        let leaf = repository.disk_regions(&disk).unwrap().last().unwrap().leaf;
        let place = |pack: PathBuf| place_in(&pack, &leaf).map(|at| (pack, at));
        packs(&self.root()).into_iter().find_map(place).unwrap()
    }

    fn list(&self) -> Reliance {
        let [path] = self.relied().try_into().unwrap();
        Reliance::decode(&std::fs::read(path).unwrap(), None).unwrap()
    }

    fn forge(&self, packs: Vec<Digest>) {
        let list = Reliance { packs, ..self.list() }.encode((Suite::None, None, FileId([3; 32]))).unwrap();
        std::fs::write(&self.relied()[0], list).unwrap();
    }

    fn write(&self, seed: u64, at: u64) {
        let file = File::options().write(true).open(self.image()).unwrap();
        file.write_all_at(&content(seed, 1 << 20), at).unwrap();
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

/// A byte of a record in a pack that is not sealed.
fn place_in(pack: &Path, record: &ChunkId) -> Option<u64> {
    let bytes = std::fs::read(pack).unwrap();
    let header = PackHeader::decode(bytes[..PACK_HEADER_LEN].try_into().unwrap()).unwrap();
    let key = SealKey::new(Suite::None, None, &header.id).unwrap();
    let end = bytes.len() - FOOTER_LEN;
    let footer = PackFooter::decode(bytes[end..].try_into().unwrap(), bytes.len() as u64).unwrap();
    let entries = decode_directory(&key, &footer, &mut bytes[end - footer.directory as usize..].to_vec()).unwrap();
    let at = entries.iter().position(|entry| entry.id == *record)?;
    let before: u64 = entries[..at].iter().map(|entry| u64::from(entry.stored)).sum();
    Some(PACK_HEADER_LEN as u64 + before + 5)
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
    place.open().prune(&[point_id("two")], 1).unwrap();
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
fn a_list_that_says_nothing_or_too_little_proves_nothing() {
    let followed = || {
        let place = Place::sealed(None);
        place.write(99, 0);
        place.follow("two", "one");
        place
    };
    assert!(!followed().walks("two"), "a sound list is enough");
    let place = followed();
    place.forge(Vec::new());
    assert!(place.walks("two"));
    let place = followed();
    let sound = place.list().packs;
    assert_eq!(sound.len(), 2);
    let leaf = place.last_leaf("two").0;
    let with_leaf: Digest = leaf.file_name().unwrap().to_str().unwrap().parse().unwrap();
    place.forge(sound.into_iter().filter(|pack| *pack != with_leaf).collect());
    assert!(place.walks("two"));
}

#[test]
fn nothing_is_relied_on_after_the_index_has_lost_something() {
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 3] = [
        ("gone", |segment| std::fs::remove_file(segment).unwrap()),
        ("its table", |segment| flip(segment, std::fs::metadata(segment).unwrap().len() - 3)),
        ("a page", |segment| flip(segment, 4096 + 100)),
    ];
    for (harm, harmed) in harms {
        let place = Place::sealed(None);
        assert!(!place.walks("one"), "{harm}: before");
        let segments = std::fs::read_dir(place.root().join("index")).unwrap();
        segments.for_each(|segment| harmed(&segment.unwrap().path()));
        assert!(place.walks("one"), "{harm}");
        place.follow("two", "one");
        assert!(!place.walks("two"), "{harm}: once is enough");
    }
}

#[test]
fn nothing_is_relied_on_while_it_is_not_known_what_is_damaged() {
    for known in [false, true] {
        let place = Place::sealed(None);
        let damaged = place.root().join("damaged");
        std::fs::write(&damaged, b"rubbish").unwrap();
        if known {
            std::fs::remove_file(&damaged).unwrap();
        }
        assert_eq!(place.walks("one"), !known);
    }
}

#[test]
fn a_page_and_a_directory_that_rot_while_a_disk_is_read_make_no_point_of_what_is_lost() {
    let place = Place::sealed(None);
    place.write(99, 0);
    place.follow("two", "one");
    let repository = place.open();
    let disk = place.read_after(&repository, "two", 0..4096);
    let pack = place.last_leaf("two").0;
    flip(&pack, std::fs::metadata(&pack).unwrap().len() - 50);
    repository.rebuild_index().unwrap();
    let error = repository.commit_point(&manifest("three", &disk)).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-INCOMPLETE", "{error}");
}

#[test]
fn a_leaf_that_a_backup_itself_finds_rotten_is_stored_anew_whatever_list_there_is() {
    for (ranges, relied) in
        [(None, true), (None, false), (Some(3 * REGION..3 * REGION + 4096), true), (Some(0..4096), false)]
    {
        let place = Place::sealed(None);
        let (pack, at) = place.last_leaf("one");
        flip(&pack, at);
        if !relied {
            std::fs::remove_dir_all(place.root().join("relied")).unwrap();
        }
        // The content of the last region is what it was: its leaf has the same id again.
        let repository = place.open();
        let base = repository.point(&point_id("one")).unwrap().unwrap();
        let ranges: Option<Vec<Range<u64>>> = ranges.map(|range| vec![range]);
        let changes = Changes { disk: &base.disks[0], ranges: ranges.as_deref() };
        let disk = read_in(&repository.write_session(), &place.image(), Some(changes));
        repository.commit_point(&manifest("two", &disk)).unwrap();
        drop(repository);
        place.is_whole("two");
        place.is_whole("one");
        let again = place.open();
        let verified = again.verify(threads()).unwrap();
        assert!(verified.hurt.is_empty() && verified.damage.len() == 1, "{:?}", verified.damage);
    }
}

#[test]
fn a_prune_after_each_point_costs_no_walk() {
    let place = Place::sealed(None);
    let name = |day: u64| if day == 0 { "one".to_owned() } else { format!("day{day}") };
    let mut gone = 0;
    for day in 1..=8 {
        let at = (day % 3) * REGION;
        place.write(100 + day, at);
        place.follow_in(&name(day), &name(day - 1), at..at + (1 << 20));
        let old = day.checked_sub(3).map(name);
        let before: BTreeSet<PathBuf> = packs(&place.root()).into_iter().collect();
        place.open().prune(&old.iter().map(|old| point_id(old)).collect::<Vec<_>>(), day).unwrap();
        gone += before.difference(&packs(&place.root()).into_iter().collect()).count();
        assert!(!place.walks(&name(day)), "day {day}");
        place.is_whole(&name(day));
    }
    assert!(gone >= 5, "{gone} packs went");
    // What the list says is all that the disk's regions need.
    let repository = place.open();
    let disk = repository.point(&point_id("day8")).unwrap().unwrap().disks[0].record();
    let leaves: Vec<ChunkId> = repository.disk_regions(&disk).unwrap().iter().map(|region| region.leaf).collect();
    let extents = leaves
        .iter()
        .zip([REGION, REGION, REGION, 1 << 20])
        .flat_map(|(leaf, length)| Leaf::decode(&repository.leaf_bytes(leaf).unwrap(), length).unwrap().extents);
    let chunks = extents.filter_map(|extent| match extent {
        Extent::Data { id, .. } => Some(id),
        Extent::Hole { .. } | Extent::Zeros { .. } => None,
    });
    let needed: Vec<ChunkId> = leaves.iter().copied().chain(chunks).collect();
    drop(repository);
    let list: BTreeSet<String> = place.list().packs.iter().map(ToString::to_string).collect();
    let others =
        packs(&place.root()).into_iter().filter(|pack| !list.contains(pack.file_name().unwrap().to_str().unwrap()));
    others.for_each(|pack| std::fs::remove_file(pack).unwrap());
    assert!(place.open().have(&needed).unwrap().into_iter().all(|have| have));
}

#[test]
fn a_point_made_meanwhile_leaves_what_another_disk_relies_on() {
    let place = Place::new();
    let of_one = place.relied();
    let small = place.0.path().join("small.raw");
    std::fs::write(&small, content(55, 9000)).unwrap();
    back_up(&place.open(), "small", &small);
    place.write(99, 0);
    let repository = place.open();
    let disk = place.read_after(&repository, "one", 0..1 << 20);
    let base = repository.point(&point_id("small")).unwrap().unwrap();
    std::fs::write(&small, content(57, 9000)).unwrap();
    let changes = Changes { disk: &base.disks[0], ranges: None };
    let other = read_in(&repository.write_session(), &small, Some(changes));
    repository.commit_point(&manifest("other", &other)).unwrap();
    assert!(of_one[0].exists(), "no point has followed it yet");
    repository.commit_point(&manifest("two", &disk)).unwrap();
    assert!(!of_one[0].exists());
    drop(repository);
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
