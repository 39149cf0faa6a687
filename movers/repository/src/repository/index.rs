//! The index as a whole: segments on disk, what was noted since, and the table of packs that are there. What it says is
//! only where to look: a record proves itself when it is read.
//!
//! A segment holds the records of whole packs, so that a pack that is in a segment's table needs no second look, and a pack
//! that is in none has its directory read when the repository is opened.

use super::marks::Going;
use super::merge::{Merge, Walk};
use super::segment::{self, Segment};
use super::strays::segment_named;
use super::{Repository, damaged, packs::plain_word};
use crate::Result;
use crate::io::Io;
use farshore_format::repository::{ChunkId, DirectoryEntry, FileId, PACK_HEADER_LEN, Place};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

/// Records noted in memory before they become a segment: some 5 MiB, and as much again while they do.
const NOTED: usize = 64 * 1024;
/// A file beside the index that is there while packs may be in no segment.
const UNINDEXED: &str = "unindexed";
/// Segments that are looked through at most.
const SEGMENTS: usize = 8;

#[derive(Debug)]
pub(super) struct Index {
    io: Io,
    folder: PathBuf,
    /// Every pack heard of in this opening, by number. A number stays a pack's own even when the index is made anew: records
    /// that were found, pins and the pack that is being filled go by it.
    packs: Vec<Known>,
    numbers: HashMap<FileId, u32>,
    segments: Vec<Part>,
    noted: BTreeMap<ChunkId, Place>,
    next: u64,
    /// Places that do not count as stored.
    pub(super) damage: damaged::Known,
    /// Packs that a prune has marked, if one has.
    pub(super) going: Option<Going>,
}

/// A pack that was heard of.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: FileId,
    state: State,
}

/// How far a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Being filled: no segment may name it, since it would not hold all of its records.
    Filling,
    /// All of its records are known.
    Whole,
    /// Not there any more, or never finished.
    Gone,
}

/// A segment, and the numbers here of the packs in its table.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment: Segment,
    pub(super) packs: Vec<u32>,
}

impl Index {
    pub(super) fn empty(io: Io, folder: PathBuf) -> Index {
        Index {
            io,
            folder,
            packs: Vec::new(),
            numbers: HashMap::new(),
            segments: Vec::new(),
            noted: BTreeMap::new(),
            next: 1,
            damage: damaged::Known::default(),
            going: None,
        }
    }

    fn number(&mut self, id: FileId) -> u32 {
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        let number = u32::try_from(self.packs.len()).expect("no disk holds four billion packs");
        self.packs.push(Known { id, state: State::Whole });
        self.numbers.insert(id, number);
        number
    }

    fn set_state(&mut self, number: u32, state: State) {
        if let Some(known) = self.packs.get_mut(number as usize) {
            known.state = state;
        }
    }

    pub(super) fn begin_pack(&mut self, id: FileId) -> u32 {
        let number = self.number(id);
        self.set_state(number, State::Filling);
        number
    }

    /// All records of a pack have been noted.
    pub(super) fn end_pack(&mut self, number: u32) {
        self.set_state(number, State::Whole);
    }

    /// Forgets a pack: nothing in it is found any more.
    pub(super) fn drop_pack(&mut self, number: u32) {
        self.set_state(number, State::Gone);
    }

    /// Forgets a pack, if it was heard of, whose records are in no segment and cannot be had from it.
    pub(super) fn lose_pack(&mut self, id: &FileId) {
        if let Some(number) = self.numbers.get(id).copied() {
            self.drop_pack(number);
        }
    }

    pub(super) fn note(&mut self, places: &[(ChunkId, Place)]) {
        self.noted.extend(places.iter().copied());
    }

    /// The records of a pack that was found in the folder.
    pub(super) fn note_directory(&mut self, id: FileId, entries: &[DirectoryEntry]) {
        let pack = self.number(id);
        self.set_state(pack, State::Whole);
        let mut offset = PACK_HEADER_LEN as u32;
        for (number, entry) in (0u32..).zip(entries) {
            let plain = plain_word(entry.kind, entry.plain as usize);
            let place = Place { pack, number, offset, stored: entry.stored, plain };
            let sound = !self.is_damaged(&place);
            let lasts = sound && !self.is_going(&place);
            match self.noted.entry(entry.id) {
                Entry::Vacant(free) => {
                    free.insert(place);
                }
                // One that is found already may be in a better known pack, and is as good unless it is damaged there.
                Entry::Occupied(mut taken) => {
                    let known = &self.packs[taken.get().pack as usize].id;
                    let hurt = self.damage.marks.has(known, taken.get().number);
                    let goes = self.going.as_ref().is_some_and(|going| going.packs.contains(known));
                    if (sound && hurt) || (lasts && goes) {
                        taken.insert(place);
                    }
                }
            }
            offset = offset.saturating_add(entry.stored);
        }
    }

    /// The id of a pack that is there.
    pub(super) fn pack(&self, number: u32) -> Option<FileId> {
        self.packs.get(number as usize).filter(|known| known.state != State::Gone).map(|known| known.id)
    }

