//! The sending end of a disk's changes. It reads the disk once for its digests and its checksum, finds the blocks that
//! differ (from digests kept near it when the receiver holds that very state, else by asking the receiver level by
//! level), and sends those blocks alone. In the end both checksums must be the same.

use crate::link::{Link, LinkError};
use crate::proto::{Hello, Push, Reply, VERSION, Wants, numbers, runs};
use crate::repository_client::{RepositoryClient, persist};
use crate::runners::backup::{allocated, data_within};
use crate::task::{Task, TaskError, TaskResult, failure};
use farshore_format::{
    Allocation, BLOCK, DigestMap, DigestTree, DiskHasher, LEVELS, ZERO_DIGEST, block_digest, differing,
};
use farshore_hosts::SnapshotReader;
use farshore_schemas::ids::{Digest, TaskId};
use farshore_schemas::messages::agent::{DigestStore, DiskPoint, Endpoint, Moved, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::time::Duration;

/// Bytes read at once.
const READ: usize = 1024 * 1024;
/// Blocks in one message.
const BATCH: usize = 256;
/// Runs of zeros in one message.
const ZERO_RUNS: usize = 4096;
/// Nodes whose digests are asked for at once.
pub(super) const NODES: usize = 65_536;
/// A level's digests are cut to this many bytes on the wire below the coarsest one: one changed block in each 64 KiB then
/// costs less than a tenth of its size. The disk's checksum is what proves the result.
pub(super) const NARROW: usize = 12;
/// How long the other end may read a whole disk before it answers.
const LONG: Duration = Duration::from_secs(4 * 3600);
/// A channel that breaks is made again so many times.
const ATTEMPTS: u32 = 20;

/// Bytes of a digest of this level on the wire.
pub(super) fn width(level: usize) -> usize {
    if level == 0 { 16 } else { NARROW }
}

pub(super) fn run(task: &Task) -> TaskResult<Outcome> {
    let TaskSpec::SendDisk { source, snapshot, peer, receive, digests } = &task.order.spec else {
        return Err(TaskError::Failed(failure("FS-AGENT-LANE", "not a transfer", "report this defect", false)));
    };
    let host = task.shared.host(&source.host)?;
    let mut reader = host.open_for_reading(&source.vm, &source.disk, snapshot.as_ref())?;
    let mut moved = Moved::default();
    let (map, checksum) = read_digests(task, &mut reader, &mut moved)?;
    let (base, mut full_because) = kept_digests(task, digests.as_ref(), &mut moved)?;
    let allocation = allocated(&reader, &source.disk)?;
    let mut sender = Sender { task, reader, map, allocation, base, checksum, moved };
    let mut attempt = 0;
    let same_base = loop {
        attempt += 1;
        // A peer that cannot be reached for as long as patience lasts ends the task; only a channel that was there and
        // broke is made again.
        let begun = persist(task, || sender.greet(peer, receive))?;
        match sender.exchange(begun) {
            Err(TaskError::Link(LinkError::Closed | LinkError::Idle | LinkError::Io(_))) if attempt < ATTEMPTS => {
                task.go_on()?;
            }
            ended => break ended?,
        }
    };
    let Sender { reader, map, mut moved, base, .. } = sender;
    reader.finish()?;
    if base.is_some() && !same_base {
        full_because = Some("the receiver's disk is not in the state that the digests tell of".to_owned());
    }
    if let Some(store) = digests {
        moved.sent = moved.sent + keep_digests(task, store, &map)?;
    }
    let disk =
        DiskPoint { name: source.disk.clone(), size: ByteCount(map.size()), checksum, manifest: Digest::default() };
    Ok(Outcome::DiskSent { disk, moved, full_because })
}

/// Reads the disk once: the digest of every block, and the checksum of it all.
fn read_digests(task: &Task, reader: &mut SnapshotReader, moved: &mut Moved) -> TaskResult<(DigestMap, Digest)> {
    let size = reader.size().0;
    let extents = reader.extents().to_vec();
    let mut map = DigestMap::zero(size);
    let mut hasher = DiskHasher::new();
    let mut content = vec![0u8; READ];
    while hasher.position() < size {
        task.go_on()?;
        let start = hasher.position();
        let range = start..(start + READ as u64).min(size);
        let length = (range.end - start) as usize;
        let data = data_within(&extents, &range);
        if data == 0 {
            hasher.zeros(length as u64);
        } else {
            reader.read_at(start, &mut content[..length])?;
            moved.read = moved.read + ByteCount(data);
            hasher.data(&content[..length]);
            for (block, bytes) in (start / BLOCK as u64..).zip(content[..length].chunks(BLOCK)) {
                map.set(block, block_digest(bytes));
            }
        }
        task.progress(range.end, size, "read");
    }
    Ok((map, hasher.finish()))
}

/// The digests of the base point, if they are kept and there; else why everything is compared.
fn kept_digests(
    task: &Task,
    store: Option<&DigestStore>,
    moved: &mut Moved,
) -> TaskResult<(Option<DigestMap>, Option<String>)> {
    let TaskSpec::SendDisk { source, .. } = &task.order.spec else { return Ok((None, None)) };
    let Some(store) = store else { return Ok((None, None)) };
    let Some(base) = &store.base else { return Ok((None, None)) };
    let mut client = RepositoryClient::open(task, &store.agent, &store.repository, &store.access)?;
    let found = client.digests(store, base, &source.disk);
    moved.sent = moved.sent + ByteCount(client.sent());
    match found {
        Ok(Some(map)) => Ok((Some(map), None)),
        Ok(None) => Ok((None, Some(format!("repository {} has no digests of point {base}", store.repository)))),
        Err(TaskError::Failed(failure)) => {
            Ok((None, Some(format!("the digests of point {base} could not be read: {}", failure.message))))
        }
        Err(error) => Err(error),
    }
}

/// Keeps the digests of what was sent. Answers the bytes put on the channel.
fn keep_digests(task: &Task, store: &DigestStore, map: &DigestMap) -> TaskResult<ByteCount> {
    let TaskSpec::SendDisk { source, .. } = &task.order.spec else { return Ok(ByteCount(0)) };
    let mut client = RepositoryClient::open(task, &store.agent, &store.repository, &store.access)?;
    client.store_digests(store, &source.disk, map)?;
    Ok(ByteCount(client.sent()))
}

struct Sender<'a> {
    task: &'a Task,
    reader: SnapshotReader,
    map: DigestMap,
    allocation: Allocation,
    base: Option<DigestMap>,
    checksum: Digest,
    moved: Moved,
}

