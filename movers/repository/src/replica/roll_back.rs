//! Taking back what an unfinished point wrote: the before-images of its journals are written back and proven by the
//! digests of the newest sealed state. A crash at any moment in it leaves what it can be done again from.

use super::delta::{self, DeltaReader};
use super::{BegunDisk, Chain, ReplicaStore};
use crate::{Error, Result, sparse};
use farshore_format::DigestMap;
use farshore_schemas::ids::DiskName;
use farshore_schemas::units::ByteCount;

impl ReplicaStore {
    /// Gives every disk back the state of the newest point and forgets the unfinished one; nothing when there is none.
    ///
    /// # Errors
    /// [`Error::DiskBusy`] while a disk has a writer, [`Error::Damage`] when what comes out is not the newest point's
    /// state, or what the disk says.
    pub fn roll_back(&self) -> Result<()> {
        self.io.usable()?;
        self.roll_back_chain(&mut self.write_chain())
    }

    /// The same for one disk of the unfinished point, which goes on with its others.
    ///
    /// # Errors
    /// As [`ReplicaStore::roll_back`].
    pub fn roll_back_disk(&self, disk: &DiskName) -> Result<()> {
        self.io.usable()?;
        let mut chain = self.write_chain();
        self.roll_back_one(&mut chain, disk)
    }

    pub(super) fn roll_back_chain(&self, chain: &mut Chain) -> Result<()> {
        let Some(open) = &chain.open else { return Ok(()) };
        for disk in &open.begun.disks {
            self.restore_disk(disk)?;
        }
        // Names only from here on: nothing of the unfinished point is on a disk any more.
        self.io.remove_folder(&self.point_folder(open.begun.number, &open.begun.point))?;
        self.io.remove_folder(&self.open_folder())?;
        self.io.sync_folder(&self.root)?;
        chain.open = None;
        Ok(())
    }

    pub(super) fn roll_back_one(&self, chain: &mut Chain, disk: &DiskName) -> Result<()> {
        let Some(open) = &mut chain.open else { return Ok(()) };
        let Some(begun) = open.begun.disk(disk) else { return Ok(()) };
        self.restore_disk(begun)?;
        open.begun.disks.retain(|begun| begun.name != *disk);
        open.finished.remove(disk);
        let begun = open.begun.clone();
        self.write_begun(&begun)
    }

    /// Writes the before-images back. The journal is deleted last, so that this can be done again.
    fn restore_disk(&self, disk: &BegunDisk) -> Result<()> {
        if self.busy().contains(&disk.name) {
            return Err(Error::DiskBusy { disk: disk.name.clone() });
        }
        let (path, journal) = (self.raw_path(&disk.name), self.journal_path(&disk.name));
        self.io.remove_file(&self.open_digests_path(&disk.name))?;
        self.io.remove_file(&self.open_allocation_path(&disk.name))?;
        if disk.was.is_none() {
            self.io.remove_file(&path)?;
            return self.io.sync_folder(&self.root.join("newest"));
        }
        if let Some(mut reader) = DeltaReader::open(&self.io, &journal)? {
            let raw = self.io.open_rw(&path)?;
            delta::apply(&self.io, &mut reader, &raw, &path)?;
            self.io.sync(&raw, &path)?;
            if reader.totals.records() > 0 {
                self.prove(disk, &raw)?;
            }
        }
        self.io.remove_file(&journal)?;
        self.io.sync_folder(&self.open_folder())
    }

    /// A journal cannot tell a torn end from one that has rotted; the digests of the sealed state can.
    fn prove(&self, disk: &BegunDisk, raw: &std::fs::File) -> Result<()> {
        let path = self.raw_path(&disk.name);
        let (map, _) = sparse::digests(raw).map_err(|error| self.io.failed("read", &path, error))?;
        let Some(bytes) = self.io.read_up_to(&self.digests_path(&disk.name), u64::MAX)? else { return Ok(()) };
        match DigestMap::decode(&bytes, ByteCount(map.size())) {
            Ok(sealed) if sealed == map => Ok(()),
            Ok(_) => Err(self.io.damage(&path, "rolled back, it is not the state of the newest point")),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "rolled back without proof: its digests are damaged");
                Ok(())
            }
        }
    }
}
