//! The source mover of a backup: reads a frozen disk chunk by chunk, sends the chunks that the repository lacks, and stores
//! the disk's chunk list. Nothing is a restore point until the repository's agent has committed it.

use crate::proto::Stored;
use crate::repository_client::RepositoryClient;
use crate::task::{Task, TaskError, TaskResult, failure, image_failure};
use farshore_format::{
    Allocation, CHUNK, ChunkId, DiskHasher, DiskManifest, EncodedChunk, chunks_in, encode_chunk, is_zero,
};
use farshore_hosts::SnapshotReader;
use farshore_repository::allocation;
use farshore_schemas::ids::{Digest, DiskName, PointId};
use farshore_schemas::messages::agent::{DiskPoint, Moved, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::collections::BTreeMap;
use std::ops::Range;

/// New chunks that are gathered before the repository is asked: bounds memory, and the round trips.
const GATHER: usize = 16;
/// Bytes of chunks in one message, one chunk more at most.
const MESSAGE: usize = 1024 * 1024;

pub(super) fn run(task: &Task) -> TaskResult<Outcome> {
    let TaskSpec::BackupDisk { source, snapshot, target, repository, access, parent, .. } = &task.order.spec else {
        return Err(TaskError::Failed(failure("FS-AGENT-LANE", "not a backup", "report this defect", false)));
    };
    let host = task.shared.host(&source.host)?;
    let mut reader = host.open_for_reading(&source.vm, &source.disk, Some(snapshot))?;
    let size = reader.size();
    let mut client = RepositoryClient::open(task, target, repository, access)?;
    let (known, full_because) = chunks_of_parent(&mut client, parent.as_ref(), &source.disk, size)?;
    let mut backup = Backup {
        task,
        client: &mut client,
        known,
        gathered: BTreeMap::new(),
        moved: Moved::default(),
        hasher: DiskHasher::new(),
        chunks: Vec::new(),
    };
    backup.read_all(&mut reader)?;
    let (chunks, checksum, mut moved) = (backup.chunks, backup.hasher.finish(), backup.moved);
    let allocation = allocated(&reader, &source.disk)?;
    // Only now it is known that what was read is what the disk held.
    reader.finish()?;
    let manifest = client.store_manifest(&DiskManifest { size, checksum, chunks, allocation })?;
    moved.sent = ByteCount(client.sent());
    let disk = DiskPoint { name: source.disk.clone(), size, checksum, manifest };
    Ok(Outcome::DiskStored { disk, moved, full_because })
}

/// The chunks of the newest point, which need not be asked for; or why everything is asked for.
fn chunks_of_parent(
    client: &mut RepositoryClient<'_>,
    parent: Option<&PointId>,
    disk: &DiskName,
    size: ByteCount,
) -> TaskResult<(Vec<ChunkId>, Option<String>)> {
    let Some(parent) = parent else { return Ok((Vec::new(), None)) };
    match client.manifest(parent, disk) {
        Ok(list) if list.size == size => Ok((list.chunks, None)),
        Ok(list) => Ok((Vec::new(), Some(format!("the disk had {} in point {parent} and has {size} now", list.size)))),
        Err(TaskError::Failed(failure)) => {
            Ok((Vec::new(), Some(format!("point {parent} could not be used: {} ({})", failure.message, failure.code))))
        }
        Err(error) => Err(error),
    }
}

struct Backup<'a, 'b> {
    task: &'a Task,
    client: &'a mut RepositoryClient<'b>,
    known: Vec<ChunkId>,
    /// Chunks that the parent does not have in their place, by id.
    gathered: BTreeMap<ChunkId, EncodedChunk>,
    moved: Moved,
    hasher: DiskHasher,
    chunks: Vec<ChunkId>,
}

impl Backup<'_, '_> {
    fn read_all(&mut self, reader: &mut SnapshotReader) -> TaskResult<()> {
        let size = reader.size().0;
        let extents = reader.extents().to_vec();
        let mut content = vec![0u8; CHUNK];
        for index in 0..chunks_in(size) {
            self.task.go_on()?;
            let start = index * CHUNK as u64;
            let range = start..(start + CHUNK as u64).min(size);
            let length = (range.end - range.start) as usize;
            let data = data_within(&extents, &range);
            if data == 0 {
                self.hasher.zeros(length as u64);
                self.chunks.push(ChunkId::ZERO);
            } else {
                reader.read_at(start, &mut content[..length])?;
                self.moved.read = self.moved.read + ByteCount(data);
                self.hasher.data(&content[..length]);
                self.take(index, &content[..length])?;
            }
            self.task.progress(range.end, size, "read");
        }
        self.send_gathered()
    }

    fn take(&mut self, index: u64, content: &[u8]) -> TaskResult<()> {
        let before = usize::try_from(index).ok().and_then(|at| self.known.get(at)).copied();
        let id = if is_zero(content) { ChunkId::ZERO } else { ChunkId::of(content) };
        self.chunks.push(id);
        if before == Some(id) {
            return Ok(());
        }
        self.moved.changed = self.moved.changed + ByteCount(content.len() as u64);
        if !id.is_zero() {
            self.gathered.entry(id).or_insert_with(|| encode_chunk(content));
        }
        if self.gathered.len() >= GATHER { self.send_gathered() } else { Ok(()) }
    }

    /// Asks which of the gathered chunks are stored, and sends the others.
    fn send_gathered(&mut self) -> TaskResult<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered: Vec<EncodedChunk> = std::mem::take(&mut self.gathered).into_values().collect();
        let ids: Vec<ChunkId> = gathered.iter().map(|chunk| chunk.id).collect();
        let stored = self.client.have(&ids)?;
        let mut message: Vec<Stored> = Vec::new();
        let mut length = 0;
        for chunk in gathered.into_iter().zip(stored).filter(|(_, stored)| !stored).map(|(chunk, _)| chunk) {
            length += chunk.bytes.len();
            self.moved.written = self.moved.written + ByteCount(chunk.bytes.len() as u64);
            message.push(Stored { id: Digest(chunk.id.0), bytes: chunk.bytes });
            if length >= MESSAGE {
                self.client.put(std::mem::take(&mut message))?;
                length = 0;
                self.task.go_on()?;
            }
        }
        if message.is_empty() { Ok(()) } else { self.client.put(message) }
    }
}

/// Which blocks of a disk take space where it lies, so that disks that are made from it can take the same.
pub(super) fn allocated(reader: &SnapshotReader, disk: &DiskName) -> TaskResult<Allocation> {
    let what = format!("disk {disk}");
    Ok(allocation::of(reader.image()).map_err(|error| image_failure("looking at the extents of", &what, &error))?)
}

/// Bytes of `range` that may hold data.
pub(super) fn data_within(extents: &[Range<u64>], range: &Range<u64>) -> u64 {
    let from = extents.partition_point(|extent| extent.end <= range.start);
    let within = extents[from..].iter().take_while(|extent| extent.start < range.end);
    within.map(|extent| extent.end.min(range.end) - extent.start.max(range.start)).sum()
}
