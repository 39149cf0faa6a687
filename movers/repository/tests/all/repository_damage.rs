//! Whatever happens to a file of a repository, verify tells, and no restore gives anything but what was backed up.
//! `FARSHORE_DAMAGES` says how many damages are tried; each follows from its number alone.

use crate::repository::{back_up, content, create, point_id, restore, threads, unlock};
use farshore_format::repository::{
    FOOTER_LEN, FileId, KeySlot, PACK_HEADER_LEN, PackFooter, PackHeader, RepositoryKey, SealKey, decode_directory,
};
use farshore_repository::Repository;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BLOCK: u64 = 4096;
const DEFAULT: u64 = 300;

/// Numbers that follow from a seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Runs of blocks: where, how long, and the seed of their content.
type Runs = &'static [(u64, u64, u64)];

/// A repository, what was backed up, and what its files looked like earlier.
struct Store {
    folder: tempfile::TempDir,
    passphrase: Option<&'static str>,
    points: BTreeMap<&'static str, Vec<u8>>,
    files: Vec<PathBuf>,
    /// Earlier contents of files, by the folder in which they lay.
    older: Vec<(PathBuf, Vec<u8>)>,
    key: Option<RepositoryKey>,
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// What may be damaged: all but the lock, the position, and what the key comes from.
fn targets(root: &Path) -> Vec<PathBuf> {
    let wanted = ["packs", "points", "index"].iter().flat_map(|folder| files_below(&root.join(folder)));
    wanted.chain([root.join("roster"), root.join("roster.copy")]).collect()
}

impl Store {
    fn new(passphrase: Option<&'static str>) -> Store {
        // In memory where there is such a file system: every restore syncs what it wrote.
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let mut store = Store { folder, passphrase, points: BTreeMap::new(), files: vec![], older: vec![], key: None };
        let repository = create(&store.root(), passphrase);
        let image = store.folder.path().join("image.raw");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(200 * BLOCK + 77).unwrap();
        let days: [(&'static str, Runs); 4] = [
            ("one", &[(0, 40, 1), (50, 20, 2), (100, 30, 3)]),
            ("two", &[(10, 20, 5), (120, 12, 7)]),
            ("three", &[(60, 30, 9), (150, 40, 4)]),
            ("four", &[(0, 9, 11), (155, 12, 13), (199, 1, 15)]),
        ];
        for (point, runs) in days {
            for (start, blocks, seed) in runs {
                file.write_all_at(&content(*seed, (blocks * BLOCK) as usize), start * BLOCK).unwrap();
            }
            file.set_len(200 * BLOCK + 77).unwrap();
            back_up(&repository, point, &image);
            store.points.insert(point, std::fs::read(&image).unwrap());
            store.keep_older();
            if point == "three" {
                // One goes, and comes again under its name with other content.
                repository.prune(&[point_id("one"), point_id("two")], 1).unwrap();
                store.keep_older();
                repository.prune(&[], 2).unwrap();
                back_up(&repository, "two", &image);
                store.points.insert("two", std::fs::read(&image).unwrap());
                store.points.remove("one");
            }
        }
        drop(repository);
        if let Some(passphrase) = passphrase {
            let slot = KeySlot::decode(&std::fs::read(store.root().join("keys/0.json")).unwrap()).unwrap();
            store.key = Some(slot.open(passphrase.as_bytes()).unwrap().0);
        }
        store.files = targets(&store.root());
        let now: Vec<Vec<u8>> = store.files.iter().map(|path| std::fs::read(path).unwrap()).collect();
        store.older.retain(|(_, bytes)| !now.contains(bytes));
        store
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("r")
    }

    fn keep_older(&mut self) {
        for path in targets(&self.root()) {
            let bytes = std::fs::read(&path).unwrap();
            self.older.push((path, bytes));
        }
    }

    fn open(&self) -> farshore_repository::Result<Repository> {
        Repository::open_to_read(&self.root(), &unlock(self.passphrase))
    }

    fn packs(&self) -> Vec<&PathBuf> {
        self.files.iter().filter(|path| path.starts_with(self.root().join("packs"))).collect()
    }

    /// Where the records of a pack lie.
    fn records(&self, pack: &Path) -> Vec<Range<usize>> {
        let bytes = std::fs::read(pack).unwrap();
        let header = PackHeader::decode(bytes[..PACK_HEADER_LEN].try_into().unwrap()).unwrap();
        let id: FileId = header.id;
        let key = SealKey::new(header.suite, self.key.as_ref(), &id).unwrap();
        let end = bytes.len() - FOOTER_LEN;
        let footer = PackFooter::decode(bytes[end..].try_into().unwrap(), bytes.len() as u64).unwrap();
        let mut tail = bytes[end - footer.directory as usize..].to_vec();
        let mut at = PACK_HEADER_LEN;
        let range = |stored: u32| {
            at += stored as usize;
            at - stored as usize..at
        };
        decode_directory(&key, &footer, &mut tail).unwrap().iter().map(|entry| entry.stored).map(range).collect()
    }
}

/// Files and what is in them now; none when they are gone.
type Changed = Vec<(PathBuf, Option<Vec<u8>>)>;

/// Makes one damage to what `store` holds.
fn damage(store: &Store, draw: &mut Draw) -> (String, Changed) {
    let path = draw.one(&store.files).clone();
    let sound = std::fs::read(&path).unwrap();
    let at = draw.below(sound.len());
    let mut bytes = sound.clone();
    let what = match draw.below(8) {
        0 => {
            bytes[at] ^= 1 << draw.below(8);
            format!("a bit at {at}")
        }
        1 => {
            bytes.truncate(at);
            format!("cut to {at}")
        }
        2 => {
            let end = (at + 1 + draw.below(600)).min(bytes.len());
            bytes[at..end].fill(0);
            format!("zeros from {at} to {end}")
        }
        3 => return ("deleted".into(), vec![(path, None)]),
        4 => {
            bytes.extend(content(draw.next(), 1 + draw.below(5000)));
            "longer".into()
        }
        5 => return swap_records(store, draw),
        6 => return swap_files(store, draw),
        _ => match older_of(store, &path, draw) {
            Some(older) => {
                bytes = older;
                "an older file".into()
            }
            None => return swap_records(store, draw),
        },
    };
    if bytes == sound {
        bytes[at] ^= 0x80;
    }
    (what, vec![(path, Some(bytes))])
}

/// What lay at this path earlier or, in the index, what an earlier segment was.
fn older_of(store: &Store, path: &Path, draw: &mut Draw) -> Option<Vec<u8>> {
    let index = store.root().join("index");
    let alike = |older: &Path| older == path || (older.starts_with(&index) && path.starts_with(&index));
    let older: Vec<_> = store.older.iter().filter(|(older, _)| alike(older)).collect();
    if older.is_empty() { None } else { Some(draw.one(&older).1.clone()) }
}

/// Two records of equal length change places, within a pack or between two.
fn swap_records(store: &Store, draw: &mut Draw) -> (String, Changed) {
    loop {
        let packs = store.packs();
        let (left, right) = (*draw.one(&packs), *draw.one(&packs));
        let (lefts, rights) = (store.records(left), store.records(right));
        let one = draw.one(&lefts).clone();
        let alike = |range: &&Range<usize>| range.len() == one.len() && (left != right || **range != one);
        let alike: Vec<&Range<usize>> = rights.iter().filter(alike).collect();
        if alike.is_empty() {
            continue;
        }
        let other = (*draw.one(&alike)).clone();
        let mut first = std::fs::read(left).unwrap();
        let mut second = std::fs::read(right).unwrap();
        let what = format!("records at {} and {} swapped", one.start, other.start);
        let (a, b) = (first[one.clone()].to_vec(), second[other.clone()].to_vec());
        if left == right {
            first[one].copy_from_slice(&b);
            first[other].copy_from_slice(&a);
            return (what, vec![(left.clone(), Some(first))]);
        }
        first[one].copy_from_slice(&b);
        second[other].copy_from_slice(&a);
        return (what, vec![(left.clone(), Some(first)), (right.clone(), Some(second))]);
    }
}

/// Two packs or two points change names.
fn swap_files(store: &Store, draw: &mut Draw) -> (String, Changed) {
    let folder = store.root().join(*draw.one(&["packs", "points"]));
    let files: Vec<&PathBuf> = store.files.iter().filter(|path| path.starts_with(&folder)).collect();
    let one = draw.below(files.len());
    let other = (one + 1 + draw.below(files.len() - 1)) % files.len();
    let read = |at: usize| Some(std::fs::read(files[at]).unwrap());
    (
        format!("swapped with {}", files[other].display()),
        vec![(files[one].clone(), read(other)), (files[other].clone(), read(one))],
    )
}

fn put(changed: &Changed) {
    for (path, bytes) in changed {
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }
}

fn restores_are_right_or_fail(store: &Store, repository: &Repository, told: &str) -> usize {
    let out = store.folder.path().join("out.raw");
    let mut failed = 0;
    for (point, wanted) in &store.points {
        let Ok(Some(_)) = repository.point(&point_id(point)) else {
            failed += 1;
            continue;
        };
        match restore(repository, point, &out) {
            Ok(()) => assert!(std::fs::read(&out).unwrap() == *wanted, "{told}: {point} is other content"),
            Err(_) => failed += 1,
        }
    }
    failed
}

fn try_damages(store: &Store, numbers: Range<u64>) {
    let sound = store.open().unwrap();
    assert!(sound.verify(threads()).unwrap().sound());
    assert_eq!(restores_are_right_or_fail(store, &sound, "nothing"), 0);
    assert!(store.packs().len() >= 3 && store.points.len() == 3, "{:?}", store.files);
    let index = store.root().join("index");
    for number in numbers {
        let mut draw = Draw(number);
        let (what, changed) = damage(store, &mut draw);
        let told = format!("damage {number} to {}: {what}", changed[0].0.display());
        let kept: Changed =
            changed.iter().map(|(path, _)| (path.clone(), Some(std::fs::read(path).unwrap()))).collect();
        put(&changed);
        // Deriving the key takes most of the time, so not everything is looked at in a repository that was opened after the
        // damage. One that has been open before must find it, too, but for the index, which it has in memory.
        let anew = store.passphrase.is_none() || changed[0].0.starts_with(&index) || number.is_multiple_of(16);
        let opened = if anew { store.open().map(Some) } else { Ok(None) };
        match &opened {
            Err(_) => {}
            Ok(opened) => {
                let repository = opened.as_ref().unwrap_or(&sound);
                let found = repository.verify(threads()).map_or(true, |verified| !verified.sound());
                assert!(found, "{told}: verify finds nothing");
                restores_are_right_or_fail(store, repository, &told);
            }
        }
        drop(opened);
        put(&kept);
    }
    assert!(store.open().unwrap().verify(threads()).unwrap().sound(), "all is put back");
}

#[test]
fn every_damage_is_found_and_none_is_restored() {
    let count = std::env::var("FARSHORE_DAMAGES").map_or(DEFAULT, |count| count.parse().unwrap());
    let half = count.div_ceil(2);
    std::thread::scope(|scope| {
        scope.spawn(|| try_damages(&Store::new(None), 0..half));
        scope.spawn(|| try_damages(&Store::new(Some("correct horse")), half..count));
    });
}

/// Where one file is what another is checked by, damage to both must be found all the same.
#[test]
fn two_damages_at_once_are_found() {
    let store = Store::new(None);
    for number in 0..std::env::var("FARSHORE_DAMAGES").map_or(DEFAULT, |count| count.parse().unwrap()) {
        let mut draw = Draw(!number);
        let sound: Vec<(PathBuf, Vec<u8>)> =
            store.files.iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        let (first, changed) = damage(&store, &mut draw);
        let (second, more) = damage(&store, &mut draw);
        put(&changed);
        // What is deleted twice is deleted.
        more.iter().filter(|(path, bytes)| bytes.is_some() || path.exists()).for_each(|one| put(&vec![one.clone()]));
        let differs = |(path, bytes): &(PathBuf, Vec<u8>)| std::fs::read(path).ok().as_ref() != Some(bytes);
        if sound.iter().any(differs) {
            let told = format!("{number}: {first} {:?} and {second} {:?}", changed[0].0, more[0].0);
            let repository = store.open().unwrap_or_else(|error| panic!("{told}: {error}"));
            assert!(!repository.verify(threads()).unwrap().sound(), "{told}: verify finds nothing");
            restores_are_right_or_fail(&store, &repository, &told);
        }
        sound.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    }
}

#[test]
fn what_is_not_sealed_is_refused_where_all_is() {
    let (sealed, plain) = (Store::new(Some("correct horse")), Store::new(None));
    let repository = sealed.open().unwrap();
    for file in ["points/two", "roster"] {
        let kept = std::fs::read(sealed.root().join(file)).unwrap();
        std::fs::copy(plain.root().join(file), sealed.root().join(file)).unwrap();
        let verified = repository.verify(threads()).unwrap();
        assert!(verified.damage.iter().any(|damage| damage.why.contains("it is not sealed")), "{file}: {verified:?}");
        std::fs::write(sealed.root().join(file), kept).unwrap();
    }
    assert!(repository.point(&point_id("two")).unwrap().is_some());
    // And the header cannot turn an encrypted repository into an open one.
    std::fs::copy(plain.root().join("format.json"), sealed.root().join("format.json")).unwrap();
    assert_eq!(sealed.open().unwrap_err().code(), "FS-REPO-KEY");
}
