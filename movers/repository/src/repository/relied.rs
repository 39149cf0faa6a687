//! Knowing that a disk of a point is whole without walking its tree. A point is made only when everything that it names was
//! found; packs never change, so that all of it is there for as long as each of these packs is, with its head and its end.
//! Which packs those are is kept beside the repository, in `relied/`, and is derived: a disk of which nothing is kept, or
//! nothing that can be read, is walked.

use super::Repository;
use super::whole::Whole;
use crate::Result;
use farshore_format::repository::{ChunkId, FileId, PointDisk, Reliance};
use farshore_schemas::ids::Digest;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::PoisonError;

const FOLDER: &str = "relied";
/// Leaves of a disk that are looked up before its list is believed.
const TRIED: usize = 64;

/// Whether a file is named after a disk, or was to be.
fn ours(name: &str) -> bool {
    name.strip_suffix(".new").unwrap_or(name).parse::<Digest>().is_ok()
}

impl Repository {
    fn reliance_path(&self, disk: &Digest) -> PathBuf {
        self.root.join(FOLDER).join(disk.to_string())
    }

    /// Takes the leaves of a disk for whole, if every pack that it relies on is there and it is known that nothing is damaged.
    pub(super) fn is_relied_on(&self, disk: &PointDisk, leaves: &[ChunkId]) -> Result<bool> {
        // Before the list is read: whoever meets a damaged page has the index made anew, and no list outlives that.
        let some: Vec<ChunkId> = leaves.iter().step_by(leaves.len().div_ceil(TRIED).max(1)).copied().collect();
        let places = self.places(&some)?;
        let Some(packs) = self.relied_packs(disk) else { return Ok(false) };
        // A list that says too little proves nothing, and an empty one least of all.
        if !places.iter().all(|place| place.is_some_and(|place| packs.contains(&place.pack))) {
            return Ok(false);
        }
        for pack in &packs {
            if !self.vet(*pack)? {
                return Ok(false);
            }
        }
        self.remember(Whole::of(leaves, packs));
        Ok(true)
    }

    /// The packs that a disk relies on, if the index knows each of them and it is known that nothing is damaged.
    fn relied_packs(&self, disk: &PointDisk) -> Option<HashSet<u32>> {
        let reliance = self.reliance(&disk.disk)?;
        let index = self.index();
        let packs: Option<HashSet<u32>> = reliance.packs.iter().map(|pack| index.number_of(&FileId(pack.0))).collect();
        packs.filter(|_| index.damage.is_none())
    }

    /// What is kept of a disk; none when nothing is, or it cannot be read.
    fn reliance(&self, disk: &Digest) -> Option<Reliance> {
        let bytes = self.io.read(&self.reliance_path(disk)).ok()??;
        let reliance = Reliance::decode(&bytes, self.sealing.key.as_ref()).ok()?;
        (reliance.disk == *disk).then_some(reliance)
    }

    /// Keeps that disks of a point that was just made rely on these packs, and forgets it of what they came after: the next
    /// point follows this one. It is derived, so whatever goes wrong costs a walk and no more.
    pub(super) fn rely_on(&self, disks: &[PointDisk], packs: Option<HashSet<u32>>) {
        let before: Vec<Digest> = {
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            disks.iter().filter_map(|disk| followed.remove(&disk.disk)).collect()
        };
        let Some(packs) = packs else { return };
        let ids: Option<Vec<Digest>> = {
            let index = self.index();
            packs.into_iter().map(|pack| index.pack(pack).map(|id| Digest(id.0))).collect()
        };
        // One that went meanwhile, or what it held was written anew: then nothing is known.
        let Some(packs) = ids else { return };
        for disk in disks {
            let reliance = Reliance { disk: disk.disk, packs: packs.clone() };
            if let Err(error) = self.keep_reliance(&reliance) {
                tracing::warn!(disk = %disk.name, %error, "the next backup of this disk will take longer");
            }
        }
        let stays = |id: &Digest| disks.iter().any(|disk| disk.disk == *id);
        for id in before.iter().filter(|id| !stays(id)) {
            self.io.discard(&self.reliance_path(id));
        }
    }

