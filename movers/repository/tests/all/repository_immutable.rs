//! Points that must stay until a date: nobody drops them or what they name before it, whatever is ordered and whatever the clock
//! is set to, and where the file system can, their files cannot be deleted either.

use crate::repository::{create, image, manifest, point_id, read_in, restore, threads, unlock};
use farshore_repository::{Clock, Error, Monotonic, RawSource, Repository, Spares};
use farshore_schemas::ids::PointId;
use farshore_schemas::units::{ByteCount, Millis, Timestamp};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const REGION: u64 = 4 << 20;
const DAY: Millis = Millis::from_mins(24 * 60);
pub(crate) const PERIOD: Millis = Millis::from_mins(14 * 24 * 60);
pub(crate) const BEGIN: i64 = 1_790_000_000_000;

/// Clocks that a test sets.
pub(crate) struct Set {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl Set {
    pub(crate) fn new(wall: i64) -> Arc<Set> {
        Arc::new(Set { wall: AtomicI64::new(wall), monotonic: AtomicU64::new(0) })
    }

    /// Time passes.
    pub(crate) fn pass(&self, span: Millis) {
        self.wall.fetch_add(i64::try_from(span.0).unwrap(), Ordering::SeqCst);
        self.monotonic.fetch_add(span.0, Ordering::SeqCst);
    }

    /// Somebody sets the clock.
    pub(crate) fn set(&self, days: i64) {
        self.wall.fetch_add(days * i64::try_from(DAY.0).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Set {
    fn wall(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_millis(self.monotonic.load(Ordering::SeqCst))
    }
}

/// A folder whose files lose the attribute at the end, so that it can be deleted.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("r")
    }

    /// Whether what should bear the attribute does: not every file system has it.
    pub(crate) fn can_mark(&self, path: &Path) -> bool {
        let marked = bears(path);
        if !marked {
            eprintln!("not tested: files under {} cannot be made immutable here", self.0.path().display());
        }
        marked
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for path in files(&self.repository()).into_iter().filter(|path| path.is_file()) {
            let _ = flag(&path, false);
        }
    }
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

pub(crate) fn bears(path: &Path) -> bool {
    ioctl_getflags(File::open(path).unwrap()).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))
}

pub(crate) fn flag(path: &Path, on: bool) -> rustix::io::Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut flags = ioctl_getflags(&file)?;
    flags.set(IFlags::IMMUTABLE, on);
    ioctl_setflags(&file, flags)
}

pub(crate) fn open(place: &Place, clock: &Arc<Set>) -> Arc<Repository> {
    let repository = Repository::open(&place.repository(), &unlock(Some("x"))).unwrap();
    Arc::new(repository.with_clock(clock.clone()))
}

pub(crate) fn fresh(place: &Place, clock: &Arc<Set>) -> Arc<Repository> {
    drop(create(&place.repository(), Some("x")));
    open(place, clock)
}

/// A point of an image of these runs.
pub(crate) fn commit(
    repository: &Arc<Repository>,
    place: &Place,
    point: &str,
    (runs, period): (&[(u64, u64, u64)], Option<Millis>),
) {
    let disk = place.path("disk.raw");
    image(&disk, 2 * REGION, runs);
    let session = repository.write_session();
    let found = read_in(&session, &disk, None);
    repository.commit_immutable(&manifest(point, &found), period).unwrap();
}

pub(crate) fn only(point: &str) -> [PointId; 1] {
    [point_id(point)]
}

pub(crate) fn refused(result: Result<impl std::fmt::Debug, Error>, point: &str) {
    let error = result.expect_err("it must stay");
    assert_eq!(error.code(), "FS-REPO-IMMUTABLE");
    assert!(matches!(&error, Error::Immutable { point: found, .. } if *found == point_id(point)), "{error}");
}

