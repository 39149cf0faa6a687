//! One value of each format, the same for ever: the golden files hold them.

use farshore_format::repository::{Damaged, DamagedPack, FileId, PointDisk, PointManifest, Suite};
use farshore_format::{
    Allocation, BLOCK, DeltaContent, DeltaHeader, DeltaRecord, DeltaTotals, DigestMap, ReplicaPoint, encode_header,
    encode_record, encode_trailer,
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

const CHUNK: u64 = 256 * 1024;
/// Of the disk of all samples.
pub(crate) const SIZE: u64 = 2 * CHUNK + 1000;

/// Two parts of data, and zeros in the middle.
pub(crate) fn allocation() -> Allocation {
    Allocation::of_ranges([0..CHUNK, CHUNK + 40_960..CHUNK + 81_920, 2 * CHUNK..SIZE])
}

/// A restore point of a repository, as a file that is not encrypted.
pub(crate) fn point_manifest() -> Vec<u8> {
    let vm = VmRef {
        site: SiteName::parse("hq").unwrap(),
        host: Name::parse("folder").unwrap(),
        vm: VmName::parse("Web 1").unwrap(),
    };
    let point = PointId(Name::parse("nightly-7").unwrap());
    let name = DiskName::parse("system.img").unwrap();
    let (checksum, disk) = (Some(Digest([3; 32])), Digest([4; 32]));
    let disks = vec![PointDisk { name, size: ByteCount(SIZE), checksum, disk }];
    let point = PointManifest { point, vm, taken: Timestamp(1_700_000_000_000), disks, stored: ByteCount(4711) };
    point.encode((Suite::None, None, FileId([7; 32]))).unwrap()
}

/// A list of damage, likewise.
pub(crate) fn damaged() -> Vec<u8> {
    let packs = vec![
        DamagedPack { pack: Digest([1; 32]), records: Some(vec![3, 900]) },
        DamagedPack { pack: Digest([2; 32]), records: None },
    ];
    Damaged { packs }.encode((Suite::None, None, FileId([8; 32]))).unwrap()
}

pub(crate) fn replica_point() -> ReplicaPoint {
    let point = PointId(Name::parse("copy-7").unwrap());
    let name = DiskName::parse("system.img").unwrap();
    let (size, checksum, manifest) = (ByteCount(SIZE), Digest([3; 32]), Digest::default());
    let disk = DiskPoint { name, size, checksum, manifest };
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
