//! What is no file, or fits no memory, in place of each file of a repository: it is told, a repair from a copy mends it, and
//! work goes on.

use crate::repository::{back_up, content, create, point_id, restore, threads, try_back_up, unlock};
use farshore_repository::{Repository, Spares};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A name, and how something that no repository wrote comes to lie at a path.
pub(crate) type Way = (&'static str, fn(&Path));

pub(crate) const WAYS: [Way; 5] = [
    ("nowhere", |path| std::os::unix::fs::symlink("nothing-is-there", path).unwrap()),
    ("pipe", |path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap()),
    ("round", |path| std::os::unix::fs::symlink(path, path).unwrap()),
    ("endless", |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
    ("folder", |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("something"), b"of somebody").unwrap();
    }),
];

/// Every file below a folder.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy_folder(&path, &to) } else { assert!(fs::copy(path, to).is_ok()) }
    }
}

#[test]
fn a_file_in_place_of_a_folder_is_told_and_work_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("disk"), content(1, 50_000)).unwrap();
    back_up(&create(&at("good"), None), "one", &at("disk"));
    for name in ["packs", "points", "index", "keys", "digests", "trash"] {
        for (way, put) in WAYS.iter().filter(|(way, _)| ["pipe", "endless"].contains(way)) {
            let why = format!("{name} {way}");
            let _former = fs::remove_dir_all(at("r"));
            copy_folder(&at("good"), &at("r"));
            fs::remove_dir_all(at("r").join(name)).unwrap();
            put(&at("r").join(name));
            let looked = Repository::open_to_read(&at("r"), &unlock(None)).and_then(|one| one.verify(threads()));
            if ["packs", "points"].contains(&name) {
                assert!(looked.map_or_else(|error| error.code() == "FS-REPO-DAMAGE", |found| !found.sound()), "{why}");
            }
            let copy = Repository::open_to_read(&at("good"), &unlock(None)).unwrap();
            let opened = Repository::open(&at("r"), &unlock(None)).unwrap_or_else(|error| panic!("{why}: {error}"));
            let opened = Arc::new(opened);
            let repaired = opened.repair(Spares { repositories: &[copy], images: &[] }, threads()).unwrap();
            assert!(repaired.after.sound(), "{why}: {repaired:?}");
            back_up(&opened, "two", &at("disk"));
            opened.prune(&[point_id("one")], opened.position().unwrap().unwrap_or(0) + 1).unwrap();
            restore(&opened, "two", &at("out")).unwrap();
            assert!(fs::read(at("out")).unwrap() == fs::read(at("disk")).unwrap(), "{why}");
        }
    }
}

#[test]
fn a_link_in_place_of_a_folder_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("disk"), content(1, 50_000)).unwrap();
    drop(create(&at("r"), None));
    let index = at("r/index");
    fs::rename(&index, at("elsewhere")).unwrap();
    std::os::unix::fs::symlink(at("elsewhere"), &index).unwrap();
    let repository = Arc::new(Repository::open(&at("r"), &unlock(None)).unwrap());
    let refused = try_back_up(&repository, "one", &at("disk")).unwrap_err().to_string();
    assert!(refused.contains("leads out of the folder: delete the link"), "{refused}");
    drop(repository);
    fs::remove_file(&index).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), &index).unwrap();
    let refused = Repository::open(&at("r"), &unlock(None)).unwrap_err().to_string();
    assert!(refused.contains("leads nowhere") && refused.contains("r/index"), "{refused}");
}

#[test]
fn what_somebody_puts_among_the_key_slots_keeps_none_from_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    drop(create(&path, Some("x")));
    for (way, put) in WAYS {
        for name in ["00.json", "z.json"] {
            put(&path.join("keys").join(name));
            Repository::open(&path, &unlock(Some("x"))).unwrap_or_else(|error| panic!("{way} {name}: {error}"));
            assert_eq!(Repository::open(&path, &unlock(Some("y"))).unwrap_err().code(), "FS-REPO-KEY", "{way} {name}");
            let put = path.join("keys").join(name);
            if put.is_dir() { fs::remove_dir_all(put).unwrap() } else { fs::remove_file(put).unwrap() }
        }
    }
}

