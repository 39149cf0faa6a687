//! Reading everything to see whether it is what was stored. A pack is read from end to end, so that records that no point
//! names are proven too; then every point is walked, to say which of them a damage hurts.

use super::Repository;
use super::backup::id_of;
use super::damaged::{Marks, damage_of};
use super::packs::pack_path;
use super::records::{Found, Reader};
use super::restore::runs;
use super::strays::segment_named;
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, FileId, PACK_HEADER_LEN, Place, Roster};
use farshore_schemas::ids::{Digest, PointId};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, or what is missing.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Records read and proven.
    pub records: u64,
    /// Bytes of packs read.
    pub bytes: u64,
    /// Points looked at.
    pub points: u64,
    /// Packs that no segment of the index covers yet, since a writer is at work or did not come to its end. The next writer
    /// adds them.
    pub unindexed: u64,
    /// Frames of the site's log that are kept here, proven.
    pub frames: u64,
    /// Everything that is wrong.
    pub damage: Vec<Damage>,
    /// How much of it is in the site's log alone, which no point needs.
    pub log_damage: u64,
    /// What lies among the packs, the points and the log, and is none: it is left alone, and counts for nothing.
    pub unknown: Vec<PathBuf>,
    /// Points that cannot be restored in full, with the first reason.
    pub hurt: BTreeMap<PointId, String>,
    /// Where: for [`Repository::keep_found`].
    pub found: Marks,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn sound(&self) -> bool {
        self.damage.is_empty() && self.hurt.is_empty()
    }

    /// Damage in the site's log.
    pub(super) fn note_log(&mut self, what: impl Into<String>, why: impl ToString) {
        self.log_damage += 1;
        self.note(what, why);
    }

    pub(super) fn note(&mut self, what: impl Into<String>, why: impl ToString) {
        self.damage.push(Damage { what: what.into(), why: why.to_string() });
    }
}

/// What the threads gather.
#[derive(Default)]
struct Gathered {
    verified: Verified,
    /// Packs whose directories are sound, by number.
    packs: HashSet<u32>,
}

