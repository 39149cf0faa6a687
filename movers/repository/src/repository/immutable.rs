//! Points that stay until a date, whatever retention, an operator or a control says. The agent writes the date beside the point
//! before the point is there, and drops neither the point nor a pack that it names before. So the date of a pack is the latest
//! of the points that name it, and is found from them; a pack of which little is live is not rewritten before it either.
//!
//! The date in the folder decides. Where the file system knows the immutable attribute, points and their packs bear it as well: points
//! from their making, packs from the agent's next round, since it takes a walk through the point to know them.
//!
//! The list is kept twice, since nothing is dropped while it is not known what must stay.
//!
//! It does not protect from root on this machine, who can take the attribute off, delete the lists and the files, or set the
//! clock while no agent runs.

use super::Repository;
use super::clocks::{Clock, Clocks};
use super::damaged::damage_of;
use super::packs::pack_path;
use super::records::Reader;
use crate::attribute::{self, Attribute};
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, FileId, Immutable, ImmutablePoint};
use farshore_schemas::ids::PointId;
use farshore_schemas::units::{Millis, Timestamp};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

/// The time that was seen is written down anew when it has moved by so much.
const SEEN_EVERY: Millis = Millis::from_mins(60);

const UNDATED: &str = "it bears the immutable attribute, and nothing says until when it must stay; root takes the attribute off \
                       (chattr -i) if it may go";

/// How it stands with what must stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Immutability {
    /// Points that must stay now, each with its date.
    pub points: BTreeMap<PointId, Timestamp>,
    /// How many of their files bear the immutable attribute.
    pub marked: usize,
}

/// What an opening knows of the attribute.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Points whose packs bear it.
    done: HashSet<PointId>,
    /// What the last file said.
    how: Option<Attribute>,
}

