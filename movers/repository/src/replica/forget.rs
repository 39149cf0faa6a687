//! Dropping points. The oldest goes with its deltas. One in the middle hands its deltas to the next older point first:
//! where both know a block, the older one's image stays. The newest point is the newest state itself and always stays.

use super::delta::{BlockSet, DeltaFile, DeltaReader};
use super::{Chain, ReplicaStore, Sealed};
use crate::Result;
use farshore_format::{BLOCK, DeltaContent, DeltaHeader, DeltaRecord, blocks_in};
use farshore_schemas::ids::{DiskName, PointId};
use farshore_schemas::units::ByteCount;
use std::path::Path;

impl ReplicaStore {
    /// Drops these points and answers the bytes freed. Points that are gone are as good; the newest stays.
    ///
    /// # Errors
    /// [`crate::Error::Damage`] when a delta that must be merged is damaged, or what the disk says.
    pub fn forget(&self, points: &[PointId]) -> Result<ByteCount> {
        self.io.usable()?;
        let mut chain = self.write_chain();
        let mut freed = ByteCount(0);
        for point in points {
            let at = chain.points.iter().position(|sealed| sealed.point.point == *point);
            if let Some(at) = at.filter(|at| at + 1 < chain.points.len()) {
                freed = freed + self.forget_one(&mut chain, at)?;
            }
        }
        self.drop_unused_disks(&chain)?;
        Ok(freed)
    }

    fn forget_one(&self, chain: &mut Chain, at: usize) -> Result<ByteCount> {
        let mut before = self.weigh(&chain.points[at])?;
        let mut after = ByteCount(0);
        if let Some(older) = at.checked_sub(1) {
            let (older, dropped) = (&chain.points[older], &chain.points[at]);
            before = before + self.weigh(older)?;
            self.merge(older, dropped)?;
            after = self.weigh(older)?;
        }
        let dropped = &chain.points[at];
        let folder = self.point_folder(dropped.number, &dropped.point.point);
        let points = self.root.join("points");
        let hidden = points.join(format!(".forgotten-{:08}", dropped.number));
        // Another name first: a point that is half deleted must not be counted as one.
        self.io.remove_folder(&hidden)?;
        self.io.rename(&folder, &hidden)?;
        self.io.sync_folder(&points)?;
        chain.points.remove(at);
        self.io.remove_folder(&hidden)?;
        Ok(ByteCount(before.0.saturating_sub(after.0)))
    }

    fn weigh(&self, sealed: &Sealed) -> Result<ByteCount> {
        let folder = self.point_folder(sealed.number, &sealed.point.point);
        let names = self.io.names(&folder)?;
        Ok(names.iter().map(|name| ByteCount(std::fs::metadata(folder.join(name)).map_or(0, |file| file.len()))).sum())
    }

    /// Makes the older point's deltas lead past the dropped one. Each is replaced whole; until the dropped point is gone,
    /// applying its delta before the merged one gives the same, so a crash in between loses nothing.
    fn merge(&self, older: &Sealed, dropped: &Sealed) -> Result<()> {
        let folder = self.point_folder(older.number, &older.point.point);
        for name in self.io.names(&folder)? {
            let Some(disk) = name.strip_suffix(".delta") else { continue };
            let disk = DiskName::parse(disk).map_err(|error| self.io.damage(&folder.join(&name), error))?;
            let (path, newer) = (self.delta_path(older, &disk), self.delta_path(dropped, &disk));
            let merged = folder.join(format!(".{name}.new"));
            self.merge_disk((&path, &newer), &merged)?;
            self.io.rename(&merged, &path)?;
        }
        self.io.sync_folder(&folder)
    }

    fn merge_disk(&self, (older, newer): (&Path, &Path), merged: &Path) -> Result<()> {
        let mut first = DeltaReader::open_sealed(&self.io, older)?;
        let mut second = DeltaReader::open_sealed(&self.io, newer)?;
        let header = DeltaHeader { to_size: first.header.to_size, from_size: second.header.from_size };
        let mut file = DeltaFile::create(&self.io, merged, &header)?;
        let mut known = BlockSet::default();
        while let Some(record) = first.next()? {
            known.insert_run(&record);
            file.append(&record)?;
        }
        first.whole()?;
        while let Some(record) = second.next()? {
            let wanted = |block| !known.contains(block) && block < blocks_in(header.to_size);
            for part in parts(&record, wanted) {
                file.append(&part)?;
            }
        }
        second.whole()?;
        file.complete().map(drop)
    }

    /// A disk that no point has any more goes, its deltas first, from the oldest point on.
    fn drop_unused_disks(&self, chain: &Chain) -> Result<()> {
        for disk in self.disks()? {
            let begun = chain.open.as_ref().is_some_and(|open| open.begun.disk(&disk).is_some());
            let used = |sealed: &Sealed| sealed.point.disks.iter().any(|held| held.name == disk);
            if begun || chain.points.is_empty() || chain.points.iter().any(used) {
                continue;
            }
            for sealed in &chain.points {
                self.io.remove_file(&self.delta_path(sealed, &disk))?;
                self.io.sync_folder(&self.point_folder(sealed.number, &sealed.point.point))?;
            }
            self.io.remove_file(&self.digests_path(&disk))?;
            self.io.remove_file(&self.raw_path(&disk))?;
            self.io.sync_folder(&self.root.join("newest"))?;
        }
        Ok(())
    }
}

/// The parts of a record whose blocks are wanted.
fn parts(record: &DeltaRecord, wanted: impl Fn(u64) -> bool) -> Vec<DeltaRecord> {
    let end = record.start + u64::from(record.blocks);
    let mut parts = Vec::new();
    let mut at = record.start;
    while at < end {
        let run = (at..end).take_while(|block| wanted(*block)).count();
        if run == 0 {
            at += 1;
            continue;
        }
        let content = match &record.content {
            DeltaContent::Zeros => DeltaContent::Zeros,
            DeltaContent::Data(data) => {
                let from = (at - record.start) as usize * BLOCK;
                DeltaContent::Data(data[from..from + run * BLOCK].to_vec())
            }
        };
        parts.push(DeltaRecord { start: at, blocks: run as u32, content });
        at += run as u64;
    }
    parts
}