    /// The id of a pack that is or was there.
    pub(super) fn name_of(&self, number: u32) -> Option<FileId> {
        self.packs.get(number as usize).map(|known| known.id)
    }

    /// The number of a pack that is there.
    pub(super) fn number_of(&self, id: &FileId) -> Option<u32> {
        self.numbers.get(id).copied().filter(|number| self.pack(*number).is_some())
    }

    /// Every pack that is there and whole.
    pub(super) fn all_packs(&self) -> impl Iterator<Item = (u32, FileId)> {
        let whole = |(_, known): &(u32, &Known)| known.state == State::Whole;
        (0u32..).zip(&self.packs).filter(whole).map(|(number, known)| (number, known.id))
    }

    /// Whether a place was found damaged.
    pub(super) fn is_damaged(&self, place: &Place) -> bool {
        let marks = &self.damage.marks;
        !marks.is_empty() && self.packs.get(place.pack as usize).is_some_and(|pack| marks.has(&pack.id, place.number))
    }

    /// Whether a place is in a pack that a prune has marked.
    pub(super) fn is_going(&self, place: &Place) -> bool {
        let pack = self.packs.get(place.pack as usize);
        self.going.as_ref().zip(pack).is_some_and(|(going, pack)| going.packs.contains(&pack.id))
    }

    /// Where a record lies, in a pack that is there. A place in a pack that was marked is told only when there is no other,
    /// and one that was found damaged only when there is none of that kind either.
    pub(super) fn find(&self, id: &ChunkId) -> Result<Option<Place>> {
        let (mut going, mut damaged) = (None, None);
        let mut lasts = |place: &Place| {
            if self.is_damaged(place) {
                damaged = damaged.or(Some(*place));
            } else if self.is_going(place) {
                going = going.or(Some(*place));
            } else {
                return true;
            }
            false
        };
        if let Some(place) = self.noted.get(id)
            && self.pack(place.pack).is_some()
            && lasts(place)
        {
            return Ok(Some(*place));
        }
        for part in self.segments.iter().rev() {
            if let Some(place) = part.segment.find(&self.io, id)? {
                let pack = part.packs.get(place.pack as usize).copied();
                if let Some(pack) = pack.filter(|pack| self.pack(*pack).is_some()) {
                    let place = Place { pack, ..place };
                    if lasts(&place) {
                        return Ok(Some(place));
                    }
                }
            }
        }
        Ok(going.or(damaged))
    }

