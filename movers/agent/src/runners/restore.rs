//! The target mover of a restore: fetches a disk's chunks into the image of a VM that is off. What took space at the
//! source takes it here, other zeros become holes. What the image holds in the end is read back and proven.

use crate::repository_client::{RepositoryClient, StoredDisk};
use crate::task::{Task, TaskError, TaskResult, failure, image_failure};
use farshore_format::repository::{ChunkId, Extent, REGION, RecordKind, Unpacker, regions_in};
use farshore_format::{Allocation, BLOCK, is_zero};
use farshore_repository::{allocation, sparse};
use farshore_schemas::messages::agent::{DiskPoint, Moved, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Chunks asked for at once: their content is a few MiB.
const ASK: usize = 64;

pub(super) fn run(task: &Task) -> TaskResult<Outcome> {
    let TaskSpec::RestoreDisk { source, repository, access, point, disk, target } = &task.order.spec else {
        return Err(TaskError::Failed(failure("FS-AGENT-LANE", "not a restore", "report this defect", false)));
    };
    let host = task.shared.host(&target.host)?;
    let mut client = RepositoryClient::open(task, source, repository, access)?;
    let stored = client.disk(point, disk)?;
    let file = host.open_for_writing(&target.vm, &target.disk)?;
    let what = format!("disk {} of VM {}", target.disk, target.vm);
    let io = |doing: &'static str| {
        let what = what.clone();
        move |error: std::io::Error| TaskError::Failed(image_failure(doing, &what, &error))
    };
    let size = file.metadata().map_err(io("looking at"))?.len();
    if size != stored.size {
        return Err(TaskError::Failed(failure(
            "FS-AGENT-DISK-SIZE",
            format!("{what} has {size} bytes, and {disk} in point {point} has {}", stored.size),
            "restore into a VM that was made with the point's disk sizes",
            false,
        )));
    }
    let mut restore = Restore {
        task,
        client: &mut client,
        file: &file,
        disk: &stored,
        what: &what,
        unpacker: Unpacker::default(),
        allocated: Vec::new(),
        moved: Moved::default(),
    };
    restore.all()?;
    let (mut moved, allocated) = (restore.moved, restore.allocated);
    allocation::conform(&file, &Allocation::of_ranges(allocated)).map_err(io("setting space aside in"))?;
    file.sync_data().map_err(io("syncing"))?;
    let (checksum, _) = sparse::checksum(&file).map_err(io("reading back"))?;
    // A point of changed blocks alone has no checksum; each of its chunks was proven.
    if let Some(wanted) = stored.checksum.filter(|wanted| *wanted != checksum) {
        return Err(TaskError::Failed(failure(
            "FS-AGENT-CHECKSUM",
            format!("{what} holds other bytes than {disk} of point {point}: {checksum} here, {wanted} there"),
            "verify the point; if it is whole, look at the disk under the host's folder, then restore again",
            true,
        )));
    }
    moved.sent = ByteCount(client.sent());
    let disk = DiskPoint { name: disk.clone(), size: ByteCount(size), checksum, manifest: stored.record };
    Ok(Outcome::DiskRestored { disk, moved })
}

/// A chunk that the image lacks, and where it belongs.
type Wanted = (ChunkId, Range<u64>);

struct Restore<'a, 'b> {
    task: &'a Task,
    client: &'a mut RepositoryClient<'b>,
    file: &'a File,
    disk: &'a StoredDisk,
    what: &'a str,
    unpacker: Unpacker,
    /// What takes space, in order.
    allocated: Vec<Range<u64>>,
    moved: Moved,
}

impl Restore<'_, '_> {
    fn io(&self, doing: &str, error: &std::io::Error) -> TaskError {
        TaskError::Failed(image_failure(doing, self.what, error))
    }

    fn all(&mut self) -> TaskResult<()> {
        let TaskSpec::RestoreDisk { point, disk, .. } = &self.task.order.spec else { return Ok(()) };
        let mut wanted: Vec<Wanted> = Vec::new();
        for region in 0..regions_in(self.disk.size) {
            self.task.go_on()?;
            let leaf = self.client.region((point, disk), region, self.disk.size)?;
            let mut at = region * REGION;
            for extent in leaf.extents {
                let end = (at + u64::from(extent.blocks()) * BLOCK as u64).min(self.disk.size);
                self.extent(&extent, at..end, &mut wanted)?;
                while wanted.len() >= ASK {
                    self.fetch(&mut wanted)?;
                }
                at = end;
            }
            self.task.progress(at, self.disk.size, "restored");
        }
        while !wanted.is_empty() {
            self.fetch(&mut wanted)?;
        }
        Ok(())
    }

    fn extent(&mut self, extent: &Extent, range: Range<u64>, wanted: &mut Vec<Wanted>) -> TaskResult<()> {
        if !matches!(extent, Extent::Hole { .. }) {
            match self.allocated.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                Some(_) | None => self.allocated.push(range.clone()),
            }
        }
        let length = range.end - range.start;
        let Extent::Data { id, .. } = extent else {
            return sparse::punch(self.file, range.start, length).map_err(|error| self.io("making a hole in", &error));
        };
        // What an attempt before a crash has brought need not come again.
        let mut content = vec![0; length as usize];
        self.file.read_exact_at(&mut content, range.start).map_err(|error| self.io("reading", &error))?;
        if is_zero(&content) || self.client.domain().id(RecordKind::Data, &content) != *id {
            wanted.push((*id, range));
        }
        Ok(())
    }

    /// Fetches the first of the wanted chunks, as many as come in one answer.
    fn fetch(&mut self, wanted: &mut Vec<Wanted>) -> TaskResult<()> {
        self.task.go_on()?;
        let ids: Vec<ChunkId> = wanted.iter().map(|(id, _)| *id).collect();
        let got = self.client.get(&ids)?;
        let mut content = Vec::new();
        for (record, (id, range)) in got.iter().zip(wanted.drain(..got.len())) {
            let length = range.end - range.start;
            content.clear();
            let unpacked = self.unpacker.unpack(&record.bytes, length as usize, &mut content);
            if unpacked.is_err() || self.client.domain().id(RecordKind::Data, &content) != id {
                let message = format!("what came as chunk {id} is not what belongs into {}", self.what);
                let advice = "verify the point, and restore an older one if it is damaged";
                return Err(TaskError::Failed(failure("FS-AGENT-CHUNK", message, advice, true)));
            }
            sparse::write_sparse(self.file, &content, range.start).map_err(|error| self.io("writing", &error))?;
            self.moved.read = self.moved.read + ByteCount(record.bytes.len() as u64);
            self.moved.changed = self.moved.changed + ByteCount(length);
            self.moved.written = self.moved.written + ByteCount(length);
        }
        Ok(())
    }
}
