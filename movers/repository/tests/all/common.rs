//! Names, small disks and broken disks for the tests.

use farshore_format::{CHUNK, DiskManifest, PointManifest, checksum, encode_chunk};
use farshore_repository::{Faults, Op, Repository};
use farshore_schemas::ids::{DiskName, Lineage, Name, PointId, SiteName, VmName, VmRef};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::{ByteCount, Timestamp};
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn point(text: &str) -> PointId {
    PointId(name(text))
}

pub fn disk(text: &str) -> DiskName {
    DiskName::parse(text).unwrap()
}

pub fn vm() -> VmRef {
    VmRef { site: SiteName::parse("hq").unwrap(), host: name("folder"), vm: VmName::parse("web").unwrap() }
}

pub const LINEAGE: Lineage = Lineage([7; 16]);

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Stores a disk and answers its part of a point.
pub fn store_disk(repository: &Repository, disk_name: &str, content: &[u8]) -> farshore_repository::Result<DiskPoint> {
    let mut chunks = Vec::new();
    for part in content.chunks(CHUNK) {
        let chunk = encode_chunk(part);
        if !repository.have(&[chunk.id])?[0] {
            repository.put_chunk(chunk.id, &chunk.bytes)?;
        }
        chunks.push(chunk.id);
    }
    let size = ByteCount(content.len() as u64);
    let manifest = DiskManifest { size, checksum: checksum(content), chunks };
    let digest = repository.put_disk_manifest(&manifest)?;
    Ok(DiskPoint { name: disk(disk_name), size, checksum: manifest.checksum, manifest: digest })
}

pub fn manifest(id: &str, disks: Vec<DiskPoint>) -> PointManifest {
    PointManifest { point: point(id), vm: vm(), taken: Timestamp(1), disks, stored: ByteCount(0) }
}

/// Lets a number of changes pass, then fails every one.
pub struct StopAfter {
    left: AtomicI64,
    kind: ErrorKind,
    only_writes: bool,
}

impl StopAfter {
    /// The process is gone after `changes` changes: nothing more reaches the disk.
    pub fn crash(changes: i64) -> StopAfter {
        StopAfter { left: AtomicI64::new(changes), kind: ErrorKind::Other, only_writes: false }
    }

    /// The disk is full after `writes` writes; all else works.
    pub fn full(writes: i64) -> StopAfter {
        StopAfter { left: AtomicI64::new(writes), kind: ErrorKind::StorageFull, only_writes: true }
    }

    pub fn reached(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// There is space again.
    pub fn mend(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }
}

impl Faults for StopAfter {
    fn before(&self, op: Op<'_>) -> Result<()> {
        let counts = !self.only_writes || matches!(op, Op::Write(_) | Op::MakeFolder(_));
        if counts && self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.left.store(-1, Ordering::SeqCst);
            return Err(Error::from(self.kind));
        }
        Ok(())
    }
}

/// Fails the next sync, once.
pub struct FailSync(pub Mutex<bool>);

impl Faults for FailSync {
    fn before(&self, op: Op<'_>) -> Result<()> {
        let mut armed = self.0.lock().unwrap();
        if *armed && matches!(op, Op::Sync(_) | Op::SyncAll(_)) {
            *armed = false;
            return Err(Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Write(PathBuf),
    Sync(PathBuf),
    SyncAll,
    Rename(PathBuf, PathBuf),
}

/// Writes down every change, so that a test can look at their order.
#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<Step>>);

impl Faults for Recorder {
    fn before(&self, op: Op<'_>) -> Result<()> {
        let step = match op {
            Op::Write(path) => Step::Write(path.into()),
            Op::Sync(path) => Step::Sync(path.into()),
            Op::SyncAll(_) => Step::SyncAll,
            Op::Rename(from, to) => Step::Rename(from.into(), to.into()),
            Op::Resize(_) | Op::Remove(_) | Op::MakeFolder(_) => return Ok(()),
        };
        self.0.lock().unwrap().push(step);
        Ok(())
    }
}
