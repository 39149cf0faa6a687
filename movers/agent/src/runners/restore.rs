//! The target mover of a restore: fetches a disk's chunks into the image of a VM that is off. What took space at the
//! source takes it here, other zeros become holes. What the image holds in the end is read back and proven.

use crate::repository_client::RepositoryClient;
use crate::task::{Task, TaskError, TaskResult, failure, image_failure};
use farshore_format::{CHUNK, ChunkId, DiskManifest, decode_chunk};
use farshore_repository::{allocation, sparse};
use farshore_schemas::messages::agent::{DiskPoint, Moved, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Chunks asked for at once.
const ASK: usize = 16;

pub(super) fn run(task: &Task) -> TaskResult<Outcome> {
    let TaskSpec::RestoreDisk { source, repository, access, point, disk, target } = &task.order.spec else {
        return Err(TaskError::Failed(failure("FS-AGENT-LANE", "not a restore", "report this defect", false)));
    };
    let host = task.shared.host(&target.host)?;
    let mut client = RepositoryClient::open(task, source, repository, access)?;
    let list = client.manifest(point, disk)?;
    let file = host.open_for_writing(&target.vm, &target.disk)?;
    let what = format!("disk {} of VM {}", target.disk, target.vm);
    let io = |doing: &'static str| {
        let what = what.clone();
        move |error: std::io::Error| TaskError::Failed(image_failure(doing, &what, &error))
    };
    let size = file.metadata().map_err(io("looking at"))?.len();
    if size != list.size.0 {
        return Err(TaskError::Failed(failure(
            "FS-AGENT-DISK-SIZE",
            format!("{what} has {size} bytes, and {disk} in point {point} has {}", list.size.0),
            "restore into a VM that was made with the point's disk sizes",
            false,
        )));
    }
    let mut restore =
        Restore { task, client: &mut client, file: &file, list: &list, what: &what, moved: Moved::default() };
    restore.all()?;
    let mut moved = restore.moved;
    allocation::conform(&file, &list.allocation).map_err(io("setting space aside in"))?;
    file.sync_data().map_err(io("syncing"))?;
    let (checksum, _) = sparse::checksum(&file).map_err(io("reading back"))?;
    if checksum != list.checksum {
        return Err(TaskError::Failed(failure(
            "FS-AGENT-CHECKSUM",
            format!("{what} holds other bytes than {disk} of point {point}: {checksum} here, {} there", list.checksum),
            "verify the point; if it is whole, look at the disk under the host's folder, then restore again",
            true,
        )));
    }
    moved.sent = ByteCount(client.sent());
    let disk = DiskPoint { name: disk.clone(), size: list.size, checksum, manifest: list.digest() };
    Ok(Outcome::DiskRestored { disk, moved })
}

struct Restore<'a, 'b> {
    task: &'a Task,
    client: &'a mut RepositoryClient<'b>,
    file: &'a File,
    list: &'a DiskManifest,
    what: &'a str,
    moved: Moved,
}

impl Restore<'_, '_> {
    fn io(&self, doing: &str, error: &std::io::Error) -> TaskError {
        TaskError::Failed(image_failure(doing, self.what, error))
    }

    fn all(&mut self) -> TaskResult<()> {
        let mut wanted: Vec<(u64, ChunkId)> = Vec::new();
        let mut content = vec![0u8; CHUNK];
        for (index, id) in (0u64..).zip(&self.list.chunks) {
            self.task.go_on()?;
            let length = self.list.chunk_len(index).unwrap_or(0);
            let offset = index * CHUNK as u64;
            if id.is_zero() {
                sparse::punch(self.file, offset, length as u64).map_err(|error| self.io("making a hole in", &error))?;
            } else {
                // What an attempt before a crash has brought need not come again.
                self.file.read_exact_at(&mut content[..length], offset).map_err(|error| self.io("reading", &error))?;
                if ChunkId::of(&content[..length]) != *id {
                    wanted.push((index, *id));
                }
            }
            if wanted.len() == ASK {
                self.fetch(&mut wanted)?;
            }
            self.task.progress(offset + length as u64, self.list.size.0, "restored");
        }
        while !wanted.is_empty() {
            self.fetch(&mut wanted)?;
        }
        Ok(())
    }

    /// Fetches the first of the wanted chunks, as many as come in one answer.
    fn fetch(&mut self, wanted: &mut Vec<(u64, ChunkId)>) -> TaskResult<()> {
        self.task.go_on()?;
        let ids: Vec<ChunkId> = wanted.iter().map(|(_, id)| *id).collect();
        let got = self.client.get(&ids)?;
        for (chunk, (index, id)) in got.iter().zip(wanted.drain(..got.len())) {
            let content = decode_chunk(id, &chunk.bytes).map_err(farshore_repository::Error::from)?;
            if Some(content.len()) != self.list.chunk_len(index) {
                let message = format!("chunk {id} does not have the length of its place in {}", self.what);
                let advice = "verify the point, and restore an older one";
                return Err(TaskError::Failed(failure("FS-AGENT-CHUNK-LENGTH", message, advice, false)));
            }
            sparse::write_sparse(self.file, &content, index * CHUNK as u64)
                .map_err(|error| self.io("writing", &error))?;
            self.moved.read = self.moved.read + ByteCount(chunk.bytes.len() as u64);
            self.moved.changed = self.moved.changed + ByteCount(content.len() as u64);
            self.moved.written = self.moved.written + ByteCount(content.len() as u64);
        }
        Ok(())
    }
}
