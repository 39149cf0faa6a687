//! A point that is gone is missed, whatever else went with it, until somebody lets it go.

use crate::repository::{back_up, content, create, point_id, restore, threads, unlock};
use farshore_repository::{Repository, Verified};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Two points, and what the folder's root held before the second.
struct World {
    folder: tempfile::TempDir,
}

const ROSTERS: [&str; 2] = ["roster", "roster.copy"];

impl World {
    fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap() };
        let repository = create(&world.at("r"), None);
        assert!(repository.verify(threads()).unwrap().sound(), "without a point there is no roster");
        for (point, seed) in [("one", 1), ("two", 3)] {
            fs::write(world.at("disk"), content(seed, 50_000)).unwrap();
            back_up(&repository, point, &world.at("disk"));
            for name in ROSTERS {
                fs::copy(world.at("r").join(name), world.at(&format!("{name}-{point}"))).unwrap();
            }
        }
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> Arc<Repository> {
        Arc::new(Repository::open(&self.at("r"), &unlock(None)).unwrap())
    }

    fn open_to_read(&self) -> Arc<Repository> {
        Arc::new(Repository::open_to_read(&self.at("r"), &unlock(None)).unwrap())
    }

    fn verify(&self) -> Verified {
        self.open_to_read().verify(threads()).unwrap()
    }

    fn hurt(&self) -> Vec<String> {
        self.verify().hurt.keys().map(ToString::to_string).collect()
    }

    fn lose(&self, point: &str) {
        fs::remove_file(self.at("r/points").join(point)).unwrap();
    }
}

#[test]
fn a_point_that_went_with_either_roster_is_named() {
    for name in ROSTERS {
        let world = World::new();
        let path = world.at("r").join(name);
        let ways: [&dyn Fn(); 3] = [
            &|| fs::remove_file(&path).unwrap(),
            &|| fs::write(&path, b"nothing that proves itself").unwrap(),
            &|| assert!(fs::copy(world.at(&format!("{name}-one")), &path).unwrap() > 0),
        ];
        for (number, way) in (0..).zip(ways) {
            let (point, sound) = (world.at("r/points/two"), fs::read(world.at("r/points/two")).unwrap());
            way();
            let verified = world.verify();
            assert!(verified.hurt.is_empty() && verified.damage.len() == 1, "{name} {number}: {verified:?}");
            fs::remove_file(&point).unwrap();
            assert_eq!(world.hurt(), ["two"], "{name} {number}");
            fs::write(&point, sound).unwrap();
            // Whoever writes next makes both anew.
            let repository = world.open();
            back_up(&repository, "two-again", &world.at("disk"));
            repository.prune(&[point_id("two-again")], repository.position().unwrap().unwrap_or(0) + 1).unwrap();
            assert!(world.verify().sound(), "{name} {number}: {:?}", world.verify());
        }
    }
}

#[test]
fn what_is_gone_stays_named_when_others_come_and_go_until_it_is_dropped() {
    let world = World::new();
    world.lose("one");
    let repository = world.open();
    back_up(&repository, "three", &world.at("disk"));
    assert_eq!(world.hurt(), ["one"]);
    // It may be brought back: until it is, or is dropped by its name, nobody takes away what it may need.
    assert_eq!(repository.prune(&[point_id("two")], 1).unwrap_err().code(), "FS-REPO-DAMAGE");
    assert_eq!(world.hurt(), ["one"]);
    assert_eq!(repository.lost_points().unwrap(), [point_id("one")]);
    // A file that is not the one that was made does not become it by that.
    fs::copy(world.at("r/points/three"), world.at("r/points/one")).unwrap();
    back_up(&repository, "four", &world.at("disk"));
    assert_eq!(world.hurt(), ["one"]);
    repository.prune(&[point_id("one")], 2).unwrap();
    assert!(world.verify().sound(), "{:?}", world.verify());
    restore(&repository, "three", &world.at("out")).unwrap();
}

#[test]
fn an_older_file_of_a_point_of_the_same_name_is_not_the_point() {
    let world = World::new();
    let repository = world.open();
    let older = fs::read(world.at("r/points/two")).unwrap();
    repository.prune(&[point_id("two")], 1).unwrap();
    fs::write(world.at("disk"), content(7, 50_000)).unwrap();
    back_up(&repository, "two", &world.at("disk"));
    assert!(repository.point(&point_id("two")).is_ok());
    let newer = fs::read(world.at("r/points/two")).unwrap();
    fs::write(world.at("r/points/two"), &older).unwrap();
    // The repository that is open, and one that is opened now.
    for repository in [repository, world.open_to_read()] {
        assert_eq!(repository.point(&point_id("two")).unwrap_err().code(), "FS-REPO-DAMAGE");
        assert!(restore(&repository, "two", &world.at("out")).is_err());
        restore(&repository, "one", &world.at("out")).unwrap();
        let verified = repository.verify(threads()).unwrap();
        assert_eq!((verified.hurt.len(), verified.damage.len()), (1, 1), "{verified:?}");
    }
    // Points can be read without a roster: then nothing says that this is another point.
    let rosters = ROSTERS.map(|name| (world.at("r").join(name), fs::read(world.at("r").join(name)).unwrap()));
    rosters.iter().for_each(|(path, _)| fs::remove_file(path).unwrap());
    assert!(world.open_to_read().point(&point_id("two")).is_ok());
    rosters.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    fs::write(world.at("r/points/two"), newer).unwrap();
    restore(&world.open_to_read(), "two", &world.at("out")).unwrap();
    assert!(fs::read(world.at("out")).unwrap() == fs::read(world.at("disk")).unwrap());
    assert!(world.verify().sound());
}

/// A name, and how something that no repository wrote comes to lie at a path.
type Way<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn what_is_no_file_or_fits_no_memory_is_damage_and_nothing_waits_for_it() {
    let pipe = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let round = |path: &Path| std::os::unix::fs::symlink(path, path).unwrap();
    let endless = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    let ways: [Way<'_>; 3] = [("pipe", &pipe), ("round", &round), ("endless", &endless)];
    let world = World::new();
    let root = world.at("r");
    let written = ["points", "packs", "index", "relied", "roster", "roster.copy"].map(|name| root.join(name));
    let others =
        ["immutable", "immutable.copy", "damaged", "going", "points/ff", "relied/ff"].map(|name| root.join(name));
    for path in written.iter().flat_map(|name| files(name)).chain(others) {
        let kept = fs::read(&path).ok();
        for (name, way) in ways {
            let _ = fs::remove_file(&path);
            way(&path);
            let found = world.open().verify(threads()).unwrap();
            // What lies among points might be one, unless it is no file at all.
            let stray = path.ends_with("ff") && name == "pipe";
            let may_be_lost =
                stray || ["index", "relied", "going"].iter().any(|name| path.starts_with(root.join(name)));
            assert_eq!(found.sound(), may_be_lost, "{name} {}: {:?}", path.display(), found.damage);
            // The index has made itself anew by now, in files of the same names.
            let _ = fs::remove_file(&path);
        }
        kept.into_iter().for_each(|bytes| fs::write(&path, bytes).unwrap());
        assert!(world.verify().sound(), "{}", path.display());
    }
}

/// This file, or every file below this folder.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}
