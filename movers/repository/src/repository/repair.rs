//! Repair of a folder that no site serves: what points name and cannot be counted on is found by its id in what is left of the
//! folder, in a copy, or in an image of the disk, and stored anew, durable. Nothing is taken that is not proven by its id, so
//! that no source can make a point worse than it is. Only then packs with damage go to the trash. A repair that was killed
//! is done again from the beginning, and finds done what was done.

use super::damaged::{Marks, damage_of};
use super::packs::{Packed, pack_path};
use super::records::{Found, Proof, Reader};
use super::spare::Wanted;
use super::trash::Monotonic;
use super::verify::Verified;
use super::{RawSource, Repository};
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, FileId, PACK_HEADER_LEN, Place, PointManifest};
use farshore_schemas::ids::{Digest, PointId};
use farshore_schemas::units::Millis;
use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// How long a site that takes the folder over keeps what a repair put into the trash.
const HOLD: Millis = Millis(72 * 60 * 60 * 1000);

/// Where a repair looks, in this order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spares<'a> {
    /// Other repositories of the same dedup domain.
    pub repositories: &'a [Repository],
    /// Images whose content was backed up, with their names for errors. They may have changed since, and may change.
    pub images: &'a [(RawSource, PathBuf)],
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What was wrong.
    pub before: Verified,
    /// What is.
    pub after: Verified,
    /// Records stored anew that points name.
    pub stored: u64,
    /// Records that points name and that were found nowhere, as far as can be seen: below one that is missing nothing can.
    pub nowhere: u64,
    /// Packs with damage that went to the trash.
    pub aside: u64,
    /// Points whose files were written anew.
    pub brought_back: Vec<PointId>,
}

impl Repaired {
    /// Points that could not be restored in full, and can.
    pub fn whole_again(&self) -> impl Iterator<Item = &PointId> {
        self.before.hurt.keys().filter(|point| !self.after.hurt.contains_key(*point))
    }
}

impl Repository {
    /// Verifies everything, mends what can be mended, and verifies again. Done twice it is harmless.
    ///
    /// # Errors
    /// [`Error::Domain`] before anything is changed; [`Error::Locked`] when it was opened to be read; [`Error::Disk`] when an image
    /// cannot be read; [`Error::Full`], [`Error::Sync`], or what the disk says. Damage is an answer, wherever it is.
    pub fn repair(&self, spares: Spares<'_>, threads: NonZeroUsize) -> Result<Repaired> {
        self.of_one_domain(spares.repositories)?;
        let before = self.verify(threads)?;
        self.keep_found(&before.found)?;
        if before.sound() {
            let after = before.clone();
            return Ok(Repaired { before, after, stored: 0, nowhere: 0, aside: 0, brought_back: Vec::new() });
        }
        // While the roster still tells which points were coming.
        let back = self.points_to_bring(spares.repositories)?;
        self.settle()?;
        self.mend_position()?;
        let (stored, wanted) = self.mend(&back, spares)?;
        let mut trash = Trash::default();
        let mut brought_back = Vec::new();
        for manifest in back {
            if self.bring_back(&manifest, &mut trash)? {
                brought_back.push(manifest.point);
            }
        }
        let aside = self.set_aside(&wanted, &mut trash)?;
        self.mend_immutable()?;
        if before.index_damage > 0 {
            self.rebuild_index()?;
        }
        let after = self.verify(threads)?;
        self.keep_found(&after.found)?;
        if let Err(error) = self.keep_immutable() {
            tracing::warn!(%error, "not all that must stay bears the file system's attribute");
        }
        Ok(Repaired { before, after, stored, nowhere: wanted.len() as u64, aside, brought_back })
    }

    /// Refuses repositories that name the same content otherwise.
    ///
    /// # Errors
    /// [`Error::Domain`].
    pub fn of_one_domain(&self, others: &[Repository]) -> Result<()> {
        let ours = self.domain.keys();
        match others.iter().find(|other| other.domain.keys() != ours) {
            Some(other) => Err(Error::Domain { path: self.root.clone(), other: other.root.clone() }),
            None => Ok(()),
        }
    }

