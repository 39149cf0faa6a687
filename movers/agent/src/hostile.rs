//! The way in for `ops/fuzz`: what a peer on the data channel may send, whatever it is.

use crate::proto::{Answer, Ask, Hello, LogAnswer, LogAsk, Packed, Push, Reply, Run, VERSION, Wants, numbers, runs};
use farshore_schemas::codec;
use farshore_schemas::ids::{Address, Digest, DiskName, Kind, Lineage, Name, PointId, Seq, SiteName, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Decodes these bytes as each message of the data channel. What decodes is encoded again.
///
/// # Panics
/// When a message does not decode to itself, or runs of blocks are not what their numbers are.
pub fn feed(bytes: &[u8]) {
    try_as::<Hello>(bytes);
    try_as::<Ask>(bytes);
    try_as::<Answer>(bytes);
    try_as::<Reply>(bytes);
    try_as::<LogAsk>(bytes);
    try_as::<LogAnswer>(bytes);
    if let Some(Push::Level { nodes: told, .. } | Push::Data { runs: told, .. } | Push::Zeros { runs: told }) =
        try_as::<Push>(bytes)
        && let Some(all) = numbers(&told, 1 << 12, 1 << 12)
    {
        assert_eq!(numbers(&runs(&all), 1 << 12, 1 << 12), Some(all));
    }
}

fn try_as<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value = codec::decode_limited::<T>(bytes, crate::link::MAX_FRAME).ok()?;
    assert_eq!(codec::decode_limited::<T>(&codec::encode(&value), crate::link::MAX_FRAME).as_ref(), Ok(&value));
    Some(value)
}

/// Messages as peers send them, to begin with.
pub fn samples() -> Vec<Vec<u8>> {
    let (name, disk) = (Name::parse("web").expect("a name"), DiskName::parse("disk.raw").expect("a disk's name"));
    let digest = Digest([7; 32]);
    let point = PointId(name.clone());
    let site = SiteName::parse("hq").expect("a site's name");
    let owner = Address::new(&site, Kind::Repository, &name);
    let task = TaskId { owner, lineage: Lineage([5; 16]), ordinal: 3 };
    let spans = || vec![Run { start: 1, count: 3 }, Run { start: 9, count: 1 }];
    vec![
        codec::encode(&Hello { version: VERSION, wants: Wants::Receiver { task } }),
        codec::encode(&Ask::Disk { point: point.clone(), disk: disk.clone(), from: 2 }),
        codec::encode(&Ask::HaveLeaf { size: 1 << 24, region: 1, leaf: digest }),
        codec::encode(&Ask::Have { ids: vec![3; 64] }),
        codec::encode(&Ask::Put { records: vec![Packed { id: digest, kind: 1, plain: 4096, bytes: vec![0; 40] }] }),
        codec::encode(&Ask::StoreMap { replica: name, point: point.clone(), disk, keep: vec![point] }),
        codec::encode(&Answer::Disk { size: 4096, checksum: Some(digest), record: digest, leaves: vec![1; 64] }),
        codec::encode(&Answer::Map { total: 9, bytes: vec![2; 9] }),
        codec::encode(&LogAsk::Frames { first: Seq(7), last: Seq(9) }),
        codec::encode(&LogAnswer::Log {
            site,
            keys: vec![digest],
            lineages: vec![(Lineage([5; 16]), Seq(1))],
            last: Seq(9),
        }),
        codec::encode(&LogAnswer::Frames { bytes: vec![4; 70] }),
        codec::encode(&Push::Offer { size: 1 << 20, base: Some(digest) }),
        codec::encode(&Push::Level { level: 2, nodes: spans() }),
        codec::encode(&Push::Data { runs: spans(), length: 16_384, digest, packed: vec![5; 33] }),
        codec::encode(&Push::Zeros { runs: spans() }),
        codec::encode(&Reply::Level { count: 4, packed: vec![6; 20] }),
        codec::encode(&Reply::Finished { checksum: digest, written: 12 }),
    ]
}
