//! Repair from a copy or from the disk: whatever was damaged, what comes back is what was stored, or nothing does.

use crate::repository::{back_up, content, create, name, point_id, restore, threads, unlock};
use crate::repository_mend::flip;
use farshore_repository::{Create, Faults, Op, RawSource, Repaired, Repository, Spares};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const REGION: u64 = 4 << 20;

pub(crate) struct World {
    folder: tempfile::TempDir,
    passphrase: Option<&'static str>,
}

impl World {
    /// Two points of a disk of three regions, in `r`, and a copy of the folder.
    pub(crate) fn new(passphrase: Option<&'static str>) -> World {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let world = World { folder, passphrase };
        world.image("one.raw", 1);
        world.image("two.raw", 9);
        let repository = create(&world.at("r"), passphrase);
        back_up(&repository, "one", &world.at("one.raw"));
        back_up(&repository, "two", &world.at("two.raw"));
        drop(repository);
        world.copy("r", "copy");
        world
    }

    pub(crate) fn image(&self, name: &str, seed: u64) {
        let file = File::create(self.at(name)).unwrap();
        file.set_len(2 * REGION + 5000).unwrap();
        file.write_all_at(&content(1, 300_000), 0).unwrap();
        file.write_all_at(&content(seed, 300_000), REGION).unwrap();
        file.write_all_at(&content(seed + 2, 5000), 2 * REGION).unwrap();
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn open(&self) -> Arc<Repository> {
        Arc::new(Repository::open(&self.at("r"), &unlock(self.passphrase)).unwrap())
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        let _old = fs::remove_dir_all(self.at(to));
        copy_folder(&self.at(from), &self.at(to));
    }

    pub(crate) fn repair_as(
        &self,
        repository: &Repository,
        from: &[&str],
        images: &[&str],
    ) -> farshore_repository::Result<Repaired> {
        let other = |from: &&str| Repository::open_to_read(&self.at(from), &unlock(self.passphrase)).unwrap();
        let others: Vec<Repository> = from.iter().map(other).collect();
        let image = |name: &&str| (RawSource::open(&self.at(name)).unwrap(), self.at(name));
        let images: Vec<(RawSource, PathBuf)> = images.iter().map(image).collect();
        repository.repair(Spares { repositories: &others, images: &images }, threads())
    }

    pub(crate) fn repair(&self, from: &[&str], images: &[&str]) -> Repaired {
        self.repair_as(&self.open(), from, images).unwrap()
    }

    #[track_caller]
    pub(crate) fn is_whole(&self, why: &str) {
        let opened = self.open();
        for (point, image) in [("one", "one.raw"), ("two", "two.raw")] {
            let out = self.at("out");
            restore(&opened, point, &out).unwrap_or_else(|error| panic!("{why}: {error}"));
            assert!(fs::read(&out).unwrap() == fs::read(self.at(image)).unwrap(), "{why}: {point}");
        }
        assert!(opened.kept().unwrap().is_empty(), "{why}: no note stays");
    }

    fn files(&self, folders: &[&str]) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders: Vec<PathBuf> = folders.iter().map(|folder| self.at("r").join(folder)).collect();
        while let Some(folder) = folders.pop() {
            if folder.is_file() {
                files.push(folder);
                continue;
            }
            folders.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
        files.sort();
        files
    }

    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        self.files(&["packs"])
    }
}

/// Without a process of its own, which would hold locks of this one for a moment.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy_folder(&path, &to) } else { assert!(fs::copy(path, to).is_ok()) }
    }
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end.max(1)
    }
}

fn damage(path: &Path, dice: &mut Dice) -> String {
    let mut bytes = fs::read(path).unwrap();
    let at = dice.below(bytes.len());
    let how = ["flip", "truncate", "noise", "delete"][dice.below(4)];
    match how {
        "flip" => bytes[at] ^= 1 << dice.below(8),
        "truncate" => bytes.truncate(at),
        "noise" => {
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        }
        _ => {
            fs::remove_file(path).unwrap();
            return format!("{} deleted", path.display());
        }
    }
    fs::write(path, &bytes).unwrap();
    format!("{how} at {at} of {}", path.display())
}

