//! Deletion. A mark finds what would go (`marks.rs`) and moves nothing. A sweep finds anew what the points that stay name,
//! writes anew what is left of packs of which little is named, and moves points and packs into a trash of the prune's own,
//! where a restore that began before still finds them. The trash is emptied after a hold (`trash.rs`). On a folder alone all
//! of it is one act, which empties what the act before has put into the trash.

use super::backup::id_of;
use super::damaged::damage_of;
use super::packs::pack_path;
use super::records::{Found, Reader};
use super::room::Room;
use super::trash::{Monotonic, length};
use super::{Repository, WriteSession};
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, FileId, PACK_HEADER_LEN, Place};
use farshore_schemas::ids::PointId;
use farshore_schemas::units::{ByteCount, Millis};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// A pack is rewritten when less than this part of it, in percent, is still named.
const WORTH_KEEPING: u64 = 60;

/// What a prune did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// The points asked for: all are gone now.
    pub points: Vec<PointId>,
    /// What was unlinked: what an earlier prune had put into the trash.
    pub freed: ByteCount,
    /// What went into the trash now.
    pub marked: ByteCount,
    /// What was written anew, out of packs that went into the trash.
    pub rewritten: ByteCount,
}

/// What points name.
#[derive(Default)]
struct Live {
    /// By pack: a bit for each record.
    records: BTreeMap<u32, Vec<u64>>,
    /// Packs that points name which must stay: they stay as they are.
    immutable: HashSet<u32>,
}

/// What a prune will take away.
struct Plan {
    going: Vec<(u32, FileId)>,
    /// What was written anew of them.
    rewritten: ByteCount,
}

impl Pruned {
    /// The points are gone already.
    fn nothing(points: &[PointId]) -> Pruned {
        Pruned { points: points.to_vec(), freed: ByteCount(0), marked: ByteCount(0), rewritten: ByteCount(0) }
    }
}

impl Live {
    fn any(&self, pack: u32) -> bool {
        self.records.get(&pack).is_some_and(|bits| bits.iter().any(|word| *word != 0))
    }

    fn mark(&mut self, place: &Place) {
        let bits = self.records.entry(place.pack).or_default();
        let word = place.number as usize / 64;
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= 1 << (place.number % 64);
    }

