//! Baselines: every view entry at a seq, with the chain's head there, as a start for fold. A baseline is only ever a short
//! cut: one that is not valid is reported and left alone, and fold starts before it. It also stands for segments that
//! were moved to an archive. Signing is not done yet: a baseline is trusted as far as its folder is.

use crate::disk::write_whole;
use crate::error::LogError;
use crate::folder::{log_dir, names, parse_name};
use crate::header::{SegmentHeader, array};
use crate::read::ReadLog;
use farshore_schemas::ids::{Digest, Lineage, Seq};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"FSBASE01";
const FIXED: usize = 8 + 16 + 8 + 32 + 8;
const HASH: usize = 32;

/// All states at a place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The lineage of the frame at `seq`.
    pub lineage: Lineage,
    /// The last frame folded in.
    pub seq: Seq,
    /// That frame's hash.
    pub head: Digest,
    /// The view's entries after it.
    pub entries: BTreeMap<String, Vec<u8>>,
}

/// A baseline that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

impl Baseline {
    fn encode(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.extend_from_slice(&MAGIC);
        raw.extend_from_slice(&self.lineage.0);
        raw.extend_from_slice(&self.seq.0.to_le_bytes());
        raw.extend_from_slice(&self.head.0);
        raw.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            for part in [key.as_bytes(), value] {
                raw.extend_from_slice(&(part.len() as u64).to_le_bytes());
                raw.extend_from_slice(part);
            }
        }
        let hash = blake3::hash(&raw);
        raw.extend_from_slice(hash.as_bytes());
        raw
    }

    fn decode(raw: &[u8]) -> Result<Baseline, &'static str> {
        let split = raw.len().checked_sub(HASH).filter(|at| *at >= FIXED).ok_or("it is too short")?;
        let (body, hash) = raw.split_at(split);
        if body[..8] != MAGIC {
            return Err("its first eight bytes are not FSBASE01");
        }
        if *blake3::hash(body).as_bytes() != *hash {
            return Err("its hash does not match");
        }
        let count = u64::from_le_bytes(array(&body[64..72]));
        let mut rest = &body[FIXED..];
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = std::str::from_utf8(part(&mut rest)?).map_err(|_| "a key is not text")?.to_owned();
            entries.insert(key, part(&mut rest)?.to_vec());
        }
        if !rest.is_empty() || entries.len() as u64 != count {
            return Err("its entries do not fill it");
        }
        Ok(Baseline {
            lineage: Lineage(array(&body[8..24])),
            seq: Seq(u64::from_le_bytes(array(&body[24..32]))),
            head: Digest(array(&body[32..64])),
            entries,
        })
    }

    /// Writes the baseline into `DIR/log`, durable before it has its name.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn write(&self, dir: &Path) -> Result<PathBuf, LogError> {
        let path = log_dir(dir).join(format!("base-{:020}", self.seq.0));
        write_whole(&path, &self.encode()).map_err(LogError::io("write", &path))?;
        Ok(path)
    }
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let short = "an entry is cut short";
    let (len, tail) = rest.split_first_chunk::<8>().ok_or(short)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| short)?;
    let (bytes, tail) = tail.split_at_checked(len).ok_or(short)?;
    *rest = tail;
    Ok(bytes)
}

/// A baseline's file, and what reading it gave.
type Found = (PathBuf, Result<Baseline, String>);

/// The baselines in `DIR/log`, newest first, each read or not.
fn all(dir: &Path) -> Result<Vec<Found>, LogError> {
    let log = log_dir(dir);
    let mut found = Vec::new();
    for name in names(&log)?.iter().rev() {
        let Some(seq) = parse_name(name, "base-", "") else {
            continue;
        };
        let path = log.join(name);
        let read = fs::read(&path).map_err(|error| error.to_string());
        let baseline = read.and_then(|raw| Baseline::decode(&raw).map_err(str::to_owned));
        let named = baseline.and_then(|baseline| {
            if baseline.seq == seq { Ok(baseline) } else { Err("its name gives another seq".to_owned()) }
        });
        found.push((path, named));
    }
    Ok(found)
}

/// The newest baseline that fits the log, and those that do not.
///
/// # Errors
/// [`LogError::Io`] when the folder cannot be listed, or what reading the log gives.
pub fn newest(dir: &Path, log: &dyn ReadLog) -> Result<(Option<Baseline>, Vec<Ignored>), LogError> {
    let mut ignored = Vec::new();
    for (path, read) in all(dir)? {
        let why = match read {
            Ok(baseline) => match misfit(&baseline, log)? {
                None => return Ok((Some(baseline), ignored)),
                Some(why) => why,
            },
            Err(why) => why,
        };
        tracing::warn!(baseline = %path.display(), %why, "a baseline is not used");
        ignored.push(Ignored { path, why });
    }
    Ok((None, ignored))
}

/// Why a baseline does not fit the log.
fn misfit(baseline: &Baseline, log: &dyn ReadLog) -> Result<Option<String>, LogError> {
    let (last, _) = log.tail();
    if baseline.seq > last {
        return Ok(Some(format!("it is at frame {}, the log ends at {last}", baseline.seq)));
    }
    // The frame before the first one held is named by that one.
    let first = log.first();
    let head = if baseline.seq.next() == first {
        let mut frames = log.frames_from(first)?;
        frames.next()?.map(|frame| frame.raw.previous)
    } else if baseline.seq < first {
        return Ok(Some(format!("frames between it and {first} are not here")));
    } else {
        log.frame_hash(baseline.seq)?
    };
    let fits = head == Some(baseline.head);
    Ok((!fits).then(|| format!("frame {} of the log has another hash", baseline.seq)))
}

/// Whether a valid baseline stands for what came before a log's first segment.
pub(crate) fn stands_for(dir: &Path, first: &SegmentHeader) -> Result<bool, LogError> {
    let found = all(dir)?;
    Ok(found.iter().filter_map(|(_, read)| read.as_ref().ok()).any(|baseline| {
        baseline.seq.next() > first.first || baseline.seq.next() == first.first && baseline.head == first.previous
    }))
}
