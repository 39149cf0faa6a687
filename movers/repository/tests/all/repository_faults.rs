//! Format 1 on a disk that fills up, or in a process that ends, at whichever change: every point that was announced is
//! restored byte for byte afterwards, and the same work done again succeeds.

use crate::common::StopAfter;
use crate::repository::{content, create, disk_name, manifest, options, point_id, restore, threads, unlock};
use farshore_format::repository::Compression;
use farshore_repository::Result;
use farshore_repository::{BackupOptions, Monotonic, RawSource, Repository, Stages};
use farshore_schemas::units::Millis;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCK: u64 = 4096;
/// A point, and the runs of blocks on its disk: start, length, seed.
type Day = (&'static str, [(u64, u64, u64); 2]);

/// Three days of one disk; most of the first is gone on the second, so that a prune has something to rewrite.
const DAYS: [Day; 3] =
    [("one", [(0, 60, 1), (80, 20, 3)]), ("two", [(20, 70, 5), (100, 8, 7)]), ("three", [(5, 9, 9), (110, 30, 11)])];

struct Images {
    folder: tempfile::TempDir,
    content: BTreeMap<&'static str, Vec<u8>>,
}

impl Images {
    fn new() -> Images {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 150 * BLOCK as usize + 9];
        let mut images = BTreeMap::new();
        for (day, runs) in DAYS {
            for (start, blocks, seed) in runs {
                let range = (start * BLOCK) as usize..((start + blocks) * BLOCK) as usize;
                bytes[range.clone()].copy_from_slice(&content(seed, range.len()));
            }
            let file = std::fs::File::create(folder.path().join(day)).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            images.insert(day, bytes.clone());
        }
        Images { folder, content: images }
    }

    fn path(&self, day: &str) -> PathBuf {
        self.folder.path().join(day)
    }

    /// Backs a day up in a session of its own, on one thread so that changes come in the same order each time.
    fn back_up(&self, repository: &Arc<Repository>, day: &str) -> Result<()> {
        let _session = repository.write_session();
        let source = RawSource::open(&self.path(day)).unwrap();
        let options = BackupOptions { threads: NonZeroUsize::MIN, compression: Compression::Fast, ..options() };
        let disk = repository.backup_disk(&disk_name(), (&source, &options, None), &Stages::default())?;
        repository.commit_point(&manifest(day, &disk)).map(drop)
    }

    fn restores(&self, repository: &Repository, day: &str) -> bool {
        let out = self.folder.path().join("out");
        restore(repository, day, &out).unwrap();
        std::fs::read(&out).unwrap() == self.content[day]
    }
}

/// What has been announced, and what has been asked to go.
#[derive(Default)]
struct Told {
    announced: Vec<&'static str>,
    dropped: Vec<&'static str>,
}

/// Backups, prunes that rewrite, an index made anew: every kind of change that there is.
fn story(images: &Images, repository: &Arc<Repository>, told: &mut Told) -> Result<()> {
    let mut position = 1;
    for (day, _) in DAYS {
        images.back_up(repository, day)?;
        told.announced.push(day);
        if day == "two" {
            told.dropped.push("one");
            repository.prune(&[point_id("one")], position)?;
            position += 1;
            repository.prune(&[], position)?;
            position += 1;
        }
    }
    repository.rebuild_index()?;
    told.dropped.push("two");
    let (two, mark, held) = ([point_id("two")], position, (Millis(0), Monotonic::ZERO));
    repository.mark_points(&two, (mark, position))?;
    // Found after the mark: stored again, and named while the sweep is still to come.
    images.back_up(repository, "one")?;
    told.dropped.retain(|day| *day != "one");
    repository.sweep_marked(&two, (mark, position + 1), held)?;
    repository.empty_trash((mark, position + 2), held).map(drop)
}

/// What must hold in whatever state the folder was left.
fn all_is_well(images: &Images, root: &Path, told: &Told) {
    // What a writer left that did not come to its end is not damage, before anybody has tidied up.
    let verified = Repository::open_to_read(root, &unlock(None)).unwrap().verify(threads()).unwrap();
    assert!(verified.sound(), "{verified:?}");
    let repository = Arc::new(Repository::open(root, &unlock(None)).unwrap());
    let wanted: Vec<_> = told.announced.iter().filter(|day| !told.dropped.contains(day)).collect();
    for day in wanted {
        assert!(repository.point(&point_id(day)).unwrap().is_some(), "{day} was announced");
    }
    for point in repository.points().unwrap() {
        assert!(images.restores(&repository, point.point.0.as_str()), "{}", point.point);
    }
    for (day, _) in DAYS {
        images.back_up(&repository, day).unwrap();
        assert!(images.restores(&repository, day), "{day} backed up again");
    }
    let position = repository.position().unwrap().unwrap_or(0);
    repository.prune(&[point_id("one"), point_id("two")], position + 1).unwrap();
    repository.prune(&[], position + 2).unwrap();
    assert!(images.restores(&repository, "three"));
    let verified = repository.verify(threads()).unwrap();
    assert!(verified.sound() && verified.unindexed == 0, "{verified:?}");
    assert!(!root.join("unindexed").exists());
    let left: Vec<String> = std::fs::read_dir(root.join("packs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "what was half-written is deleted");
}

#[test]
fn a_crash_at_any_change_leaves_every_announced_point_whole() {
    let images = Images::new();
    for changes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("r");
        drop(create(&root, None));
        let faults = Arc::new(StopAfter::crash(changes));
        let mut told = Told::default();
        let outcome = Repository::open_with_faults(&root, &unlock(None), faults.clone())
            .and_then(|repository| story(&images, &Arc::new(repository), &mut told));
        all_is_well(&images, &root, &told);
        if !faults.reached() {
            outcome.unwrap();
            assert!(changes > 60, "the test has met only {changes} changes");
            break;
        }
    }
}

#[test]
fn a_disk_that_fills_up_at_any_write_hurts_no_point_and_goes_on_when_there_is_space() {
    let images = Images::new();
    for writes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("r");
        drop(create(&root, None));
        let faults = Arc::new(StopAfter::full(writes));
        let mut told = Told::default();
        let repository = Repository::open_with_faults(&root, &unlock(None), faults.clone()).map(Arc::new);
        let outcome = repository.and_then(|repository| {
            let outcome = story(&images, &repository, &mut told);
            if let Err(error) = &outcome {
                assert_eq!(error.code(), "FS-REPO-FULL", "after {writes} writes: {error}");
                // The same process goes on when somebody has made space.
                faults.mend();
                for point in repository.points()? {
                    assert!(images.restores(&repository, point.point.0.as_str()), "{} of {writes}", point.point);
                }
                images.back_up(&repository, "three")?;
                told.announced.push("three");
                told.dropped.retain(|day| *day != "three");
                assert!(images.restores(&repository, "three"), "after {writes} writes");
            }
            outcome
        });
        if outcome.is_ok() {
            assert!(writes > 20, "the test has met only {writes} writes");
            break;
        }
        all_is_well(&images, &root, &told);
    }
}
