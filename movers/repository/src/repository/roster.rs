//! The roster: which points there are, so that one that is gone is missed. It is kept twice, since what takes a point's file
//! may take another file, too: `roster.copy` is written before a change of points, with what is about to come or go, and
//! after it, behind `roster`. So the two differ only while a change is under way or was interrupted, and by one generation.

use super::Repository;
use super::damaged::damage_of;
use super::verify::Verified;
use crate::Result;
use farshore_format::repository::{Roster, RosterPoint};
use farshore_schemas::ids::{Digest, PointId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Not;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// How often a verification looks again while a writer is at work.
pub(super) const LOOKS: usize = 16;

/// What is wrong with a point's file whose hash is not the one that the roster has.
pub(super) const NOT_NAMED: &str = "it is not the file that the roster names";

/// The hashes that the file of a point may have.
pub(super) type NamedFiles = BTreeMap<PointId, Vec<Digest>>;

/// What tells a file from one that took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp([i64; 4], u64);

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp([file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()], file.ino()))
    }
}

/// What the roster and its copy named when they were read last.
pub(super) type Named = Option<([Option<Stamp>; 2], Arc<NamedFiles>)>;

/// A roster as it lies in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    Missing,
    Bad(String),
    Read(Roster),
}

impl Kept {
    fn read(&self) -> Option<&Roster> {
        match self {
            Kept::Missing | Kept::Bad(_) => None,
            Kept::Read(roster) => Some(roster),
        }
    }

    fn wrong(&self) -> Option<&str> {
        match self {
            Kept::Missing => Some("it is missing"),
            Kept::Bad(why) => Some(why),
            Kept::Read(_) => None,
        }
    }
}

/// The roster and its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Both {
    roster: Kept,
    copy: Kept,
}

/// Whether a roster tells of a change that has not come to its end.
fn is_about(roster: &Roster) -> bool {
    !roster.coming.is_empty() || !roster.going.is_empty()
}

impl Both {
    /// What is known of the points; none when neither can be read.
    fn newest(&self) -> Option<&Roster> {
        let (roster, copy) = (self.roster.read(), self.copy.read());
        if copy.map(|copy| copy.generation) > roster.map(|roster| roster.generation) { copy } else { roster }
    }

    /// No change of points has begun yet.
    fn are_new(&self) -> bool {
        (&self.roster, &self.copy) == (&Kept::Missing, &Kept::Missing)
    }

    /// The first change of all was interrupted: the copy alone was written.
    fn are_beginning(&self) -> bool {
        let first = |copy: &Roster| copy.generation == 1 && is_about(copy);
        self.roster == Kept::Missing && self.copy.read().is_some_and(first)
    }

    /// Whether both are as a writer leaves them, interrupted or not.
    fn agree(&self) -> bool {
        let (Some(roster), Some(copy)) = (self.roster.read(), self.copy.read()) else { return true };
        roster == copy || (is_about(copy) && roster.generation.abs_diff(copy.generation) == 1)
    }
}

impl Repository {
    pub(super) fn roster_path(&self) -> PathBuf {
        self.root.join("roster")
    }

    fn roster_copy_path(&self) -> PathBuf {
        self.root.join("roster.copy")
    }

    fn kept_roster(&self, path: &Path) -> Result<Kept> {
        Ok(match self.io.read(path) {
            Err(error) => Kept::Bad(damage_of(&error).ok_or(error)?),
            Ok(None) => Kept::Missing,
            Ok(Some(bytes)) => match Roster::decode(&bytes, self.sealing.key.as_ref()) {
                Ok(roster) => Kept::Read(roster),
                Err(error) => Kept::Bad(error.to_string()),
            },
        })
    }

    fn rosters(&self) -> Result<Both> {
        let (roster, copy) = (self.kept_roster(&self.roster_path())?, self.kept_roster(&self.roster_copy_path())?);
        Ok(Both { roster, copy })
    }