    fn keep_reliance(&self, reliance: &Reliance) -> Result<()> {
        let bytes = reliance.encode(self.sealing.fresh()).expect("an open repository that seals has its key");
        self.io.make_folder(&self.root.join(FOLDER))?;
        let path = self.reliance_path(&reliance.disk);
        let temporary = path.with_extension("new");
        let written = self.io.make_file(&temporary).and_then(|file| self.io.write_at(&file, &temporary, &bytes, 0));
        let written = written.and_then(|()| self.io.rename(&temporary, &path));
        if written.is_err() {
            self.io.discard(&temporary);
        }
        written
    }

    /// Forgets what disks rely on that no point names any more.
    pub(super) fn rely_on_no_others(&self) {
        let (Ok(points), Ok(names)) = (self.points(), self.io.names(&self.root.join(FOLDER))) else { return };
        let named: HashSet<String> =
            points.iter().flat_map(|point| &point.disks).map(|disk| disk.disk.to_string()).collect();
        for name in names.iter().filter(|name| ours(name) && !named.contains(*name)) {
            self.io.discard(&self.root.join(FOLDER).join(name));
        }
    }

    /// Lets disks rely on what a prune has left, or each would be walked after each prune: for packs that went their lists name those
    /// in which their records are found now. Only disks of points that are there: all that these name was found before anything
    /// went, and stayed or was written anew, durable. It is derived, so whatever goes wrong costs a walk and no more.
    pub(super) fn rely_on_the_rest(&self, went: &HashSet<FileId>) {
        let Ok(points) = self.points() else { return };
        let disks: HashSet<Digest> = points.iter().flat_map(|point| &point.disks).map(|disk| disk.disk).collect();
        let mut instead: HashMap<FileId, Option<HashSet<Digest>>> = HashMap::new();
        for disk in disks.into_iter().filter(|disk| !went.is_empty() && self.reliance_path(disk).exists()) {
            let Some(Reliance { packs, .. }) = self.reliance(&disk) else { continue };
            let (gone, mut packs): (HashSet<Digest>, HashSet<Digest>) =
                packs.into_iter().partition(|pack| went.contains(&FileId(pack.0)));
            for pack in &gone {
                let pack = FileId(pack.0);
                let found = instead.entry(pack).or_insert_with(|| self.packs_instead(&pack));
                // Where nothing is known of one, the list goes on naming it, and counts for nothing.
                packs.extend(found.as_ref().unwrap_or(&HashSet::from([Digest(pack.0)])));
            }
            if !gone.is_empty()
                && let Err(error) = self.keep_reliance(&Reliance { disk, packs: packs.into_iter().collect() })
            {
                tracing::warn!(%disk, %error, "the next backup of this disk will take longer");
            }
        }
    }

    /// The packs in which records of one that went are found now; none when what it held cannot be read.
    fn packs_instead(&self, pack: &FileId) -> Option<HashSet<Digest>> {
        let ids: Vec<ChunkId> = self.read_directory(pack).ok()?.into_iter().map(|entry| entry.id).collect();
        let places = self.places(&ids).ok()?;
        let index = self.index();
        places.into_iter().flatten().map(|place| index.pack(place.pack).map(|id| Digest(id.0))).collect()
    }

    /// Forgets what every disk relies on: the index has lost something, and is made anew.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn rely_on_nothing(&self) -> Result<()> {
        let folder = self.root.join(FOLDER);
        let names = self.io.names(&folder)?;
        names.iter().filter(|name| ours(name)).try_for_each(|name| self.io.remove_file(&folder.join(name)))
    }

    /// Notes which disk of a point one that was read follows.
    pub(super) fn follow(&self, disk: Digest, before: Digest) {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).insert(disk, before);
    }
}
