//! Files that format version 0 wrote must be read for ever. What is compared is the value, since a newer zstd may pack
//! the same value into other bytes. `FARSHORE_GOLDEN=write` writes files that are missing; it never replaces one.

use crate::samples;
use farshore_format::{Allocation, DeltaTotals, DigestMap, ReplicaPoint, check_trailer, decode_header, decode_record};
use farshore_schemas::units::ByteCount;

const MAX: ByteCount = ByteCount(1 << 30);

fn golden(name: &str, today: &[u8]) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var_os("FARSHORE_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::write(&path, today).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn replica_point_of_version_0() {
    let value = samples::replica_point();
    assert_eq!(ReplicaPoint::decode(&golden("replica-point.0", &value.encode())), Ok(value));
}

#[test]
fn allocation_of_version_0() {
    let value = samples::allocation();
    let size = samples::SIZE;
    assert_eq!(Allocation::decode(&golden("allocation.0", &value.encode()), size), Ok(value));
}

#[test]
fn digest_map_of_version_0() {
    let value = samples::digest_map();
    assert_eq!(DigestMap::decode(&golden("digest-map.0", &value.encode()), MAX), Ok(value));
}

#[test]
fn delta_of_version_0() {
    let bytes = golden("delta.0", &samples::delta());
    let (wanted, records) = samples::delta_records();
    let header = decode_header(&bytes).unwrap();
    assert_eq!(header, wanted);
    let mut rest = &bytes[farshore_format::HEADER_LEN..];
    let mut totals = DeltaTotals::default();
    for record in records {
        let (found, length) = decode_record(rest, &header, &mut totals).unwrap();
        assert_eq!(found, record);
        rest = &rest[length..];
    }
    assert_eq!(check_trailer(rest, &totals), Ok(()));
    assert_eq!((totals.records(), totals.blocks()), (3, 4003));
}
