//! `farshore site recover`: a site's data folder out of the copy of its log in a repository, with nothing else. The folder appears
//! whole or not at all, and nothing in the repository is changed.

mod choose;
mod place;

use super::repo::keys::unlock;
use crate::cli::{Output, RecoverArgs};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, say, structured, time};
use crate::site::data::DataFolder;
use crate::site::open::fold_all;
use crate::site::recovered::Recovered;
use choose::{Ends, choose, damaged};
use farshore_kernel::site::Depth;
use farshore_log::{Import, LogReader, PublicKey, ReadLog, list_keys};
use farshore_repository::{Error, KeptLog, OwnerFile, Repository};
use farshore_schemas::frame::RawFrame;
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use farshore_schemas::units::Timestamp;
use place::Beside;
use serde_json::json;
use std::path::Path;

/// What was made.
struct Made {
    site: SiteName,
    tail: (Lineage, Seq, Digest),
    /// When the last frame was decided.
    at: Timestamp,
    /// Over all actors.
    state: Digest,
}

/// See the module.
pub(crate) fn run(args: &RecoverArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let wanted = place::wanted(&args.data)?;
    let repository = Repository::open_to_read(&args.from_repository, &unlock(&args.unlock)?).map_err(failed)?;
    let logs = repository.logs().map_err(failed)?;
    let until = args.until.map(Seq);
    let ends = choose(&repository, &logs, (args.lineage, until))?;
    if let Some(until) = until.filter(|until| *until > ends.last.last || *until == Seq(0)) {
        let text = format!("frame {until} is not kept: the log ends at frame {}", ends.last.last);
        return Err(Failure::new("FS-SITE-FRAME", text, "choose a frame from 1 up to that one").not_found());
    }
    let beside = Beside::make(wanted)?;
    let made = make((&repository, &logs), &ends, until.unwrap_or(ends.last.last), beside.path())?;
    beside.finish()?;
    tell(&made, (args, &ends), output)?;
    for other in others(&repository, &logs, &ends).into_iter().chain(to_adopt(&repository, &made.site)) {
        hint(quiet, &other);
    }
    Ok(())
}

fn failed(error: Error) -> Failure {
    Failure::repository(&error)
}

/// Makes the folder, durable.
fn make(
    (repository, logs): (&Repository, &[KeptLog]),
    ends: &Ends,
    until: Seq,
    beside: &Path,
) -> Result<Made, Failure> {
    let folder = DataFolder::at(beside);
    folder.make()?;
    let log = |error: farshore_log::LogError| Failure::log(&error);
    let hurt = |failure: Failure| damaged(repository, logs, (ends.lineage, Some(until)), failure);
    let site = ends.last.site.clone();
    let mut import = Import::begin(beside, &site).map_err(log)?;
    let (mut at, mut wrong, mut next) = (Timestamp(0), None, Seq(1));
    for (kept, last) in repository.log_line(ends.lineage, until).map_err(|error| hurt(failed(error)))? {
        for first in kept.pieces.iter().filter(|first| **first <= last) {
            if *first != next {
                return Err(hurt(missing(repository, kept.lineage, (next, *first))));
            }
            let piece = repository.log_piece(kept.lineage, *first).map_err(|error| hurt(failed(error)))?;
            let take = piece.each(|frame| {
                if frame.seq <= last && wrong.is_none() {
                    wrong = import.push(frame.bytes).err();
                    at = if frame.seq == until { decided(frame.bytes).unwrap_or(at) } else { at };
                }
            });
            take.map_err(|why| hurt(Failure::new("FS-SITE-LOG-DAMAGED", why, "").with(Exit::Mismatch)))?;
            if let Some(error) = wrong.take() {
                return Err(hurt(log(error)));
            }
            next = piece.last.min(last).next();
        }
        if next != last.next() {
            return Err(hurt(missing(repository, kept.lineage, (next, last.next()))));
        }
    }
    let tail = import.finish().map_err(log)?;
    let keys: Vec<PublicKey> = ends.last.keys.iter().map(|key| PublicKey(key.0)).collect();
    list_keys(beside, &keys).map_err(log)?;
    // Proven before it is given its name: this program can follow it from the first frame to the last.
    let reader = LogReader::open(beside).map_err(log)?;
    let state = fold_all(&reader, &site, None, Depth::Outbox)?.state_hash();
    assert!((reader.lineage(), reader.tail()) == (tail.0, (tail.1, tail.2)), "what was put in is what is read");
    let from = std::path::absolute(repository.path());
    let from = from.map_err(|error| Failure::io("find", repository.path(), &error))?.display().to_string();
    let owned = owner(repository).filter(|owner| owner.site == site).map(|owner| owner.lineage);
    Recovered { repository: from, lineage: tail.0, seq: tail.1, hash: tail.2, owned }.keep(&folder)?;
    folder.remember_site(&site)?;
    Ok(Made { site, tail, at, state })
}