impl Repository {
    /// The same with another clock, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Repository {
        self.clocks = Clocks::of(clock);
        self
    }

    fn immutable_path(&self) -> PathBuf {
        self.root.join("immutable")
    }

    fn immutable_copy_path(&self) -> PathBuf {
        self.root.join("immutable.copy")
    }

    fn attributes(&self) -> MutexGuard<'_, Attributes> {
        // A panic while it was held leaves at worst a walk too many.
        self.attributes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the two lists; none when there is no such file.
    fn list_in(&self, path: &Path) -> Result<Option<Immutable>> {
        let Some(bytes) = self.io.read(path)? else { return Ok(None) };
        let read = Immutable::decode(&bytes, self.sealing.key.as_ref());
        read.map(Some).map_err(|error| self.io.damage(path, error))
    }

    /// What must stay by either list: one that was put back from an earlier day, taken away or spoilt frees nothing.
    fn read_immutable(&self) -> Result<Option<Immutable>> {
        let both = [self.list_in(&self.immutable_path()), self.list_in(&self.immutable_copy_path())];
        match both {
            [Ok(list), Ok(copy)] => Ok(match (list, copy) {
                (Some(list), Some(copy)) => Some(list.and(copy)),
                (list, copy) => list.or(copy),
            }),
            // A date is in both before its point is there, so that either is enough.
            [Ok(Some(one)), Err(error)] | [Err(error), Ok(Some(one))] if damage_of(&error).is_some() => Ok(Some(one)),
            [Err(error), _] | [_, Err(error)] => Err(error),
        }
    }

    fn write_immutable(&self, immutable: &Immutable) -> Result<()> {
        for path in [self.immutable_copy_path(), self.immutable_path()] {
            let bytes = immutable.encode(self.sealing.fresh()).expect("an open repository that seals has its key");
            self.io.place_durable(&path, &bytes)?;
        }
        Ok(())
    }

    /// What is wrong with the lists of what must stay. A copy alone is what a crash leaves of the first list of all, when none of
    /// its points is there yet.
    pub(super) fn verify_immutable(&self) -> Result<Vec<(PathBuf, String)>> {
        let (path, copy_path) = (self.immutable_path(), self.immutable_copy_path());
        let (list, copy) = (self.list_in(&path), self.list_in(&copy_path));
        let mut found = Vec::new();
        let there = self.point_names()?;
        match (&list, &copy) {
            (Ok(Some(_)), Ok(None)) => found.push((copy_path.clone(), "it is missing".to_owned())),
            (Ok(None), Ok(Some(copy))) if copy.points.iter().any(|one| there.contains(&one.point)) => {
                found.push((path.clone(), "it is missing".to_owned()));
            }
            _ => {}
        }
        for (read, path) in [(list, path), (copy, copy_path)] {
            if let Err(error) = read {
                let why = damage_of(&error);
                found.push((path, why.ok_or(error)?));
            }
        }
        match self.undated() {
            Ok(points) => found.extend(points.iter().map(|point| (self.point_path(point), UNDATED.to_owned()))),
            Err(error) if damage_of(&error).is_some() => (),
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    /// Writes both lists anew from the one that can be read.
    pub(super) fn mend_immutable(&self) -> Result<()> {
        let _alone = self.decide_alone();
        if self.verify_immutable()?.is_empty() {
            return Ok(());
        }
        match self.read_immutable() {
            Ok(Some(list)) => self.write_immutable(&list),
            Ok(None) => Ok(()),
            // Neither can be read: what must stay is not known, and is not for a repair to guess.
            Err(error) if damage_of(&error).is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// From now on this point must stay for so long; one that must stay longer already does.
    pub(super) fn make_immutable(&self, point: &PointId, period: Millis) -> Result<()> {
        let mut list = self.read_immutable()?.unwrap_or_default();
        let now = self.clocks.now();
        // A clock that was set back does not make the date earlier.
        list.seen = list.seen.max(now);
        // Nor does one that went ahead of monotonic time, as it does when the machine slept: that only lengthens it.
        let until = list.seen.max(self.clocks.wall()).after(period);
        let there: HashSet<PointId> = self.point_names()?.into_iter().collect();
        list.points.retain(|one| one.until > now || there.contains(&one.point));
        match list.points.binary_search_by(|one| one.point.cmp(point)) {
            Ok(at) => list.points[at].until = until.max(list.points[at].until),
            Err(at) => list.points.insert(at, ImmutablePoint { point: point.clone(), until }),
        }
        self.write_immutable(&list)
    }

    /// Points that must stay now, also those whose files somebody took away.
    fn immutable_now(&self) -> Result<BTreeMap<PointId, Timestamp>> {
        let (list, now) = (self.read_immutable()?.unwrap_or_default(), self.clocks.now());
        let there: HashSet<PointId> = self.point_names()?.into_iter().chain(self.lost_points()?).collect();
        let stays = |one: &ImmutablePoint| one.until > now && there.contains(&one.point);
        Ok(list.points.into_iter().filter(stays).map(|one| (one.point, one.until)).collect())
    }

    /// How it stands with what must stay.
    ///
    /// # Errors
    /// [`Error::Damage`] when the list of it cannot be read.
    pub fn immutability(&self) -> Result<Immutability> {
        let points = self.immutable_now()?;
        let marked = points.keys().filter(|point| attribute::is_set(&self.io, &self.point_path(point))).count();
        Ok(Immutability { points, marked })
    }

    /// As [`Repository::make_immutable`], of a point that is there and has had no date.
    pub(super) fn date_if_undated(&self, point: &PointId, period: Millis) -> Result<()> {
        let list = self.read_immutable()?.unwrap_or_default();
        if list.points.iter().any(|one| one.point == *point) { Ok(()) } else { self.make_immutable(point, period) }
    }

    /// Until when a point must stay, if it must now.
    ///
    /// # Errors
    /// [`Error::Damage`] when the list of it cannot be read.
    pub fn immutable_until(&self, point: &PointId) -> Result<Option<Timestamp>> {
        Ok(self.immutable_now()?.remove(point))
    }

    /// Those of these points that may be dropped: one that must stay does not keep the others.
    ///
    /// # Errors
    /// [`Error::Immutable`] when every one of them must stay, or [`Error::Damage`] when what must stay is not known.
    pub fn may_go(&self, points: &[PointId]) -> Result<Vec<PointId>> {
        let stays = self.immutable_now()?;
        let (stay, go): (Vec<&PointId>, Vec<&PointId>) = points.iter().partition(|point| stays.contains_key(*point));
        if go.is_empty() {
            self.may_drop(points)?;
        }
        for point in stay {
            tracing::warn!(code = "FS-REPO-IMMUTABLE", %point, "a point that must stay was to be dropped: it stays");
        }
        Ok(go.into_iter().cloned().collect())
    }

    /// Refuses to drop points that must stay. Answers those that must.
    ///
    /// # Errors
    /// [`Error::Immutable`], or [`Error::Damage`] when what must stay is not known.
    pub fn may_drop(&self, points: &[PointId]) -> Result<Vec<PointId>> {
        let stays = self.immutable_now()?;
        if let Some((point, until)) = points.iter().find_map(|point| stays.get_key_value(point)) {
            return Err(Error::Immutable { point: point.clone(), left: until.since(self.clocks.now()) });
        }
        // The list was taken away: until when such a point must stay is not known.
        if let Some(point) = self.undated()?.into_iter().find(|point| points.contains(point)) {
            return Err(self.io.damage(&self.point_path(&point), UNDATED));
        }
        Ok(stays.into_keys().collect())
    }

    /// Points whose files bear the attribute though neither list names them. What was listed stays listed as long as it is there.
    fn undated(&self) -> Result<Vec<PointId>> {
        let list = self.read_immutable()?.unwrap_or_default();
        let listed: HashSet<PointId> = list.points.into_iter().map(|one| one.point).collect();
        let bears = |point: &PointId| !listed.contains(point) && attribute::is_set(&self.io, &self.point_path(point));
        Ok(self.point_names()?.into_iter().filter(bears).collect())
    }

    /// The point bears the attribute from now on, where it can.
    pub(super) fn mark_point(&self, point: &PointId) -> Result<()> {
        self.mark_file(&self.point_path(point))
    }

    /// Takes the attribute off a file whose date has passed.
    pub(super) fn unmark(&self, path: &Path) -> Result<()> {
        attribute::clear(&self.io, path)
            .map_err(|error| self.io.failed("take the immutable attribute off", path, error))
    }

    fn mark_file(&self, path: &Path) -> Result<()> {
        let set = attribute::set(&self.io, path);
        let how = set.map_err(|error| self.io.failed("set the immutable attribute of", path, error))?;
        let mut attributes = self.attributes();
        let why = match how {
            None | Some(Attribute::Set) => None,
            Some(Attribute::Unsupported) => Some("the file system has no immutable attribute"),
            Some(Attribute::NotAllowed) => Some("setting the immutable attribute takes CAP_LINUX_IMMUTABLE"),
        };
        if let Some(why) = why.filter(|_| attributes.how != how) {
            let path = self.root.display();
            tracing::warn!(code = "FS-REPO-ATTRIBUTE", repository = %path, "{why}: only this agent refuses to delete what must stay");
        }
        attributes.how = how.or(attributes.how);
        Ok(())
    }

    /// The agent's round: what must stay bears the attribute, and the time that was seen is kept. Called from time to time.
    ///
    /// # Errors
    /// [`Error::Damage`] when what must stay, or a point, cannot be read, or what the disk says.
    pub fn keep_immutable(&self) -> Result<()> {
        if self.read_immutable()?.is_none() {
            return Ok(());
        }
        self.keep_seen()?;
        let stays = self.immutable_now()?;
        let mut seen = HashSet::new();
        let mut failed = Ok(());
        for point in stays.keys() {
            // One that is damaged does not keep it from the others.
            let marked = self.mark_with_packs(point, &mut seen);
            if marked.is_err() {
                // What was seen of it was not marked.
                seen.clear();
            }
            failed = failed.and(marked);
        }
        self.attributes().done.retain(|point| stays.contains_key(point));
        failed
    }

    fn mark_with_packs(&self, point: &PointId, seen: &mut HashSet<ChunkId>) -> Result<()> {
        self.mark_point(point)?;
        let set = self.attributes().how == Some(Attribute::Set);
        if set && !self.attributes().done.contains(point) {
            for pack in self.packs_named_by(point, seen)? {
                self.mark_file(&pack_path(&self.root, &pack))?;
            }
            self.attributes().done.insert(point.clone());
        }
        Ok(())
    }

    fn keep_seen(&self) -> Result<()> {
        let _alone = self.decide_alone();
        self.still_owned()?;
        let now = self.clocks.now();
        match self.read_immutable()? {
            Some(mut list) if now > list.seen.after(SEEN_EVERY) => {
                list.seen = now;
                self.write_immutable(&list)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The packs of what a point names, but for what was `seen`.
    fn packs_named_by(&self, point: &PointId, seen: &mut HashSet<ChunkId>) -> Result<HashSet<FileId>> {
        let mut numbers: HashSet<u32> = HashSet::new();
        let mut reader = Reader::new(self);
        self.walk_point(&mut reader, (point, seen), &mut |place| numbers.extend([place.pack]))?;
        Ok(self.index().all_packs().filter(|(number, _)| numbers.contains(number)).map(|(_, id)| id).collect())
    }
}
