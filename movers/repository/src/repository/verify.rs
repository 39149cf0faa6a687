//! Reading everything to see whether it is what was stored. A pack is read from end to end, so that records that no point
//! names are proven too; then every point is walked, to say which of them a damage hurts. Or of the packs a sample is read, and
//! all the rest as ever; what was not read is counted, so that nobody takes it for proven.

use super::Repository;
use super::backup::id_of;
use super::damaged::{Marks, damage_of};
use super::packs::pack_path;
use super::records::{Found, Proof, Reader};
use super::restore::runs;
use super::roster::NOT_NAMED;
use super::strays::segment_named;
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, FileId, PACK_HEADER_LEN, Place, PointDisk};
use farshore_schemas::ids::{DiskName, PointId};
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

/// Why a point cannot be restored in full.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HurtPoint {
    /// The first reason.
    pub why: String,
    /// Which of its disks; none when it is not known which it has.
    pub disks: Vec<DiskName>,
}

/// Which part of the packs is read: each MiB of one by chance, and by the same chance for the same seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Of a hundred bytes.
    pub percent: u8,
    /// What the choice follows from.
    pub seed: u64,
}

/// What a sample takes or leaves as one.
const STRETCH: u32 = 1 << 20;

impl Sample {
    /// Everything.
    pub const ALL: Sample = Sample { percent: 100, seed: 0 };

    fn takes(self, pack: &FileId, place: &Place) -> bool {
        if self.percent >= 100 {
            return true;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&pack.0).update(&(place.offset / STRETCH).to_le_bytes());
        let mut drawn = [0; 8];
        drawn.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(drawn) % 100 < u64::from(self.percent)
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Records read and proven.
    pub records: u64,
    /// Bytes of packs read.
    pub bytes: u64,
    /// Records that a sample left out: nothing is said of them.
    pub unread: u64,
    /// Bytes that they take.
    pub unread_bytes: u64,
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
    /// How much of it is in the index alone, which can be made anew.
    pub index_damage: u64,
    /// What lies among the packs, the points and the log, and is none: it is left alone, and counts for nothing.
    pub unknown: Vec<PathBuf>,
    /// Points that cannot be restored in full.
    pub hurt: BTreeMap<PointId, HurtPoint>,
    /// Where: for [`Repository::keep_found`].
    pub found: Marks,
}

impl Verified {
    /// Whether nothing wrong was found. What was not read is not spoken of: see [`Verified::unread`].
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

    /// Damage that makes a point as a whole one that cannot be restored.
    pub(super) fn note_point(&mut self, point: &PointId, what: impl Into<String>, why: impl ToString) {
        self.hurt.insert(point.clone(), HurtPoint { why: why.to_string(), disks: Vec::new() });
        self.note(what, why);
    }
}

/// What the threads go by.
struct Task {
    sample: Sample,
    /// What is known to be damaged from before.
    known: Marks,
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
        self.verify_sample(threads, Sample::ALL)
    }