const EVERYTHING: [&str; 5] = ["packs", "points", "index", "roster", "roster.copy"];

#[test]
fn whatever_is_damaged_in_two_files_is_whole_again_after_a_repair_from_a_copy() {
    for (passphrase, seeds) in [(None, 0..80), (Some("secret"), 100..112)] {
        let world = World::new(passphrase);
        for seed in seeds {
            world.copy("copy", "r");
            let mut dice = Dice(seed);
            let mut files = world.files(&EVERYTHING);
            let mut done = Vec::new();
            for _ in 0..2 {
                let path = files.remove(dice.below(files.len()));
                done.push(damage(&path, &mut dice));
            }
            let why = format!("seed {seed}: {}", done.join(", "));
            let repaired = world.repair(&["copy"], &[]);
            assert!(repaired.after.sound(), "{why}: {repaired:?}");
            assert_eq!(repaired.whole_again().count(), repaired.before.hurt.len(), "{why}");
            world.is_whole(&why);
            assert!(world.repair(&["copy"], &[]).before.sound(), "{why}: done twice");
        }
    }
}

#[test]
fn damaged_packs_are_whole_again_after_a_repair_from_the_images() {
    let world = World::new(None);
    for seed in 0..60 {
        world.copy("copy", "r");
        let mut dice = Dice(1000 + seed);
        let packs = world.packs();
        let why = format!("seed {seed}: {}", damage(&packs[dice.below(packs.len())], &mut dice));
        let repaired = world.repair(&[], &["one.raw", "two.raw"]);
        assert!(repaired.after.sound(), "{why}: {repaired:?}");
        world.is_whole(&why);
    }
}

#[test]
fn what_is_left_of_a_pack_without_its_directory_is_taken_from_it() {
    let world = World::new(None);
    for pack in world.packs() {
        let mut bytes = fs::read(&pack).unwrap();
        let at = bytes.len() - 50;
        bytes[at] ^= 1;
        fs::write(&pack, bytes).unwrap();
    }
    let repaired = world.repair(&[], &[]);
    assert_eq!(repaired.before.hurt.len(), 2, "{repaired:?}");
    assert!(repaired.after.sound() && repaired.stored > 0 && repaired.aside > 0, "{repaired:?}");
    world.is_whole("from itself");
}

#[test]
fn what_cannot_be_had_is_said_and_stays_as_it_is() {
    let world = World::new(None);
    let packs = world.packs();
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    // Another disk altogether has nothing that any point needs; nothing is taken from it.
    world.image("other.raw", 31);
    let repaired = world.repair(&[], &["one.raw", "other.raw"]);
    assert_eq!(repaired.after.hurt.keys().cloned().collect::<Vec<_>>(), [point_id("two")], "{repaired:?}");
    assert_eq!(repaired.whole_again().cloned().collect::<Vec<_>>(), [point_id("one")]);
    assert!(repaired.nowhere > 0 && !repaired.after.sound());
    let repository = world.open();
    restore(&repository, "one", &world.at("out")).unwrap();
    assert!(fs::read(world.at("out")).unwrap() == fs::read(world.at("one.raw")).unwrap());
    assert!(restore(&repository, "two", &world.at("out")).is_err(), "never a bad chunk as good");
    drop(repository);
    assert!(world.repair(&[], &["two.raw"]).after.sound(), "a later repair finds the rest");
    world.is_whole("with the other image, too");
}

/// Spoils each pack before it gets its name.
struct Spoils;

impl Faults for Spoils {
    fn before(&self, op: Op<'_>) -> std::io::Result<()> {
        if let Op::Rename(from, to) = op
            && to.parent().and_then(Path::parent).is_some_and(|folder| folder.ends_with("packs"))
        {
            flip(from, 100);
            flip(from, from.metadata()?.len() - 10);
        }
        Ok(())
    }
}

