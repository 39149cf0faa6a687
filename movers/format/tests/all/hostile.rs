//! Any bytes give a value or an error, never a panic and never more output than allowed.

use crate::samples;
use farshore_format::repository::{
    Damaged, DamagedPack, FileId, KeySlot, PackHeader, PointManifest, Reliance, Roster, RosterPoint, SealKey,
    SealedError, SealedKind, Suite,
};
use farshore_format::{
    Allocation, DeltaError, DeltaHeader, DeltaTotals, DigestMap, FormatError, ReplicaPoint, check_trailer,
    decode_header, decode_record,
};
use farshore_schemas::ids::{Digest, PointId};
use farshore_schemas::units::ByteCount;
use proptest::prelude::*;

const MAX: ByteCount = ByteCount(1 << 24);

fn decode_all(bytes: &[u8]) -> bool {
    let mut totals = DeltaTotals::default();
    let header = DeltaHeader { from_size: 1 << 20, to_size: 1 << 20 };
    let repository = PointManifest::decode(bytes, None).is_ok()
        | Roster::decode(bytes, None).is_ok()
        | Damaged::decode(bytes, None).is_ok()
        | Reliance::decode(bytes, None).is_ok()
        | KeySlot::decode(bytes).is_ok()
        | bytes.first_chunk().is_some_and(|head| PackHeader::decode(head).is_ok());
    let sealed = ReplicaPoint::decode(bytes).is_ok()
        | DigestMap::decode(bytes, MAX).is_ok()
        | Allocation::decode(bytes, MAX.0).is_ok();
    let delta = decode_header(bytes).is_ok()
        | decode_record(bytes, &header, &mut totals).is_ok()
        | check_trailer(bytes, &totals).is_ok();
    repository | sealed | delta
}

/// A sealed file whose hash is right, so that what is behind it is reached.
fn resealed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    bytes.truncate(bytes.len() - 32);
    change(&mut bytes);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

#[test]
fn any_flipped_or_missing_byte_of_a_sealed_file_is_told() {
    let files = [
        samples::point_manifest(),
        samples::damaged(),
        samples::replica_point().encode(),
        samples::digest_map().encode(),
        samples::allocation().encode(),
    ];
    for file in files {
        for at in 0..file.len() {
            let mut bytes = file.clone();
            bytes[at] ^= 1;
            assert!(!decode_all(&bytes), "flip at {at}");
            assert!(!decode_all(&file[..at]), "cut at {at}");
        }
        assert!(!decode_all(&[&file[..], &[0]].concat()));
    }
}

#[test]
fn a_newer_format_says_so() {
    let bytes = resealed(samples::digest_map().encode(), |bytes| bytes[8] = 9);
    assert_eq!(DigestMap::decode(&bytes, MAX), Err(FormatError::Newer { what: "digest map", found: 9 }));
    let bytes = resealed(samples::point_manifest(), |bytes| bytes[8] = 9);
    assert_eq!(PointManifest::decode(&bytes, None), Err(SealedError::Newer { found: 9 }));
}

#[test]
fn a_small_file_asks_for_little_memory_and_what_packs_well_is_read_all_the_same() {
    let sealing = (Suite::None, None, FileId([3; 32]));
    let entry = |number: u32| RosterPoint {
        point: PointId(format!("web-{number:05}").parse().unwrap()),
        file: Digest([7; 32]),
    };
    let roster =
        Roster { generation: 1, points: (0..20_000).map(entry).collect(), coming: Vec::new(), going: Vec::new() };
    let bytes = roster.encode(sealing).unwrap();
    assert_eq!(Roster::decode(&bytes, None), Ok(roster.clone()));
    let body = farshore_schemas::codec::encode(&roster);
    assert!(bytes.len() + (128 << 10) >= body.len(), "{} bytes for {}", bytes.len(), body.len());
    // The same without what makes it long enough.
    let packed = zstd::bulk::compress(&body, 3).unwrap();
    assert!(packed.len() < bytes.len() / 3);
    let key = SealKey::new(Suite::None, None, &FileId([3; 32])).unwrap();
    let short = resealed(bytes, |bytes| {
        bytes.truncate(52);
        bytes.extend_from_slice(&packed);
        key.seal((SealedKind::Roster as u8, 0), bytes, 48);
    });
    assert!(matches!(Roster::decode(&short, None), Err(SealedError::Body(why)) if why.contains("are allowed")));
    let records = Some((0..300_000).collect());
    let damaged = Damaged { packs: vec![DamagedPack { pack: Digest([1; 32]), records }] };
    assert_eq!(Damaged::decode(&damaged.encode(sealing).unwrap(), None), Ok(damaged));
}

#[test]
fn a_body_longer_than_the_limit_or_than_it_claims_is_never_produced() {
    // 64 MiB of zeros pack into a few kilobytes; the limit of a 16 MiB disk stops it.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    for claimed in [64u64 << 20, u64::MAX, 100] {
        let bytes = resealed(samples::digest_map().encode(), |bytes| {
            bytes.truncate(10);
            bytes.extend_from_slice(&claimed.to_le_bytes());
            bytes.extend_from_slice(&bomb);
        });
        let error = DigestMap::decode(&bytes, MAX).unwrap_err();
        assert_eq!(error, FormatError::Length { what: "digest map", claimed });
    }
}

#[test]
fn any_flipped_byte_of_a_delta_is_told_and_any_cut_is_torn() {
    let whole = samples::delta();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert!(read_delta(&bytes).is_err(), "flip at {at}");
        let cut = read_delta(&whole[..at]).unwrap_err();
        assert_eq!(cut, DeltaError::Torn, "cut at {at}");
    }
    assert!(read_delta(&[&whole[..], &[0]].concat()).is_err());
    assert_eq!(read_delta(&whole), Ok(3));
}

fn read_delta(bytes: &[u8]) -> Result<u64, DeltaError> {
    let header = decode_header(bytes)?;
    let mut rest = &bytes[farshore_format::HEADER_LEN..];
    let mut totals = DeltaTotals::default();
    while !rest.starts_with(b"FSDELEND") {
        let (_, length) = decode_record(rest, &header, &mut totals)?;
        rest = &rest[length..];
    }
    check_trailer(rest, &totals).map(|()| totals.records())
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(!decode_all(&bytes));
    }

    #[test]
    fn any_body_under_a_right_hash_gives_a_value_or_an_error(body in prop::collection::vec(any::<u8>(), 0..300)) {
        for file in [samples::replica_point().encode(), samples::allocation().encode(), samples::digest_map().encode()] {
            let bytes = resealed(file, |bytes| {
                bytes.truncate(10);
                bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
                bytes.extend_from_slice(&zstd::bulk::compress(&body, 1).unwrap());
            });
            prop_assert!(!decode_all(&bytes));
        }
    }

    #[test]
    fn any_record_under_a_right_check_gives_a_value_or_an_error(
        start in any::<u64>(), blocks in any::<u32>(), kind in 0u8..4, payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut bytes = start.to_le_bytes().to_vec();
        bytes.extend_from_slice(&blocks.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&payload);
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..8]);
        let header = DeltaHeader { from_size: 1 << 20, to_size: 1 << 20 };
        if let Ok((record, length)) = decode_record(&bytes, &header, &mut DeltaTotals::default()) {
            prop_assert!(record.start + u64::from(record.blocks) <= 256);
            prop_assert_eq!(length, bytes.len());
        }
    }
}
