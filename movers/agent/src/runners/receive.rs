//! The receiving end of a disk's changes: served on the sender's connection. It tells what the disk holds, takes blocks,
//! makes them durable, reads the disk back and says what it holds. A connection that breaks leaves the task waiting for
//! the sender to come again; the compare then finds what is still missing.

use crate::link::{Link, LinkError};
use crate::proto::{Push, Reply, numbers};
use crate::runners::send::{NODES, blocks_of, width};
use crate::shared::{Phase, Shared};
use crate::stop::Told;
use crate::task::{Task, TaskError, TaskResult, failure, image_failure};
use farshore_format::{Allocation, BLOCK, DigestMap, DigestTree, LEVELS, blocks_in};
use farshore_repository::{BlockContent, DiskWriter, allocation, sparse};
use farshore_schemas::ids::{Digest, TaskId};
use farshore_schemas::messages::agent::{DiskPoint, DiskSink, Failure, Moved, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

/// What a connection found when it asked for a receiving task.
enum Claim {
    Work(Box<Task>),
    Done { checksum: Digest, written: u64 },
    No(Failure),
}

/// Serves the sender of a receiving task, as far as this connection goes.
pub(crate) fn serve(shared: &Arc<Shared>, link: &mut Link, id: &TaskId) -> Result<(), LinkError> {
    let task = match claim(shared, link, id) {
        Claim::Work(task) => task,
        Claim::No(failure) => return link.send(&Reply::Failed(failure)),
        Claim::Done { checksum, written } => {
            let _offer: Push = link.receive()?;
            return link.send(&Reply::Finished { checksum, written });
        }
    };
    let received = link.also(&task.stop).map_err(TaskError::Link).and_then(|_attached| receive(&task, link));
    let end = match received {
        Ok((disk, moved)) => {
            let (checksum, written) = (disk.checksum, moved.written.0);
            // The sender's record of what it is told may outlive ours: nothing is told that a crash here could take back.
            if !(shared.ended)(id.clone(), vec![Outcome::DiskReceived { disk, moved }]).wait(&task.stop) {
                return Ok(());
            }
            settle(shared, id, Some(Phase::Done { at: Instant::now(), checksum, written }));
            return link.send(&Reply::Finished { checksum, written });
        }
        Err(error) => error,
    };
    match end {
        TaskError::Link(error) if task.stop.told().is_none() => {
            settle(shared, id, Some(Phase::Waiting(Instant::now())));
            Err(error)
        }
        TaskError::Failed(failure) if task.stop.told().is_none() => {
            settle(shared, id, None);
            (shared.ended)(id.clone(), vec![Outcome::Failed(failure.clone())]);
            link.send(&Reply::Failed(failure))
        }
        TaskError::Link(_) | TaskError::Failed(_) | TaskError::Stopped(_) => {
            settle(shared, id, None);
            if task.stop.told() == Some(Told::Cancelled) {
                (shared.ended)(id.clone(), vec![Outcome::Cancelled]);
            }
            Ok(())
        }
    }
}

fn settle(shared: &Shared, id: &TaskId, phase: Option<Phase>) {
    let mut tables = shared.tables();
    match phase {
        Some(phase) => {
            if let Some(receiving) = tables.receiving.get_mut(id) {
                receiving.phase = phase;
            }
        }
        None => {
            tables.receiving.remove(id);
        }
    }
}

fn claim(shared: &Arc<Shared>, link: &Link, id: &TaskId) -> Claim {
    let mut tables = shared.tables();
    let not_open = |why: &str| {
        let message = format!("task {id} {why}");
        Claim::No(failure("FS-AGENT-NOT-OPEN", message, "wait until it is, or order the transfer again", true))
    };
    let Some(receiving) = tables.receiving.get_mut(id).filter(|receiving| receiving.peer == link.peer()) else {
        return not_open("does not receive from this sender");
    };
    match receiving.phase {
        Phase::Done { checksum, written, .. } => Claim::Done { checksum, written },
        Phase::Busy => not_open("is being sent to on another connection"),
        Phase::Waiting(_) => {
            receiving.phase = Phase::Busy;
            let (order, stop) = (receiving.order.clone(), receiving.stop.clone());
            Claim::Work(Box::new(Task::new(shared.clone(), order, stop)))
        }
    }
}

/// What is written to.
enum Sink {
    Store(Box<DiskWriter>),
    Image { file: File, what: String, written: u64 },
}

fn size_differs(what: &str, here: u64, there: u64) -> TaskError {
    TaskError::Failed(failure(
        "FS-AGENT-DISK-SIZE",
        format!("{what} has {here} bytes here and {there} at the sender"),
        "make the disks the same size, or begin with a new VM or replica",
        false,
    ))
}

impl Sink {
    /// Opens the sink and tells what the disk holds now.
    fn open(task: &Task, offered: u64) -> TaskResult<(Sink, DigestMap, DiskPoint)> {
        let TaskSpec::ReceiveDisk { sink, .. } = &task.order.spec else {
            return Err(TaskError::Failed(failure("FS-AGENT-LANE", "not a receiver", "report this defect", false)));
        };
        task.shared.check_fence(&task.order)?;
        let point = |name, size| DiskPoint { name, size, checksum: Digest::default(), manifest: Digest::default() };
        match sink {
            DiskSink::ReplicaStore { host, replica, point: making, disk } => {
                if disk.size.0 != offered {
                    return Err(size_differs(
                        &format!("disk {} of replica {replica}", disk.name),
                        disk.size.0,
                        offered,
                    ));
                }
                let store = task.shared.replica(host, replica)?;
                store.begin_point(making, std::slice::from_ref(disk))?;
                let map = store.digest_map(&disk.name)?;
                let writer = store.writer(making, &disk.name)?;
                Ok((Sink::Store(Box::new(writer)), map, point(disk.name.clone(), disk.size)))
            }
            DiskSink::VmDisk(disk, size) => {
                let what = format!("disk {} of VM {}", disk.disk, disk.vm);
                let file = task.shared.host(&disk.host)?.open_for_writing(&disk.vm, &disk.disk)?;
                let (map, _) = sparse::digests(&file).map_err(|error| image_failure("reading", &what, &error))?;
                if map.size() != offered || size.0 != offered {
                    return Err(size_differs(&what, map.size(), offered));
                }
                Ok((Sink::Image { file, what, written: 0 }, map, point(disk.disk.clone(), *size)))
            }
        }
    }

    fn data(&mut self, block: u64, content: &[u8]) -> TaskResult<()> {
        match self {
            Sink::Store(writer) => Ok(writer.apply(block, BlockContent::Data(content))?),
            Sink::Image { file, what, written } => {
                *written += content.len() as u64;
                file.write_all_at(content, block * BLOCK as u64)
                    .map_err(|error| TaskError::Failed(image_failure("writing", what, &error)))
            }
        }
    }

    fn zeros(&mut self, start: u64, count: u64, size: u64) -> TaskResult<()> {
        match self {
            Sink::Store(writer) => {
                (start..start + count).try_for_each(|block| Ok(writer.apply(block, BlockContent::Zeros)?))
            }
            Sink::Image { file, what, written } => {
                let from = start * BLOCK as u64;
                let length = (count * BLOCK as u64).min(size - from);
                *written += length;
                sparse::punch(file, from, length)
                    .map_err(|error| TaskError::Failed(image_failure("making a hole in", what, &error)))
            }
        }
    }

    /// With the space that it takes at the sender, durable, read back: the checksum of what the disk holds, and the bytes
    /// written. What else takes space in an image keeps it: only the sender's holes were made holes here.
    fn finish(self, allocated: &Allocation) -> TaskResult<(Digest, u64)> {
        match self {
            Sink::Store(writer) => {
                writer.keep_allocation(allocated)?;
                let finished = writer.finish()?;
                Ok((finished.disk.checksum, finished.written.0))
            }
            Sink::Image { file, what, written } => {
                let io = |error: std::io::Error| TaskError::Failed(image_failure("proving", &what, &error));
                allocation::allocate(&file, allocated).map_err(io)?;
                file.sync_data().map_err(io)?;
                let (checksum, _) = sparse::checksum(&file).map_err(io)?;
                Ok((checksum, written))
            }
        }
    }
}

fn senseless(what: &str) -> TaskError {
    let message = format!("the sender's {what} makes no sense");
    TaskError::Failed(failure("FS-AGENT-PROTOCOL", message, "bring both agents to the same version", false))
}

fn receive(task: &Task, link: &mut Link) -> TaskResult<(DiskPoint, Moved)> {
    let Push::Offer { size, base } = link.receive()? else { return Err(senseless("first message")) };
    let (mut sink, map, mut disk) = Sink::open(task, size)?;
    let mut moved = Moved::default();
    link.send(&Reply::Ready { same_base: base.is_some_and(|base| base == map.fingerprint()) })?;
    let tree = DigestTree::of(&map);
    let blocks = blocks_in(size);
    let allocation = loop {
        task.go_on()?;
        match link.receive()? {
            Push::Offer { .. } => return Err(senseless("second offer")),
            Push::Level { level, nodes } => {
                let level = usize::from(level);
                let end = tree.level(level).len() as u64;
                let nodes = numbers(&nodes, end, NODES).filter(|_| level < LEVELS);
                link.send(&level_reply(&tree, level, &nodes.ok_or_else(|| senseless("list of nodes"))?))?;
            }
            Push::Zeros { runs } => {
                if numbers_bounded(&runs, blocks).is_none() {
                    return Err(senseless("list of zero blocks"));
                }
                for run in runs {
                    sink.zeros(run.start, run.count, size)?;
                    let length = (run.count * BLOCK as u64).min(size - run.start * BLOCK as u64);
                    moved.changed = moved.changed + ByteCount(length);
                }
            }
            Push::Data { runs, length, digest, packed } => {
                let list = blocks_of(&runs, blocks).ok_or_else(|| senseless("list of blocks"))?;
                let content = unpack(length, &digest, &packed).ok_or_else(|| senseless("batch of blocks"))?;
                take(&mut sink, &list, &content, size)?;
                moved.changed = moved.changed + ByteCount(content.len() as u64);
                task.progress(moved.changed.0, size, "received");
            }
            Push::Finish { allocation } => {
                break Allocation::from_bytes(&allocation, size)
                    .ok_or_else(|| senseless("list of allocated blocks"))?;
            }
        }
    };
    let (checksum, written) = sink.finish(&allocation)?;
    disk.checksum = checksum;
    moved.written = ByteCount(written);
    moved.sent = ByteCount(link.sent());
    Ok((disk, moved))
}

/// Runs that ascend and end within the disk; any length, since zeros cost the sender nothing and us a hole.
fn numbers_bounded(runs: &[crate::proto::Run], blocks: u64) -> Option<()> {
    let mut next = 0;
    for run in runs {
        let stop = run.start.checked_add(run.count).filter(|stop| *stop <= blocks && run.count > 0)?;
        if run.start < next {
            return None;
        }
        next = stop;
    }
    Some(())
}

fn level_reply(tree: &DigestTree, level: usize, nodes: &[u64]) -> Reply {
    let raw: Vec<u8> = tree.nodes(level, nodes).iter().flat_map(|digest| digest[..width(level)].to_vec()).collect();
    let packed = zstd::bulk::compress(&raw, 1).expect("compressing memory into memory has nothing that can fail");
    Reply::Level { count: nodes.len() as u32, packed }
}

fn unpack(length: u32, digest: &Digest, packed: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok().filter(|length| *length <= crate::link::MAX_FRAME)?;
    let content = zstd::bulk::decompress(packed, length).ok().filter(|content| content.len() == length)?;
    (blake3::hash(&content).as_bytes() == &digest.0).then_some(content)
}

fn take(sink: &mut Sink, blocks: &[u64], content: &[u8], size: u64) -> TaskResult<()> {
    let mut rest = content;
    for block in blocks {
        let length = (size - block * BLOCK as u64).min(BLOCK as u64) as usize;
        let (bytes, after) = rest.split_at_checked(length).ok_or_else(|| senseless("batch of blocks"))?;
        sink.data(*block, bytes)?;
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(senseless("batch of blocks")) }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
