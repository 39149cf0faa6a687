//! What is said on a data channel. The connecting end says [`Hello`] first; then it asks a repository and is
//! answered one message for one ([`Ask`], [`Answer`]), or sends a disk's changes ([`Push`], [`Reply`]), or is sent the site's log
//! ([`LogAsk`], [`LogAnswer`]).
//! Every message fits a frame; lists that may be longer go in parts.

use farshore_schemas::ids::{Digest, DiskName, Lineage, Name, PointId, Seq, SiteName, TaskId};
use farshore_schemas::messages::agent::Failure;
use serde::{Deserialize, Serialize};

/// The protocol spoken here.
pub(crate) const VERSION: u32 = 5;

/// The first message. Nothing else is read before it is matched with an open order and the peer's certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) wants: Wants,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Wants {
    /// To use a repository under an access that its owner has opened.
    Repository { repository: Name, access: TaskId },
    /// To send a disk to this receiving task.
    Receiver { task: TaskId },
    /// To keep the site's log, by this task: said to the site's control.
    Log { task: TaskId },
}

/// What an agent asks of the site's control, once it was told what the log is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum LogAsk {
    /// Frames from one to another. It may ask again once it has them, and closes the channel when it has all that it wants.
    Frames { first: Seq, last: Seq },
}

/// What the site's control says of its log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum LogAnswer {
    /// What it is: the public keys of its baselines, each lineage with its first frame, the last durable frame.
    Log { site: SiteName, keys: Vec<Digest>, lineages: Vec<(Lineage, Seq)>, last: Seq },
    /// Whole frames, one behind the other; none at the end.
    Frames {
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// It could not be done.
    Failed(Failure),
}

/// A record as it is packed: a chunk, or a part of a disk's tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Packed {
    pub(crate) id: Digest,
    /// See `farshore_format::repository::RecordKind`.
    pub(crate) kind: u8,
    /// Bytes of its content.
    pub(crate) plain: u32,
    #[serde(with = "serde_bytes")]
    pub(crate) bytes: Vec<u8>,
}

/// The keys by which a repository's chunks are named and cut.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Keys {
    pub(crate) ids: Digest,
    pub(crate) borders: Digest,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// What a mover asks of a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A disk of a point, and a part of the ids of its leaves, from this region on.
    Disk { point: PointId, disk: DiskName, from: u64 },
    /// The leaf of a region of a disk of a point.
    Region { point: PointId, disk: DiskName, region: u64 },
    /// Is this leaf stored, which is that of a region of a disk of this size, with all that it names?
    HaveLeaf { size: u64, region: u64, leaf: Digest },
    /// Which of these records (32 bytes each) are stored?
    Have {
        #[serde(with = "serde_bytes")]
        ids: Vec<u8>,
    },
    /// Store these.
    Put { records: Vec<Packed> },
    /// Send these (32 bytes each).
    Get {
        #[serde(with = "serde_bytes")]
        ids: Vec<u8>,
    },
    /// Make all that was put durable. It is for the disk with this record.
    Keep { disk: Digest },
    /// A part of a replica's digest map as a file, from this byte on.
    Digests { replica: Name, point: PointId, disk: DiskName, from: u64 },
    /// A part of a digest map to be stored, in order.
    MapPart {
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The map is complete: store it. Maps of points that are not in `keep` may go.
    StoreMap { replica: Name, point: PointId, disk: DiskName, keep: Vec<PointId> },
}

/// What a repository answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The access is open. What was put is lost when the repository is opened anew before it was kept: then it is another opening.
    Welcome { keys: Keys, opening: Digest },
    /// A disk, its record, and a part of the ids of its leaves (32 bytes each).
    Disk {
        size: u64,
        checksum: Option<Digest>,
        record: Digest,
        #[serde(with = "serde_bytes")]
        leaves: Vec<u8>,
    },
    /// A leaf, encoded.
    Region {
        #[serde(with = "serde_bytes")]
        leaf: Vec<u8>,
    },
    /// One byte per id asked: 1 if it is stored.
    Have {
        #[serde(with = "serde_bytes")]
        stored: Vec<u8>,
    },
    /// Done.
    Done,
    /// The records asked for, as many of the first as fit a frame.
    Got { records: Vec<Packed> },
    /// A part of a digest map.
    Map {
        total: u64,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// There is no such digest map.
    NoMap,
    /// It could not be done.
    Failed(Failure),
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    #[serde(rename = "s")]
    pub(crate) start: u64,
    #[serde(rename = "n")]
    pub(crate) count: u64,
}

/// What the sending end of a disk says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Push {
    /// The disk, and the digest map that it would compare with instead of asking (its fingerprint).
    Offer { size: u64, base: Option<Digest> },
    /// Send digests of these nodes of a level (0 is the coarsest).
    Level { level: u8, nodes: Vec<Run> },
    /// Content of these blocks, one after the other, zstd over `length` bytes whose BLAKE3 is `digest`.
    Data {
        runs: Vec<Run>,
        length: u32,
        digest: Digest,
        #[serde(with = "serde_bytes")]
        packed: Vec<u8>,
    },
    /// These blocks are zeros.
    Zeros { runs: Vec<Run> },
    /// Give these blocks space (runs of 16 bytes, see `farshore_format::Allocation`), make all of it durable and say what
    /// the disk holds.
    Finish {
        #[serde(with = "serde_bytes")]
        allocation: Vec<u8>,
    },
}

/// What the receiving end of a disk answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The offer is taken; whether the base is what the disk here holds.
    Ready { same_base: bool },
    /// Digests of the nodes asked for, in order, as many of the first as fit a frame; zstd.
    Level {
        count: u32,
        #[serde(with = "serde_bytes")]
        packed: Vec<u8>,
    },
    /// Durable, and read back.
    Finished { checksum: Digest, written: u64 },
    /// It could not be done.
    Failed(Failure),
}

/// Runs over ascending numbers.
pub(crate) fn runs(numbers: &[u64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.start + run.count == *number => run.count += 1,
            Some(_) | None => runs.push(Run { start: *number, count: 1 }),
        }
    }
    runs
}

/// The numbers of runs, if they lie below `end`, ascend and are at most `most`.
pub(crate) fn numbers(runs: &[Run], end: u64, most: usize) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    let mut next = 0;
    for run in runs {
        let stop = run.start.checked_add(run.count)?;
        if run.start < next || run.count == 0 || stop > end || run.count > (most - all.len()) as u64 {
            return None;
        }
        all.extend(run.start..stop);
        next = stop;
    }
    Some(all)
}
