//! A guest's disks and the snapshots that it keeps: the only way to a disk's bytes while the guest runs. Before a block
//! is overwritten its old content goes to every open snapshot that does not have it yet. A snapshot that cannot be kept
//! (its disk is full) is broken by name before the block is overwritten; the guest's own write matters more.

use crate::cow::{self, Begin, FrozenDisk, Writer};
use crate::error::{HostError, Result};
use crate::image::{self, Access, ImageFacts};
use crate::run::{RunFolder, break_snapshot};
use crate::stamps::BLOCK;
use farshore_schemas::ids::{DiskName, Name};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::Timestamp;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// More snapshots than this at once are a mistake: each costs a copy.
const MOST_SNAPSHOTS: usize = 8;

pub(crate) struct Disks {
    list: Vec<Disk>,
    snapshots: Vec<Writer>,
}

struct Disk {
    name: DiskName,
    path: PathBuf,
    file: File,
    size: u64,
}

impl Disks {
    /// Opens and locks every disk; a second guest on any of them is refused here.
    pub(super) fn open(dir: &Path, disks: &[DiskFacts]) -> Result<Disks> {
        let mut list = Vec::new();
        for disk in disks {
            let path = dir.join(disk.name.as_str());
            let file = image::open(&path, Access::Write)?;
            image::lock(&file, &path)?;
            let size = file.metadata().map_err(HostError::io("looking at", &path))?.len();
            list.push(Disk { name: disk.name.clone(), path, file, size });
        }
        Ok(Disks { list, snapshots: Vec::new() })
    }