/// Every way to drop a point is refused.
fn stays(repository: &Repository, (point, position): (&str, u64)) {
    refused(repository.mark_points(&only(point), (position, position)), point);
    refused(repository.prune(&only(point), position), point);
    // A control that has a mark of something else sweeps this.
    repository.mark_points(&[], (position, position)).unwrap();
    let held = (Millis(0), Monotonic::ZERO);
    refused(repository.sweep_marked(&only(point), (position, position), held), point);
    assert!(repository.point_names().unwrap().contains(&point_id(point)));
}

#[test]
fn whoever_orders_it_an_immutable_point_goes_only_after_its_date() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 900, 1)], Some(PERIOD)));
    stays(&repository, ("one", 1));
    clock.pass(Millis(PERIOD.0 - 1));
    drop(repository);
    let repository = open(&place, &clock);
    stays(&repository, ("one", 2));
    restore(&repository, "one", &place.path("out")).unwrap();
    clock.pass(Millis(1));
    let pruned = repository.prune(&only("one"), 3).unwrap();
    assert!(pruned.marked > ByteCount(0) && repository.point_names().unwrap().is_empty());
    assert_eq!(repository.immutability().unwrap().points.len(), 0);
}

#[test]
fn a_clock_that_is_set_ahead_while_it_runs_ends_nothing() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    clock.set(1_000);
    stays(&repository, ("one", 1));
    clock.pass(PERIOD);
    repository.prune(&only("one"), 2).unwrap();
}

#[test]
fn a_clock_that_is_set_back_makes_no_date_earlier() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    drop(repository);
    clock.set(-100);
    let repository = open(&place, &clock);
    commit(&repository, &place, "two", (&[(0, 30, 3)], Some(PERIOD)));
    let until = repository.immutability().unwrap().points;
    assert!(until[&point_id("two")] >= until[&point_id("one")], "{until:?}");
    drop(repository);
    clock.set(100);
    stays(&open(&place, &clock), ("two", 1));
}

#[test]
fn a_date_is_lengthened_and_never_shortened() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    let before = repository.immutability().unwrap();
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(DAY)));
    assert_eq!(repository.immutability().unwrap(), before);
}

#[test]
fn a_pack_that_an_immutable_point_names_stays_as_it_is_though_little_of_it_is_named() {
    for period in [None, Some(PERIOD)] {
        let (place, clock) = (Place::new(), Set::new(BEGIN));
        let repository = fresh(&place, &clock);
        commit(&repository, &place, "one", (&[(0, 400, 1), (1024, 900, 3)], None));
        // What it names was stored by another point, before.
        commit(&repository, &place, "two", (&[(0, 400, 1)], period));
        let pruned = repository.prune(&only("one"), 1).unwrap();
        assert_eq!(pruned.rewritten == ByteCount(0), period.is_some(), "{pruned:?}");
        assert!(repository.verify(threads()).unwrap().sound());
        clock.pass(PERIOD);
        let later = repository.prune(&[], 2).unwrap();
        assert_eq!(later.rewritten == ByteCount(0), period.is_none(), "{later:?}");
        assert!(repository.verify(threads()).unwrap().sound());
    }
}

/// Changes a byte in the midst of a file.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn when_it_is_not_known_what_must_stay_nothing_goes() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    spoil(&place.repository().join("immutable"));
    spoil(&place.repository().join("immutable.copy"));
    clock.pass(PERIOD);
    assert_eq!(repository.prune(&only("one"), 1).unwrap_err().code(), "FS-REPO-DAMAGE");
    let verified = repository.verify(threads()).unwrap();
    assert_eq!(verified.damage.len(), 2, "{:?}", verified.damage);
    let repaired = repository.repair(Spares::default(), threads()).unwrap();
    assert_eq!(repaired.after.damage.len(), 2, "what must stay is not guessed: {:?}", repaired.after.damage);
    restore(&repository, "one", &place.path("out")).unwrap();
}

