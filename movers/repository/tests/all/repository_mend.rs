//! Damage is not counted on: what a verification found is stored anew by the next backup, which makes hurt points whole
//! again, and what is damaged or gone makes no point and lets no prune take anything.

use crate::repository::{back_up, content, create, manifest, point_id, read_in, restore, threads, unlock};
use farshore_format::repository::{
    FOOTER_LEN, PACK_HEADER_LEN, PackFooter, PackHeader, RecordKind, SealKey, Suite, decode_directory,
};
use farshore_repository::{Changes, RawSource, Repository};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const REGION: u64 = 4 << 20;

/// A repository that is not encrypted, and a disk of two regions in it as point `one`.
struct Place {
    folder: tempfile::TempDir,
    disk: Vec<u8>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.raw");
        let file = File::create(&disk).unwrap();
        file.set_len(REGION + 5000).unwrap();
        file.write_all_at(&content(1, 1 << 20), 0).unwrap();
        file.write_all_at(&content(3, 5000), REGION).unwrap();
        let disk = std::fs::read(disk).unwrap();
        let place = Place { folder, disk };
        back_up(&create(&place.root(), None), "one", &place.image());
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("r")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.raw")
    }

    fn open(&self) -> Arc<Repository> {
        Arc::new(Repository::open(&self.root(), &unlock(None)).unwrap())
    }

    fn packs(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.root().join("packs")).unwrap();
        folders
            .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|pack| pack.unwrap().path())
            .collect()
    }

    /// Flips a bit of the first record of this kind.
    fn flip(&self, kind: RecordKind) -> PathBuf {
        for pack in self.packs() {
            if let Some((_, range)) = records(&pack).into_iter().find(|(found, _)| *found == kind) {
                flip(&pack, range.start as u64 + 20);
                return pack;
            }
        }
        panic!("no pack holds a record of kind {kind:?}");
    }

    fn is_whole(&self, repository: &Repository, point: &str) {
        let out = self.folder.path().join("out");
        restore(repository, point, &out).unwrap();
        assert!(std::fs::read(&out).unwrap() == self.disk, "{point} is the disk");
    }

    /// Verifies with an opening that only reads, and keeps what it found, as `farshore repo verify` does.
    fn verify(&self) -> Vec<String> {
        let verified = Repository::open_to_read(&self.root(), &unlock(None)).unwrap().verify(threads()).unwrap();
        self.open().keep_found(&verified.found).unwrap();
        verified.hurt.keys().map(ToString::to_string).collect()
    }
}

pub(crate) fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

fn records(pack: &Path) -> Vec<(RecordKind, Range<usize>)> {
    let bytes = std::fs::read(pack).unwrap();
    let header = PackHeader::decode(bytes[..PACK_HEADER_LEN].try_into().unwrap()).unwrap();
    let key = SealKey::new(Suite::None, None, &header.id).unwrap();
    let end = bytes.len() - FOOTER_LEN;
    let footer = PackFooter::decode(bytes[end..].try_into().unwrap(), bytes.len() as u64).unwrap();
    let mut tail = bytes[end - footer.directory as usize..].to_vec();
    let mut at = PACK_HEADER_LEN;
    let entries = decode_directory(&key, &footer, &mut tail).unwrap();
    let range = |stored: u32| {
        at += stored as usize;
        at - stored as usize..at
    };
    entries.iter().map(|entry| entry.kind).zip(entries.iter().map(|entry| entry.stored).map(range)).collect()
}

#[test]
fn what_verify_found_is_stored_anew_and_hurt_points_are_whole_again() {
    for kind in [RecordKind::Data, RecordKind::Leaf, RecordKind::List, RecordKind::Disk] {
        let place = Place::new();
        let pack = place.flip(kind);
        assert_eq!(place.verify(), ["one"], "{kind:?}");
        let repository = place.open();
        back_up(&repository, "two", &place.image());
        for point in ["one", "two"] {
            place.is_whole(&repository, point);
        }
        let verified = repository.verify(threads()).unwrap();
        assert!(verified.hurt.is_empty() && verified.damage.len() == 1, "{kind:?}: {verified:?}");
        drop(repository);
        // It is known in later openings, with an index that was merged or made anew, and after a prune.
        let repository = place.open();
        repository.rebuild_index().unwrap();
        place.is_whole(&repository, "one");
        repository.prune(&[point_id("one")], 1).unwrap();
        back_up(&repository, "three", &place.image());
        place.is_whole(&repository, "two");
        place.is_whole(&repository, "three");
        drop(repository);
        assert_eq!(place.verify(), [""; 0]);
        assert_eq!(place.root().join("damaged").exists(), pack.exists(), "it lasts as long as the damage");
        let repository = place.open();
        repository.prune(&[point_id("two"), point_id("three")], 2).unwrap();
        assert!(!place.root().join("damaged").exists(), "with the pack goes what is known of it");
    }
}

#[test]
fn a_restore_says_which_record_is_damaged_and_in_which_pack() {
    let place = Place::new();
    let pack = place.flip(RecordKind::Data);
    let out = place.folder.path().join("out");
    let error = restore(&place.open(), "one", &out).unwrap_err();
    let told = error.to_string();
    assert!(told.contains(&pack.display().to_string()) && told.contains("record"), "{told}");
    assert!(!told.contains("are sound"), "{told}");
}

