//! Names, small disks and broken disks for the tests.

use farshore_format::{ReplicaPoint, checksum};
use farshore_repository::{BlockContent, Faults, Op, ReplicaStore};
use farshore_schemas::ids::{Digest, DiskName, Lineage, Name, PointId};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint};
use farshore_schemas::units::{ByteCount, Timestamp};
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn point(text: &str) -> PointId {
    PointId(name(text))
}

pub(crate) fn disk(text: &str) -> DiskName {
    DiskName::parse(text).unwrap()
}

pub(crate) const LINEAGE: Lineage = Lineage([7; 16]);

/// Bytes that do not compress and differ by seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Lets a number of changes pass, then fails every one.
pub(crate) struct StopAfter {
    left: AtomicI64,
    kind: ErrorKind,
    only_writes: bool,
}

impl StopAfter {
    /// The process is gone after `changes` changes: nothing more reaches the disk.
    pub(crate) fn crash(changes: i64) -> StopAfter {
        StopAfter { left: AtomicI64::new(changes), kind: ErrorKind::Other, only_writes: false }
    }

    /// The disk is full after `writes` writes; all else works.
    pub(crate) fn full(writes: i64) -> StopAfter {
        StopAfter { left: AtomicI64::new(writes), kind: ErrorKind::StorageFull, only_writes: true }
    }

    pub(crate) fn reached(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// There is space again.
    pub(crate) fn mend(&self) {
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
pub(crate) struct FailSync(pub(crate) Mutex<bool>);

impl Faults for FailSync {
    fn before(&self, op: Op<'_>) -> Result<()> {
        let mut armed = self.0.lock().unwrap();
        if *armed && matches!(op, Op::Sync(_)) {
            *armed = false;
            return Err(Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Write(PathBuf),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// Writes down every change, so that a test can look at their order.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<Step>>);

impl Faults for Recorder {
    fn before(&self, op: Op<'_>) -> Result<()> {
        let step = match op {
            Op::Write(path) => Step::Write(path.into()),
            Op::Sync(path) => Step::Sync(path.into()),
            Op::Rename(from, to) => Step::Rename(from.into(), to.into()),
            Op::Resize(_) | Op::Remove(_) | Op::MakeFolder(_) => return Ok(()),
        };
        self.0.lock().unwrap().push(step);
        Ok(())
    }
}

/// The size of a block as an offset.
pub(crate) const BLOCK: u64 = farshore_format::BLOCK as u64;

/// Makes a point of one disk from its whole content, block by block, as a receiver does.
pub(crate) fn replicate(
    store: &Arc<ReplicaStore>,
    id: &str,
    content: &[u8],
    forget: &[PointId],
) -> farshore_repository::Result<ReplicaPoint> {
    let (id, a) = (point(id), disk("a.img"));
    let size = ByteCount(content.len() as u64);
    store.begin_point(&id, &[DiskFacts { name: a.clone(), size }])?;
    let mut writer = store.writer(&id, &a)?;
    for (block, bytes) in (0..).zip(content.chunks(farshore_format::BLOCK)) {
        writer.apply(block, BlockContent::Data(bytes))?;
    }
    writer.finish()?;
    store.seal(&id, Timestamp(1), &[proof(content)], forget)
}

/// What a source says of disk `a.img`.
pub(crate) fn proof(content: &[u8]) -> DiskPoint {
    let size = ByteCount(content.len() as u64);
    DiskPoint { name: disk("a.img"), size, checksum: checksum(content), manifest: Digest::default() }
}

/// The content of `a.img` at a point.
pub(crate) fn restored(store: &ReplicaStore, id: &str) -> farshore_repository::Result<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    store.materialise(&point(id), folder.path())?;
    Ok(std::fs::read(folder.path().join("a.img")).unwrap())
}
