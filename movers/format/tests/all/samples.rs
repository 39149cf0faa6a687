//! One value of each format, the same for ever: the golden files hold them.

use farshore_format::{
    Allocation, BLOCK, CHUNK, ChunkId, DeltaContent, DeltaHeader, DeltaRecord, DeltaTotals, DigestMap, DiskManifest,
    PointManifest, ReplicaPoint, encode_header, encode_record, encode_trailer,
};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId, SiteName, VmName, VmRef};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::{ByteCount, Timestamp};

/// Bytes that do not compress and differ by seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn disk_manifest() -> DiskManifest {
    let chunks = vec![ChunkId::of(&noise(1, CHUNK)), ChunkId::ZERO, ChunkId::of(&noise(2, 1000))];
    DiskManifest {
        size: ByteCount(2 * CHUNK as u64 + 1000),
        checksum: Digest([3; 32]),
        chunks,
        allocation: allocation(),
    }
}

/// Of the disk of the manifest: its two chunks of data, and zeros in the middle.
pub(crate) fn allocation() -> Allocation {
    let chunk = CHUNK as u64;
    Allocation::of_ranges([0..chunk, chunk + 40_960..chunk + 81_920, 2 * chunk..2 * chunk + 1000])
}

fn disk_point() -> DiskPoint {
    let manifest = disk_manifest();
    let name = DiskName::parse("system.img").unwrap();
    DiskPoint { name, size: manifest.size, checksum: manifest.checksum, manifest: manifest.digest() }
}

pub(crate) fn point_manifest() -> PointManifest {
    let vm = VmRef {
        site: SiteName::parse("hq").unwrap(),
        host: Name::parse("folder").unwrap(),
        vm: VmName::parse("Web 1").unwrap(),
    };
    let point = PointId(Name::parse("nightly-7").unwrap());
    PointManifest { point, vm, taken: Timestamp(1_700_000_000_000), disks: vec![disk_point()], stored: ByteCount(4711) }
}

pub(crate) fn replica_point() -> ReplicaPoint {
    let point = PointId(Name::parse("copy-7").unwrap());
    let mut disk = disk_point();
    disk.manifest = Digest::default();
    ReplicaPoint { point, taken: Timestamp(1_700_000_000_000), disks: vec![disk], stored: ByteCount(815) }
}

pub(crate) fn digest_map() -> DigestMap {
    let mut content = noise(5, 3 * BLOCK);
    content.extend_from_slice(&[0; 2 * BLOCK]);
    content.extend_from_slice(&[1; 700]);
    DigestMap::of(&content)
}

pub(crate) fn delta_records() -> (DeltaHeader, Vec<DeltaRecord>) {
    let data = |seed: u64, blocks: u32| DeltaContent::Data(noise(seed, blocks as usize * BLOCK));
    let records = vec![
        DeltaRecord { start: 2, blocks: 1, content: data(1, 1) },
        DeltaRecord { start: 3, blocks: 4000, content: DeltaContent::Zeros },
        DeltaRecord { start: 5000, blocks: 2, content: data(2, 2) },
    ];
    (DeltaHeader { from_size: 5002 * BLOCK as u64, to_size: 5001 * BLOCK as u64 + 9 }, records)
}

pub(crate) fn delta() -> Vec<u8> {
    let (header, records) = delta_records();
    let mut totals = DeltaTotals::default();
    let mut bytes = encode_header(&header);
    records.iter().for_each(|record| bytes.extend(encode_record(record, &mut totals)));
    bytes.extend(encode_trailer(&totals));
    bytes
}
