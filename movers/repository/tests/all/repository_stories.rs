//! How other tools of the field have lost data where prunes meet backups, each as a case of its own (reliability.md 2). What
//! they have in common: somebody believed that a chunk was there, or that nobody needed it, and was wrong.

use crate::repository::{
    back_up, create, disk_name, image, manifest, options, point_id, read_in, restore, threads, unlock,
};
use farshore_repository::{Changes, Monotonic, RawSource, Repository, Stages};
use farshore_schemas::ids::PointId;
use farshore_schemas::units::{ByteCount, Millis};
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const REGION: u64 = 4096 * 4096;
/// Held for no time at all: what a story's tool would have deleted at once.
const NO_HOLD: (Millis, Monotonic) = (Millis(0), Monotonic::ZERO);

struct Story {
    folder: tempfile::TempDir,
    repository: Option<Arc<Repository>>,
    position: u64,
}

impl Story {
    /// Point one is there, of `disk`.
    fn begin() -> Story {
        let folder = tempfile::tempdir().unwrap();
        image(&folder.path().join("disk"), REGION, &[(0, 900, 1), (1000, 900, 3)]);
        let repository = create(&folder.path().join("r"), Some("x"));
        back_up(&repository, "one", &folder.path().join("disk"));
        Story { folder, repository: Some(repository), position: 0 }
    }

    fn repository(&self) -> &Arc<Repository> {
        self.repository.as_ref().expect("it is open")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent's process ends and begins anew; what it held in memory is gone.
    fn restart(&mut self) {
        let path = self.repository().path().to_owned();
        drop(self.repository.take());
        self.repository = Some(Arc::new(Repository::open(&path, &unlock(Some("x"))).unwrap()));
    }

    fn next(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// A whole prune that waits for nobody: mark, sweep and the emptying of the trash.
    fn prune(&mut self, points: &[&str]) -> ByteCount {
        let points: Vec<PointId> = points.iter().map(|point| point_id(point)).collect();
        let mark = self.next();
        let repository = self.repository().clone();
        repository.mark_points(&points, (mark, mark)).unwrap();
        let swept = repository.sweep_marked(&points, (mark, self.next()), NO_HOLD).unwrap();
        repository.empty_trash((mark, self.next()), NO_HOLD).unwrap();
        swept.marked
    }

    fn restores(&self, point: &str, image: &str) {
        let out = self.path("out");
        restore(self.repository(), point, &out).unwrap();
        assert!(std::fs::read(self.path(image)).unwrap() == std::fs::read(&out).unwrap(), "{point}");
    }

    fn is_sound(&self) {
        let verified = self.repository().verify(threads()).unwrap();
        assert!(verified.sound(), "{verified:?}");
    }
}

/// restic 2452, 3126, 3182: a live lock counted as stale, and the prune took what the backup beside it had found.
#[test]
fn restic_2452_a_prune_that_waits_for_nobody_takes_nothing_of_a_running_backup() {
    let mut story = Story::begin();
    let session = story.repository().write_session();
    let found = read_in(&session, &story.path("disk"), None);
    assert_eq!(found.new, ByteCount(0), "all of it is counted on");
    assert_eq!(story.prune(&["one"]), ByteCount(0));
    assert_eq!(story.prune(&[]), ByteCount(0), "nor the next");
    story.repository().commit_point(&manifest("two", &found)).unwrap();
    drop(session);
    story.restores("two", "disk");
    story.is_sound();
}

/// rustic docs 144: a backup was stopped (SIGSTOP), a prune of another tool deleted its packs, and it went on to its end.
#[test]
fn rustic_144_a_backup_that_slept_through_prunes_and_a_restart_makes_no_point_that_lacks_chunks() {
    let mut story = Story::begin();
    let session = story.repository().write_session();
    let found = read_in(&session, &story.path("disk"), None);
    drop(session);
    story.restart();
    assert!(story.prune(&["one"]).0 > 0, "nobody remembers the session");
    let error = story.repository().commit_point(&manifest("two", &found)).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-INCOMPLETE", "{error}");
    assert!(story.repository().point(&point_id("two")).unwrap().is_none());
    back_up(story.repository(), "two", &story.path("disk"));
    story.restores("two", "disk");
    story.is_sound();
}

/// rustic 0.12.0: several prunes and backups at once.
#[test]
fn rustic_0_12_backups_and_prunes_that_meet_leave_every_point_whole() {
    let story = Story::begin();
    let (repository, over) = (story.repository().clone(), AtomicBool::new(false));
    let (position, oldest) = (AtomicU64::new(0), Mutex::new(Vec::from([point_id("one")])));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let (story, repository, oldest) = (&story, &repository, &oldest);
                scope.spawn(move || {
                    for run in 0..6u64 {
                        let disk = story.path(&format!("disk{writer}-{run}"));
                        // Contents come back after a run or two, just when a prune has them in hand.
                        image(&disk, REGION, &[(0, 300, 1 + (writer + run) % 3), (700, 300, 7 + run % 2)]);
                        let point = format!("w{writer}-{run}");
                        back_up(repository, &point, &disk);
                        if run < 4 {
                            oldest.lock().unwrap().push(point_id(&point));
                        }
                    }
                })
            })
            .collect();
        let pruner = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let points = std::mem::take(&mut *oldest.lock().unwrap());
                let mark = position.fetch_add(3, Ordering::SeqCst) + 1;
                repository.mark_points(&points, (mark, mark)).unwrap();
                repository.sweep_marked(&points, (mark, mark + 1), NO_HOLD).unwrap();
                repository.empty_trash((mark, mark + 2), NO_HOLD).unwrap();
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        over.store(true, Ordering::SeqCst);
        pruner.join().unwrap();
    });
    for writer in 0..4 {
        for run in 4..6 {
            story.restores(&format!("w{writer}-{run}"), &format!("disk{writer}-{run}"));
        }
    }
    story.is_sound();
}

