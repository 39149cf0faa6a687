//! What the source mover does with a region beside the reading of the next one: cuts it, names its chunks, asks which of them
//! the repository lacks, compresses and sends those.

use crate::proto::Packed;
use crate::repository_client::{RepositoryClient, StoredDisk};
use crate::task::{Task, TaskError, TaskResult, failure};
use farshore_format::repository::{
    ChunkId, Compression, CutRegion, Cutter, DiskTree, Domain, Extent, LEAVES_PER_LIST, LeafList, Listed, Packer,
    REGION, RecordKind, checksum_of, cut_region, zero_region,
};
use farshore_schemas::ids::{Digest, DiskName, PointId};
use farshore_schemas::messages::agent::Moved;
use farshore_schemas::units::ByteCount;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Threads beside the one that reads.
const THREADS: usize = 2;
/// Bytes of records in one message, one record more at most.
const MESSAGE: usize = 1024 * 1024;

/// A region that was read.
pub(super) struct Filled {
    pub(super) region: u64,
    pub(super) content: Vec<u8>,
    /// What takes space of it, in whole blocks.
    pub(super) allocated: Vec<Range<usize>>,
}

/// The point before, its disk's name, and the disk in it.
type Parent<'a> = (&'a PointId, &'a DiskName, &'a StoredDisk);

/// What the threads of one disk share.
#[derive(Default)]
struct State {
    leaves: BTreeMap<u64, ChunkId>,
    /// Leaves that are known to be stored with all that they name.
    known: HashSet<ChunkId>,
    moved: Moved,
    failed: Option<TaskError>,
    /// Buffers of regions that are done with.
    buffers: Vec<Vec<u8>>,
}

/// The cutting of one disk.
pub(super) struct Cutting<'a, 'b> {
    task: &'a Task,
    domain: Domain,
    cutter: Cutter,
    size: u64,
    parent: Option<Parent<'a>>,
    /// Apart from the rest, since whoever has it waits for the network.
    client: Mutex<&'a mut RepositoryClient<'b>>,
    state: Mutex<State>,
    queue: Mutex<Option<SyncSender<Filled>>>,
}