#[test]
fn a_disk_that_spoils_what_is_written_ends_a_repair_and_is_told() {
    let world = World::new(None);
    world.packs().iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let spoilt = Repository::open_with_faults(&world.at("r"), &unlock(None), Arc::new(Spoils)).unwrap();
    let repaired = world.repair_as(&spoilt, &["copy"], &["one.raw"]).unwrap();
    assert!(repaired.stored > 0 && !repaired.after.sound() && repaired.after.hurt.len() == 2, "{repaired:?}");
    drop(spoilt);
    assert!(world.repair(&["copy"], &[]).after.sound(), "on a better disk it is mended");
    world.is_whole("in the end");
}

#[test]
fn a_pack_of_which_something_is_still_wanted_stays() {
    let world = World::new(None);
    let pack = world.packs().into_iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[2000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let repaired = world.repair(&[], &[]);
    assert!(!repaired.after.sound() && repaired.aside == 0 && pack.exists(), "{repaired:?}");
    assert_eq!(world.open().kept().unwrap(), repaired.after.found, "and what is damaged of it is noted");
    let repaired = world.repair(&["copy"], &[]);
    assert!(repaired.after.sound() && repaired.aside == 1 && !pack.exists(), "{repaired:?}");
    let kept = world.files(&["trash"]).into_iter().any(|path| path.file_name() == pack.file_name());
    assert!(kept, "a restore that began before still finds it");
    world.is_whole("in the end");
}

#[test]
fn a_copy_that_is_damaged_too_gives_what_is_sound_in_it() {
    let world = World::new(Some("secret"));
    let largest = world.packs().into_iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let theirs = world.at("copy").join(largest.strip_prefix(world.at("r")).unwrap());
    for (pack, at) in [(&largest, 2000), (&theirs, 200_000)] {
        let mut bytes = fs::read(pack).unwrap();
        bytes[at] ^= 1;
        fs::write(pack, bytes).unwrap();
    }
    let repaired = world.repair(&["copy"], &[]);
    assert!(repaired.after.sound(), "other places were damaged there: {repaired:?}");
    world.is_whole("from a damaged copy");
}

#[test]
fn a_point_of_the_same_name_that_is_another_is_not_taken() {
    let world = World::new(None);
    let make =
        Create { name: name("o"), domain: name("d"), domain_secret: Some([7; 32]), passphrase: None, padding: false };
    let other = Arc::new(Repository::create(&world.at("other"), &make).unwrap());
    world.image("else.raw", 51);
    back_up(&other, "one", &world.at("else.raw"));
    back_up(&other, "two", &world.at("two.raw"));
    drop(other);
    for point in ["one", "two"] {
        fs::write(world.at("r/points").join(point), b"no point").unwrap();
    }
    let repaired = world.repair(&["other"], &[]);
    assert!(repaired.brought_back.is_empty(), "the roster names other files: {repaired:?}");
    assert_eq!(repaired.after.hurt.keys().cloned().collect::<Vec<_>>(), [point_id("one"), point_id("two")]);
    assert!(world.repair(&["other", "copy"], &[]).after.sound());
    world.is_whole("from the copy");
}

#[test]
fn a_point_that_bore_the_name_before_is_not_taken_for_the_one_that_bears_it() {
    let world = World::new(None);
    let repository = world.open();
    back_up(&repository, "keeps", &world.at("one.raw"));
    drop(repository);
    world.copy("r", "copy");
    let repository = world.open();
    repository.prune(&[point_id("one")], 1).unwrap();
    back_up(&repository, "one", &world.at("two.raw"));
    drop(repository);
    fs::remove_file(world.at("r/points/one")).unwrap();
    let repaired = world.repair(&["copy"], &[]);
    assert!(repaired.brought_back.is_empty(), "{repaired:?}");
    assert_eq!(repaired.after.hurt.keys().cloned().collect::<Vec<_>>(), [point_id("one")]);
}

#[test]
fn a_repository_of_another_domain_is_refused_before_anything_is_changed() {
    let world = World::new(None);
    let make =
        Create { name: name("o"), domain: name("d"), domain_secret: Some([8; 32]), passphrase: None, padding: false };
    drop(Repository::create(&world.at("other"), &make).unwrap());
    fs::remove_file(world.at("r/points/two")).unwrap();
    let error = world.repair_as(&world.open(), &["other"], &[]).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-DOMAIN", "{error}");
    assert!(!world.at("r/damaged").exists() && world.files(&["trash"]).is_empty());
}
