//! Whether what a point is to name can be counted on: every record is found, not known to be damaged, of the length of its
//! place, and in a pack that is there as long as it was. What the index says of a pack that somebody cut short or took away
//! is not so any more.

use super::Repository;
use super::damaged::damage_of;
use super::packs::pack_path;
use super::points::extent_len;
use super::records::Reader;
use super::syncer::lost;
use super::whole::Whole;
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, DiskTree, Extent, Place, REGION, RecordKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;

/// Chunks looked up together, in order of their ids, so that a page of the index serves several: some 4 MiB a thread, however
/// large the disk is.
const TOGETHER: usize = 32 * 1024;

/// Fewer leaves than this are not worth a thread.
const LEAST: usize = 64;

/// A look at all that a disk names.
struct Look<'a> {
    repository: &'a Repository,
    reader: Reader<'a>,
    /// Whether each pack that was met is in its place.
    packs: HashMap<u32, bool>,
    wanted: Vec<Wanted>,
    wanting: BTreeMap<ChunkId, String>,
}

/// A chunk that a leaf names.
struct Wanted {
    id: ChunkId,
    length: u64,
    leaf: ChunkId,
}

impl Repository {
    /// Whether each of these records is stored and can be counted on, in a pack that no mark has named. While a session is
    /// open, what was found stays.
    ///
    /// # Errors
    /// What the disk says.
    pub fn have(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let mut pinned = self.pinned();
        // A pack is looked at once in a call: one that did not count then does not, whatever a verification says meanwhile.
        let mut absent = HashSet::new();
        let places = loop {
            let places = self.places(ids)?;
            let counts = |place: &Place| !absent.contains(&place.pack) && self.lasts(place);
            let places: Vec<_> = places.into_iter().map(|place| place.filter(counts)).collect();
            let met: HashSet<u32> = places.iter().flatten().map(|place| place.pack).collect();
            let fresh: Vec<u32> = met.into_iter().filter(|pack| !pinned.vetted.contains(pack)).collect();
            if fresh.is_empty() {
                break places;
            }
            // What is in a pack that does not count may be in another, too.
            for pack in fresh {
                if self.vet(pack)? {
                    pinned.vetted.insert(pack);
                } else {
                    self.distrust(pack);
                    absent.insert(pack);
                }
            }
        };
        pinned.pin(places.iter().flatten().map(|place| place.pack));
        Ok(places.iter().map(Option::is_some).collect())
    }

    /// Whether a pack is in its place with its head and its end. From one that is not nothing counts any more.
    pub(super) fn vet(&self, pack: u32) -> Result<bool> {
        let Some(id) = self.index().pack(pack) else { return Ok(false) };
        let path = pack_path(&self.root, &id);
        let looked = match self.io.open_there(&path) {
            Ok(Some(file)) => self.pack_ends(&file, (&id, &path)).map(drop),
            Ok(None) => Err(lost(&path)),
            Err(error) => Err(error),
        };
        match looked {
            Ok(()) => Ok(true),
            Err(error) => {
                let Some(why) = damage_of(&error) else { return Err(error) };
                tracing::error!(pack = %id, why, "a pack is damaged: what it holds does not count as stored");
                Ok(false)
            }
        }
    }

    /// Nothing in this pack counts as stored from now on, in this opening.
    fn distrust(&self, pack: u32) {
        let mut index = self.index_mut();
        if let Some(id) = index.name_of(pack) {
            index.damage.marks.add_pack(id);
        }
    }

