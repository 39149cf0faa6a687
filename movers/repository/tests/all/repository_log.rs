//! The copy of the site's log beside the points: kept in pieces, resumed after any crash, never over another lineage's.

use crate::common::{LINEAGE, StopAfter};
use crate::repository::{create, threads, unlock};
use farshore_format::repository::LOG_PIECE_FULL;
use farshore_repository::{Error, Repository, SiteLog};
use farshore_schemas::frame::{
    EventsSection, FrameParts, Input, InputSection, SendsSection, Verdict, encode, genesis_hash, site_tag,
};
use farshore_schemas::ids::{Digest, EntityId, Lineage, Seq, SiteName};
use farshore_schemas::units::{Hlc, Timestamp};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) const OTHER: Lineage = Lineage([8; 16]);
const NOW: Timestamp = Timestamp(5_000);

/// Frames that were fetched, and stretches that are missing.
pub(crate) type Kept = (Vec<u64>, Vec<(u64, u64)>);

/// A log in memory: frames with their lineages and hashes.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) frames: Vec<(Lineage, Digest, Vec<u8>)>,
}

impl Log {
    fn site() -> SiteName {
        SiteName::parse("hq").unwrap()
    }

    pub(crate) fn grow(&mut self, lineage: Lineage, frames: usize, bytes: usize) {
        for _ in 0..frames {
            let seq = Seq(self.frames.len() as u64 + 1);
            let previous = self.frames.last().map_or_else(|| genesis_hash(lineage), |(_, hash, _)| *hash);
            let (actor, hlc): (EntityId, Hlc) = ("job/nightly".parse().unwrap(), Hlc::default());
            let input = InputSection {
                actor: actor.clone(),
                actor_seq: seq.0,
                owner_epoch: 1,
                core: 1,
                at: Timestamp(0),
                hlc,
                input: Input::LineageRenewed { previous: lineage, reason: "x".repeat(bytes) },
            };
            let verdict = Verdict::Accepted;
            let events = EventsSection {
                actor,
                actor_seq: seq.0,
                hlc,
                verdict,
                mark: None,
                acked: Vec::new(),
                events: Vec::new(),
            };
            let sends = SendsSection::default();
            let (site, state_hash) = (site_tag(&Log::site()), None);
            let parts =
                FrameParts { seq, lineage, site, input: &input, events: &events, sends: &sends, state_hash, previous };
            let (bytes, hash) = encode(&parts).unwrap();
            self.frames.push((lineage, hash, bytes));
        }
    }

    fn facts(&self) -> SiteLog {
        let mut lineages: Vec<(Lineage, Seq)> = Vec::new();
        for (at, (lineage, _, _)) in self.frames.iter().enumerate() {
            if lineages.last().is_none_or(|(last, _)| last != lineage) {
                lineages.push((*lineage, Seq(at as u64 + 1)));
            }
        }
        SiteLog { site: Log::site(), keys: Vec::new(), lineages, last: Seq(self.frames.len() as u64) }
    }

    /// Keeps it, as an agent does; the first frame that was fetched.
    pub(crate) fn keep(&self, repository: &Repository) -> Result<u64, Error> {
        let (fetched, missing) = self.keep_from(Seq(1), repository)?;
        assert_eq!(missing, [], "the site has all of it");
        Ok(fetched.first().copied().unwrap_or(self.frames.len() as u64 + 1))
    }

    /// The same when the site has archived what is before a frame; all frames that were fetched, and what is missing.
    pub(crate) fn keep_from(&self, begun: Seq, repository: &Repository) -> Result<Kept, Error> {
        let mut facts = self.facts();
        facts
            .lineages
            .retain(|(lineage, _)| self.frames[begun.0 as usize - 1..].iter().any(|(of, _, _)| of == lineage));
        facts.lineages[0].1 = facts.lineages[0].1.max(begun);
        let mut keeper = repository.keep_log(facts, NOW)?;
        let mut fetched = Vec::new();
        while let Some((first, last)) = keeper.wanted() {
            assert!(first >= begun, "it has that no more");
            for seq in first.0..=last.0 {
                keeper.push(&self.frames[seq as usize - 1].2)?;
                fetched.push(seq);
            }
        }
        let shipped = keeper.finish()?;
        let (lineage, hash, _) = self.frames.last().unwrap();
        assert_eq!(shipped.end, Some((*lineage, Seq(self.frames.len() as u64), *hash)));
        Ok((fetched, shipped.missing.iter().map(|gap| (gap.first.0, gap.last.0)).collect()))
    }