    /// Writes which points there are now. One that was there and whose file is gone stays named until it is dropped.
    pub(super) fn write_roster(&self) -> Result<()> {
        let both = self.rosters()?;
        let before = both.newest().cloned().unwrap_or_default();
        let points = self.points_after(&before)?;
        if both.are_new() && points.is_empty() {
            return Ok(());
        }
        let stands = before.generation > 0 && !is_about(&before) && before.points == points;
        let generation = if stands { before.generation } else { before.generation + 1 };
        let roster = Roster { generation, points, coming: Vec::new(), going: Vec::new() };
        for (kept, path) in [(&both.roster, self.roster_path()), (&both.copy, self.roster_copy_path())] {
            if kept.read() != Some(&roster) {
                self.place_roster(&roster, &path)?;
            }
        }
        Ok(())
    }

    /// Writes which points are about to come and go, so that what a crash leaves of the change is told from a point that was
    /// taken away or put there by somebody else.
    pub(super) fn note_change(&self, coming: Vec<RosterPoint>, going: Vec<PointId>) -> Result<()> {
        // What an earlier change has left is settled first, or the two would be more than one change apart.
        self.write_roster()?;
        if coming.is_empty() && going.is_empty() {
            return Ok(());
        }
        let before = self.rosters()?.newest().cloned().unwrap_or_default();
        let about = Roster { generation: before.generation + 1, points: before.points, coming, going };
        self.place_roster(&about, &self.roster_copy_path())
    }

    fn place_roster(&self, roster: &Roster, path: &Path) -> Result<()> {
        let bytes = roster.encode(self.sealing.fresh()).expect("an open repository that seals has its key");
        self.io.place_durable(path, &bytes)
    }

    /// The points that there are, or should be. A file that is not the one that was named does not change what is.
    fn points_after(&self, before: &Roster) -> Result<Vec<RosterPoint>> {
        let mut points: BTreeMap<PointId, Digest> = BTreeMap::new();
        let there = self.point_names()?;
        for entry in &before.points {
            if there.binary_search(&entry.point).is_ok() || !before.going.contains(&entry.point) {
                points.insert(entry.point.clone(), entry.file);
            }
        }
        for point in there {
            let comes = before.coming.iter().find(|entry| entry.point == point);
            match (points.contains_key(&point), comes) {
                (true, None) => {}
                // It took the place of one of the same name, or was about to.
                (true, Some(comes)) => {
                    if self.hash_of(&self.point_path(&point))? == Some(comes.file) {
                        points.insert(point, comes.file);
                    }
                }
                // Whatever has become of the file since: by this hash it is found in a copy.
                (false, Some(comes)) => drop(points.insert(point, comes.file)),
                (false, None) => {
                    if let Some(file) = self.hash_of(&self.point_path(&point))? {
                        points.insert(point, file);
                    }
                }
            }
        }
        Ok(points.into_iter().map(|(point, file)| RosterPoint { point, file }).collect())
    }

    /// The hash of a file; none when there is no file.
    pub(super) fn hash_of(&self, path: &Path) -> Result<Option<Digest>> {
        match self.io.read(path) {
            Ok(bytes) => Ok(bytes.map(|bytes| Digest(*blake3::hash(&bytes).as_bytes()))),
            Err(error) if damage_of(&error).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Points that the roster names and whose files are gone.
    ///
    /// # Errors
    /// What the disk says.
    pub fn lost_points(&self) -> Result<Vec<PointId>> {
        let both = self.rosters()?;
        let Some(roster) = both.newest() else { return Ok(Vec::new()) };
        let there = self.point_names()?;
        let named = roster.points.iter().filter(|entry| !roster.going.contains(&entry.point));
        let named = named.map(|entry| &entry.point).chain(lost_coming(&both));
        let lost: BTreeSet<&PointId> = named.filter(|point| !there.contains(point)).collect();
        Ok(lost.into_iter().cloned().collect())
    }

    /// The hashes of the points' files, as the roster names them: that of one that stands, and that of one that was coming.
    pub(super) fn named_files(&self) -> Result<Arc<NamedFiles>> {
        let stamps = [self.roster_path(), self.roster_copy_path()].map(|path| Stamp::of(&path));
        let mut kept = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, named)) = kept.as_ref()
            && *at == stamps
        {
            return Ok(Arc::clone(named));
        }
        let both = self.rosters()?;
        let mut named = NamedFiles::new();
        for entry in both.newest().into_iter().flat_map(|roster| roster.points.iter().chain(&roster.coming)) {
            named.entry(entry.point.clone()).or_default().push(entry.file);
        }
        let named = Arc::new(named);
        *kept = Some((stamps, Arc::clone(&named)));
        Ok(named)
    }