#[test]
fn damage_that_was_put_right_counts_again() {
    let place = Place::new();
    let pack = place.flip(RecordKind::Data);
    let damaged = std::fs::read(&pack).unwrap();
    assert_eq!(place.verify(), ["one"]);
    let (_, again) = records(&pack).into_iter().find(|(kind, _)| *kind == RecordKind::Data).unwrap();
    flip(&pack, again.start as u64 + 20);
    assert!(std::fs::read(&pack).unwrap() != damaged);
    assert_eq!(place.verify(), [""; 0]);
    assert!(!place.root().join("damaged").exists());
    place.is_whole(&place.open(), "one");
}

#[test]
fn a_point_that_is_hurt_keeps_what_is_left_of_it_and_others_are_pruned() {
    let place = Place::new();
    place.flip(RecordKind::Data);
    place.verify();
    let repository = place.open();
    std::fs::write(place.image(), content(9, 1 << 20)).unwrap();
    back_up(&repository, "two", &place.image());
    std::fs::write(place.image(), content(11, 1 << 20)).unwrap();
    back_up(&repository, "three", &place.image());
    assert!(repository.prune(&[point_id("two")], 1).unwrap().marked.0 > 0);
    repository.prune(&[], 2).unwrap();
    std::fs::write(place.image(), &place.disk).unwrap();
    back_up(&repository, "four", &place.image());
    place.is_whole(&repository, "one");
}

#[test]
fn a_pack_that_was_cut_short_or_taken_away_is_not_counted_on() {
    let cut = |pack: &Path| {
        let file = File::options().write(true).open(pack).unwrap();
        file.set_len(file.metadata().unwrap().len() - 50_000).unwrap();
    };
    let gone = |pack: &Path| std::fs::remove_file(pack).unwrap();
    let ways: [&dyn Fn(&Path); 2] = [&cut, &gone];
    for way in ways {
        for opened_before in [false, true] {
            for changes in [false, true] {
                let place = Place::new();
                let before = opened_before.then(|| place.open());
                place.packs().iter().for_each(|pack| way(pack));
                let repository = before.unwrap_or_else(|| place.open());
                let one = repository.point(&point_id("one")).unwrap().unwrap();
                let session = repository.write_session();
                let changed = Changes { disk: &one.disks[0], ranges: Some(&[]) };
                let disk = read_in(&session, &place.image(), changes.then_some(changed));
                let made = repository.commit_point(&manifest("two", &disk));
                made.unwrap_or_else(|error| panic!("{opened_before} {changes}: {error}"));
                place.is_whole(&repository, "two");
                place.is_whole(&repository, "one");
            }
        }
    }
}

#[test]
fn what_goes_between_reading_and_the_point_makes_no_point() {
    let place = Place::new();
    let repository = place.open();
    let session = repository.write_session();
    let disk = read_in(&session, &place.image(), None);
    place.packs().iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
    let error = repository.commit_point(&manifest("two", &disk)).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-INCOMPLETE", "{error}");
    assert_eq!(repository.point_names().unwrap(), [point_id("one")]);
    let disk = read_in(&session, &place.image(), None);
    repository.commit_point(&manifest("two", &disk)).unwrap();
    place.is_whole(&repository, "two");
}

#[test]
fn a_prune_that_cannot_read_another_point_changes_nothing() {
    let place = Place::new();
    let repository = place.open();
    back_up(&repository, "two", &place.image());
    let ways: [&dyn Fn(); 2] = [&|| flip(&place.root().join("points/two"), 60), &|| drop(place.flip(RecordKind::Leaf))];
    for way in ways {
        way();
        let error = repository.prune(&[point_id("one")], 1).unwrap_err();
        assert_eq!(error.code(), "FS-REPO-DAMAGE", "{error}");
        assert_eq!(repository.point_names().unwrap(), [point_id("one"), point_id("two")]);
        assert_eq!((repository.position().unwrap(), repository.trash().unwrap().0), (None, 0));
        way();
    }
    way_out(&place, &repository);
}

/// Who names the point that cannot be read may drop it.
fn way_out(place: &Place, repository: &Repository) {
    flip(&place.root().join("points/two"), 60);
    repository.prune(&[point_id("two")], 1).unwrap();
    assert_eq!(repository.point_names().unwrap(), [point_id("one")]);
    place.is_whole(repository, "one");
}

#[test]
fn no_point_is_made_while_it_is_not_known_what_is_damaged() {
    let place = Place::new();
    place.flip(RecordKind::Data);
    place.verify();
    flip(&place.root().join("damaged"), 70);
    let repository = place.open();
    let session = repository.write_session();
    let disk = read_in(&session, &place.image(), None);
    let error = repository.commit_point(&manifest("two", &disk)).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-DAMAGE", "{error}");
    let verified = repository.verify(threads()).unwrap();
    assert!(verified.damage.iter().any(|damage| damage.what.ends_with("damaged")), "{verified:?}");
    repository.keep_found(&verified.found).unwrap();
    let disk = read_in(&session, &place.image(), None);
    repository.commit_point(&manifest("two", &disk)).unwrap();
    place.is_whole(&repository, "one");
}

#[test]
fn what_is_no_disk_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [pipe.as_path(), &socket, folder.path(), Path::new("/dev/null"), Path::new("/dev/zero")] {
        let error = RawSource::open(path).unwrap_err();
        assert_eq!(error.code(), "FS-REPO-NOT-A-DISK", "{error}");
    }
    assert_eq!(RawSource::open(&folder.path().join("none")).unwrap_err().code(), "FS-REPO-DISK");
}
