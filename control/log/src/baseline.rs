//! Baselines: every view entry at a seq, with the chain's head there, signed with the site's key: a start for fold. A
//! baseline is only ever a short cut: one that is not valid is never used, and fold starts before it. It also stands for
//! segments that were moved to an archive. What the entries mean is not known here.

use crate::disk::{sync_dir, write_whole};
use crate::error::LogError;
use crate::folder::{self, log_dir, names, parse_name};
use crate::header::{SegmentHeader, array};
use crate::keys::{Keys, PublicKey, SIGNATURE, SiteKey};
use crate::read::ReadLog;
use farshore_schemas::frame::site_tag;
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"FSBASE01";
const FIXED: usize = 8 + 16 + 8 + 32 + 16 + 8;
const HASH: usize = 32;
const KEY: usize = 32;
/// Valid baselines that are kept in a log's folder: the newest, and some to fall back to.
const KEPT: usize = 4;

/// All states at a place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The site.
    pub site: [u8; 16],
    /// The lineage of the frame at `seq`.
    pub lineage: Lineage,
    /// The last frame folded in.
    pub seq: Seq,
    /// That frame's hash.
    pub head: Digest,
    /// The view's entries after it.
    pub entries: BTreeMap<String, Vec<u8>>,
}

/// Why a baseline is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is whole, but signed with a key that `DIR/site-keys` does not list.
    #[error("it is signed with the key {0}, which site-keys does not list")]
    Untrusted(PublicKey),
    /// Frames after it were archived: it is of use again when they are back.
    #[error("frames between it and {0} are not here")]
    Archived(Seq),
    /// It belongs to another history than the log.
    #[error("{0}")]
    Misfit(String),
}

/// A baseline that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: Unfit,
}

/// A baseline's file, and what reading it and holding it against the log gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The file.
    pub path: PathBuf,
    /// The seq in its name.
    pub seq: Seq,
    /// The baseline.
    pub read: Result<Baseline, Unfit>,
}

impl Baseline {
    /// A baseline of a site.
    pub fn new(site: &SiteName, lineage: Lineage, at: (Seq, Digest), entries: BTreeMap<String, Vec<u8>>) -> Baseline {
        Baseline { site: site_tag(site), lineage, seq: at.0, head: at.1, entries }
    }

    fn encode(&self, key: &SiteKey) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.extend_from_slice(&MAGIC);
        raw.extend_from_slice(&self.lineage.0);
        raw.extend_from_slice(&self.seq.0.to_le_bytes());
        raw.extend_from_slice(&self.head.0);
        raw.extend_from_slice(&self.site);
        raw.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            for part in [key.as_bytes(), value] {
                raw.extend_from_slice(&(part.len() as u64).to_le_bytes());
                raw.extend_from_slice(part);
            }
        }
        let hash = blake3::hash(&raw);
        raw.extend_from_slice(hash.as_bytes());
        raw.extend_from_slice(&key.public().0);
        raw.extend_from_slice(&key.sign(hash.as_bytes()));
        raw
    }

    /// Reads a baseline, and who signed it. A signature that is wrong is damage.
    fn decode(raw: &[u8]) -> Result<(Baseline, PublicKey), &'static str> {
        let end = raw.len().checked_sub(HASH + KEY + SIGNATURE).filter(|at| *at >= FIXED).ok_or("it is too short")?;
        let (body, rest) = raw.split_at(end);
        let (hash, rest) = rest.split_at(HASH);
        let (key, signature) = rest.split_at(KEY);
        if body[..8] != MAGIC {
            return Err("its first eight bytes are not FSBASE01");
        }
        if *blake3::hash(body).as_bytes() != *hash {
            return Err("its hash does not match");
        }
        let key = PublicKey(array(key));
        if !key.has_signed(hash, signature) {
            return Err("its signature does not match");
        }
        let count = u64::from_le_bytes(array(&body[80..88]));
        let mut rest = &body[FIXED..];
        let mut entries = BTreeMap::new();
        while !rest.is_empty() {
            let name = std::str::from_utf8(part(&mut rest)?).map_err(|_| "a key is not text")?.to_owned();
            entries.insert(name, part(&mut rest)?.to_vec());
        }
        if entries.len() as u64 != count {
            return Err("it holds another number of entries than it says");
        }
        let baseline = Baseline {
            lineage: Lineage(array(&body[8..24])),
            seq: Seq(u64::from_le_bytes(array(&body[24..32]))),
            head: Digest(array(&body[32..64])),
            site: array(&body[64..80]),
            entries,
        };
        Ok((baseline, key))
    }

    /// Signs the baseline and writes it into `DIR/log`, durable before it has its name. Of the valid ones that are older, the
    /// newest few stay; the others are removed.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn write(&self, dir: &Path, key: &SiteKey) -> Result<PathBuf, LogError> {
        let path = log_dir(dir).join(format!("base-{:020}", self.seq.0));
        write_whole(&path, &self.encode(key)).map_err(LogError::io("write", &path))?;
        // Where the first frames were archived, everything that is to be proved begins at the oldest one.
        let anchor = anchor(dir)?;
        let valid = all(dir)?.into_iter().filter(|held| held.read.is_ok() && held.seq <= self.seq);
        for old in valid.skip(KEPT).filter(|old| anchor != Some(old.seq)) {
            match fs::remove_file(&old.path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(LogError::io("remove", &old.path))?,
            }
        }
        Ok(path)
    }
}

