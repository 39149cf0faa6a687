//! The source mover of a backup: reads a frozen disk region by region, cuts, names and compresses beside that, and sends what
//! the repository lacks. Nothing is a restore point until the repository's agent has committed it.

use crate::repository_client::{MAX_DISK, REOPENED, RepositoryClient, StoredDisk};
use crate::runners::cut::{Cutting, Filled, store_tree};
use crate::task::{Task, TaskError, TaskResult, failure, image_failure};
use farshore_format::repository::{ChunkId, Listed, REGION, region_len, regions_in};
use farshore_format::{Allocation, DiskHasher, join_sums};
use farshore_hosts::SnapshotReader;
use farshore_repository::allocation;
use farshore_repository::within;
use farshore_schemas::ids::{Digest, DiskName, PointId};
use farshore_schemas::messages::agent::{DiskPoint, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::ops::Range;

/// How often a disk is read again because the repository was opened anew meanwhile.
const ATTEMPTS: u32 = 5;

pub(super) fn run(task: &Task) -> TaskResult<Outcome> {
    let mut sent = ByteCount(0);
    let mut attempt = 0;
    loop {
        attempt += 1;
        match back_up(task, &mut sent) {
            Err(TaskError::Failed(failure)) if failure.code == REOPENED && attempt < ATTEMPTS => {
                tracing::warn!(task = %task.order.task, "{}: the disk is read again", failure.message);
            }
            ended => return ended,
        }
    }
}

fn back_up(task: &Task, sent: &mut ByteCount) -> TaskResult<Outcome> {
    let TaskSpec::BackupDisk { source, snapshot, target, repository, access, parent, .. } = &task.order.spec else {
        return Err(TaskError::Failed(failure("FS-AGENT-LANE", "not a backup", "report this defect", false)));
    };
    let host = task.shared.host(&source.host)?;
    let mut reader = host.open_for_reading(&source.vm, &source.disk, Some(snapshot))?;
    let size = reader.size();
    fits(&source.disk, size)?;
    let mut client = RepositoryClient::open(task, target, repository, access)?;
    let (before, full_because) = disk_of_parent(&mut client, parent.as_ref(), &source.disk, size)?;
    let allocated = allocated(&reader, &source.disk)?;
    let allocated = union(reader.extents(), allocated.runs().iter().map(|run| run.span(size.0)));
    let parent = parent.as_ref().zip(before.as_ref()).map(|(point, before)| (point, &source.disk, before));
    let cutting = Cutting::new(task, (&mut client, size.0), parent);
    let (read, sums) = read_all(task, &mut reader, (&cutting, &allocated))?;
    let (leaves, mut moved) = cutting.finish()?;
    let listed = |(leaf, sum): (ChunkId, &Digest)| Listed { leaf, sum: Some(*sum) };
    let regions: Vec<Listed> = leaves.into_iter().zip(&sums).map(listed).collect();
    // Only now it is known that what was read is what the disk held.
    reader.finish()?;
    let tree = store_tree(&mut client, (size.0, &regions), &mut moved)?;
    client.keep(&tree)?;
    *sent = *sent + ByteCount(client.sent());
    (moved.read, moved.sent) = (read, *sent);
    let disk = DiskPoint { name: source.disk.clone(), size, checksum: join_sums(&sums), manifest: Digest(tree.0) };
    Ok(Outcome::DiskStored { disk, moved, full_because })
}

fn fits(disk: &DiskName, size: ByteCount) -> TaskResult<()> {
    if size.0 <= MAX_DISK {
        return Ok(());
    }
    let message = format!("disk {disk} has {size}, more than the {} that a repository takes", ByteCount(MAX_DISK));
    Err(TaskError::Failed(failure("FS-AGENT-DISK-SIZE", message, "split the disk, or leave it out", false)))
}

/// The disk in the newest point, to tell what changed since; or why there is none.
fn disk_of_parent(
    client: &mut RepositoryClient<'_>,
    parent: Option<&PointId>,
    disk: &DiskName,
    size: ByteCount,
) -> TaskResult<(Option<StoredDisk>, Option<String>)> {
    let Some(parent) = parent else { return Ok((None, None)) };
    match client.disk(parent, disk) {
        Ok(found) if found.size == size.0 => Ok((Some(found), None)),
        Ok(found) => {
            let had = ByteCount(found.size);
            Ok((None, Some(format!("the disk had {had} in point {parent} and has {size} now"))))
        }
        Err(TaskError::Failed(failure)) => {
            Ok((None, Some(format!("point {parent} could not be used: {} ({})", failure.message, failure.code))))
        }
        Err(error) => Err(error),
    }
}

/// Reads the disk in order and hands each region on. Answers the bytes read, and the digest of each region.
fn read_all(
    task: &Task,
    reader: &mut SnapshotReader,
    (cutting, allocated): (&Cutting<'_, '_>, &[Range<u64>]),
) -> TaskResult<(ByteCount, Vec<Digest>)> {
    let size = reader.size().0;
    let extents = reader.extents().to_vec();
    let (mut hasher, mut read) = (DiskHasher::new(), ByteCount(0));
    cutting.beside(|| {
        for region in 0..regions_in(size) {
            task.go_on()?;
            let start = region * REGION;
            let length = region_len(size, region).unwrap_or(0) as usize;
            let data = within(&extents, (start, length));
            let allocated = within(allocated, (start, length));
            if data.is_empty() {
                hasher.zeros(length as u64);
                cutting.zeros(region, (length, &allocated))?;
            } else {
                let mut content = cutting.buffer(length);
                content.fill(0);
                for part in data {
                    reader.read_at(start + part.start as u64, &mut content[part.clone()])?;
                    read = read + ByteCount(part.len() as u64);
                }
                hasher.data(&content);
                cutting.take(Filled { region, content, allocated })?;
            }
            task.progress(start + length as u64, size, "read");
        }
        Ok(())
    })?;
    Ok((read, hasher.regions()))
}

/// Ranges in order and apart, of all that is in either. What may hold data takes space, whatever the image says by now.
fn union(extents: &[Range<u64>], allocated: impl Iterator<Item = (u64, u64)>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> =
        extents.iter().cloned().chain(allocated.map(|(at, length)| at..at + length)).collect();
    all.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::new();
    for range in all {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => apart.push(range),
        }
    }
    apart
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
