//! The answering end of a repository's data channel: one mover, under one access. Only this agent touches the folder.

use crate::link::{Link, LinkError, MAX_FRAME};
use crate::proto::{Answer, Ask, Stored};
use crate::repository_client::{MAX_DISK, PART};
use crate::shared::Shared;
use crate::task::failure;
use farshore_format::{Allocation, ChunkId, DigestMap, DiskManifest, MAX_ENCODED_CHUNK, blocks_in, chunks_in};
use farshore_repository::{Error, Repository, WriteSession};
use farshore_schemas::ids::{DiskName, Name, PointId, TaskId};
use farshore_schemas::messages::agent::Failure;
use farshore_schemas::units::ByteCount;
use std::sync::Arc;

/// Chunks answered in one message at most: their stored forms fit a frame.
const GOT: usize = MAX_FRAME / (MAX_ENCODED_CHUNK + 64);

/// One connection's work in progress.
struct Service {
    repository: Arc<Repository>,
    /// Keeps what this mover found or stored from a prune.
    _session: WriteSession,
    list: Vec<ChunkId>,
    map: Vec<u8>,
    /// The list or map asked for last, since long ones are asked for in parts.
    last_list: Option<((PointId, DiskName), DiskManifest)>,
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
    link.send(&Answer::Welcome)?;
    let session = repository.write_session();
    let mut service =
        Service { repository, _session: session, list: Vec::new(), map: Vec::new(), last_list: None, last_map: None };
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
    if rest.is_empty() { Ok(ids.iter().copied().map(ChunkId).collect()) } else { Err(senseless("a list of chunk ids")) }
}

fn refused(error: Error) -> Failure {
    Failure::from(&error)
}

impl Service {
    fn answer(&mut self, ask: Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Chunks { point, disk, from } => {
                self.look_up(point, disk)?;
                self.list_part(from)
            }
            Ask::Allocation { point, disk } => {
                let runs = self.look_up(point, disk)?.allocation.to_bytes();
                Ok(Answer::Allocation { runs })
            }
            Ask::Have { ids: raw } => {
                let stored = self.repository.have(&ids(&raw)?).map_err(refused)?;
                Ok(Answer::Have { stored: stored.into_iter().map(u8::from).collect() })
            }
            Ask::Put { chunks } => {
                for chunk in chunks {
                    self.repository.put_chunk(ChunkId(chunk.id.0), &chunk.bytes).map_err(refused)?;
                }
                Ok(Answer::Done)
            }
            Ask::Get { ids: raw } => self.get(&ids(&raw)?),
            Ask::ListPart { ids: raw } => {
                let part = ids(&raw)?;
                if (self.list.len() + part.len()) as u64 > chunks_in(MAX_DISK) {
                    return Err(senseless("a chunk list of that length"));
                }
                self.list.extend(part);
                Ok(Answer::Done)
            }
            Ask::StoreList { size, checksum, allocation } => {
                let chunks = std::mem::take(&mut self.list);
                if size > MAX_DISK || chunks.len() as u64 != chunks_in(size) {
                    return Err(senseless("a chunk list that does not cover the disk"));
                }
                let allocation =
                    Allocation::from_bytes(&allocation, size).ok_or_else(|| senseless("a list of allocated blocks"))?;
                let list = DiskManifest { size: ByteCount(size), checksum, chunks, allocation };
                let manifest = self.repository.put_disk_manifest(&list).map_err(refused)?;
                Ok(Answer::List { manifest })
            }
            Ask::Digests { .. } | Ask::MapPart { .. } | Ask::StoreMap { .. } => self.answer_digests(ask),
        }
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
            Ask::Chunks { .. }
            | Ask::Allocation { .. }
            | Ask::Have { .. }
            | Ask::Put { .. }
            | Ask::Get { .. }
            | Ask::ListPart { .. }
            | Ask::StoreList { .. } => Err(senseless("a question about chunks in place of digests")),
        }
    }

    /// The manifest of a disk of a point, kept while the same is asked for.
    fn look_up(&mut self, point: PointId, disk: DiskName) -> Result<&DiskManifest, Failure> {
        let key = (point, disk);
        let (found, manifest) = match self.last_list.take().filter(|(last, _)| *last == key) {
            Some(last) => last,
            None => {
                let manifest = self.repository.disk_manifest(&key.0, &key.1).map_err(refused)?;
                (key, manifest)
            }
        };
        Ok(&self.last_list.insert((found, manifest)).1)
    }

    fn list_part(&self, from: u64) -> Result<Answer, Failure> {
        let Some((_, list)) = &self.last_list else { return Err(senseless("a list that was not asked for")) };
        let part = usize::try_from(from).ok().and_then(|from| list.chunks.get(from..)).unwrap_or_default();
        let part = &part[..part.len().min(PART / 32)];
        Ok(Answer::Chunks {
            size: list.size.0,
            checksum: list.checksum,
            total: list.chunks.len() as u64,
            ids: part.iter().flat_map(|id| id.0).collect(),
        })
    }

    fn get(&self, wanted: &[ChunkId]) -> Result<Answer, Failure> {
        let mut chunks = Vec::new();
        for id in wanted.iter().take(GOT) {
            let bytes = self.repository.get_chunk(*id).map_err(refused)?;
            chunks.push(Stored { id: farshore_schemas::ids::Digest(id.0), bytes });
        }
        Ok(Answer::Got { chunks })
    }
}