    /// The leaves of a disk that cannot be counted on, with what is wrong with each. Every pack is looked at anew; what a leaf
    /// names is not looked for again if it was found before and every pack that it was found in is still there.
    ///
    /// # Errors
    /// What the disk says; what is missing or damaged is an answer.
    pub(super) fn wanting(&self, tree: &DiskTree, leaves: &[ChunkId]) -> Result<BTreeMap<ChunkId, String>> {
        let found = self.found_before()?;
        let mut seen = HashSet::new();
        let fresh: Vec<(u64, ChunkId)> =
            (0u64..).zip(leaves.iter().copied()).filter(|(_, leaf)| !found.has(leaf) && seen.insert(*leaf)).collect();
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let share = fresh.len().div_ceil(threads).max(LEAST);
        let looks: Vec<Result<Look<'_>>> = std::thread::scope(|scope| {
            let look = |leaves: &[(u64, ChunkId)]| {
                let mut look = Look::new(self);
                leaves.iter().try_for_each(|(region, leaf)| look.leaf(leaf, (tree.size, *region)))?;
                look.chunks()?;
                Ok(look)
            };
            let workers: Vec<_> = fresh.chunks(share).map(|leaves| scope.spawn(move || look(leaves))).collect();
            workers.into_iter().map(|worker| worker.join().expect("a look does not panic")).collect()
        });
        let (mut wanting, mut packs) = (BTreeMap::new(), HashSet::new());
        for look in looks {
            let look = look?;
            packs.extend(look.packs.iter().filter(|(_, there)| **there).map(|(pack, _)| *pack));
            wanting.extend(look.wanting);
        }
        if wanting.is_empty() {
            self.remember(found);
            self.remember(Whole::of(&seen, packs));
        }
        Ok(wanting)
    }

    /// That records of the tree can be counted on.
    ///
    /// # Errors
    /// [`Error::NoChunk`] for the first that cannot.
    pub(super) fn count_on(&self, ids: &[ChunkId]) -> Result<()> {
        let mut look = Look::new(self);
        for (id, place) in ids.iter().zip(self.places(ids)?) {
            if !look.counts(place)? {
                return Err(Error::NoChunk { id: *id });
            }
        }
        Ok(())
    }
}

impl<'a> Look<'a> {
    fn new(repository: &'a Repository) -> Look<'a> {
        Look {
            repository,
            reader: Reader::new(repository),
            packs: HashMap::new(),
            wanted: Vec::new(),
            wanting: BTreeMap::new(),
        }
    }

    fn counts(&mut self, place: Option<Place>) -> Result<bool> {
        let Some(place) = place.filter(|place| !self.repository.is_damaged(place)) else { return Ok(false) };
        if let Some(there) = self.packs.get(&place.pack) {
            return Ok(*there);
        }
        let mut there = self.repository.vet(place.pack)?;
        if !there && self.repository.index().pack(place.pack).is_some() {
            // One that another session of this process has just filled may be on its way to its place.
            self.repository.flush()?;
            there = self.repository.vet(place.pack)?;
        }
        if !there {
            self.repository.pinned().vetted.remove(&place.pack);
            self.repository.distrust(place.pack);
        }
        self.packs.insert(place.pack, there);
        Ok(there)
    }

    fn leaf(&mut self, id: &ChunkId, (size, region): (u64, u64)) -> Result<()> {
        let place = self.repository.places(std::slice::from_ref(id))?.pop().flatten();
        if !self.counts(place)? {
            self.wanting.insert(*id, format!("record {id} is not in the repository, or damaged there"));
            return Ok(());
        }
        let leaf = match self.reader.leaf(id, (size, region)) {
            Ok(leaf) => leaf,
            Err(error @ Error::NoChunk { .. }) => {
                self.wanting.insert(*id, error.to_string());
                return Ok(());
            }
            Err(error) => {
                let Some(why) = damage_of(&error) else { return Err(error) };
                self.wanting.insert(*id, why);
                return Ok(());
            }
        };
        let mut at = region * REGION;
        for extent in &leaf.extents {
            let length = extent_len(extent, (at, size));
            at += length;
            match extent {
                Extent::Hole { .. } | Extent::Zeros { .. } => {}
                Extent::Data { id: chunk, .. } => self.wanted.push(Wanted { id: *chunk, length, leaf: *id }),
            }
        }
        if self.wanted.len() >= TOGETHER { self.chunks() } else { Ok(()) }
    }

    fn chunks(&mut self) -> Result<()> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_unstable_by_key(|wanted| wanted.id);
        let ids: Vec<ChunkId> = wanted.iter().map(|wanted| wanted.id).collect();
        let places = self.repository.places(&ids)?;
        for (wanted, place) in wanted.iter().zip(places) {
            let fits = |place: &Place| {
                u64::from(place.plain & 0x00ff_ffff) == wanted.length && place.plain >> 24 == RecordKind::Data as u32
            };
            let fits = place.as_ref().is_none_or(fits);
            if !fits || !self.counts(place)? {
                let why = if fits { "is not in the repository, or damaged there" } else { "has another length" };
                self.wanting.insert(wanted.leaf, format!("chunk {} {why}", wanted.id));
            }
        }
        // Its room serves the next ones: growing anew takes half as much again for a moment.
        wanted.clear();
        self.wanted = wanted;
        Ok(())
    }
}