    /// As [`Repository::verify`], but reads a sample of what the packs hold; of each pack head, end and directory, and what the points
    /// are made of. What was not read and is known to be damaged stays so.
    ///
    /// # Errors
    /// As [`Repository::verify`].
    pub fn verify_sample(&self, threads: NonZeroUsize, sample: Sample) -> Result<Verified> {
        let known = if sample.percent < 100 { self.read_marks().unwrap_or_default() } else { Marks::default() };
        let task = Task { sample, known };
        let gathered = Mutex::new(Gathered::default());
        let packs: Vec<FileId> = self.pack_ids()?.into_iter().collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let one = || -> Result<()> {
                let mut reader = Reader::new(self);
                while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.verify_pack(pack, &task, (&mut reader, &gathered))?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..threads.get()).map(|_| scope.spawn(one)).collect();
            let ended = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
            ended.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
        })?;
        let Gathered { mut verified, packs } = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.mark(verified.found.clone())?;
        let before = verified.damage.len();
        self.verify_index(&mut verified)?;
        verified.index_damage = (verified.damage.len() - before) as u64;
        if let Err(error) = self.read_marks() {
            verified.note(self.damaged_path().display().to_string(), error);
        }
        for error in [self.owner().err(), self.position().err()].into_iter().flatten() {
            let Error::Damage { path, why, .. } = error else { return Err(error) };
            verified.note(path.display().to_string(), why);
        }
        for (path, why) in self.verify_immutable()? {
            verified.note(path.display().to_string(), why);
        }
        self.verify_points(&mut verified, &packs)?;
        self.verify_log(&mut verified)?;
        verified.unknown = self.strays()?;
        verified.damage.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(verified)
    }

    fn verify_pack(
        &self,
        id: &FileId,
        task: &Task,
        (reader, gathered): (&mut Reader<'_>, &Mutex<Gathered>),
    ) -> Result<()> {
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
        let (records, left): (Vec<Found>, Vec<Found>) =
            records.into_iter().partition(|record| task.sample.takes(id, &record.place));
        let left_bytes = left.iter().map(|record| u64::from(record.place.stored)).sum::<u64>();
        self.leave_out(id, &left, (task, &mut *gather()));
        let mut out = Vec::new();
        for together in runs(&records) {
            // One at a time when the run as a whole fails, so that each bad record is told and each good one counts.
            if reader.run((together, Proof::Ids), &mut out, &mut |_, _| Ok(())).is_ok() {
                gather().verified.records += together.len() as u64;
                continue;
            }
            for record in together {
                match reader.run((std::slice::from_ref(record), Proof::Ids), &mut out, &mut |_, _| Ok(())) {
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
        let mut gathered = gather();
        gathered.verified.bytes += u64::from(offset) - left_bytes;
        gathered.verified.unread_bytes += left_bytes;
        Ok(())
    }

    /// What a sample does not read. Damage that an earlier verification found there is told again.
    fn leave_out(&self, id: &FileId, left: &[Found], (task, gathered): (&Task, &mut Gathered)) {
        gathered.verified.unread += left.len() as u64;
        for record in left.iter().filter(|record| task.known.has_record(id, record.place.number)) {
            let why =
                format!("record {} ({}): an earlier verification found it damaged", record.place.number, record.id);
            gathered.verified.note(pack_path(&self.root, id).display().to_string(), why);
            gathered.verified.found.add_record(*id, record.place.number);
        }
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
        match self.read_directory(pack) {
            Ok(entries) => self.index().all_in_segments(&entries),
            // That is told of the pack itself.
            Err(error) if damage_of(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
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
        let names = self.verify_roster(verified)?;
        // Those that are missing; the others are counted as they are read.
        verified.points += verified.hurt.keys().filter(|point| !names.contains(point)).count() as u64;
        let mut sound: HashSet<ChunkId> = HashSet::new();
        let mut reader = Reader::new(self);
        for point in names {
            verified.points += 1;
            let path = self.point_path(&point).display().to_string();
            let manifest = match self.existing(&point) {
                Ok(manifest) => manifest,
                // Which the comparison with the roster has said.
                Err(error) if verified.hurt.contains_key(&point) && damage_of(&error).as_deref() == Some(NOT_NAMED) => {
                    continue;
                }
                Err(error) => {
                    verified.note_point(&point, path, &error);
                    continue;
                }
            };
            for disk in &manifest.disks {
                if let Err(error) = self.verify_disk_in(disk, &mut reader, (&mut sound, packs)) {
                    verified.note(path.clone(), format!("disk {}: {error}", disk.name));
                    let hurt = verified.hurt.entry(point.clone()).or_default();
                    if hurt.why.is_empty() {
                        hurt.why = error.to_string();
                    }
                    hurt.disks.push(disk.name.clone());
                }
            }
        }
        Ok(())
    }

    fn verify_disk_in(
        &self,
        disk: &PointDisk,
        reader: &mut Reader<'_>,
        (sound, packs): (&mut HashSet<ChunkId>, &HashSet<u32>),
    ) -> Result<()> {
        // The index may know of a pack that has gone since, or whose directory is damaged: it would be lost with the index.
        let counted = |reader: &Reader<'_>, ids: &[ChunkId]| {
            let lost = |found: &&Found| !packs.contains(&found.place.pack) || self.is_damaged(&found.place);
            match reader.find(ids)?.iter().find(lost) {
                Some(lost) => Err(Error::NoChunk { id: lost.id }),
                None => Ok(()),
            }
        };
        let tree = reader.disk(&disk.record())?;
        counted(reader, &[disk.record()])?;
        let leaves = reader.leaves(&tree)?;
        counted(reader, &tree.lists)?;
        for (region, id) in (0u64..).zip(leaves) {
            if sound.contains(&id) {
                continue;
            }
            let leaf = reader.leaf(&id, (tree.size, region))?;
            let mut ids: Vec<ChunkId> = leaf.extents.iter().filter_map(id_of).collect();
            ids.push(id);
            counted(reader, &ids)?;
            sound.insert(id);
        }
        Ok(())
    }
}