    /// It is what the repository keeps.
    #[track_caller]
    pub(crate) fn is_kept(&self, repository: &Repository) {
        let (lineage, _, _) = self.frames.last().unwrap();
        let mut bytes = Vec::new();
        for (kept, last) in repository.log_line(*lineage, Seq(self.frames.len() as u64)).unwrap() {
            for first in kept.pieces.into_iter().filter(|first| *first <= last) {
                let piece = repository.log_piece(kept.lineage, first).unwrap();
                piece
                    .each(|frame| {
                        if frame.seq <= last {
                            bytes.push(frame.bytes.to_vec())
                        }
                    })
                    .unwrap();
            }
        }
        assert!(bytes.iter().eq(self.frames.iter().map(|(_, _, bytes)| bytes)), "another log is kept");
    }
}

pub(crate) fn log(frames: usize) -> Log {
    let mut log = Log::default();
    log.grow(LINEAGE, frames, 10);
    log
}

pub(crate) fn root(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("r")
}

fn code(error: Result<u64, Error>) -> String {
    error.unwrap_err().code()
}

#[test]
fn a_log_is_kept_in_pieces_and_goes_on_where_it_was() {
    for passphrase in [None, Some("secret")] {
        let folder = tempfile::tempdir().unwrap();
        let repository = create(&root(&folder), passphrase);
        let mut log = Log::default();
        log.grow(LINEAGE, 70, 200_000);
        assert_eq!(log.keep(&repository).unwrap(), 1);
        log.is_kept(&repository);
        assert!(repository.logs().unwrap()[0].pieces.len() >= 3, "a piece holds about {LOG_PIECE_FULL} bytes");
        assert_eq!(log.keep(&repository).unwrap(), 71, "nothing is fetched twice");
        log.grow(LINEAGE, 5, 10);
        assert_eq!(log.keep(&repository).unwrap(), 71);
        log.is_kept(&repository);
        drop(repository);
        let repository = Repository::open_to_read(&root(&folder), &unlock(passphrase)).unwrap();
        log.is_kept(&repository);
        let verified = repository.verify(threads()).unwrap();
        assert!(verified.sound(), "{verified:?}");
        assert_eq!(verified.frames, 75);
    }
}

#[test]
fn a_log_that_was_put_back_goes_on_beside_what_it_forgot() {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&root(&folder), None);
    let old = log(40);
    old.keep(&repository).unwrap();
    let new = Log { frames: old.frames[..25].to_vec() };
    assert_eq!(code(new.keep(&repository)), "FS-REPO-LOG-BEHIND");
    let mut forked = new.clone();
    forked.grow(LINEAGE, 20, 11);
    assert_eq!(code(forked.keep(&repository)), "FS-REPO-LOG-FORK", "longer, and another");
    old.is_kept(&repository);
    let mut new = Log { frames: old.frames[..25].to_vec() };
    new.grow(OTHER, 10, 10);
    assert_eq!(new.keep(&repository).unwrap(), 26);
    new.is_kept(&repository);
    old.is_kept(&repository);
    new.grow(OTHER, 10, 10);
    assert_eq!(new.keep(&repository).unwrap(), 36);
    new.is_kept(&repository);
    assert!(repository.verify(threads()).unwrap().sound());
    // Before anything of the new lineage was kept, it may be put back again.
    let mut third = Log { frames: new.frames[..30].to_vec() };
    third.grow(Lineage([9; 16]), 3, 10);
    third.keep(&repository).unwrap();
    [&old, &new, &third].iter().for_each(|log| log.is_kept(&repository));
}

