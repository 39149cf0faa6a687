//! Which log of those in a repository is recovered, and what can be had of one that is damaged.

use super::failed;
use crate::failure::{Exit, Failure};
use farshore_format::repository::LogPiece;
use farshore_repository::{Error, KeptLog, Repository};
use farshore_schemas::ids::{Lineage, Seq};
use std::collections::BTreeSet;

/// A log that ends in the repository.
pub(super) struct Ends {
    pub(super) lineage: Lineage,
    pub(super) last: LogPiece,
}

/// The log to recover: the one that was asked for, or of those that no other one goes on from the one that was kept last. One whose end
/// is damaged may be that, unless it is known that the other came after it.
pub(super) fn choose(
    repository: &Repository,
    logs: &[KeptLog],
    (asked, until): (Option<Lineage>, Option<Seq>),
) -> Result<Ends, Failure> {
    let (mut found, mut hurt): (Option<Ends>, Vec<(Lineage, Error)>) = (None, Vec::new());
    for kept in logs.iter().filter(|kept| asked.is_none_or(|asked| asked == kept.lineage)) {
        let wanted = kept.pieces.iter().rfind(|first| until.is_none_or(|until| **first <= until));
        let Some(first) = wanted else { continue };
        let last = match repository.log_piece(kept.lineage, *first) {
            Ok(last) => last,
            Err(error @ Error::Damage { .. }) => {
                hurt.push((kept.lineage, error));
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        if found.as_ref().is_some_and(|ends| ends.last.site != last.site) {
            let text = "the repository keeps the logs of more than one site";
            let advice = "name one with --lineage: the folders in the repository's folder `log` bear their names";
            return Err(Failure::new("FS-SITE-SEVERAL", text, advice).with(Exit::Refused));
        }
        if found.as_ref().is_none_or(|ends| (ends.last.kept, ends.last.last) < (last.kept, last.last)) {
            found = Some(Ends { lineage: kept.lineage, last });
        }
    }
    for (lineage, error) in hurt {
        if !found.as_ref().is_some_and(|ends| came_after(repository, ends, lineage)) {
            return Err(damaged(repository, logs, (lineage, until), failed(error)));
        }
    }
    found.ok_or_else(|| {
        let of = asked.map_or_else(String::new, |lineage| format!(" of lineage {lineage}"));
        let up_to = until.map_or_else(String::new, |until| format!(" that begins by frame {until}"));
        let text = format!("{} keeps no log{of}{up_to}", repository.path().display());
        let advice = "a site's log is kept with each point that its jobs make; look at the repository's folder `log`";
        Failure::new("FS-SITE-NO-LOG", text, advice).not_found()
    })
}

/// Whether a log came after one of this lineage: it goes on from that, or is the one whose agent had the folder last.
fn came_after(repository: &Repository, ends: &Ends, lineage: Lineage) -> bool {
    let line = repository.log_line(ends.lineage, ends.last.last).unwrap_or_default();
    let owner = repository.owner().ok().flatten();
    line.iter().any(|(kept, _)| kept.lineage == lineage) || owner.is_some_and(|owner| owner.lineage == ends.lineage)
}

/// Damage in the copy, with how far it is good and how to have that. Other failures stay as they are.
pub(super) fn damaged(
    repository: &Repository,
    logs: &[KeptLog],
    (lineage, until): (Lineage, Option<Seq>),
    mut failure: Failure,
) -> Failure {
    if failure.exit != Exit::Mismatch {
        return failure;
    }
    let good = good(repository, logs, (lineage, until.unwrap_or(Seq(u64::MAX))), &mut BTreeSet::new());
    if failure.code == "FS-REPO-LOG-INCOMPLETE" {
        // From what a log goes on cannot be told when that is damaged: the damage is what there is to be told.
        let pieces = logs.iter().flat_map(|kept| kept.pieces.iter().map(|first| (kept.lineage, *first)));
        let mut hurt = pieces.filter_map(|(lineage, first)| repository.log_piece(lineage, first).err());
        failure.message = hurt.next().map_or(failure.message, |error| error.to_string());
    }
    failure.code = "FS-SITE-LOG-DAMAGED".to_owned();
    let (frame, how) = match good {
        None => (Seq(0), String::new()),
        Some((lineage, frame)) => (frame, format!(", or up to there with --lineage {lineage} --until {frame}")),
    };
    failure.message = format!("{}; the copy of the log is good up to frame {frame}", failure.message);
    failure.advice = format!("recover from another repository of this site{how}");
    failure
}

/// What can be had of a log up to a frame: the lineage to name, and the last frame. Each lineage is looked at once.
fn good(
    repository: &Repository,
    logs: &[KeptLog],
    (lineage, until): (Lineage, Seq),
    seen: &mut BTreeSet<Lineage>,
) -> Option<(Lineage, Seq)> {
    let kept = logs.iter().find(|kept| kept.lineage == lineage).filter(|_| seen.insert(lineage))?;
    let first = *kept.pieces.first()?;
    let (mut end, mut previous) = (None, None);
    for piece in kept.pieces.iter().take_while(|first| **first <= until) {
        let Ok(piece) = repository.log_piece(lineage, *piece) else { break };
        if end.is_some_and(|end: Seq| piece.first != end.next()) {
            break;
        }
        previous.get_or_insert(piece.previous);
        end = Some(piece.last);
    }
    let own = end.map(|end| (lineage, end.min(until)));
    if first == Seq(1) {
        return own;
    }
    let before = Seq(first.0 - 1);
    let holds = |kept: &&KeptLog| kept.lineage != lineage && kept.pieces.first().is_some_and(|first| *first <= before);
    let joins =
        |kept: &&KeptLog| previous.is_some() && repository.log_hash(kept.lineage, before).ok().flatten() == previous;
    if let Some(earlier) = logs.iter().filter(holds).find(joins) {
        let had = good(repository, logs, (earlier.lineage, before), seen)?;
        return if had.1 == before { own } else { Some(had) };
    }
    // It cannot be told any more from which it goes on: what is most of those that it may.
    let candidates = logs.iter().filter(holds).filter_map(|kept| good(repository, logs, (kept.lineage, before), seen));
    candidates.max_by_key(|(_, frame)| *frame)
}
