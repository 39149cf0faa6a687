//! Places in packs that were found damaged. They do not count as stored, so that a backup stores anew what lay there and a
//! point that was hurt is whole again when its content comes back. A restore still tries them when there is nothing better:
//! a record proves itself. The list is a file of its own, so that what a verification found is known to every later opening.

use super::Repository;
use crate::{Error, Result, Store};
use farshore_format::repository::{ChunkId, Damaged, DamagedPack, FileId, Place};
use farshore_schemas::ids::Digest;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

/// What is damaged of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hurt {
    /// Its head or its directory: nothing in it counts.
    Whole,
    /// These records.
    Records(BTreeSet<u32>),
}

/// Places that do not count as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks(BTreeMap<FileId, Hurt>);

impl Marks {
    /// Whether nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add_pack(&mut self, pack: FileId) {
        self.0.insert(pack, Hurt::Whole);
    }

    pub(super) fn add_record(&mut self, pack: FileId, number: u32) {
        match self.0.entry(pack).or_insert_with(|| Hurt::Records(BTreeSet::new())) {
            Hurt::Whole => {}
            Hurt::Records(numbers) => {
                numbers.insert(number);
            }
        }
    }

    pub(super) fn has(&self, pack: &FileId, number: u32) -> bool {
        match self.0.get(pack) {
            None => false,
            Some(Hurt::Whole) => true,
            Some(Hurt::Records(numbers)) => numbers.contains(&number),
        }
    }

    /// Whether this very record is marked, and not its pack as a whole.
    pub(super) fn has_record(&self, pack: &FileId, number: u32) -> bool {
        matches!(self.0.get(pack), Some(Hurt::Records(numbers)) if numbers.contains(&number))
    }

    /// The packs of which anything is marked.
    pub(super) fn packs(&self) -> impl Iterator<Item = &FileId> {
        self.0.keys()
    }

    pub(super) fn has_pack(&self, pack: &FileId) -> bool {
        matches!(self.0.get(pack), Some(Hurt::Whole))
    }

    /// Only what is marked of these packs.
    pub(super) fn only(&self, there: &BTreeSet<FileId>) -> Marks {
        Marks(
            self.0.iter().filter(|(pack, _)| there.contains(pack)).map(|(pack, hurt)| (*pack, hurt.clone())).collect(),
        )
    }

    /// These and those of another.
    pub(super) fn and(mut self, other: &Marks) -> Marks {
        for (pack, hurt) in &other.0 {
            match hurt {
                Hurt::Whole => self.add_pack(*pack),
                Hurt::Records(numbers) => numbers.iter().for_each(|number| self.add_record(*pack, *number)),
            }
        }
        self
    }

    fn to_list(&self) -> Damaged {
        let pack = |(pack, hurt): (&FileId, &Hurt)| DamagedPack {
            pack: Digest(pack.0),
            records: match hurt {
                Hurt::Whole => None,
                Hurt::Records(numbers) => Some(numbers.iter().copied().collect()),
            },
        };
        Damaged { packs: self.0.iter().map(pack).collect() }
    }

    fn of_list(list: Damaged) -> Marks {
        let pack = |pack: DamagedPack| {
            let hurt = pack.records.map_or(Hurt::Whole, |numbers| Hurt::Records(numbers.into_iter().collect()));
            (FileId(pack.pack.0), hurt)
        };
        Marks(list.packs.into_iter().map(pack).collect())
    }
}

/// What an opening knows of damage.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) marks: Marks,
    /// Why the list could not be read: then no point is made, since what it would count on is not known.
    unknown: Option<String>,
}

impl Known {
    /// Whether it is known that nothing is damaged.
    pub(super) fn is_none(&self) -> bool {
        self.marks.is_empty() && self.unknown.is_none()
    }
}

/// What is wrong with a file that cannot be read or is not what was stored; none for any other error.
pub(super) fn damage_of(error: &Error) -> Option<String> {
    let bad_sector = |error: &std::io::Error| error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    if let Error::Damage { why, .. } = error {
        return Some(why.clone());
    }
    if let Error::Io { source, .. } = error
        && bad_sector(source)
    {
        return Some(source.to_string());
    }
    None
}