/// Frames that no piece holds.
fn missing(repository: &Repository, lineage: Lineage, (first, end): (Seq, Seq)) -> Failure {
    let folder = repository.path().join("log").join(lineage.to_string());
    let text = format!("in {} frames {first} to {} are missing", folder.display(), end.0.saturating_sub(1));
    Failure::new("FS-SITE-LOG-DAMAGED", text, "").with(Exit::Mismatch)
}

/// Whose the folder is, as far as that can be read: the site is made without, too.
fn owner(repository: &Repository) -> Option<OwnerFile> {
    repository.owner().ok().flatten()
}

/// What is to be done before the recovered site can write to the folder that it came from.
fn to_adopt(repository: &Repository, site: &SiteName) -> Option<String> {
    let owner = owner(repository).filter(|owner| owner.site != *site)?;
    Some(format!(
        "the folder belongs to {}, not to site {site}: once that runs, take it over with \
         farshore repo adopt NAME --from {} --reason WHY",
        if owner.offline() { "nobody".to_owned() } else { format!("site {}", owner.site) },
        super::repo::adopt::shown(owner.named()),
    ))
}

fn decided(frame: &[u8]) -> Option<Timestamp> {
    let (raw, _) = RawFrame::decode(frame).ok()?;
    Some(raw.input_section().ok()?.at)
}

fn tell(made: &Made, (args, ends): (&RecoverArgs, &Ends), output: Output) -> Result<(), Failure> {
    let (lineage, seq, hash) = made.tail;
    let shown = json!({
        "site": made.site.to_string(),
        "data": args.data.display().to_string(),
        "lineage": lineage.to_string(),
        "frame": seq.0,
        "frame_hash": hash.to_string(),
        "decided": made.at.0,
        "kept": ends.last.kept.0,
        "state": made.state.to_string(),
    });
    if structured(output, &shown)? {
        return Ok(());
    }
    say(&format!("site {} is recovered in {}", made.site, args.data.display()));
    say(&format!("log     up to frame {seq} of lineage {lineage}, decided {}", time(made.at.0)));
    say(&format!("state   {}", made.state));
    say(
        "\nWhat was decided after that frame is not known. A start with `farshore up --data` or `farshore control --data`:",
    );
    say("- takes a new lineage, so that nothing it says is taken for what the lost log had said;");
    say("- goes on with its agents and peers from what they remember, and raises an alarm for what it lost;");
    say("- makes a new API token, certificates and signing key: none of them was in the log;");
    say("- takes its repositories over, and holds what it finds there and does not know.");
    say("The lost site must not come back: start this one only when that is certain.");
    Ok(())
}

/// What else the repository keeps that this log is not. What of it is damaged is said, and no more.
fn others(repository: &Repository, logs: &[KeptLog], ends: &Ends) -> Vec<String> {
    let line = repository.log_line(ends.lineage, ends.last.last).unwrap_or_default();
    let mut others = Vec::new();
    for kept in logs.iter().filter(|kept| line.iter().all(|(used, _)| used.lineage != kept.lineage)) {
        let sound = kept.pieces.iter().all(|first| repository.log_piece(kept.lineage, *first).is_ok());
        let frames = kept.pieces.first().map_or(0, |first| first.0);
        let how = if sound { "recover it with --lineage" } else { "it is damaged; see farshore repo verify" };
        others.push(format!("also kept: lineage {}, from frame {frames} on; {how}", kept.lineage));
    }
    for (kept, last) in &line {
        let Some(first) = kept.pieces.last().filter(|_| kept.lineage != ends.lineage) else { continue };
        match repository.log_piece(kept.lineage, *first).map(|piece| piece.last) {
            Ok(end) if end > *last => others.push(format!(
                "also kept: {} of lineage {} after frame {last}, which the log was put back without; see --lineage",
                count(end.0 - last.0, "frame"),
                kept.lineage
            )),
            Ok(_) => {}
            Err(_) => others.push(format!(
                "also kept: frames of lineage {} after frame {last}, which the log was put back without; they are damaged",
                kept.lineage
            )),
        }
    }
    others
}