/// borg2 9748: an interrupted compact left an index that said that deleted chunks exist; the next backup skipped them, exit 0.
#[test]
fn borg2_9748_an_index_from_before_the_prune_makes_no_backup_skip_what_is_gone() {
    let mut story = Story::begin();
    story.restart();
    let (index, kept) = (story.path("r").join("index"), story.path("index"));
    copy_folder(&index, &kept);
    assert!(story.prune(&["one"]).0 > 0);
    drop(story.repository.take());
    std::fs::remove_dir_all(&index).unwrap();
    copy_folder(&kept, &index);
    let opened = Repository::open(&story.path("r"), &unlock(Some("x"))).unwrap();
    story.repository = Some(Arc::new(opened));
    back_up(story.repository(), "two", &story.path("disk"));
    story.restores("two", "disk");
    story.is_sound();
}

/// Proxmox PSA-2025-00019-1: a backup reused chunks of a point that was pruned before the mark came to it.
#[test]
fn proxmox_2025_00019_chunks_of_a_point_that_went_before_the_mark_are_kept_for_who_found_them() {
    let mut story = Story::begin();
    image(&story.path("other"), REGION, &[(0, 900, 1), (2000, 900, 5)]);
    back_up(story.repository(), "other", &story.path("other"));
    // The point goes, and what only it named stays for now: somebody has it in hand.
    let session = story.repository().write_session();
    let found = read_in(&session, &story.path("disk"), None);
    story.prune(&["one"]);
    story.repository().commit_point(&manifest("two", &found)).unwrap();
    let later = story.repository().write_session();
    let again = read_in(&later, &story.path("disk"), None);
    drop(session);
    story.prune(&["two"]);
    story.prune(&[]);
    story.repository().commit_point(&manifest("three", &again)).unwrap();
    drop(later);
    story.restores("three", "disk");
    story.restores("other", "other");
    story.is_sound();
}

