//! Proving one point while others are being made: every record that it names is read, and each disk as a whole. What is found
//! damaged is noted, so that nobody counts on it any more.

use super::Repository;
use super::backup::id_of;
use super::damaged::{Marks, damage_of};
use super::records::{Found, Proof, Reader};
use super::stages::Stages;
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, Extent, PointDisk};
use farshore_schemas::ids::PointId;
use std::collections::HashSet;
use std::num::NonZeroUsize;

/// What the proof of a point found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvenPoint {
    /// Chunks that it names.
    pub chunks: u64,
    /// The first damages, for people.
    pub damage: Vec<String>,
    /// How many there are.
    pub damaged: u64,
}

/// Damages told in words.
const TOLD: usize = 5;

impl ProvenPoint {
    fn note(&mut self, line: String) {
        self.damaged += 1;
        if self.damage.len() < TOLD {
            self.damage.push(line);
        }
    }
}

impl Repository {
    /// Reads and proves everything that a point names. Damage is an answer; it is noted for every later opening.
    ///
    /// # Errors
    /// [`Error::NoPoint`], [`Error::Damage`] when the point's own file cannot be read, or what the disk says.
    pub fn verify_point(&self, point: &PointId, threads: NonZeroUsize) -> Result<ProvenPoint> {
        let manifest = self.existing(point)?;
        let (mut proven, mut found) = (ProvenPoint::default(), Marks::default());
        for disk in &manifest.disks {
            let mut wrong = Vec::new();
            let outcome = self.read_disk(disk, None, (threads, &Stages::default(), &mut wrong));
            let before = proven.damaged;
            self.look_through(disk, (outcome.is_err(), &mut proven, &mut found))?;
            // The next backup cuts these regions anew instead of leaving them as they are stored.
            wrong.iter().for_each(|leaf| self.mark_record(leaf, &mut found));
            match outcome {
                Err(error) if proven.damaged == before => {
                    if damage_of(&error).is_none() && !matches!(error, Error::NoChunk { .. }) {
                        return Err(error);
                    }
                    proven.note(format!("disk {}: {error}", disk.name));
                }
                Ok(_) | Err(_) => {}
            }
        }
        if !found.is_empty() {
            let _alone = self.decide_alone();
            let marks = self.index().damage.marks.clone().and(&found);
            self.keep_marks(&marks)?;
        }
        Ok(proven)
    }

    /// Counts the chunks of a disk; of one that is `hurt` each record is read, to say which are damaged.
    fn look_through(
        &self,
        disk: &PointDisk,
        (hurt, proven, found): (bool, &mut ProvenPoint, &mut Marks),
    ) -> Result<()> {
        let mut reader = Reader::new(self);
        let mut seen: HashSet<ChunkId> = HashSet::new();
        let tree = reader.disk(&disk.record());
        let read = tree.and_then(|tree| reader.leaves(&tree).map(|leaves| (tree, leaves)));
        let Some((tree, leaves)) = self.noted(read, (disk, &disk.record()), (proven, found))? else { return Ok(()) };
        for (region, id) in (0u64..).zip(leaves) {
            let leaf = reader.leaf(&id, (tree.size, region));
            let Some(leaf) = self.noted(leaf, (disk, &id), (proven, found))? else { continue };
            proven.chunks += leaf.extents.iter().filter(|extent| matches!(extent, Extent::Data { .. })).count() as u64;
            if !hurt {
                continue;
            }
            for id in leaf.extents.iter().filter_map(id_of).filter(|id| seen.insert(*id)) {
                let mut out = Vec::new();
                let read =
                    reader.find(&[id]).and_then(|found| reader.run((&found, Proof::Ids), &mut out, &mut |_, _| Ok(())));
                self.noted(read, (disk, &id), (proven, found))?;
            }
        }
        Ok(())
    }

    /// What was read; none when it is damaged or missing, which is noted.
    fn noted<T>(
        &self,
        read: Result<T>,
        (disk, id): (&PointDisk, &ChunkId),
        (proven, found): (&mut ProvenPoint, &mut Marks),
    ) -> Result<Option<T>> {
        let error = match read {
            Ok(read) => return Ok(Some(read)),
            Err(error) => error,
        };
        if damage_of(&error).is_none() && !matches!(error, Error::NoChunk { .. }) {
            return Err(error);
        }
        proven.note(format!("disk {}: {error}", disk.name));
        self.mark_record(id, found);
        Ok(None)
    }

    fn mark_record(&self, id: &ChunkId, found: &mut Marks) {
        for Found { place, .. } in Reader::new(self).find(std::slice::from_ref(id)).unwrap_or_default() {
            if let Some(pack) = self.index().name_of(place.pack) {
                found.add_record(pack, place.number);
            }
        }
    }
}