#[test]
fn a_log_of_one_lineage_with_other_frames_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&root(&folder), None);
    let kept = log(10);
    kept.keep(&repository).unwrap();
    let mut other = Log::default();
    other.grow(LINEAGE, 12, 11);
    assert_eq!(code(other.keep(&repository)), "FS-REPO-LOG-FORK");
    kept.is_kept(&repository);
}

#[test]
fn a_log_without_its_first_frames_is_refused_as_long_as_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&root(&folder), None);
    let log = log(10);
    let archived = |first| SiteLog { lineages: vec![(LINEAGE, Seq(first))], ..log.facts() };
    let refused = repository.keep_log(archived(4), NOW).map(|_| 0);
    assert_eq!(code(refused), "FS-REPO-LOG-ARCHIVED");
    log.keep(&repository).unwrap();
    assert_eq!(repository.keep_log(archived(4), NOW).unwrap().wanted(), None);
}

#[test]
fn a_crash_at_any_write_loses_nothing_that_was_kept() {
    let mut whole = Log::default();
    whole.grow(LINEAGE, 50, 180_000);
    whole.grow(OTHER, 3, 10);
    let first = Log { frames: whole.frames[..8].to_vec() };
    let mut done = false;
    for changes in 0..200 {
        let folder = tempfile::tempdir().unwrap();
        first.keep(&create(&root(&folder), None)).unwrap();
        let faults = Arc::new(StopAfter::crash(changes));
        let kept = Repository::open_with_faults(&root(&folder), &unlock(None), faults.clone())
            .and_then(|repository| whole.keep(&repository));
        assert_eq!(kept.is_err(), faults.reached(), "{kept:?}");
        let repository = Repository::open(&root(&folder), &unlock(None)).unwrap();
        first.is_kept(&repository);
        assert!(repository.verify(threads()).unwrap().damage.iter().all(|one| !one.what.contains("/log")));
        assert!(whole.keep(&repository).unwrap() >= 9, "what is kept is not fetched again");
        whole.is_kept(&repository);
        if kept.is_ok() {
            done = true;
            break;
        }
    }
    assert!(done, "it came to its end");
}

#[test]
fn damage_of_the_log_is_found_wherever_it_is_and_the_last_piece_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::default();
    log.grow(LINEAGE, 30, 180_000);
    log.keep(&create(&root(&folder), None)).unwrap();
    let mut pieces: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for entry in fs::read_dir(root(&folder).join("log").join(LINEAGE.to_string())).unwrap() {
        let path = entry.unwrap().path();
        pieces.insert(path.clone(), fs::read(&path).unwrap());
    }
    assert_eq!(pieces.len(), 2);
    for (path, whole) in &pieces {
        for step in 0..200 {
            let mut bytes = whole.clone();
            let at = step * (whole.len() - 1) / 199;
            bytes[at] ^= 1 << (step % 8);
            fs::write(path, &bytes).unwrap();
            let repository = Repository::open_to_read(&root(&folder), &unlock(None)).unwrap();
            let verified = repository.verify(threads()).unwrap();
            let found =
                verified.damage.iter().any(|one| one.what == path.display().to_string() && one.why.contains("offset"));
            assert!(found && verified.hurt.is_empty(), "byte {at}: {verified:?}");
        }
        fs::write(path, whole).unwrap();
    }
    let (last, whole) = pieces.last_key_value().unwrap();
    fs::write(last, &whole[..whole.len() / 2]).unwrap();
    let repository = Repository::open(&root(&folder), &unlock(None)).unwrap();
    assert!(log.keep(&repository).unwrap() > 1);
    log.is_kept(&repository);
    // Nothing is missing without being told, either.
    fs::remove_file(pieces.keys().next().unwrap()).unwrap();
    assert!(!repository.verify(threads()).unwrap().sound());
}