    fn has(&self, pack: u32, number: u32) -> bool {
        let bits = self.records.get(&pack);
        bits.and_then(|bits| bits.get(number as usize / 64)).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

impl Repository {
    /// The sweep of the prune that was marked under this log position: drops these points, and of the packs that were marked
    /// those that can go. What is live is found anew, so that nothing goes that a point names which was made meanwhile. `position` is
    /// how far the owner's log had come. Done twice it is harmless; a crash half-way goes on.
    ///
    /// # Errors
    /// [`Error::Immutable`], [`Error::Position`] for a position lower than one seen, [`Error::NoMark`] when there is no such mark, [`Error::Damage`] or
    /// [`Error::NoChunk`] when a point in the folder cannot be read in full (what it names is then unknown, so nothing is taken),
    /// or what the disk says.
    pub fn sweep_marked(
        &self,
        points: &[PointId],
        (mark, position): (u64, u64),
        held: (Millis, Monotonic),
    ) -> Result<Pruned> {
        self.io.usable()?;
        self.still_owned()?;
        let _alone = self.decide_alone();
        self.with_room(|room| self.sweep_in(room, points, (mark, position), held))
    }

    fn sweep_in(
        &self,
        room: Room,
        points: &[PointId],
        (mark, position): (u64, u64),
        held: (Millis, Monotonic),
    ) -> Result<Pruned> {
        self.in_order(position)?;
        let marked = match self.going_at(mark) {
            // An earlier sweep of the same came to its end, and nobody has heard of it.
            Err(Error::NoMark { .. }) if self.swept(points, mark)? => return Ok(Pruned::nothing(points)),
            other => other?,
        };
        // All that must be read is read first, so that what cannot be read leaves every point where it is.
        self.flush()?;
        let live = self.live(points)?;
        let plan = self.plan(&live, Some(&marked), room)?;
        self.note_position(position)?;
        let trash = self.make_trash(mark, held)?;
        self.drop_points(points, &trash)?;
        let moved = self.sweep(&plan, &trash)?;
        self.forget_going()?;
        self.forget_gone()?;
        Ok(Pruned { points: points.to_vec(), freed: ByteCount(0), marked: moved, rewritten: plan.rewritten })
    }

    /// Whether this sweep was done: none of the points is there, and its trash is.
    fn swept(&self, points: &[PointId], mark: u64) -> Result<bool> {
        let there = self.point_names()?;
        Ok(self.trash_path(mark).exists() && !points.iter().any(|point| there.contains(point)))
    }

    /// Packs of which little or nothing would be named if these points went.
    pub(super) fn sparse_packs(&self, points: &[PointId]) -> Result<HashSet<FileId>> {
        let packs: Vec<(u32, FileId)> = self.index().all_packs().collect();
        let live = self.live(points)?;
        let mut going = HashSet::new();
        for (number, id) in packs {
            if !self.is_pinned(number)
                && !live.immutable.contains(&number)
                && self.worth_going(&live, (number, &id))?.is_some()
            {
                going.insert(id);
            }
        }
        Ok(going)
    }

    /// A prune of a folder alone, which no site's agent serves: drops these points and cleans up in one act, and deletes what such
    /// acts at lower positions have put into the trash. Done twice at the same position it is harmless.
    ///
    /// # Errors
    /// [`Error::Immutable`], [`Error::Position`] for a position lower than one seen, [`Error::Damage`] or [`Error::NoChunk`] when a point in the folder
    /// cannot be read in full (what it names is then unknown, so nothing is taken), or what the disk says.
    pub fn prune(&self, points: &[PointId], position: u64) -> Result<Pruned> {
        self.io.usable()?;
        let _alone = self.decide_alone();
        self.still_owned()?;
        self.with_room(|room| self.prune_in(room, points, position))
    }

    fn prune_in(&self, room: Room, points: &[PointId], position: u64) -> Result<Pruned> {
        self.in_order(position)?;
        // All that must be read is read first, so that what cannot be read leaves every point where it is.
        self.flush()?;
        let live = self.live(points)?;
        // Or else it is deleted behind what is written, which a crash leaves with less to do.
        let early = if room == Room::Scarce { self.empty_earlier(position)? } else { ByteCount(0) };
        let plan = self.plan(&live, None, room)?;
        self.note_position(position)?;
        let trash = self.trash_path(position);
        self.make_trash_folders(&trash)?;
        self.drop_points(points, &trash)?;
        let freed = early + self.empty_earlier(position)?;
        let marked = self.sweep(&plan, &trash)?;
        self.rely_on_the_rest(&self.went(&plan));
        if self.index().going.is_some() {
            self.forget_going()?;
        }
        self.forget_gone()?;
        Ok(Pruned { points: points.to_vec(), freed, marked, rewritten: plan.rewritten })
    }

    fn drop_points(&self, points: &[PointId], trash: &Path) -> Result<()> {
        self.note_change(Vec::new(), points.to_vec())?;
        for point in points {
            let path = self.point_path(point);
            if path.exists() {
                self.unmark(&path)?;
                self.io.rename(&path, &trash.join("points").join(point.0.as_str()))?;
            }
        }
        self.io.sync_folder(&trash.join("points"))?;
        self.io.sync_folder(&self.root.join("points"))?;
        self.rely_on_no_others();
        self.write_roster()
    }

    /// Walks every point in the folder but those that go, which may not be among those that must stay. One that the log does
    /// not know holds what it names.
    fn live(&self, going: &[PointId]) -> Result<Live> {
        let immutable = self.may_drop(going)?;
        // What a point named whose file is gone is not known: it may be brought back.
        if let Some(lost) = self.lost_points()?.into_iter().find(|point| !going.contains(point)) {
            return Err(self.io.damage(&self.point_path(&lost), "it is missing"));
        }
        let mut live = Live::default();
        let mut seen: HashSet<ChunkId> = HashSet::new();
        let mut reader = Reader::new(self);
        // First those that must stay, or what they share with others would not be known to be theirs.
        for point in &immutable {
            self.walk_point(&mut reader, (point, &mut seen), &mut |place| live.mark(place))?;
        }
        live.immutable = live.records.keys().copied().collect();
        for point in self.point_names()?.iter().filter(|point| !going.contains(point) && !immutable.contains(point)) {
            self.walk_point(&mut reader, (point, &mut seen), &mut |place| live.mark(place))?;
        }
        Ok(live)
    }

    /// Goes through all that a point names, but for what was `seen`.
    pub(super) fn walk_point(
        &self,
        reader: &mut Reader<'_>,
        (point, seen): (&PointId, &mut HashSet<ChunkId>),
        mark: &mut dyn FnMut(&Place),
    ) -> Result<()> {
        let mut find = |reader: &Reader<'_>, ids: &[ChunkId]| -> Result<()> {
            reader.find(ids)?.iter().for_each(|found| mark(&found.place));
            Ok(())
        };
        for disk in self.existing(point)?.disks.iter().map(farshore_format::repository::PointDisk::record) {
            if !seen.insert(disk) {
                continue;
            }
            let tree = reader.disk(&disk)?;
            find(reader, &[disk])?;
            find(reader, &tree.lists)?;
            for (region, id) in (0u64..).zip(reader.leaves(&tree)?) {
                if !seen.insert(id) {
                    continue;
                }
                find(reader, &[id])?;
                let leaf = reader.leaf(&id, (tree.size, region))?;
                let ids: Vec<ChunkId> = leaf.extents.iter().filter_map(id_of).collect();
                find(reader, &ids)?;
            }
        }
        Ok(())
    }

    /// Deletes what prunes at lower positions have put into the trash.
    fn empty_earlier(&self, position: u64) -> Result<ByteCount> {
        let mut freed = ByteCount(0);
        for name in self.io.names(&self.root.join("trash"))? {
            if name.parse::<u64>().is_ok_and(|marked_at| marked_at < position) {
                freed = freed + self.delete_trash(&name)?;
            }
        }
        Ok(freed)
    }

    /// Finds what can go, of packs that were `marked` when some were: whole packs, and packs of which little is live after
    /// rewriting that, durable.
    fn plan(&self, live: &Live, marked: Option<&HashSet<FileId>>, room: Room) -> Result<Plan> {
        let packs: Vec<(u32, FileId)> = self.index().all_packs().collect();
        let mut plan = Plan { going: Vec::new(), rewritten: ByteCount(0) };
        for (number, id) in packs {
            let stays = self.is_pinned(number) || live.immutable.contains(&number);
            if stays || marked.is_some_and(|marked| !marked.contains(&id)) {
                continue;
            }
            if let Some(kept) = self.worth_going(live, (number, &id))?
                && (kept.is_empty() || room == Room::Enough)
            {
                plan.rewritten = plan.rewritten + ByteCount(self.rewrite(&kept)?);
                plan.going.push((number, id));
            }
        }
        // What was rewritten is durable before what it came from goes.
        self.flush()?;
        Ok(plan)
    }

    /// What is live of a pack that should go; none of one that stays because much of it is live, or something damaged is.
    fn worth_going(&self, live: &Live, (number, id): (u32, &FileId)) -> Result<Option<Vec<Found>>> {
        let (kept, whole) = match self.live_records(live, (number, id)) {
            Ok(records) => records,
            // Nothing in it is named: there is nothing to lose with it.
            Err(error) if damage_of(&error).is_some() && !live.any(number) && pack_path(&self.root, id).exists() => {
                (Vec::new(), u64::MAX)
            }
            Err(error) if damage_of(&error).is_some() => return Ok(None),
            Err(error) => return Err(error),
        };
        let kept_bytes: u64 = kept.iter().map(|found| u64::from(found.place.stored)).sum();
        let worth_keeping = u128::from(kept_bytes) * 100 >= u128::from(whole) * u128::from(WORTH_KEEPING);
        let stays = worth_keeping || kept.iter().any(|found| self.is_damaged(&found.place));
        Ok(if stays { None } else { Some(kept) })
    }

    /// Moves packs into the trash.
    fn sweep(&self, plan: &Plan, trash: &Path) -> Result<ByteCount> {
        let mut marked = ByteCount(0);
        for (number, id) in &plan.going {
            let path = pack_path(&self.root, id);
            // Held until the pack is gone from the index, so that nobody finds something in it meanwhile.
            let pinned = self.pinned();
            if pinned.packs.contains_key(number) {
                continue;
            }
            marked = marked + length(&path);
            self.unmark(&path)?;
            self.io.rename(&path, &trash.join("packs").join(id.to_string()))?;
            self.index_mut().drop_pack(*number);
        }
        self.io.sync_folder(&trash.join("packs"))?;
        Ok(marked)
    }

    /// What of a plan was moved into the trash.
    fn went(&self, plan: &Plan) -> HashSet<FileId> {
        let index = self.index();
        plan.going.iter().filter(|(number, _)| index.pack(*number).is_none()).map(|(_, id)| *id).collect()
    }

    fn live_records(&self, live: &Live, (pack, id): (u32, &FileId)) -> Result<(Vec<Found>, u64)> {
        let mut offset = PACK_HEADER_LEN as u32;
        let mut kept = Vec::new();
        for (number, entry) in (0u32..).zip(self.read_directory(id)?) {
            if live.has(pack, number) {
                let plain = super::packs::plain_word(entry.kind, entry.plain as usize);
                kept.push(Found { id: entry.id, place: Place { pack, number, offset, stored: entry.stored, plain } });
            }
            offset = offset.saturating_add(entry.stored);
        }
        Ok((kept, u64::from(offset) - PACK_HEADER_LEN as u64))
    }

    /// Stores records anew, as they are compressed.
    fn rewrite(&self, kept: &[Found]) -> Result<u64> {
        let mut reader = Reader::new(self);
        let mut written = 0;
        for record in kept {
            written += self.store_anew(record, &mut reader)?;
        }
        Ok(written)
    }

    /// Whether a session is open.
    pub fn in_use(&self) -> bool {
        !self.pinned().sessions.is_empty()
    }
}

impl WriteSession {
    /// The repository that it writes to.
    pub fn repository(&self) -> &Repository {
        &self.0
    }
}