    /// What a writer has left that was interrupted, and a prune's mark: its owner's log has lost the folder.
    fn settle(&self) -> Result<()> {
        let _alone = self.decide_alone();
        if self.index().going.is_some() {
            self.forget_going()?;
        }
        self.write_roster()
    }

    /// Stores what is wanted and can be had, durable, until no more is seen that is wanted: a part of a disk's tree lets more be
    /// seen. What is wanted a second time was found nowhere, or the disk spoils what is written to it: there is no end to that.
    /// Answers how many records were stored, and what is wanted still.
    fn mend(&self, back: &[PointManifest], spares: Spares<'_>) -> Result<(u64, Wanted)> {
        let (mut stored, mut looked_for) = (0, HashSet::new());
        loop {
            let wanted = self.wanted(back)?;
            let before = looked_for.len();
            looked_for.extend(wanted.ids());
            if looked_for.len() == before {
                return Ok((stored, wanted));
            }
            let mut found = self.salvage(&wanted)?;
            for other in spares.repositories {
                found += self.take_from(other, &wanted)?;
            }
            for (image, path) in spares.images {
                found += self.cut_from((image, path), &wanted)?;
            }
            self.flush()?;
            stored += found;
            if found == 0 {
                return Ok((stored, wanted));
            }
        }
    }

    /// Points that the roster names and that are not what they were, as a copy has them: by the very file that the roster names.
    /// Another point may bear the same name elsewhere, or have borne it here, even one whose disks are still here.
    fn points_to_bring(&self, others: &[Repository]) -> Result<Vec<PointManifest>> {
        let named = self.named_files()?;
        let names: BTreeSet<PointId> = self.point_names()?.into_iter().chain(self.lost_points()?).collect();
        let mut back = Vec::new();
        for point in names {
            let readable = match self.point(&point) {
                Ok(found) => found.is_some(),
                Err(error) if damage_of(&error).is_some() => false,
                Err(error) => return Err(error),
            };
            let named = named.get(&point);
            let is_named = |hash: Option<Digest>| hash.zip(named).is_some_and(|(hash, named)| named.contains(&hash));
            if readable && (named.is_none() || is_named(self.hash_of(&self.point_path(&point))?)) {
                continue;
            }
            for other in others {
                let Ok(Some(manifest)) = other.point(&point) else { continue };
                if is_named(other.hash_of(&other.point_path(&point))?) {
                    back.push(manifest);
                    break;
                }
            }
        }
        Ok(back)
    }

