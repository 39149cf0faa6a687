//! Restore points, the roster and key slots: sealed files, and what lies behind the seal.

use farshore_format::repository::{
    Damaged, FileId, Immutable, KeySlot, LogPiece, PointDisk, PointManifest, Reliance, Roster, SealKey, SealedKind,
    Suite,
};
use farshore_schemas::ids::{Digest, PointId, VmRef};
use farshore_schemas::units::{ByteCount, Timestamp};

const ID: FileId = FileId([5; 32]);

pub(crate) fn run(bytes: &[u8]) {
    let _ = (PointManifest::decode(bytes, None), Roster::decode(bytes, None), KeySlot::decode(bytes));
    let ([how], body) = crate::head::<1>(bytes);
    let kinds = [
        SealedKind::Point,
        SealedKind::Roster,
        SealedKind::Damaged,
        SealedKind::Log,
        SealedKind::Reliance,
        SealedKind::Immutable,
    ];
    let kind = kinds[usize::from(how & 0x7f) % kinds.len()];
    // The body as it is to be read, or its packed form with a length of its own choice.
    let packed = if how & 0x80 == 0 { pack(body) } else { body.to_vec() };
    let file = sealed(kind, &packed);
    match kind {
        SealedKind::Point => {
            if let Ok(point) = PointManifest::decode(&file, None) {
                let again = point.encode((Suite::None, None, ID)).expect("in the clear no key is needed");
                assert_eq!(PointManifest::decode(&again, None), Ok(point));
            }
        }
        SealedKind::Roster => drop(Roster::decode(&file, None)),
        SealedKind::Damaged => drop(Damaged::decode(&file, None)),
        SealedKind::Immutable => drop(Immutable::decode(&file, None)),
        SealedKind::Log => drop(LogPiece::decode(&file, None)),
        SealedKind::Reliance => drop(Reliance::decode(&file, None)),
        // Not among those above: what is in it is a digest map's own form.
        SealedKind::Digests => {}
    }
}

/// A body's length and its packed form.
fn pack(body: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(body, 1).expect("compressing memory into memory has nothing that can fail");
    [(body.len() as u32).to_le_bytes().as_slice(), &packed].concat()
}

/// A sealed file in the clear around any record, by docs/formats/repository.md.
fn sealed(kind: SealedKind, record: &[u8]) -> Vec<u8> {
    let mut file = b"FSREPO01".to_vec();
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&[Suite::None as u8, kind as u8, 0, 0, 0, 0]);
    file.extend_from_slice(&ID.0);
    let from = file.len();
    file.extend_from_slice(record);
    let key = SealKey::new(Suite::None, None, &ID).expect("in the clear no key is needed");
    key.seal((kind as u8, 0), &mut file, from);
    let hash = blake3::hash(&file);
    file.extend_from_slice(hash.as_bytes());
    file
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let disk = |number: u8| PointDisk {
        name: format!("disk-{number}").parse().expect("a name"),
        size: ByteCount(1 << 30),
        checksum: (number > 0).then_some(Digest([number; 32])),
        disk: Digest([number + 10; 32]),
    };
    let point = PointManifest {
        point: PointId("web-1".parse().expect("a name")),
        vm: VmRef {
            site: "hq".parse().expect("a name"),
            host: "vms".parse().expect("a name"),
            vm: "web".parse().expect("a name"),
        },
        taken: Timestamp(1_790_000_000_000),
        disks: (0..3).map(disk).collect(),
        stored: ByteCount(12345),
    };
    let body = farshore_schemas::codec::encode(&point);
    let file = point.encode((Suite::None, None, ID)).expect("in the clear no key is needed");
    vec![
        file,
        [&[0], body.as_slice()].concat(),
        [&[0x81], pack(&body).as_slice()].concat(),
        b"{\"kdf\":\"argon2id\"}".to_vec(),
    ]
}
