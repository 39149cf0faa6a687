//! What is no file, or fits no memory, in place of each file of a repository: it is told, a repair from a copy mends it, and
//! work goes on.

use crate::repository::{back_up, content, create, point_id, restore, threads, unlock};
use farshore_repository::{Repository, Spares};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A name, and how something that no repository wrote comes to lie at a path.
pub(crate) type Way = (&'static str, fn(&Path));

pub(crate) const WAYS: [Way; 4] = [
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
