//! The asking end of a repository's data channel.

use crate::link::{Link, LinkError};
use crate::proto::{Answer, Ask, Hello, Packed, VERSION, Wants};
use crate::task::{Task, TaskError, TaskResult, failure};
use farshore_format::repository::{Domain, DomainKeys, Leaf, region_len, regions_in};
use farshore_format::{ChunkId, DigestMap};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId, TaskId};
use farshore_schemas::messages::agent::{DigestStore, Endpoint};
use farshore_schemas::units::ByteCount;
use std::time::{Duration, Instant};

/// How long a peer that cannot be reached, or does not know of us yet, is tried.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The largest disk that is handled: bounds the memory that a list from elsewhere may take.
pub(crate) const MAX_DISK: u64 = 16 << 40;
/// Bytes of a list in one message.
pub(crate) const PART: usize = 1024 * 1024;

/// Tries until it works, fails for good, the task is told to stop, or patience ends.
pub(crate) fn persist<T>(task: &Task, mut attempt: impl FnMut() -> TaskResult<T>) -> TaskResult<T> {
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        task.go_on()?;
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let again = match &error {
            TaskError::Failed(failure) => failure.code == "FS-AGENT-NOT-OPEN",
            TaskError::Link(LinkError::Closed | LinkError::Idle | LinkError::Io(_) | LinkError::Address(_)) => true,
            TaskError::Link(LinkError::Handshake(_) | LinkError::TooLong(_) | LinkError::Garbage(_)) => false,
            TaskError::Stopped(_) => false,
        };
        if !again || begun.elapsed() > PATIENCE || task.stop.wait(wait) {
            return Err(error);
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// What the repository's agent says when it has lost what was put: the disk must be read again.
pub(crate) const REOPENED: &str = "FS-AGENT-REOPENED";

/// A disk of a point.
#[derive(Debug, Clone)]
pub(crate) struct StoredDisk {
    pub(crate) size: u64,
    pub(crate) checksum: Option<Digest>,
    pub(crate) record: Digest,
    /// Ids of the leaves of its regions.
    pub(crate) leaves: Vec<ChunkId>,
}

/// An open access to a repository.
pub(crate) struct RepositoryClient<'a> {
    task: &'a Task,
    endpoint: &'a Endpoint,
    hello: Hello,
    link: Link,
    domain: Domain,
    opening: Digest,
    /// Whether something was asked or put that only counts in this opening.
    counts: bool,
    sent_before: u64,
}

/// A channel, and what the repository's agent said on it first.
struct Greeted {
    link: Link,
    domain: Domain,
    opening: Digest,
}

fn greet(task: &Task, endpoint: &Endpoint, hello: &Hello) -> TaskResult<Greeted> {
    let shared = &task.shared;
    let peer = (endpoint.address.as_str(), endpoint.fingerprint);
    let mut link = Link::connect(&shared.secrets, peer, &shared.metrics, &task.stop)?;
    link.send(hello)?;
    match link.receive()? {
        Answer::Failed(failure) => Err(TaskError::Failed(failure)),
        Answer::Welcome { keys, opening } => {
            let domain = Domain::of_keys(&DomainKeys { ids: keys.ids.0, borders: keys.borders.0 });
            Ok(Greeted { link, domain, opening })
        }
        answer @ (Answer::Disk { .. }
        | Answer::Region { .. }
        | Answer::Have { .. }
        | Answer::Done
        | Answer::Got { .. }
        | Answer::Map { .. }
        | Answer::NoMap) => Err(unexpected(&answer)),
    }
}

fn unexpected(answer: &Answer) -> TaskError {
    let said = match answer {
        Answer::Welcome { .. } => "Welcome",
        Answer::Disk { .. } => "Disk",
        Answer::Region { .. } => "Region",
        Answer::Have { .. } => "Have",
        Answer::Done => "Done",
        Answer::Got { .. } => "Got",
        Answer::Map { .. } => "Map",
        Answer::NoMap => "NoMap",
        Answer::Failed(_) => "Failed",
    };
    TaskError::Failed(failure(
        "FS-AGENT-PROTOCOL",
        format!("the repository's agent answered something that does not fit: {said}"),
        "bring both agents to the same version",
        false,
    ))
}

fn reopened() -> TaskError {
    let message = "the repository was opened anew while a disk was sent to it: what was not kept yet is lost";
    TaskError::Failed(failure(REOPENED, message, "run the backup again: it sends what is missing", true))
}

fn done(answer: &Answer) -> TaskResult<()> {
    if *answer == Answer::Done { Ok(()) } else { Err(unexpected(answer)) }
}

impl<'a> RepositoryClient<'a> {
    pub(crate) fn open(
        task: &'a Task,
        endpoint: &'a Endpoint,
        repository: &Name,
        access: &TaskId,
    ) -> TaskResult<RepositoryClient<'a>> {
        let wants = Wants::Repository { repository: repository.clone(), access: access.clone() };
        let hello = Hello { version: VERSION, wants };
        let Greeted { link, domain, opening } = persist(task, || greet(task, endpoint, &hello))?;
        Ok(RepositoryClient { task, endpoint, hello, link, domain, opening, counts: false, sent_before: 0 })
    }

    /// How chunks are named there.
    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Bytes put on sockets so far.
    pub(crate) fn sent(&mut self) -> u64 {
        self.sent_before + self.link.sent()
    }

    fn ask_once(&mut self, ask: &Ask) -> TaskResult<Answer> {
        self.link.send(ask)?;
        let answer = self.link.receive()?;
        if let Answer::Failed(failure) = answer { Err(TaskError::Failed(failure)) } else { Ok(answer) }
    }

    /// Asks something that may be asked twice: if the channel broke, on a new one.
    fn ask(&mut self, ask: &Ask) -> TaskResult<Answer> {
        match self.ask_once(ask) {
            Err(TaskError::Link(LinkError::Closed | LinkError::Idle | LinkError::Io(_))) => {}
            answered => return answered,
        }
        let (task, endpoint, hello) = (self.task, self.endpoint, self.hello.clone());
        persist(task, || {
            let greeted = greet(task, endpoint, &hello)?;
            self.sent_before += self.link.sent();
            self.link = greeted.link;
            if self.counts && greeted.opening != self.opening {
                return Err(reopened());
            }
            self.opening = greeted.opening;
            self.ask_once(ask)
        })
    }

    /// As [`RepositoryClient::ask`], for what counts only in the opening in which it is answered.
    fn ask_here(&mut self, ask: &Ask) -> TaskResult<Answer> {
        self.counts = true;
        self.ask(ask)
    }

    /// What a disk of a point is.
    pub(crate) fn disk(&mut self, point: &PointId, disk: &DiskName) -> TaskResult<StoredDisk> {
        let mut found: Option<StoredDisk> = None;
        loop {
            let from = found.as_ref().map_or(0, |found| found.leaves.len() as u64);
            let answer = self.ask(&Ask::Disk { point: point.clone(), disk: disk.clone(), from })?;
            let Answer::Disk { size, checksum, record, leaves } = &answer else { return Err(unexpected(&answer)) };
            let (parts, rest) = leaves.as_chunks::<32>();
            let (total, end) = (regions_in(*size), from + parts.len() as u64);
            let fresh = StoredDisk { size: *size, checksum: *checksum, record: *record, leaves: Vec::new() };
            let disk = found.get_or_insert(fresh);
            let same = (disk.size, disk.checksum, disk.record) == (*size, *checksum, *record);
            if !same || *size > MAX_DISK || !rest.is_empty() || end > total || (parts.is_empty() && end < total) {
                return Err(unexpected(&answer));
            }
            disk.leaves.extend(parts.iter().copied().map(ChunkId));
            if end == total
                && let Some(found) = found.take()
            {
                return Ok(found);
            }
        }
    }

    /// The extents of a region of a disk of a point.
    pub(crate) fn region(&mut self, (point, disk): (&PointId, &DiskName), region: u64, size: u64) -> TaskResult<Leaf> {
        let answer = self.ask(&Ask::Region { point: point.clone(), disk: disk.clone(), region })?;
        let Answer::Region { leaf } = &answer else { return Err(unexpected(&answer)) };
        let length = region_len(size, region).unwrap_or(0);
        Leaf::decode(leaf, length).map_err(|_| unexpected(&answer))
    }

    /// Whether a leaf is stored with all that it names.
    pub(crate) fn have_leaf(&mut self, leaf: &ChunkId, (size, region): (u64, u64)) -> TaskResult<bool> {
        let answer = self.ask_here(&Ask::HaveLeaf { size, region, leaf: Digest(leaf.0) })?;
        let Answer::Have { stored } = &answer else { return Err(unexpected(&answer)) };
        match stored[..] {
            [one] => Ok(one == 1),
            _ => Err(unexpected(&answer)),
        }
    }

    /// Which of these records are stored.
    pub(crate) fn have(&mut self, ids: &[ChunkId]) -> TaskResult<Vec<bool>> {
        let raw = ids.iter().flat_map(|id| id.0).collect();
        let answer = self.ask_here(&Ask::Have { ids: raw })?;
        let Answer::Have { stored } = &answer else { return Err(unexpected(&answer)) };
        if stored.len() != ids.len() {
            return Err(unexpected(&answer));
        }
        Ok(stored.iter().map(|byte| *byte == 1).collect())
    }

    /// Stores records that fit one message.
    pub(crate) fn put(&mut self, records: Vec<Packed>) -> TaskResult<()> {
        done(&self.ask_here(&Ask::Put { records })?)
    }

    /// Makes what was put durable, for the disk with this record.
    pub(crate) fn keep(&mut self, disk: &ChunkId) -> TaskResult<()> {
        done(&self.ask_here(&Ask::Keep { disk: Digest(disk.0) })?)
    }

    /// Fetches records: the first of those asked for, at least one.
    pub(crate) fn get(&mut self, ids: &[ChunkId]) -> TaskResult<Vec<Packed>> {
        let raw = ids.iter().flat_map(|id| id.0).collect();
        let answer = self.ask(&Ask::Get { ids: raw })?;
        let Answer::Got { records } = answer else { return Err(unexpected(&answer)) };
        let named = records.iter().zip(ids).all(|(record, id)| record.id.0 == id.0);
        if records.is_empty() || records.len() > ids.len() || !named {
            return Err(unexpected(&Answer::Got { records: Vec::new() }));
        }
        Ok(records)
    }

    /// The digests of a replica's point, if they are there and sound.
    pub(crate) fn digests(
        &mut self,
        store: &DigestStore,
        point: &PointId,
        disk: &DiskName,
    ) -> TaskResult<Option<DigestMap>> {
        let mut file: Vec<u8> = Vec::new();
        loop {
            let (replica, from) = (store.replica.clone(), file.len() as u64);
            let answer = self.ask(&Ask::Digests { replica, point: point.clone(), disk: disk.clone(), from })?;
            if answer == Answer::NoMap {
                return Ok(None);
            }
            let Answer::Map { total, bytes } = &answer else { return Err(unexpected(&answer)) };
            let end = from + bytes.len() as u64;
            if *total > farshore_format::blocks_in(MAX_DISK) * 16 || end > *total || bytes.is_empty() {
                return Err(unexpected(&answer));
            }
            file.extend_from_slice(bytes);
            if end == *total {
                return Ok(DigestMap::decode(&file, ByteCount(MAX_DISK)).ok());
            }
        }
    }

    /// Keeps the digests of a disk of the point that was just made.
    pub(crate) fn store_digests(&mut self, store: &DigestStore, disk: &DiskName, map: &DigestMap) -> TaskResult<()> {
        for part in map.encode().chunks(PART) {
            done(&self.ask_once(&Ask::MapPart { bytes: part.to_vec() })?)?;
        }
        let keep = store.base.iter().chain([&store.point]).cloned().collect();
        let (replica, point) = (store.replica.clone(), store.point.clone());
        done(&self.ask_once(&Ask::StoreMap { replica, point, disk: disk.clone(), keep })?)
    }
}