fn unexpected(reply: &Reply) -> TaskError {
    let said: String = format!("{reply:?}").chars().take(60).collect();
    let message = format!("the receiving agent answered something that does not fit: {said}");
    TaskError::Failed(failure("FS-AGENT-PROTOCOL", message, "bring both agents to the same version", false))
}

fn replied(link: &mut Link) -> TaskResult<Reply> {
    let reply = link.receive()?;
    if let Reply::Failed(failure) = reply { Err(TaskError::Failed(failure)) } else { Ok(reply) }
}

impl Sender<'_> {
    /// One connection, from the receiver's first answer to its proof. Whether the receiver held the base.
    fn exchange(&mut self, (mut link, first): (Link, Reply)) -> TaskResult<bool> {
        let done = self.converse(&mut link, first);
        self.moved.sent = self.moved.sent + ByteCount(link.sent());
        done
    }

    fn greet(&self, peer: &Endpoint, receive: &TaskId) -> TaskResult<(Link, Reply)> {
        let shared = &self.task.shared;
        let end = (peer.address.as_str(), peer.fingerprint);
        let mut link = Link::connect(&shared.secrets, end, &shared.metrics, &self.task.stop)?;
        link.send(&Hello { version: VERSION, wants: Wants::Receiver { task: receive.clone() } })?;
        let base = self.base.as_ref().map(DigestMap::fingerprint);
        link.send(&Push::Offer { size: self.map.size(), base })?;
        link.patient(LONG)?;
        let first = replied(&mut link)?;
        Ok((link, first))
    }

    fn converse(&mut self, link: &mut Link, first: Reply) -> TaskResult<bool> {
        let same_base = match first {
            Reply::Ready { same_base } => same_base,
            // It has all of it already: an earlier answer was lost.
            Reply::Finished { checksum, written } => return self.prove(checksum, written).map(|()| true),
            Reply::Level { .. } | Reply::Failed(_) => return Err(unexpected(&first)),
        };
        let blocks = match &self.base {
            Some(base) if same_base => differing(self.map.digests(), base.digests()),
            Some(_) | None => self.ask_levels(link)?,
        };
        self.send_blocks(link, &blocks)?;
        link.send(&Push::Finish { allocation: self.allocation.to_bytes() })?;
        match replied(link)? {
            Reply::Finished { checksum, written } => self.prove(checksum, written).map(|()| same_base),
            other @ (Reply::Ready { .. } | Reply::Level { .. } | Reply::Failed(_)) => Err(unexpected(&other)),
        }
    }

    fn prove(&mut self, checksum: Digest, written: u64) -> TaskResult<()> {
        self.moved.written = ByteCount(written);
        if checksum == self.checksum {
            return Ok(());
        }
        Err(TaskError::Failed(failure(
            "FS-AGENT-CHECKSUM",
            format!(
                "the receiver's disk holds other bytes than were read here: {checksum} there, {} here",
                self.checksum
            ),
            "run it again: everything is compared then; if it stays, look at the disks and the memory of both machines",
            true,
        )))
    }

    /// Compares with the receiver from the coarsest level down.
    fn ask_levels(&self, link: &mut Link) -> TaskResult<Vec<u64>> {
        let tree = DigestTree::of(&self.map);
        let mut nodes: Vec<u64> = (0..tree.level(0).len() as u64).collect();
        for level in 0..LEVELS {
            let mut differ = Vec::new();
            let mut left = &nodes[..];
            while !left.is_empty() {
                self.task.go_on()?;
                let part = &left[..left.len().min(NODES)];
                link.send(&Push::Level { level: level as u8, nodes: runs(part) })?;
                let theirs = match replied(link)? {
                    Reply::Level { count, packed } => unpack_level(level, count as usize, &packed)
                        .filter(|digests| !digests.is_empty() && digests.len() <= part.len()),
                    other @ (Reply::Ready { .. } | Reply::Finished { .. } | Reply::Failed(_)) => {
                        return Err(unexpected(&other));
                    }
                };
                let Some(theirs) = theirs else {
                    return Err(unexpected(&Reply::Level { count: 0, packed: Vec::new() }));
                };
                let mine = tree.nodes(level, &part[..theirs.len()]);
                for ((node, mine), theirs) in part.iter().zip(&mine).zip(&theirs) {
                    if mine[..width(level)] != theirs[..] {
                        differ.push(*node);
                    }
                }
                left = &left[theirs.len()..];
            }
            nodes = if level + 1 < LEVELS { tree.children(level, &differ) } else { differ };
        }
        Ok(nodes)
    }

    fn send_blocks(&mut self, link: &mut Link, blocks: &[u64]) -> TaskResult<()> {
        let zero = |block: &u64| self.map.get(*block) == Some(ZERO_DIGEST);
        let zeros: Vec<u64> = blocks.iter().copied().filter(zero).collect();
        let data: Vec<u64> = blocks.iter().copied().filter(|block| !zero(block)).collect();
        for part in runs(&zeros).chunks(ZERO_RUNS) {
            self.task.go_on()?;
            link.send(&Push::Zeros { runs: part.to_vec() })?;
        }
        for (at, part) in data.chunks(BATCH).enumerate() {
            self.task.go_on()?;
            self.send_data(link, part)?;
            self.task.progress(((at + 1) * BATCH * BLOCK) as u64, (data.len() * BLOCK) as u64, "sent");
        }
        let length = |block: &u64| (self.map.size() - block * BLOCK as u64).min(BLOCK as u64);
        self.moved.changed = ByteCount(blocks.iter().map(length).sum());
        Ok(())
    }

    fn send_data(&mut self, link: &mut Link, blocks: &[u64]) -> TaskResult<()> {
        let runs = runs(blocks);
        let mut content = Vec::with_capacity(blocks.len() * BLOCK);
        for run in &runs {
            let start = run.start * BLOCK as u64;
            let end = ((run.start + run.count) * BLOCK as u64).min(self.map.size());
            let from = content.len();
            content.resize(from + (end - start) as usize, 0);
            self.reader.read_at(start, &mut content[from..])?;
        }
        let packed =
            zstd::bulk::compress(&content, 1).expect("compressing memory into memory has nothing that can fail");
        let digest = Digest(*blake3::hash(&content).as_bytes());
        link.send(&Push::Data { runs, length: content.len() as u32, digest, packed })?;
        Ok(())
    }
}

/// A level's digests as they come: `count` of them, each of the level's width.
fn unpack_level(level: usize, count: usize, packed: &[u8]) -> Option<Vec<Vec<u8>>> {
    let length = count.checked_mul(width(level)).filter(|_| count <= NODES)?;
    let raw = zstd::bulk::decompress(packed, length).ok().filter(|raw| raw.len() == length)?;
    Some(raw.chunks_exact(width(level)).map(<[u8]>::to_vec).collect())
}

/// The blocks that runs name, within a message's bounds and a disk of `blocks` blocks.
pub(super) fn blocks_of(runs: &[crate::proto::Run], blocks: u64) -> Option<Vec<u64>> {
    numbers(runs, blocks, BATCH)
}