#[test]
fn what_somebody_puts_into_the_trash_stops_no_prune() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/dear"), b"to somebody").unwrap();
    let repository = create(&at("r"), None);
    for (number, (way, put)) in (1u64..).zip(WAYS) {
        for name in ["", "packs", "points"] {
            let why = format!("{way} in place of trash/{number}/{name}");
            back_up(&repository, "kept", &{
                fs::write(at("a"), content(1, 9000)).unwrap();
                at("a")
            });
            fs::write(at("b"), content(2, 90_000)).unwrap();
            back_up(&repository, "gone", &at("b"));
            let position = repository.position().unwrap().unwrap_or(0) + 2;
            // One of an earlier prune, the one of this prune, and one that leads to what is somebody's.
            for (mark, put) in [(position - 1, put), (position, put)] {
                let entry = at("r/trash").join(format!("{mark:020}"));
                let _former = fs::remove_dir_all(&entry);
                fs::create_dir_all(entry.join(name).parent().unwrap()).unwrap();
                let entry = if name.is_empty() { entry } else { entry.join(name) };
                put(&entry);
            }
            let other = at("r/trash").join(format!("{:020}", position - 2));
            let _former = fs::remove_dir_all(&other);
            std::os::unix::fs::symlink(at("elsewhere"), &other).unwrap();
            repository.trash().unwrap_or_else(|error| panic!("{why}: {error}"));
            repository.prune(&[point_id("gone")], position).unwrap_or_else(|error| panic!("{why}: {error}"));
            let names: Vec<_> = fs::read_dir(at("r/trash")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [format!("{position:020}").as_str()], "{why}: what came before it has gone");
            assert!(at("elsewhere/dear").exists() && repository.verify(threads()).unwrap().sound(), "{why}");
            repository.prune(&[point_id("kept")], position + 1).unwrap();
        }
    }
}

#[test]
fn whatever_lies_in_place_of_a_file_is_mended_from_a_copy_and_work_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    {
        let repository = create(&at("good"), None);
        for (point, seed) in [("one", 1), ("two", 3)] {
            fs::write(at(point), content(seed, 50_000)).unwrap();
            back_up(&repository, point, &at(point));
        }
    }
    let left_alone = ["lock", "format.json"];
    let mut names = files(&at("good"));
    names.extend(["damaged", "going", "unindexed", "position", "reserve"].map(|name| at("good").join(name)));
    names.sort();
    names.dedup();
    for path in names {
        let name = path.strip_prefix(at("good")).unwrap();
        if left_alone.contains(&name.to_str().unwrap()) {
            continue;
        }
        for (way, put) in WAYS {
            let why = format!("{} {way}", name.display());
            let _former = fs::remove_dir_all(at("r"));
            copy_folder(&at("good"), &at("r"));
            let _none = fs::remove_file(at("r").join(name));
            put(&at("r").join(name));
            let copy = Repository::open_to_read(&at("good"), &unlock(None)).unwrap();
            let opened = Repository::open(&at("r"), &unlock(None)).unwrap_or_else(|error| panic!("{why}: {error}"));
            let opened = Arc::new(opened);
            let spares = Spares { repositories: &[copy], images: &[] };
            let repaired = opened.repair(spares, threads()).unwrap_or_else(|error| panic!("{why}: {error}"));
            assert!(repaired.after.sound(), "{why}: {repaired:?}");
            fs::write(at("three"), content(5, 9000)).unwrap();
            back_up(&opened, "three", &at("three"));
            let dropped = opened.prune(&[point_id("one")], opened.position().unwrap().unwrap_or(0) + 1);
            dropped.unwrap_or_else(|error| panic!("{why}: {error}"));
            drop(opened);
            let opened = Arc::new(Repository::open(&at("r"), &unlock(None)).unwrap());
            for point in ["two", "three"] {
                restore(&opened, point, &at("out")).unwrap_or_else(|error| panic!("{why}: {error}"));
                assert!(fs::read(at("out")).unwrap() == fs::read(at(point)).unwrap(), "{why}: {point}");
            }
            let verified = opened.verify(threads()).unwrap();
            assert!(verified.sound(), "{why}: {verified:?}");
        }
    }
}