    /// Goes on keeping the snapshots that were begun before this guest was started.
    pub(super) fn resume_snapshots(&mut self, run: &RunFolder) -> Result<()> {
        for path in run.snapshots()? {
            let resumed = Writer::open(&path).and_then(|mut writer| {
                let facts = self.facts_for(&writer)?;
                writer.guest_started(&facts)?;
                Ok(writer)
            });
            match resumed {
                Ok(writer) => self.snapshots.push(writer),
                Err(error) => {
                    super::log(&format!("a snapshot is given up: {error}"));
                    break_snapshot(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The facts of a snapshot's disks, in its order.
    fn facts_for(&self, writer: &Writer) -> Result<Vec<ImageFacts>> {
        let find = |frozen: &FrozenDisk| self.list.iter().find(|disk| disk.name == frozen.name);
        let gone = |frozen: &FrozenDisk| HostError::SnapshotLost {
            path: writer.path.clone(),
            why: format!("the VM no longer has the disk {}", frozen.name),
        };
        writer
            .begin
            .disks
            .iter()
            .map(|frozen| find(frozen).ok_or_else(|| gone(frozen)).and_then(|d| ImageFacts::of(&d.file, &d.path)))
            .collect()
    }

    pub(super) fn begin_snapshot(&mut self, run: &RunFolder, snapshot: &Name, taken: Timestamp) -> Result<Begin> {
        if let Some(known) = self.snapshots.iter().find(|known| &known.begin.snapshot == snapshot) {
            return Ok(known.begin.clone());
        }
        let path = cow::cow_path(run.path.as_path(), snapshot);
        if self.snapshots.len() >= MOST_SNAPSHOTS {
            let why = format!("the guest keeps {MOST_SNAPSHOTS} snapshots already; end one first");
            return Err(HostError::SnapshotLost { path, why });
        }
        let frozen = |disk: &Disk| {
            ImageFacts::of(&disk.file, &disk.path).map(|facts| FrozenDisk { name: disk.name.clone(), facts })
        };
        let disks = self.list.iter().map(frozen).collect::<Result<_>>()?;
        let begin = Begin { snapshot: snapshot.clone(), boot: crate::process::boot_id()?, taken, disks };
        let lost = |error: HostError| HostError::SnapshotLost { path: path.clone(), why: error.to_string() };
        run.remove(&format!("snap-{snapshot}.broken"))?;
        cow::create(&run.path, &begin).map_err(lost)?;
        let mut writer = Writer::open(&path).map_err(lost)?;
        let facts = self.facts_for(&writer)?;
        writer.guest_started(&facts).map_err(lost)?;
        self.snapshots.push(writer);
        Ok(begin)
    }

    pub(super) fn end_snapshot(&mut self, run: &RunFolder, snapshot: &Name) -> Result<()> {
        self.snapshots.retain(|known| &known.begin.snapshot != snapshot);
        crate::snapshot::remove_files(run, snapshot)
    }

    pub(super) fn snapshot_names(&self) -> Vec<Name> {
        self.snapshots.iter().map(|known| known.begin.snapshot.clone()).collect()
    }

    /// Tells the snapshots that this guest has ended in good order.
    pub(super) fn sign_off(&mut self) {
        for mut writer in std::mem::take(&mut self.snapshots) {
            let signed = self.facts_for(&writer).and_then(|facts| writer.guest_ended(&facts));
            if let Err(error) = signed {
                // Without the signature a reader knows less and trusts less; nothing is wrong with the disks.
                super::log(&format!("a snapshot could not be signed off: {error}"));
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    pub(super) fn index(&self, name: &DiskName) -> Option<usize> {
        self.list.iter().position(|disk| &disk.name == name)
    }

    pub(super) fn is_ours(&self, disk: usize) -> Result<bool> {
        let disk = self.disk(disk);
        crate::fat::is_ours(&disk.file, &disk.path)
    }

    pub(super) fn path(&self, disk: usize) -> &Path {
        &self.disk(disk).path
    }

    pub(super) fn size(&self, disk: usize) -> u64 {
        self.disk(disk).size
    }

    fn disk(&self, disk: usize) -> &Disk {
        &self.list[disk]
    }

    pub(super) fn read_at(&self, disk: usize, into: &mut [u8], offset: u64) -> Result<()> {
        let disk = self.disk(disk);
        disk.file.read_exact_at(into, offset).map_err(HostError::io("reading", &disk.path))
    }

    /// Overwrites bytes of a disk, after every snapshot has what was there.
    pub(super) fn write_at(&mut self, disk: usize, data: &[u8], offset: u64) -> Result<()> {
        let to = &self.list[disk];
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= to.size).ok_or_else(|| {
            HostError::io("writing", &to.path)(io::Error::new(io::ErrorKind::InvalidInput, "past the disk's end"))
        })?;
        let blocks = offset / BLOCK as u64..=(end - 1) / BLOCK as u64;
        let mut kept = Vec::with_capacity(self.snapshots.len());
        for mut snapshot in std::mem::take(&mut self.snapshots) {
            match keep_blocks(&mut snapshot, to, blocks.clone()) {
                Ok(()) => kept.push(snapshot),
                Err(error) => {
                    super::log(&format!("a snapshot is given up: {error}"));
                    break_snapshot(&snapshot.path)?;
                }
            }
        }
        self.snapshots = kept;
        to.file.write_all_at(data, offset).map_err(HostError::io("writing", &to.path))
    }

    pub(super) fn sync(&mut self, disk: usize) -> Result<()> {
        let disk = self.disk(disk);
        disk.file.sync_data().map_err(HostError::io("syncing", &disk.path))
    }

    pub(super) fn sync_all(&mut self) -> Result<()> {
        (0..self.list.len()).try_for_each(|disk| self.sync(disk))
    }

    /// A disk as a stream, for the file system library.
    pub(super) fn stream(&mut self, disk: usize) -> DiskStream<'_> {
        DiskStream { disks: self, disk, at: 0 }
    }
}

fn keep_blocks(snapshot: &mut Writer, disk: &Disk, blocks: std::ops::RangeInclusive<u64>) -> Result<()> {
    // A disk that the VM got after the beginning is not part of the snapshot.
    let Some(place) = snapshot.disk(&disk.name) else { return Ok(()) };
    let mut old = [0u8; BLOCK];
    for block in blocks {
        if snapshot.wants(place, block) {
            let offset = block * BLOCK as u64;
            let length = (disk.size - offset).min(BLOCK as u64) as usize;
            disk.file.read_exact_at(&mut old[..length], offset).map_err(HostError::io("reading", &disk.path))?;
            snapshot.keep(place, block, &old[..length]);
        }
    }
    snapshot.flush()
}

/// Reads and writes a disk from a position on, through [`Disks`].
pub(crate) struct DiskStream<'a> {
    disks: &'a mut Disks,
    disk: usize,
    at: u64,
}

impl DiskStream<'_> {
    fn room(&self, wanted: usize) -> usize {
        let left = self.disks.disk(self.disk).size.saturating_sub(self.at);
        usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
    }
}

fn plain(error: HostError) -> io::Error {
    if let HostError::Io { source, .. } = error { source } else { io::Error::other(error) }
}

impl Read for DiskStream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.room(into.len());
        self.disks.read_at(self.disk, &mut into[..count], self.at).map_err(plain)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for DiskStream<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.room(data.len());
        self.disks.write_at(self.disk, &data[..count], self.at).map_err(plain)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for DiskStream<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.disks.disk(self.disk).size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the disk's start"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
