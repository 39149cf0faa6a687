//! Manifests: what a disk of a restore point consists of, and what a restore point consists of. A point names its
//! disks' manifests by hash, a disk's manifest names its chunks by hash, so a point proves all of itself.

use crate::sealed::{FormatError, Kind, open, seal};
use crate::{Allocation, CHUNK, ChunkId, MAX_RUNS, chunks_in};
use farshore_schemas::ids::{Digest, PointId, VmRef};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::{ByteCount, Timestamp};
use serde::{Deserialize, Serialize};

const DISK: Kind = Kind { magic: b"FSDISKMF", what: "disk manifest" };
const POINT: Kind = Kind { magic: b"FSPOINTM", what: "point manifest" };
const REPLICA: Kind = Kind { magic: b"FSREPLPT", what: "replica point" };
/// A point manifest names disks, not chunks: no real one comes near this.
const MAX_POINT: u64 = 4 * 1024 * 1024;

/// The chunks of one disk of a point, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskManifest {
    /// The disk's size.
    pub size: ByteCount,
    /// BLAKE3 over its content in order, holes read as zeros.
    pub checksum: Digest,
    /// Its chunks; [`ChunkId::ZERO`] for zeros.
    pub chunks: Vec<ChunkId>,
    /// Which of its blocks took space at the source, zeros among them.
    pub allocation: Allocation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskBody {
    size: ByteCount,
    checksum: Digest,
    chunk: u32,
    #[serde(with = "serde_bytes")]
    chunks: Vec<u8>,
    #[serde(with = "serde_bytes")]
    allocation: Vec<u8>,
}

impl DiskManifest {
    /// The manifest as a file.
    pub fn encode(&self) -> Vec<u8> {
        let chunks = self.chunks.iter().flat_map(|id| id.0).collect();
        let (size, checksum, allocation) = (self.size, self.checksum, self.allocation.to_bytes());
        seal(&DISK, &DiskBody { size, checksum, chunk: CHUNK as u32, chunks, allocation })
    }

    /// What `DiskPoint::manifest` holds: BLAKE3 over size, checksum, chunk ids and allocation, and so the same for the
    /// same disk whatever way the file is compressed.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"farshore disk manifest 0");
        hasher.update(&self.size.0.to_le_bytes());
        hasher.update(&self.checksum.0);
        self.chunks.iter().for_each(|id| {
            hasher.update(&id.0);
        });
        hasher.update(&self.allocation.to_bytes());
        Digest(*hasher.finalize().as_bytes())
    }

    /// Bytes of the chunk at this index: [`CHUNK`], less for the disk's last one; none beyond its end.
    pub fn chunk_len(&self, index: u64) -> Option<usize> {
        let start = index.checked_mul(CHUNK as u64)?;
        let left = self.size.0.checked_sub(start).filter(|left| *left > 0)?;
        Some(left.min(CHUNK as u64) as usize)
    }

    /// Reads the manifest of a disk of at most `max_disk` bytes, which bounds the memory used.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes.
    pub fn decode(bytes: &[u8], max_disk: ByteCount) -> Result<DiskManifest, FormatError> {
        let max = chunks_in(max_disk.0).saturating_mul(32).saturating_add(MAX_RUNS as u64 * 16 + 256);
        let body: DiskBody = open(&DISK, bytes, max)?;
        let (ids, rest) = body.chunks.as_chunks::<32>();
        if body.chunk as usize != CHUNK {
            return Err(DISK.body(format!("its chunks have {} bytes, not {CHUNK}", body.chunk)));
        }
        if !rest.is_empty() || ids.len() as u64 != chunks_in(body.size.0) {
            return Err(DISK.body("it has not one id for each chunk"));
        }
        let chunks = ids.iter().copied().map(ChunkId).collect();
        let allocation = Allocation::from_bytes(&body.allocation, body.size.0)
            .ok_or_else(|| DISK.body("its allocated runs do not ascend within the disk"))?;
        Ok(DiskManifest { size: body.size, checksum: body.checksum, chunks, allocation })
    }
}

/// A restore point of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointManifest {
    /// Its id.
    pub point: PointId,
    /// Whose.
    pub vm: VmRef,
    /// When the VM was frozen.
    pub taken: Timestamp,
    /// Its disks, with their proofs.
    pub disks: Vec<DiskPoint>,
    /// What it added to the store when it was made; set by the store.
    pub stored: ByteCount,
}

impl PointManifest {
    /// The manifest as a file.
    pub fn encode(&self) -> Vec<u8> {
        seal(&POINT, self)
    }

    /// Reads a point manifest.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<PointManifest, FormatError> {
        let manifest: PointManifest = open(&POINT, bytes, MAX_POINT)?;
        each_once(&POINT, &manifest.disks)?;
        Ok(manifest)
    }

    /// Whether it tells of the same content as another, what it added to the store left out.
    pub fn same_content(&self, other: &PointManifest) -> bool {
        PointManifest { stored: other.stored, ..self.clone() } == *other
    }
}

/// A point in a replica's store. Whose it is, is known by the replica, not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaPoint {
    /// Its id.
    pub point: PointId,
    /// When the source's disks were frozen.
    pub taken: Timestamp,
    /// Its disks, with the proof that the store computed.
    pub disks: Vec<DiskPoint>,
    /// What the store needs for it beyond what was there; set by the store.
    pub stored: ByteCount,
}

impl ReplicaPoint {
    /// The point as a file.
    pub fn encode(&self) -> Vec<u8> {
        seal(&REPLICA, self)
    }

    /// Reads a replica's point.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<ReplicaPoint, FormatError> {
        let point: ReplicaPoint = open(&REPLICA, bytes, MAX_POINT)?;
        each_once(&REPLICA, &point.disks)?;
        Ok(point)
    }
}

fn each_once(kind: &Kind, disks: &[DiskPoint]) -> Result<(), FormatError> {
    let mut names: Vec<_> = disks.iter().map(|disk| &disk.name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(kind.body("it names a disk twice"));
    }
    Ok(())
}