/// Where the frames begin that follow an archive: the seq before the first one held.
fn anchor(dir: &Path) -> Result<Option<Seq>, LogError> {
    let first = folder::segments(&log_dir(dir))?.first().map(|segment| segment.first);
    Ok(first.filter(|first| *first > Seq(1)).map(|first| Seq(first.0 - 1)))
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let short = "an entry is cut short";
    let (len, tail) = rest.split_first_chunk::<8>().ok_or(short)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| short)?;
    let (bytes, tail) = tail.split_at_checked(len).ok_or(short)?;
    *rest = tail;
    Ok(bytes)
}

/// The baselines in `DIR/log`, newest first, each read but not held against the log.
pub(crate) fn all(dir: &Path) -> Result<Vec<Held>, LogError> {
    let log = log_dir(dir);
    let keys = Keys::of(dir)?;
    let mut found = Vec::new();
    for name in names(&log)?.iter().rev() {
        if let Some(seq) = parse_name(name, "base-", "") {
            let path = log.join(name);
            let read = read(&path, seq, &keys);
            found.push(Held { path, seq, read });
        }
    }
    Ok(found)
}

fn read(path: &Path, seq: Seq, keys: &Keys) -> Result<Baseline, Unfit> {
    let raw = fs::read(path).map_err(|error| Unfit::Damaged(error.to_string()))?;
    let (baseline, signer) = Baseline::decode(&raw).map_err(|why| Unfit::Damaged(why.to_owned()))?;
    if baseline.seq != seq {
        return Err(Unfit::Damaged("its name gives another seq".to_owned()));
    }
    if keys.trust(&signer) { Ok(baseline) } else { Err(Unfit::Untrusted(signer)) }
}

/// Every baseline in `DIR/log`, newest first, held against the log.
///
/// # Errors
/// [`LogError::Io`] when the folder cannot be listed, or what reading the log gives.
pub fn baselines(dir: &Path, log: &dyn ReadLog) -> Result<Vec<Held>, LogError> {
    let mut found = all(dir)?;
    for held in &mut found {
        hold(held, log)?;
    }
    Ok(found)
}

fn hold(held: &mut Held, log: &dyn ReadLog) -> Result<(), LogError> {
    if let Ok(baseline) = &held.read
        && let Some(why) = misfit(baseline, log)?
    {
        held.read = Err(why);
    }
    Ok(())
}

/// The newest baseline that fits the log, at `until` or before, and those after it that are not used.
///
/// # Errors
/// As [`baselines`].
pub fn newest(dir: &Path, log: &dyn ReadLog, until: Seq) -> Result<(Option<Baseline>, Vec<Ignored>), LogError> {
    let mut ignored = Vec::new();
    for mut held in all(dir)? {
        if held.seq > until && held.seq <= log.tail().0 {
            continue;
        }
        hold(&mut held, log)?;
        match held.read {
            Ok(baseline) => return Ok((Some(baseline), ignored)),
            Err(why) => {
                tracing::warn!(baseline = %held.path.display(), %why, "a baseline is not used");
                ignored.push(Ignored { path: held.path, why });
            }
        }
    }
    Ok((None, ignored))
}

/// Sound baselines of the site's own that lie past the end of its log, newest first: frames that had been acknowledged
/// when they were written are gone.
pub(crate) fn past(dir: &Path, tail: Seq) -> Result<Vec<(PathBuf, Baseline)>, LogError> {
    let sound = all(dir)?.into_iter().filter_map(|held| Some((held.path, held.read.ok()?)));
    Ok(sound.filter(|(_, baseline)| baseline.seq > tail).collect())
}

/// Moves a baseline that cannot be used to `torn/`, where nothing reads it.
///
/// # Errors
/// [`LogError::Io`].
pub fn put_aside(baseline: &Path) -> Result<PathBuf, LogError> {
    let log = baseline.parent().unwrap_or(Path::new("."));
    let torn = log.join("torn");
    let to = torn.join(baseline.file_name().unwrap_or_default());
    let moved = fs::create_dir_all(&torn).and_then(|()| fs::rename(baseline, &to));
    moved.and_then(|()| sync_dir(&torn)).and_then(|()| sync_dir(log)).map_err(LogError::io("move", baseline))?;
    Ok(to)
}

/// Why a baseline does not fit the log.
fn misfit(baseline: &Baseline, log: &dyn ReadLog) -> Result<Option<Unfit>, LogError> {
    let (last, _) = log.tail();
    let misfit = |why: String| Ok(Some(Unfit::Misfit(why)));
    if baseline.seq > last {
        return misfit(format!("it is at frame {}, the log ends at {last}", baseline.seq));
    }
    // The frame before the first one held is named by that one.
    let first = log.first();
    let (head, site) = if baseline.seq < first {
        if baseline.seq.next() != first {
            return Ok(Some(Unfit::Archived(first)));
        }
        let mut frames = log.frames_from(first)?;
        frames.next()?.map(|frame| (frame.raw.previous, frame.raw.header.site))
    } else {
        let mut frames = log.frames_from(baseline.seq)?;
        frames.next()?.map(|frame| (frame.hash(), frame.raw.header.site))
    }
    .unzip();
    if site != Some(baseline.site) {
        return misfit("it is another site's".to_owned());
    }
    if head == Some(baseline.head) {
        Ok(None)
    } else {
        misfit(format!("frame {} of the log has another hash", baseline.seq))
    }
}

/// Whether a valid baseline stands for what came before a log's first segment; if not, the first frame that is missed.
pub(crate) fn stands_for(dir: &Path, first: &SegmentHeader) -> Result<Result<(), Seq>, LogError> {
    let mut reached = Seq(0);
    for baseline in all(dir)?.into_iter().filter_map(|held| held.read.ok()) {
        let joins = baseline.seq.next() == first.first && baseline.head == first.previous;
        if joins || baseline.seq >= first.first {
            return Ok(Ok(()));
        }
        reached = reached.max(baseline.seq);
    }
    Ok(Err(reached.next()))
}