#[test]
fn either_list_tells_what_must_stay_and_a_repair_makes_two_of_them() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "zero", (&[(0, 30, 2)], Some(PERIOD)));
    let lists = ["immutable", "immutable.copy"].map(|name| place.repository().join(name));
    let early = lists.clone().map(|list| std::fs::read(list).unwrap());
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    let mut position = 0;
    for (list, early) in lists.iter().zip(early) {
        for harm in ["spoilt", "taken away", "put back from before"] {
            match harm {
                "spoilt" => spoil(list),
                "taken away" => std::fs::remove_file(list).unwrap(),
                _ => std::fs::write(list, &early).unwrap(),
            }
            position += 1;
            stays(&repository, ("one", position));
            let told = repository.verify(threads()).unwrap().damage.len();
            assert_eq!(told, usize::from(harm != "put back from before"), "{harm}: {}", list.display());
            let repaired = repository.repair(Spares::default(), threads()).unwrap();
            assert!(repaired.after.sound(), "{harm}: {:?}", repaired.after.damage);
            position += 1;
            stays(&repository, ("one", position));
            commit(&repository, &place, &format!("more-{position}"), (&[(0, 30, 1)], Some(DAY)));
        }
    }
}

#[test]
fn a_clock_that_lags_makes_no_date_earlier() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    // The machine slept: its monotonic time stood still.
    clock.set(20);
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    drop(repository);
    let repository = open(&place, &clock);
    clock.pass(Millis(PERIOD.0 - 1));
    stays(&repository, ("one", 1));
    clock.pass(Millis(1));
    repository.prune(&only("one"), 2).unwrap();
}

#[test]
fn a_repair_replaces_files_that_bear_the_attribute() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 900, 1)], Some(PERIOD)));
    repository.keep_immutable().unwrap();
    let pack = files(&place.repository().join("packs")).pop().unwrap();
    let whole = std::fs::read(&pack).unwrap();
    let _ = flag(&pack, false);
    let mut bad = whole.clone();
    bad[whole.len() / 2] ^= 1;
    std::fs::write(&pack, bad).unwrap();
    let _ = flag(&pack, true);
    let disk = place.path("disk.raw");
    let source = RawSource::open(&disk).unwrap();
    let spares = Spares { images: &[(source, disk.clone())], ..Spares::default() };
    let repaired = repository.repair(spares, threads()).unwrap();
    assert!(!repaired.before.sound() && repaired.after.sound(), "{:?}", repaired.after.damage);
    assert_eq!(repaired.aside, 1);
    stays(&repository, ("one", 1));
    restore(&repository, "one", &place.path("out")).unwrap();
}

#[test]
fn the_file_system_refuses_too_until_the_date_has_come() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let probe = place.path("probe");
    std::fs::write(&probe, "x").unwrap();
    if let Err(error) = flag(&probe, true) {
        eprintln!("not tested: files under {} cannot be made immutable here: {error}", place.0.path().display());
        return;
    }
    flag(&probe, false).unwrap();
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "old", (&[(0, 400, 1), (1024, 900, 3)], None));
    commit(&repository, &place, "one", (&[(0, 400, 1)], Some(PERIOD)));
    let named = place.repository().join("points/one");
    assert!(bears(&named) && !bears(&place.repository().join("points/old")));
    let packs = place.repository().join("packs");
    assert!(files(&packs).iter().all(|pack| !bears(pack)));
    repository.keep_immutable().unwrap();
    let marked: Vec<PathBuf> = files(&packs).into_iter().filter(|pack| bears(pack)).collect();
    assert!(!marked.is_empty());
    for file in marked.iter().chain([&named]) {
        assert!(std::fs::remove_file(file).is_err() && File::options().write(true).open(file).is_err(), "{file:?}");
    }
    // An opening that knows nothing of the attribute's past takes it off when the date has come.
    drop(repository);
    clock.pass(PERIOD);
    let repository = open(&place, &clock);
    let pruned = repository.prune(&[point_id("old"), point_id("one")], 1).unwrap();
    assert!(pruned.marked > ByteCount(0));
    repository.prune(&[], 2).unwrap();
    assert!(files(&packs).is_empty() && repository.trash().unwrap() == ByteCount(0));
}
