//! The answering end of a repository's data channel: one mover, under one access. Only this agent touches the folder.

use crate::link::{Link, LinkError, MAX_FRAME};
use crate::proto::{Answer, Ask, Keys, Packed};
use crate::repository_client::{MAX_DISK, PART};
use crate::shared::Shared;
use crate::task::failure;
use farshore_format::repository::{MAX_STORED, PointDisk, RecordKind, Unpacker, regions_in};
use farshore_format::{ChunkId, DigestMap, blocks_in};
use farshore_repository::Error;
use farshore_repository::{Repository, SentRecord, WriteSession};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId, TaskId};
use farshore_schemas::messages::agent::Failure;
use farshore_schemas::units::ByteCount;
use std::sync::Arc;

/// Bytes of records answered in one message: with one more they fit a frame.
const GOT: usize = 1024 * 1024;
/// Records asked for or about in one message at most.
const ASKED: usize = 65_536;
const _: () = assert!(GOT + MAX_STORED as usize + ASKED < MAX_FRAME);

/// A disk of a point.
type DiskKey = (PointId, DiskName);
/// A disk as its point names it, and the ids of its leaves.
type DiskLeaves = (PointDisk, Vec<ChunkId>);

/// One connection's work in progress.
struct Service {
    repository: Arc<Repository>,
    /// Keeps what this mover found or stored from a prune.
    _session: WriteSession,
    unpacker: Unpacker,
    /// Bytes that what was put since the last disk was kept takes.
    added: u64,
    map: Vec<u8>,
    /// The disk or map asked for last, since long ones are asked for in parts.
    last_disk: Option<(DiskKey, DiskLeaves)>,
    last_map: Option<(Ask, Vec<u8>)>,
}

/// Serves until the mover leaves, or the access is closed.
pub(crate) fn serve(shared: &Shared, link: &mut Link, name: &Name, access: &TaskId) -> Result<(), LinkError> {
    let repository = match shared.repository(name) {
        Ok(repository) => repository,
        Err(crate::task::TaskError::Failed(failure)) => return link.send(&Answer::Failed(failure)),
        Err(crate::task::TaskError::Link(error)) => return Err(error),
        Err(crate::task::TaskError::Stopped(_)) => return Ok(()),
    };
    let keys = repository.domain().keys();
    let keys = Keys { ids: Digest(keys.ids), borders: Digest(keys.borders) };
    link.send(&Answer::Welcome { keys, opening: Digest(repository.opening()) })?;
    let session = repository.write_session();
    let mut service = Service {
        repository,
        _session: session,
        unpacker: Unpacker::default(),
        added: 0,
        map: Vec::new(),
        last_disk: None,
        last_map: None,
    };
    loop {
        let ask: Ask = match link.receive() {
            Ok(ask) => ask,
            Err(LinkError::Closed | LinkError::Idle) => return Ok(()),
            Err(error) => return Err(error),
        };
        let open = shared.tables().accesses.get(access).is_some_and(|(_, peers)| peers.contains(&link.peer()));
        if !open {
            return link.send(&Answer::Failed(closed(access)));
        }
        let answer = service.answer(ask).unwrap_or_else(Answer::Failed);
        link.send(&answer)?;
    }
}

fn closed(access: &TaskId) -> Failure {
    failure("FS-AGENT-ACCESS-CLOSED", format!("access {access} was closed"), "open another access", false)
}

fn senseless(what: &str) -> Failure {
    failure("FS-AGENT-PROTOCOL", format!("{what} makes no sense"), "bring both agents to the same version", false)
}

fn ids(raw: &[u8]) -> Result<Vec<ChunkId>, Failure> {
    let (ids, rest) = raw.as_chunks::<32>();
    if rest.is_empty() && !ids.is_empty() && ids.len() <= ASKED {
        Ok(ids.iter().copied().map(ChunkId).collect())
    } else {
        Err(senseless("a list of chunk ids"))
    }
}

fn refused(error: Error) -> Failure {
    Failure::from(&error)
}