impl Repository {
    /// Reads everything and says what is damaged and which points that hurts. Changes nothing in the folder; what it found
    /// counts in this opening, and in later ones when it is kept by [`Repository::keep_found`].
    ///
    /// # Errors
    /// What the disk says when it cannot be read at all; damage is an answer, not an error.
    pub fn verify(&self, threads: NonZeroUsize) -> Result<Verified> {
        let gathered = Mutex::new(Gathered::default());
        let packs: Vec<FileId> = self.pack_ids()?.into_iter().collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let one = || -> Result<()> {
                let mut reader = Reader::new(self);
                while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.verify_pack(pack, &mut reader, &gathered)?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..threads.get()).map(|_| scope.spawn(one)).collect();
            let ended = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
            ended.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
        })?;
        let Gathered { mut verified, packs } = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.mark(verified.found.clone())?;
        self.verify_index(&mut verified)?;
        if let Err(error) = self.read_marks() {
            verified.note(self.damaged_path().display().to_string(), error);
        }
        self.verify_points(&mut verified, &packs)?;
        self.verify_log(&mut verified)?;
        verified.unknown = self.strays()?;
        verified.damage.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(verified)
    }

    fn verify_pack(&self, id: &FileId, reader: &mut Reader<'_>, gathered: &Mutex<Gathered>) -> Result<()> {
        let path = pack_path(&self.root, id);
        let gather = || gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = match self.read_directory(id) {
            Ok(entries) => entries,
            Err(error) => {
                let Some(why) = damage_of(&error) else { return Err(error) };
                let mut gathered = gather();
                gathered.verified.note(path.display().to_string(), why);
                gathered.verified.found.add_pack(*id);
                return Ok(());
            }
        };
        let number = self.index().number_of(id);
        let Some(pack) = number else { return Ok(()) };
        gather().packs.insert(pack);
        let mut offset = PACK_HEADER_LEN as u32;
        let mut records = Vec::with_capacity(entries.len());
        for (number, entry) in (0u32..).zip(&entries) {
            let plain = super::packs::plain_word(entry.kind, entry.plain as usize);
            records.push(Found { id: entry.id, place: Place { pack, number, offset, stored: entry.stored, plain } });
            offset += entry.stored;
        }
        let mut out = Vec::new();
        for together in runs(&records) {
            // One at a time when the run as a whole fails, so that each bad record is told and each good one counts.
            if reader.run(together, &mut out, &mut |_, _| Ok(())).is_ok() {
                gather().verified.records += together.len() as u64;
                continue;
            }
            for record in together {
                match reader.run(std::slice::from_ref(record), &mut out, &mut |_, _| Ok(())) {
                    Ok(()) => gather().verified.records += 1,
                    Err(error) => {
                        let Some(why) = damage_of(&error) else { return Err(error) };
                        let mut gathered = gather();
                        gathered.verified.note(path.display().to_string(), why);
                        gathered.verified.found.add_record(*id, record.place.number);
                    }
                }
            }
        }
        gather().verified.bytes += u64::from(offset);
        Ok(())
    }

    /// Segments of the index: damage there hurts no point, since it is made anew from the packs, but it is damage.
    fn verify_index(&self, verified: &mut Verified) -> Result<()> {
        let folder = self.root.join("index");
        let behind = self.index().is_behind();
        let covered = self.covered(&mut |path, error| verified.note(path.display().to_string(), error))?;
        let mut uncovered: BTreeSet<FileId> = self.pack_ids()?.difference(&covered).copied().collect();
        if behind || self.index().is_behind() {
            verified.unindexed = uncovered.len() as u64;
            return Ok(());
        }
        if !uncovered.is_empty() {
            // A writer may have come and gone since the segments were read.
            let now = self.covered(&mut |_, _| ())?;
            uncovered.retain(|pack| !now.contains(pack));
        }
        for pack in uncovered {
            if self.is_stored_twice(&pack)? {
                continue;
            }
            verified.note(folder.display().to_string(), format!("no segment covers pack {pack}"));
        }
        Ok(())
    }

    /// Whether segments know every record of a pack in another one: what was marked is stored again, and what is left of a prune that
    /// stopped half-way was written anew. No segment need cover such a pack.
    fn is_stored_twice(&self, pack: &FileId) -> Result<bool> {
        let entries = match self.read_directory(pack) {
            Ok(entries) => entries,
            // That is told of the pack itself.
            Err(error) if damage_of(&error).is_some() => return Ok(false),
            Err(error) => return Err(error),
        };
        for entry in &entries {
            if !self.index().in_segments(&entry.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads every segment; answers the packs that they cover.
    fn covered(&self, damaged: &mut dyn FnMut(&Path, Error)) -> Result<BTreeSet<FileId>> {
        let folder = self.root.join("index");
        let mut covered = BTreeSet::new();
        for name in self.io.names(&folder)?.into_iter().filter(|name| segment_named(name).is_some()) {
            let path = folder.join(&name);
            match super::segment::Segment::open(&self.io, &path) {
                Ok(segment) => {
                    for page in 0..segment.header.pages() {
                        if let Err(error) = segment.page(&self.io, page) {
                            damaged(&path, error);
                        }
                    }
                    covered.extend(segment.packs);
                }
                // Whoever writes has merged it with another since its name was read.
                Err(_) if !path.exists() => {}
                Err(error) => damaged(&path, error),
            }
        }
        Ok(covered)
    }

    fn verify_points(&self, verified: &mut Verified, packs: &HashSet<u32>) -> Result<()> {
        let roster_path = self.roster_path();
        let roster = match self.io.read(&roster_path)? {
            None => Err("it is missing".to_owned()),
            Some(bytes) => Roster::decode(&bytes, self.sealing.key.as_ref()).map_err(|error| error.to_string()),
        };
        let names = self.point_names()?;
        match roster {
            Err(why) if names.is_empty() && !roster_path.exists() => drop(why),
            Err(why) => verified.note(roster_path.display().to_string(), why),
            Ok(roster) => self.compare_roster(&roster, &names, verified)?,
        }
        let mut sound: HashSet<ChunkId> = HashSet::new();
        let mut reader = Reader::new(self);
        for point in names {
            verified.points += 1;
            if let Err(error) = self.verify_point_in(&point, &mut reader, (&mut sound, packs)) {
                verified.note(self.point_path(&point).display().to_string(), &error);
                verified.hurt.insert(point, error.to_string());
            }
        }
        Ok(())
    }

    fn compare_roster(&self, roster: &Roster, names: &[PointId], verified: &mut Verified) -> Result<()> {
        for entry in &roster.points {
            let path = self.point_path(&entry.point);
            match self.io.read(&path)? {
                None if roster.going.contains(&entry.point) => {}
                None => {
                    verified.note(path.display().to_string(), "the roster names it, and it is missing");
                    verified.hurt.insert(entry.point.clone(), "the point's file is missing".to_owned());
                }
                Some(bytes) if *blake3::hash(&bytes).as_bytes() != entry.file.0 => {
                    verified.note(path.display().to_string(), "it is not the file that the roster names");
                }
                Some(_) => {}
            }
        }
        for point in names {
            let path = self.point_path(point);
            let known = roster.points.iter().any(|entry| entry.point == *point);
            let comes = roster.coming.iter().find(|entry| entry.point == *point);
            // The one that a writer was about to add when it was interrupted.
            if known || comes.map(|entry| entry.file) == self.hash_of(&path)? {
                continue;
            }
            let why = "the roster does not name it: the roster is an older copy, or the point was put back";
            verified.note(path.display().to_string(), why);
        }
        Ok(())
    }

    fn hash_of(&self, path: &Path) -> Result<Option<Digest>> {
        Ok(self.io.read(path)?.map(|bytes| Digest(*blake3::hash(&bytes).as_bytes())))
    }

    fn verify_point_in(
        &self,
        point: &PointId,
        reader: &mut Reader<'_>,
        (sound, packs): (&mut HashSet<ChunkId>, &HashSet<u32>),
    ) -> Result<()> {
        for disk in self.existing(point)?.disks {
            let tree = reader.disk(&disk.record())?;
            for (region, id) in (0u64..).zip(reader.leaves(&tree)?) {
                if sound.contains(&id) {
                    continue;
                }
                let leaf = reader.leaf(&id, (tree.size, region))?;
                let ids: Vec<ChunkId> = leaf.extents.iter().filter_map(id_of).collect();
                // The index may know of a pack that has gone since.
                let lost = |found: &&Found| !packs.contains(&found.place.pack) || self.is_damaged(&found.place);
                if let Some(lost) = reader.find(&ids)?.iter().find(lost) {
                    return Err(Error::NoChunk { id: lost.id });
                }
                sound.insert(id);
            }
        }
        Ok(())
    }
}