impl Repository {
    pub(super) fn damaged_path(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(super) fn load_marks(&self) -> Result<()> {
        let known = match self.read_marks() {
            Ok(marks) => Known { marks, unknown: None },
            Err(Error::Damage { why, .. }) => {
                tracing::error!(path = %self.damaged_path().display(), why, "what is damaged is not known: no point is made");
                Known { marks: Marks::default(), unknown: Some(why) }
            }
            Err(error) => return Err(error),
        };
        self.index_mut().damage = known;
        Ok(())
    }

    /// The list in the folder.
    pub(super) fn read_marks(&self) -> Result<Marks> {
        let path = self.damaged_path();
        let Some(bytes) = self.io.read(&path)? else { return Ok(Marks::default()) };
        let list = Damaged::decode(&bytes, self.sealing.key.as_ref()).map_err(|error| self.io.damage(&path, error))?;
        Ok(Marks::of_list(list))
    }

    /// What earlier verifications have left in the folder.
    ///
    /// # Errors
    /// [`Error::Damage`] when it cannot be read.
    pub fn kept(&self) -> Result<Marks> {
        self.read_marks()
    }

    /// Refuses when the list of what is damaged could not be read.
    pub(super) fn damage_is_known(&self) -> Result<()> {
        let index = self.index();
        let refused = |why: &String| {
            let why = format!("{why}; a verification that may write makes it anew");
            Err(Error::Damage { store: Store::Repository, path: self.damaged_path(), why })
        };
        index.damage.unknown.as_ref().map_or(Ok(()), refused)
    }

    /// Lets these marks count from now on, in this opening.
    pub(super) fn mark(&self, marks: Marks) -> Result<()> {
        let changed = {
            let mut index = self.index_mut();
            let changed = index.damage.marks != marks;
            index.damage.marks = marks;
            changed
        };
        if changed { self.find_copies() } else { Ok(()) }
    }

    /// Lets the index know of other copies of what is marked: it names one place for each record.
    fn find_copies(&self) -> Result<()> {
        let marks = self.index().damage.marks.clone();
        let mut wanted: HashSet<ChunkId> = HashSet::new();
        let there = self.pack_ids()?;
        for pack in marks.0.keys().filter(|pack| there.contains(pack) && !marks.has_pack(pack)) {
            let entries = self.directory_if_sound(pack)?;
            let bad = (0u32..).zip(&entries).filter(|(number, _)| marks.has(pack, *number));
            wanted.extend(bad.map(|(_, entry)| entry.id));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        for pack in there.iter().filter(|pack| !marks.has_pack(pack)) {
            let entries = self.directory_if_sound(pack)?;
            let mut copies = (0u32..).zip(&entries).filter(|(number, _)| !marks.has(pack, *number));
            if copies.any(|(_, entry)| wanted.contains(&entry.id)) {
                self.index_mut().note_directory(*pack, &entries);
            }
        }
        Ok(())
    }

    pub(super) fn directory_if_sound(&self, pack: &FileId) -> Result<Vec<farshore_format::repository::DirectoryEntry>> {
        match self.read_directory(pack) {
            Err(error) if damage_of(&error).is_some() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Keeps marks for every later opening, durable; of packs that have gone since they are dropped.
    pub(super) fn keep_marks(&self, marks: &Marks) -> Result<()> {
        let marks = marks.only(&self.pack_ids()?);
        let path = self.damaged_path();
        let kept = self.read_marks();
        if !kept.is_ok_and(|kept| kept == marks) {
            if marks.is_empty() {
                self.io.remove_file(&path)?;
                self.io.sync_folder(&self.root)?;
            } else {
                let bytes = marks.to_list().encode(self.sealing.fresh());
                let bytes = bytes.expect("an open repository that seals has its key");
                self.io.place_durable(&path, &bytes)?;
            }
        }
        self.index_mut().damage.unknown = None;
        self.mark(marks)?;
        // Or a later opening would know the damaged copy alone.
        self.index_mut().settle(true)
    }

    /// A record does not count as stored from now on, in this opening: somebody has met it, and it is damaged.
    pub(super) fn distrust_record(&self, place: &Place) {
        let mut index = self.index_mut();
        if let Some(pack) = index.name_of(place.pack) {
            index.damage.marks.add_record(pack, place.number);
        }
    }

    /// Keeps what was met in this opening, besides what is kept, before a point is made that names the copy instead: a later
    /// opening could know the damaged one alone.
    pub(super) fn keep_met(&self) -> Result<()> {
        let met = self.index().damage.marks.clone();
        if met.is_empty() || self.read_marks().is_ok_and(|kept| kept == met) {
            return Ok(());
        }
        self.keep_marks(&met)
    }

    /// Keeps what a verification found, so that nobody counts on it: a backup stores such content anew.
    ///
    /// # Errors
    /// [`Error::Locked`] when it was opened to be read, [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn keep_found(&self, found: &Marks) -> Result<()> {
        if self.lock.is_none() {
            return Err(Error::Locked { store: Store::Repository, path: self.root.clone() });
        }
        let _alone = self.decide_alone();
        self.keep_marks(found)
    }

    /// Drops from the list what packs held that have gone.
    pub(super) fn forget_gone(&self) -> Result<()> {
        let marks = {
            let index = self.index();
            if index.damage.unknown.is_some() || index.damage.marks.is_empty() {
                return Ok(());
            }
            index.damage.marks.clone()
        };
        self.keep_marks(&marks)
    }

    /// Whether a place was found damaged.
    pub(super) fn is_damaged(&self, place: &Place) -> bool {
        self.index().is_damaged(place)
    }
}