    /// Writes a point's file anew once all that it names is here; one that lies there is kept in the trash. Whether it was.
    fn bring_back(&self, manifest: &PointManifest, trash: &mut Trash) -> Result<bool> {
        let _alone = self.decide_alone();
        match self.check_complete(manifest) {
            Ok(_) => {}
            Err(Error::Incomplete { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let path = self.point_path(&manifest.point);
        let in_trash = |trash: &mut Trash| -> Result<PathBuf> {
            Ok(trash.of(self)?.join("points").join(manifest.point.0.as_str()))
        };
        match self.io.read(&path) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                self.unmark(&path)?;
                self.io.place_durable(&in_trash(trash)?, &bytes)?;
            }
            // Too long, or no file: whatever it is, it is no point.
            Err(error) if damage_of(&error).is_some() => {
                self.unmark(&path)?;
                self.io.rename(&path, &in_trash(trash)?)?;
            }
            Err(error) => return Err(error),
        }
        // How long it must stay is written elsewhere, and is not changed.
        self.place_point(manifest, None)?;
        Ok(true)
    }

    /// Moves packs with damage to the trash, after what is sound in them was stored anew. One stays of which something is wanted
    /// still: a later repair may find it. Answers how many went.
    fn set_aside(&self, wanted: &Wanted, trash: &mut Trash) -> Result<u64> {
        let _alone = self.decide_alone();
        let marks = self.index().damage.marks.clone();
        let all_known = wanted.is_empty() && self.knows_points()?;
        let there = self.pack_ids()?;
        let mut going = Vec::new();
        for pack in marks.packs().filter(|pack| there.contains(*pack)) {
            let entries = self.directory_if_sound(pack)?;
            // What a pack held whose directory cannot be read is known only when nothing is missing anywhere.
            let done = if marks.has_pack(pack) || entries.is_empty() {
                all_known
            } else {
                (0u32..).zip(&entries).all(|(at, entry)| !marks.has(pack, at) || !wanted.has(&entry.id))
            };
            if done {
                going.push(*pack);
            }
        }
        let leaving: HashSet<FileId> = going.iter().copied().collect();
        let mut clear = Vec::new();
        for pack in going {
            if self.store_sound(&pack, (&marks, &leaving))? {
                clear.push(pack);
            }
        }
        // What was stored anew is durable before what it came from goes.
        self.flush()?;
        for pack in &clear {
            let path = pack_path(&self.root, pack);
            self.unmark(&path)?;
            self.io.rename(&path, &trash.of(self)?.join("packs").join(pack.to_string()))?;
            let number = self.index().number_of(pack);
            number.into_iter().for_each(|number| self.index_mut().drop_pack(number));
        }
        if !clear.is_empty() {
            self.io.sync_folder(&trash.of(self)?.join("packs"))?;
            self.forget_gone()?;
        }
        Ok(clear.len() as u64)
    }

    /// Whether every point is there and can be read.
    fn knows_points(&self) -> Result<bool> {
        if !self.lost_points()?.is_empty() {
            return Ok(false);
        }
        match self.points() {
            Ok(_) => Ok(true),
            Err(error) if damage_of(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores anew what is sound in a pack and in no other that stays. False when more of it is damaged than was known.
    fn store_sound(&self, pack: &FileId, (marks, leaving): (&Marks, &HashSet<FileId>)) -> Result<bool> {
        if marks.has_pack(pack) {
            return Ok(true);
        }
        // What is in one that the index does not know was looked for nowhere: it stays.
        let number = self.index().number_of(pack);
        let Some(number) = number else { return Ok(false) };
        let mut reader = Reader::new(self);
        let mut offset = PACK_HEADER_LEN as u32;
        for (at, entry) in (0u32..).zip(self.directory_if_sound(pack)?) {
            let plain = super::packs::plain_word(entry.kind, entry.plain as usize);
            let place = Place { pack: number, number: at, offset, stored: entry.stored, plain };
            offset = offset.saturating_add(entry.stored);
            if marks.has(pack, at) || self.is_elsewhere(&entry.id, leaving)? {
                continue;
            }
            match self.store_anew(&Found { id: entry.id, place }, &mut reader) {
                Ok(_) => {}
                Err(error) if damage_of(&error).is_some() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether a record can be counted on in a pack that stays.
    fn is_elsewhere(&self, id: &ChunkId, leaving: &HashSet<FileId>) -> Result<bool> {
        let place = self.places(std::slice::from_ref(id))?.pop().flatten();
        let pack = place.and_then(|place| self.index().name_of(place.pack));
        Ok(pack.is_some_and(|pack| !leaving.contains(&pack)) && self.have(std::slice::from_ref(id))?[0])
    }

    /// Reads a record, which proves it, and stores it in another pack. Answers the bytes that it takes there.
    pub(super) fn store_anew(&self, record: &Found, reader: &mut Reader<'_>) -> Result<u64> {
        let kind = record.kind().ok_or(Error::NoChunk { id: record.id })?;
        let (mut content, mut bytes) = (Vec::new(), Vec::new());
        reader.run((std::slice::from_ref(record), Proof::Ids), &mut content, &mut |_, _| Ok(()))?;
        super::backup::repack(&content, &mut bytes);
        self.append(&[Packed { id: record.id, kind, plain: content.len(), bytes: &bytes }])
    }
}

/// This repair's folder in the trash, made when something goes there.
#[derive(Default)]
struct Trash(Option<PathBuf>);

impl Trash {
    fn of(&mut self, repository: &Repository) -> Result<PathBuf> {
        if let Some(path) = &self.0 {
            return Ok(path.clone());
        }
        // As for a prune with no log to order it: after all that the folder has seen.
        let position = repository.position()?.unwrap_or(0).saturating_add(1);
        repository.note_position(position)?;
        let path = repository.make_trash(position, (HOLD, Monotonic::ZERO))?;
        self.0 = Some(path.clone());
        Ok(path)
    }
}