impl<'a, 'b> Cutting<'a, 'b> {
    pub(super) fn new(
        task: &'a Task,
        (client, size): (&'a mut RepositoryClient<'b>, u64),
        parent: Option<Parent<'a>>,
    ) -> Cutting<'a, 'b> {
        let domain = client.domain().clone();
        let cutter = Cutter::new(&domain);
        let (client, queue) = (Mutex::new(client), Mutex::new(None));
        Cutting { task, domain, cutter, size, parent, client, state: Mutex::default(), queue }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> MutexGuard<'_, &'a mut RepositoryClient<'b>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read`, which hands over regions, with threads beside it that cut them.
    pub(super) fn beside(&self, read: impl FnOnce() -> TaskResult<()>) -> TaskResult<()> {
        // A region waits in the hands of its reader: memory is what the threads and it hold.
        let (queue, regions) = sync_channel(0);
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        let regions = Mutex::new(regions);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| self.work(&regions))).collect();
            let outcome = read();
            *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
            workers.into_iter().for_each(|worker| worker.join().expect("a worker catches its panics"));
            outcome
        })
    }

    /// A buffer of this length; what is in it is of no meaning.
    pub(super) fn buffer(&self, length: usize) -> Vec<u8> {
        let mut buffer = self.state().buffers.pop().unwrap_or_else(|| Vec::with_capacity(REGION as usize));
        buffer.resize(length, 0);
        buffer
    }

    /// Hands a region to the threads.
    pub(super) fn take(&self, region: Filled) -> TaskResult<()> {
        self.go_on()?;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // They end only when the queue does, which is in the hands of whoever calls this.
        queue.and_then(|queue| queue.send(region).err()).map_or(Ok(()), |_| self.go_on())
    }

    /// Takes a region of zeros, with what takes space of it.
    pub(super) fn zeros(&self, region: u64, (length, allocated): (usize, &[Range<usize>])) -> TaskResult<()> {
        let mut packer = Packer::new(Compression::Balanced);
        self.store(region, (&zero_region(length, allocated), &[]), &mut packer)
    }

    /// Ends the reading when a thread could not go on.
    fn go_on(&self) -> TaskResult<()> {
        self.task.go_on()?;
        self.state().failed.take().map_or(Ok(()), Err)
    }

    fn work(&self, regions: &Mutex<Receiver<Filled>>) {
        let mut packer = Packer::new(Compression::Balanced);
        loop {
            let next = regions.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Filled { region, content, allocated }) = next else { return };
            // What comes after a failure is taken and dropped, so that the reader is never kept waiting.
            if self.state().failed.is_none() {
                let stored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let cut = cut_region(&content, &allocated, (&self.domain, &self.cutter));
                    self.store(region, (&cut, &content), &mut packer)
                }));
                let stored = stored.unwrap_or_else(|_| Err(defect(region)));
                if let Err(error) = stored {
                    self.state().failed.get_or_insert(error);
                }
            }
            self.state().buffers.push(content);
        }
    }

    /// Stores a region's chunks and its leaf, as far as they are not stored.
    fn store(&self, region: u64, (cut, content): (&CutRegion, &[u8]), packer: &mut Packer) -> TaskResult<()> {
        let record = cut.leaf.encode();
        let leaf = self.domain.id(RecordKind::Leaf, &record);
        self.count_changes(region, (leaf, cut))?;
        let known = {
            let mut state = self.state();
            state.leaves.insert(region, leaf);
            state.known.contains(&leaf)
        };
        // What a leaf names is the same wherever it stands.
        if known || self.client().have_leaf(&leaf, (self.size, region))? {
            self.state().known.insert(leaf);
            return Ok(());
        }
        let unique: BTreeMap<ChunkId, &Range<usize>> = cut.chunks.iter().map(|(id, range)| (*id, range)).collect();
        let ids: Vec<ChunkId> = unique.keys().copied().collect();
        let stored = if ids.is_empty() { Vec::new() } else { self.client().have(&ids)? };
        let mut message = Message::default();
        for ((id, range), _) in unique.iter().zip(stored).filter(|(_, stored)| !stored) {
            message.add(packer, (*id, RecordKind::Data), &content[(*range).clone()]);
            if message.length >= MESSAGE {
                self.put(&mut message)?;
            }
        }
        message.add(packer, (leaf, RecordKind::Leaf), &record);
        self.put(&mut message)?;
        self.state().known.insert(leaf);
        Ok(())
    }

    fn put(&self, message: &mut Message) -> TaskResult<()> {
        self.task.go_on()?;
        let mut moved = Moved::default();
        message.put(&mut self.client(), &mut moved)?;
        let mut state = self.state();
        state.moved.written = state.moved.written + moved.written;
        Ok(())
    }

    /// Counts what is not in the same region of the point before.
    fn count_changes(&self, region: u64, (leaf, cut): (ChunkId, &CutRegion)) -> TaskResult<()> {
        let mut before: BTreeSet<ChunkId> = BTreeSet::new();
        if let Some((point, name, disk)) = self.parent {
            let old = usize::try_from(region).ok().and_then(|region| disk.leaves.get(region));
            if old == Some(&leaf) {
                return Ok(());
            }
            let old = self.client().region((point, name), region, self.size);
            match old {
                Ok(old) => before.extend(old.extents.iter().filter_map(|extent| match extent {
                    Extent::Hole { .. } | Extent::Zeros { .. } => None,
                    Extent::Data { id, .. } => Some(*id),
                })),
                // It is counted for people only: then all of the region counts as changed.
                Err(TaskError::Failed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let changed = cut.chunks.iter().filter(|(id, _)| !before.contains(id)).map(|(_, range)| range.len() as u64);
        let changed = ByteCount(changed.sum());
        let mut state = self.state();
        state.moved.changed = state.moved.changed + changed;
        Ok(())
    }

    /// The ids of the leaves, in order, and what was moved.
    pub(super) fn finish(self) -> TaskResult<(Vec<ChunkId>, Moved)> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.failed.map_or(Ok(()), Err)?;
        Ok((state.leaves.into_values().collect(), state.moved))
    }
}

fn defect(region: u64) -> TaskError {
    let message = format!("region {region} of the disk met a defect in the agent");
    TaskError::Failed(failure("FS-AGENT-PANIC", message, "report this defect with the agent's log", false))
}

/// Records that are gathered for one message.
#[derive(Default)]
struct Message {
    records: Vec<Packed>,
    length: usize,
}

impl Message {
    fn add(&mut self, packer: &mut Packer, (id, kind): (ChunkId, RecordKind), content: &[u8]) {
        let mut bytes = Vec::new();
        packer.pack(content, &mut bytes);
        self.length += bytes.len();
        self.records.push(Packed { id: Digest(id.0), kind: kind as u8, plain: content.len() as u32, bytes });
    }

    fn put(&mut self, client: &mut RepositoryClient<'_>, moved: &mut Moved) -> TaskResult<()> {
        moved.written = moved.written + ByteCount(self.length as u64);
        self.length = 0;
        client.put(std::mem::take(&mut self.records))
    }
}

/// Stores the lists and the record of a disk whose leaves are stored. Answers the record's id.
pub(super) fn store_tree(
    client: &mut RepositoryClient<'_>,
    (size, regions): (u64, &[Listed]),
    moved: &mut Moved,
) -> TaskResult<ChunkId> {
    let mut packer = Packer::new(Compression::Balanced);
    let domain = client.domain().clone();
    let mut lists = Vec::new();
    for regions in regions.chunks(LEAVES_PER_LIST) {
        let record = LeafList { regions: regions.to_vec() }.encode();
        let id = domain.id(RecordKind::List, &record);
        store_record(client, (&mut packer, moved), (id, RecordKind::List, &record))?;
        lists.push(id);
    }
    let record = DiskTree { size, checksum: checksum_of(regions), lists }.encode();
    let id = domain.id(RecordKind::Disk, &record);
    store_record(client, (&mut packer, moved), (id, RecordKind::Disk, &record))?;
    Ok(id)
}

fn store_record(
    client: &mut RepositoryClient<'_>,
    (packer, moved): (&mut Packer, &mut Moved),
    (id, kind, record): (ChunkId, RecordKind, &[u8]),
) -> TaskResult<()> {
    if client.have(&[id])?[0] {
        return Ok(());
    }
    let mut message = Message::default();
    message.add(packer, (id, kind), record);
    message.put(client, moved)
}