impl Service {
    fn answer(&mut self, ask: Ask) -> Result<Answer, Failure> {
        let yes_or_no = |stored: Vec<bool>| Answer::Have { stored: stored.into_iter().map(u8::from).collect() };
        match ask {
            Ask::Disk { point, disk, from } => self.disk_part((point, disk), from),
            Ask::Region { point, disk, region } => {
                let (_, leaves) = self.look_up((point, disk))?;
                let leaf = usize::try_from(region).ok().and_then(|region| leaves.get(region)).copied();
                let leaf = leaf.ok_or_else(|| senseless("a region beyond the disk's end"))?;
                Ok(Answer::Region { leaf: self.repository.leaf_bytes(&leaf).map_err(refused)? })
            }
            Ask::HaveLeaf { size, region, leaf } => {
                if size > MAX_DISK || region >= regions_in(size) {
                    return Err(senseless("a region beyond the disk's end"));
                }
                let stored = self.repository.have_leaf(&ChunkId(leaf.0), (size, region)).map_err(refused)?;
                Ok(yes_or_no(vec![stored]))
            }
            Ask::Have { ids: raw } => Ok(yes_or_no(self.repository.have(&ids(&raw)?).map_err(refused)?)),
            Ask::Put { records } => self.put(records),
            Ask::Get { ids: raw } => {
                let records = self.repository.stored_records(&ids(&raw)?, GOT).map_err(refused)?;
                Ok(Answer::Got { records: records.into_iter().map(packed).collect() })
            }
            Ask::Keep { disk } => {
                self.repository.flush().map_err(refused)?;
                self.repository.note_added(ChunkId(disk.0), std::mem::take(&mut self.added));
                Ok(Answer::Done)
            }
            Ask::Digests { .. } | Ask::MapPart { .. } | Ask::StoreMap { .. } => self.answer_digests(ask),
        }
    }

    fn put(&mut self, records: Vec<Packed>) -> Result<Answer, Failure> {
        let sent = |record: Packed| {
            let kind = RecordKind::from_byte(record.kind).ok_or_else(|| senseless("a record of that kind"))?;
            Ok(SentRecord { id: ChunkId(record.id.0), kind, plain: record.plain, bytes: record.bytes })
        };
        let records = records.into_iter().map(sent).collect::<Result<Vec<_>, Failure>>()?;
        self.added += self.repository.put_records(&records, &mut self.unpacker).map_err(refused)?;
        Ok(Answer::Done)
    }

    fn answer_digests(&mut self, ask: Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Digests { replica, point, disk, from } => {
                let key = Ask::Digests { replica: replica.clone(), point: point.clone(), disk: disk.clone(), from: 0 };
                if self.last_map.as_ref().is_none_or(|(last, _)| *last != key) {
                    let map = self.repository.digests(&replica, &point, &disk).map_err(refused)?;
                    let Some(map) = map else { return Ok(Answer::NoMap) };
                    self.last_map = Some((key, map.encode()));
                }
                let file = self.last_map.as_ref().map_or(&[][..], |(_, file)| file);
                let part = usize::try_from(from).ok().and_then(|from| file.get(from..)).unwrap_or_default();
                let bytes = part[..part.len().min(PART)].to_vec();
                Ok(Answer::Map { total: file.len() as u64, bytes })
            }
            Ask::MapPart { bytes } => {
                if (self.map.len() + bytes.len()) as u64 > blocks_in(MAX_DISK) * 16 {
                    return Err(senseless("a digest map of that length"));
                }
                self.map.extend_from_slice(&bytes);
                Ok(Answer::Done)
            }
            Ask::StoreMap { replica, point, disk, keep } => {
                let file = std::mem::take(&mut self.map);
                let map = DigestMap::decode(&file, ByteCount(MAX_DISK)).map_err(|_| senseless("a digest map"))?;
                self.repository.put_digests(&replica, &point, &disk, &map).map_err(refused)?;
                self.repository.keep_digests(&replica, &keep).map_err(refused)?;
                Ok(Answer::Done)
            }
            Ask::Disk { .. }
            | Ask::Region { .. }
            | Ask::HaveLeaf { .. }
            | Ask::Have { .. }
            | Ask::Put { .. }
            | Ask::Get { .. }
            | Ask::Keep { .. } => Err(senseless("a question about chunks in place of digests")),
        }
    }

    /// A disk of a point and its leaves, kept while the same is asked for.
    fn look_up(&mut self, key: DiskKey) -> Result<&DiskLeaves, Failure> {
        let found = match self.last_disk.take().filter(|(last, _)| *last == key) {
            Some((_, found)) => found,
            None => self.repository.disk_leaves(&key.0, &key.1).map_err(refused)?,
        };
        Ok(&self.last_disk.insert((key, found)).1)
    }

    fn disk_part(&mut self, key: DiskKey, from: u64) -> Result<Answer, Failure> {
        let (disk, leaves) = self.look_up(key)?;
        let part = usize::try_from(from).ok().and_then(|from| leaves.get(from..)).unwrap_or_default();
        let part = &part[..part.len().min(PART / 32)];
        Ok(Answer::Disk {
            size: disk.size.0,
            checksum: disk.checksum,
            record: disk.disk,
            leaves: part.iter().flat_map(|id| id.0).collect(),
        })
    }
}

fn packed(record: SentRecord) -> Packed {
    Packed { id: Digest(record.id.0), kind: record.kind as u8, plain: record.plain, bytes: record.bytes }
}