/// kopia 1587: index entries of a writer that was too slow were dropped.
#[test]
fn kopia_1587_what_a_slow_writer_stored_long_ago_counts_when_its_point_comes() {
    let mut story = Story::begin();
    image(&story.path("slow"), REGION, &[(0, 900, 21)]);
    let session = story.repository().write_session();
    let stored = read_in(&session, &story.path("slow"), None);
    for run in 0..20u64 {
        let disk = story.path("quick");
        image(&disk, REGION, &[(0, 50, 100 + run)]);
        back_up(story.repository(), &format!("quick{run}"), &disk);
        story.prune(&[&format!("quick{run}")]);
    }
    drop(session);
    story.restart();
    story.repository().commit_point(&manifest("slow", &stored)).unwrap();
    story.restores("slow", "slow");
    story.is_sound();
}

/// kopia 2227 and its refusal at a skew of five minutes: what decides is not the time of a file.
#[test]
fn kopia_2227_times_of_files_decide_nothing() {
    for year in [0u64, 100] {
        let mut story = Story::begin();
        image(&story.path("other"), REGION, &[(0, 900, 9)]);
        back_up(story.repository(), "two", &story.path("other"));
        let (hold, mark) = ((Millis::from_mins(60), Monotonic::ZERO), story.next());
        story.repository().mark_points(&[point_id("one")], (mark, mark)).unwrap();
        let points = [point_id("one")];
        story.repository().sweep_marked(&points, (mark, mark), hold).unwrap();
        set_times(&story.path("r"), SystemTime::UNIX_EPOCH + Duration::from_secs(year * 365 * 86_400));
        story.restart();
        let error = story.repository().empty_trash((mark, mark), hold).unwrap_err();
        assert_eq!(error.code(), "FS-REPO-HELD", "{error}");
        story.restores("two", "other");
        let deleted = story.repository().empty_trash((mark, mark), (hold.0, Duration::from_secs(3600))).unwrap();
        assert!(deleted.0 > 0);
        story.is_sound();
    }
}

/// VMware KB 2090639, ZFS hole_birth: a list of changes that lacks one. A list is a hint; a backup without one reads everything.
#[test]
fn vmware_2090639_what_a_list_of_changes_left_out_is_found_by_the_next_full_look() {
    let story = Story::begin();
    let disk = story.path("disk");
    let first = story.repository().point(&point_id("one")).unwrap().unwrap();
    image(&disk, REGION, &[(0, 900, 1), (1000, 900, 5)]);
    let session = story.repository().write_session();
    let nothing = Changes { disk: &first.disks[0], ranges: Some(&[]) };
    let source = RawSource::open(&disk).unwrap();
    let missed =
        story.repository().backup_disk(&disk_name(), (&source, &options(), Some(nothing)), &Stages::default()).unwrap();
    story.repository().commit_point(&manifest("two", &missed)).unwrap();
    let looked = read_in(&session, &disk, None);
    assert!(looked.disk != missed.disk, "the full look does not take the list's word");
    story.repository().commit_point(&manifest("three", &looked)).unwrap();
    drop(session);
    story.restores("three", "disk");
    // A disk of another size is read in full, whatever the list says.
    image(&disk, 2 * REGION, &[(0, 900, 1), (1000, 900, 5), (5000, 90, 7)]);
    let session = story.repository().write_session();
    let source = RawSource::open(&disk).unwrap();
    let third = manifest("three", &looked);
    let nothing = Changes { disk: &third.disks[0], ranges: Some(&[]) };
    let resized =
        story.repository().backup_disk(&disk_name(), (&source, &options(), Some(nothing)), &Stages::default()).unwrap();
    story.repository().commit_point(&manifest("four", &resized)).unwrap();
    drop(session);
    story.restores("four", "disk");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn set_times(root: &Path, when: SystemTime) {
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_times(&path, when);
        } else {
            let times = FileTimes::new().set_modified(when).set_accessed(when);
            File::options().append(true).open(&path).unwrap().set_times(times).unwrap();
        }
    }
}
