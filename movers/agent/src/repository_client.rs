//! The asking end of a repository's data channel.

use crate::link::{Link, LinkError};
use crate::proto::{Answer, Ask, Hello, VERSION, Wants};
use crate::task::{Task, TaskError, TaskResult, failure};
use farshore_format::{Allocation, ChunkId, DigestMap, DiskManifest};
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

/// An open access to a repository.
pub(crate) struct RepositoryClient<'a> {
    task: &'a Task,
    endpoint: &'a Endpoint,
    hello: Hello,
    link: Link,
    sent_before: u64,
}

fn greet(task: &Task, endpoint: &Endpoint, hello: &Hello) -> TaskResult<Link> {
    let shared = &task.shared;
    let peer = (endpoint.address.as_str(), endpoint.fingerprint);
    let mut link = Link::connect(&shared.secrets, peer, &shared.metrics, &task.stop)?;
    link.send(hello)?;
    let answer = link.receive()?;
    if let Answer::Failed(failure) = answer {
        return Err(TaskError::Failed(failure));
    }
    if answer == Answer::Welcome { Ok(link) } else { Err(unexpected(&answer)) }
}

fn unexpected(answer: &Answer) -> TaskError {
    let said = match answer {
        Answer::Welcome => "Welcome",
        Answer::Chunks { .. } => "Chunks",
        Answer::Allocation { .. } => "Allocation",
        Answer::Have { .. } => "Have",
        Answer::Done => "Done",
        Answer::Got { .. } => "Got",
        Answer::List { .. } => "List",
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
        let link = persist(task, || greet(task, endpoint, &hello))?;
        Ok(RepositoryClient { task, endpoint, hello, link, sent_before: 0 })
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
            let link = greet(task, endpoint, &hello)?;
            self.sent_before += self.link.sent();
            self.link = link;
            self.ask_once(ask)
        })
    }

    /// What a disk of a point consists of.
    pub(crate) fn manifest(&mut self, point: &PointId, disk: &DiskName) -> TaskResult<DiskManifest> {
        let mut manifest = self.chunks(point, disk)?;
        let answer = self.ask(&Ask::Allocation { point: point.clone(), disk: disk.clone() })?;
        let Answer::Allocation { runs } = &answer else { return Err(unexpected(&answer)) };
        manifest.allocation = Allocation::from_bytes(runs, manifest.size.0).ok_or_else(|| unexpected(&answer))?;
        Ok(manifest)
    }

    fn chunks(&mut self, point: &PointId, disk: &DiskName) -> TaskResult<DiskManifest> {
        let mut list = DiskManifest {
            size: ByteCount(0),
            checksum: Digest::default(),
            chunks: Vec::new(),
            allocation: Allocation::default(),
        };
        loop {
            let from = list.chunks.len() as u64;
            let answer = self.ask(&Ask::Chunks { point: point.clone(), disk: disk.clone(), from })?;
            let Answer::Chunks { size, checksum, total, ids } = &answer else { return Err(unexpected(&answer)) };
            let (parts, rest) = ids.as_chunks::<32>();
            let end = from + parts.len() as u64;
            let fits = *size <= MAX_DISK && *total == farshore_format::chunks_in(*size) && end <= *total;
            if !fits || !rest.is_empty() || (parts.is_empty() && end < *total) {
                return Err(unexpected(&answer));
            }
            (list.size, list.checksum) = (ByteCount(*size), *checksum);
            list.chunks.extend(parts.iter().copied().map(ChunkId));
            if end == *total {
                return Ok(list);
            }
        }
    }

    /// Which of these chunks are stored.
    pub(crate) fn have(&mut self, ids: &[ChunkId]) -> TaskResult<Vec<bool>> {
        let raw = ids.iter().flat_map(|id| id.0).collect();
        let answer = self.ask(&Ask::Have { ids: raw })?;
        let Answer::Have { stored } = &answer else { return Err(unexpected(&answer)) };
        if stored.len() != ids.len() {
            return Err(unexpected(&answer));
        }
        Ok(stored.iter().map(|byte| *byte == 1).collect())
    }

    /// Stores chunks that fit one message.
    pub(crate) fn put(&mut self, chunks: Vec<crate::proto::Stored>) -> TaskResult<()> {
        done(&self.ask(&Ask::Put { chunks })?)
    }

    /// Fetches chunks: the first of those asked for, at least one.
    pub(crate) fn get(&mut self, ids: &[ChunkId]) -> TaskResult<Vec<crate::proto::Stored>> {
        let raw = ids.iter().flat_map(|id| id.0).collect();
        let answer = self.ask(&Ask::Get { ids: raw })?;
        let Answer::Got { chunks } = answer else { return Err(unexpected(&answer)) };
        let named = chunks.iter().zip(ids).all(|(chunk, id)| chunk.id.0 == id.0);
        if chunks.is_empty() || chunks.len() > ids.len() || !named {
            return Err(unexpected(&Answer::Got { chunks: Vec::new() }));
        }
        Ok(chunks)
    }

    /// Stores a disk's chunk list and answers its digest.
    pub(crate) fn store_manifest(&mut self, manifest: &DiskManifest) -> TaskResult<Digest> {
        for part in manifest.chunks.chunks(PART / 32) {
            let ids = part.iter().flat_map(|id| id.0).collect();
            done(&self.ask_once(&Ask::ListPart { ids })?)?;
        }
        let (size, checksum, allocation) = (manifest.size.0, manifest.checksum, manifest.allocation.to_bytes());
        let answer = self.ask_once(&Ask::StoreList { size, checksum, allocation })?;
        let Answer::List { manifest } = answer else { return Err(unexpected(&answer)) };
        Ok(manifest)
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