    /// Whether a file of this hash may be the point's. A roster that cannot be read says nothing, and one that does not know the
    /// name neither.
    pub(super) fn may_be(&self, point: &PointId, file: Digest) -> bool {
        self.named_files().is_ok_and(|named| named.get(point).is_some_and(|files| !files.contains(&file))).not()
    }

    /// Compares the points in the folder with the roster and its copy; answers their names.
    pub(super) fn verify_roster(&self, verified: &mut Verified) -> Result<Vec<PointId>> {
        let (mut both, mut names) = (self.rosters()?, self.point_names()?);
        for _ in 0..LOOKS {
            // A writer may be at work: what is compared must be of one moment.
            let again = (self.rosters()?, self.point_names()?);
            if again == (both.clone(), names.clone()) {
                break;
            }
            (both, names) = again;
        }
        if both.are_new() && names.is_empty() {
            return Ok(names);
        }
        let (path, copy_path) = (self.roster_path(), self.roster_copy_path());
        for (kept, path) in [(&both.roster, &path), (&both.copy, &copy_path)] {
            if let Some(why) = kept.wrong().filter(|_| !both.are_beginning()) {
                verified.note(path.display().to_string(), why);
            }
        }
        if let (Some(roster), Some(copy)) = (both.roster.read(), both.copy.read())
            && !both.agree()
        {
            let (older, newer) = if roster.generation < copy.generation { (&path, copy) } else { (&copy_path, roster) };
            let why = format!("it is an older one: the other is of generation {}", newer.generation);
            verified.note(older.display().to_string(), why);
        }
        for point in lost_coming(&both).filter(|point| !names.contains(point)) {
            let why = "it was being added when the roster was written, and is missing";
            verified.note_point(point, self.point_path(point).display().to_string(), why);
        }
        if let Some(roster) = both.newest() {
            self.compare_roster(roster, &names, verified)?;
        }
        Ok(names)
    }

    fn compare_roster(&self, roster: &Roster, names: &[PointId], verified: &mut Verified) -> Result<()> {
        let comes = |point: &PointId| roster.coming.iter().find(|entry| entry.point == *point).map(|entry| entry.file);
        for entry in &roster.points {
            let path = self.point_path(&entry.point);
            let found = self.hash_of(&path)?;
            if found.is_none() && !roster.going.contains(&entry.point) {
                verified.note_point(&entry.point, path.display().to_string(), "the roster names it, and it is missing");
            } else if found.is_some() && found != Some(entry.file) && found != comes(&entry.point) {
                verified.note_point(&entry.point, path.display().to_string(), NOT_NAMED);
            }
        }
        for point in names {
            let path = self.point_path(point);
            let known = roster.points.iter().any(|entry| entry.point == *point);
            let comes = comes(point);
            if known || comes.is_some() && comes == self.hash_of(&path)? {
                // Or the one that a writer was about to add when it was interrupted.
                continue;
            }
            let why = match comes {
                Some(_) => "it is not the file that was being added when the roster was written",
                None => "the roster does not name it: the roster is an older copy, or the point was put back",
            };
            verified.note(path.display().to_string(), why);
        }
        Ok(())
    }
}

/// Points that the copy says are being added. Where the roster is as it should be they need not be there; where it cannot be
/// read, nobody knows whether they have come.
fn lost_coming(both: &Both) -> impl Iterator<Item = &PointId> {
    let unknown = both.roster.read().is_none() && !both.are_beginning();
    let coming = both.copy.read().filter(|_| unknown).into_iter().flat_map(|copy| &copy.coming);
    coming.map(|entry| &entry.point)
}