    /// Whether segments know every one of these records in a pack that is there. What a segment cannot say of its own is not known.
    pub(super) fn all_in_segments(&self, entries: &[DirectoryEntry]) -> Result<bool> {
        for entry in entries {
            match self.in_segments(&entry.id) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if error.index_only(&self.folder) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether a segment knows a record in a pack that is there.
    fn in_segments(&self, id: &ChunkId) -> Result<bool> {
        for part in &self.segments {
            let place = part.segment.find(&self.io, id)?;
            let pack = place.and_then(|place| part.packs.get(place.pack as usize).copied());
            if pack.is_some_and(|pack| self.pack(pack).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Loads the segments that are sound. Answers the packs whose directories must be read, all of `there` that no segment covers,
    /// and the segments that are damaged.
    pub(super) fn load(&mut self, there: &BTreeSet<FileId>, ours: bool) -> Result<(Vec<FileId>, Vec<PathBuf>)> {
        let (mut covered, mut damaged) = (BTreeSet::new(), Vec::new());
        for name in self.io.names(&self.folder)? {
            let path = self.folder.join(&name);
            let Some(number) = segment_named(&name) else { continue };
            self.next = self.next.max(number + 1);
            match Segment::open(&self.io, &path) {
                Ok(segment) => {
                    covered.extend(segment.packs.iter().copied());
                    self.adopt(segment, there);
                }
                Err(error) if error.index_only(&self.folder) => {
                    tracing::warn!(path = %path.display(), %error, "an index segment is damaged: it is made anew");
                    damaged.push(path);
                }
                // Whoever writes has merged it with another since its name was read.
                Err(_) if !ours && !path.exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((there.difference(&covered).copied().collect(), damaged))
    }

    /// Says in the folder, durable, that packs may be there that no segment covers: what a verification should not take for
    /// the loss of a segment.
    pub(super) fn fall_behind(&self) -> Result<()> {
        if self.is_behind() { Ok(()) } else { self.io.place_durable(&self.folder.with_file_name(UNINDEXED), b"") }
    }

    /// All packs are covered.
    pub(super) fn caught_up(&self) -> Result<()> {
        if self.is_behind() { self.io.remove_file(&self.folder.with_file_name(UNINDEXED)) } else { Ok(()) }
    }

    /// Whether packs may be there that no segment covers.
    pub(super) fn is_behind(&self) -> bool {
        self.folder.with_file_name(UNINDEXED).exists()
    }

    fn adopt(&mut self, segment: Segment, there: &BTreeSet<FileId>) {
        const GONE: u32 = u32::MAX;
        let packs: Vec<FileId> = segment.packs.clone();
        let packs: Vec<u32> =
            packs.into_iter().map(|id| if there.contains(&id) { self.number(id) } else { GONE }).collect();
        packs.iter().for_each(|number| self.set_state(*number, State::Whole));
        self.segments.push(Part { segment, packs });
    }

    /// Writes what was noted as a segment, when there is much of it or `all` is asked for. Called between packs only.
    pub(super) fn settle(&mut self, all: bool) -> Result<()> {
        if self.noted.is_empty() || (!all && self.noted.len() < NOTED) {
            return Ok(());
        }
        // What is in the pack that is being filled waits for the rest of it.
        let packs = &self.packs;
        let unfinished =
            |place: &Place| packs.get(place.pack as usize).is_some_and(|known| known.state == State::Filling);
        let (waits, noted) = std::mem::take(&mut self.noted).into_iter().partition(|(_, place)| unfinished(place));
        self.noted = waits;
        let noted: BTreeMap<ChunkId, Place> = noted;
        if noted.is_empty() {
            return Ok(());
        }
        let written = self.write(noted.len() as u64, &mut noted.iter().map(|(id, place)| Ok((*id, *place))));
        if let Err(error) = written {
            // A later segment would name these packs as known, and what they hold would be found nowhere.
            self.noted.extend(noted);
            return Err(error);
        }
        while let [.., older, newer] = self.segments.as_slice()
            && (newer.segment.header.entries * 2 >= older.segment.header.entries || self.segments.len() > SEGMENTS)
        {
            self.merge_newest()?;
        }
        Ok(())
    }

    fn write(&mut self, count: u64, entries: &mut dyn Iterator<Item = Result<(ChunkId, Place)>>) -> Result<()> {
        // A pack is in the table only with its entries: one that another segment covers would count as known when that is lost.
        let whole: HashMap<u32, FileId> = self.all_packs().collect();
        let (mut local, mut numbers) = (HashMap::new(), Vec::new());
        let table = RefCell::new(Vec::new());
        let mut here = entries.filter_map(|entry| match entry {
            Ok((id, place)) => whole.get(&place.pack).map(|pack| {
                let at = *local.entry(place.pack).or_insert_with(|| {
                    numbers.push(place.pack);
                    table.borrow_mut().push(*pack);
                    numbers.len() as u32 - 1
                });
                Ok((id, Place { pack: at, ..place }))
            }),
            Err(error) => Some(Err(error)),
        });
        let path = self.folder.join(format!("{:016}.idx", self.next));
        self.next += 1;
        let segment = segment::write(&self.io, &path, (&table, count), &mut here)?;
        self.segments.push(Part { segment, packs: numbers });
        Ok(())
    }

    fn merge_newest(&mut self) -> Result<()> {
        let (Some(newer), Some(older)) = (self.segments.pop(), self.segments.pop()) else { return Ok(()) };
        let count = newer.segment.header.entries + older.segment.header.entries;
        let io = self.io.clone();
        let there: BTreeSet<u32> = self.all_packs().map(|(number, _)| number).collect();
        let merged = {
            let packs: Vec<FileId> = self.packs.iter().map(|known| known.id).collect();
            let (marks, going) = (self.damage.marks.clone(), self.going.clone());
            // A pack that was marked is worse than any other but a damaged one: the other copy is there to stay.
            let doubt = |place: &Place| {
                let pack = &packs[place.pack as usize];
                let goes = going.as_ref().is_some_and(|going| going.packs.contains(pack));
                if marks.has(pack, place.number) { 2 } else { u8::from(goes) }
            };
            let (left, right) = (Walk::new((&io, &there), &older), Walk::new((&io, &there), &newer));
            let mut both = Merge { left, right, doubt: &doubt };
            self.write(count, &mut both)
        };
        if let Err(error) = merged {
            self.segments.extend([older, newer]);
            return Err(error);
        }
        self.io.remove_file(&older.segment.path)?;
        self.io.remove_file(&newer.segment.path)
    }

    /// Forgets everything but what is on its way into the folder, so that it can be loaded again. `there` are the packs in the
    /// folder; with `lost`, nothing else is on its way.
    pub(super) fn forget(&mut self, there: &BTreeSet<FileId>, lost: bool) {
        self.segments.clear();
        if lost {
            let gone = self.packs.iter_mut().filter(|known| !there.contains(&known.id));
            gone.for_each(|known| known.state = State::Gone);
        }
        let packs = &self.packs;
        let on_its_way = |known: &Known| known.state != State::Gone && !there.contains(&known.id);
        self.noted.retain(|_, place| packs.get(place.pack as usize).is_some_and(on_its_way));
    }
}

impl Repository {
    pub(super) fn index(&self) -> RwLockReadGuard<'_, Index> {
        // Whoever panicked while writing to it left at worst a record unknown, which is sent again.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}
