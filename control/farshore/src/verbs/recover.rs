//! `farshore site recover`: a site's data folder out of the copy of its log in a repository, with nothing else. The folder appears
//! whole or not at all, and nothing in the repository is changed.

use super::repo::keys::unlock;
use crate::cli::{Output, RecoverArgs};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, say, structured, time};
use crate::site::data::DataFolder;
use crate::site::open::fold_all;
use crate::site::recovered::Recovered;
use farshore_format::repository::LogPiece;
use farshore_kernel::site::Depth;
use farshore_log::{Import, LogReader, PublicKey, ReadLog, list_keys};
use farshore_repository::{Error, KeptLog, Repository};
use farshore_schemas::frame::RawFrame;
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use farshore_schemas::units::Timestamp;
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A log that ends in the repository.
struct Ends {
    lineage: Lineage,
    last: LogPiece,
}

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
    let beside = begin(&args.data)?;
    let repository = Repository::open_to_read(&args.from_repository, &unlock(&args.unlock)?).map_err(failed)?;
    let logs = repository.logs().map_err(failed)?;
    let until = args.until.map(Seq);
    let ends = choose(&repository, &logs, (args.lineage, until))?;
    if let Some(until) = until.filter(|until| *until > ends.last.last || *until == Seq(0)) {
        let text = format!("frame {until} is not kept: the log ends at frame {}", ends.last.last);
        return Err(Failure::new("FS-SITE-FRAME", text, "choose a frame up to that one").not_found());
    }
    let made = make(&repository, &ends, until.unwrap_or(ends.last.last), &beside);
    let made = made.inspect_err(|_| drop(fs::remove_dir_all(&beside)))?;
    finish(&beside, &args.data)?;
    tell(&made, (args, &ends), output)?;
    for other in others(&repository, &logs, &ends)? {
        hint(quiet, &other);
    }
    Ok(())
}

fn failed(error: Error) -> Failure {
    Failure::repository(&error)
}

/// The folder beside the wanted one in which all is made; the wanted one must not be there, or be empty.
fn begin(data: &Path) -> Result<PathBuf, Failure> {
    let io = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| Failure::io(what, &path, &error)
    };
    match fs::read_dir(data).map(Iterator::count) {
        Ok(held) if held > 0 => {
            let text = format!("{} is not empty", data.display());
            let advice = "name a folder that is not there: nothing that exists is overwritten";
            return Err(Failure::new("FS-SITE-NOT-EMPTY", text, advice).with(Exit::Refused));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io("read", data)(error)),
    }
    let absolute = std::path::absolute(data).map_err(io("find", data))?;
    let (Some(above), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        let text = format!("{} cannot be a data folder", data.display());
        return Err(Failure::new("FS-SITE-FOLDER", text, "name a folder inside another").with(Exit::Refused));
    };
    fs::create_dir_all(above).map_err(io("make", above))?;
    let beside = above.join(format!(".{}.recovering", name.to_string_lossy()));
    // What an earlier recovery left that did not come to its end.
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io("remove", &beside))?;
    }
    Ok(beside)
}

/// The log to recover: the one that was asked for, or of those that no other one goes on from the one that was kept last.
fn choose(
    repository: &Repository,
    logs: &[KeptLog],
    (asked, until): (Option<Lineage>, Option<Seq>),
) -> Result<Ends, Failure> {
    let none = |text: String| {
        let advice = "a site's log is kept with each point that its jobs make; look at the repository's folder `log`";
        Failure::new("FS-SITE-NO-LOG", text, advice).not_found()
    };
    let wanted = logs.iter().filter(|kept| asked.is_none_or(|asked| asked == kept.lineage));
    let mut found: Option<Ends> = None;
    for kept in wanted {
        let wanted = kept.pieces.iter().rfind(|first| until.is_none_or(|until| **first <= until));
        let Some(first) = wanted else { continue };
        let last = repository.log_piece(kept.lineage, *first).map_err(|error| damaged(repository, kept, error))?;
        let newer = found.as_ref().is_none_or(|ends| (ends.last.kept, ends.last.last) < (last.kept, last.last));
        if found.as_ref().is_some_and(|ends| ends.last.site != last.site) {
            let text = "the repository keeps the logs of more than one site";
            let advice = "name one with --lineage: the folders in the repository's folder `log` bear their names";
            return Err(Failure::new("FS-SITE-SEVERAL", text, advice).with(Exit::Refused));
        }
        if newer {
            found = Some(Ends { lineage: kept.lineage, last });
        }
    }
    found.ok_or_else(|| {
        let of = asked.map_or_else(String::new, |lineage| format!(" of lineage {lineage}"));
        none(format!("{} keeps no log{of}", repository.path().display()))
    })
}

/// Damage in the copy, with how far it is good.
fn damaged(repository: &Repository, kept: &KeptLog, error: Error) -> Failure {
    let mut failure = failed(error);
    if failure.exit != Exit::Mismatch {
        return failure;
    }
    let mut good: Option<Seq> = None;
    for first in &kept.pieces {
        match repository.log_piece(kept.lineage, *first) {
            Ok(piece) if good.is_none_or(|good| piece.first == good.next()) => good = Some(piece.last),
            Ok(_) | Err(_) => break,
        }
    }
    let good = good.or_else(|| kept.pieces.first().map(|first| Seq(first.0 - 1))).unwrap_or(Seq(0));
    failure.code = "FS-SITE-LOG-DAMAGED".to_owned();
    failure.message = format!("{}; the copy of the log is good up to frame {good}", failure.message);
    failure.advice = if good == Seq(0) {
        "recover from another repository of this site".to_owned()
    } else {
        format!(
            "recover from another repository of this site, or up to there with --lineage {} --until {good}",
            kept.lineage
        )
    };
    failure
}

/// Makes the folder, durable.
fn make(repository: &Repository, ends: &Ends, until: Seq, beside: &Path) -> Result<Made, Failure> {
    let folder = DataFolder::at(beside);
    folder.make()?;
    let log = |error: farshore_log::LogError| Failure::log(&error);
    let site = ends.last.site.clone();
    let mut import = Import::begin(beside, &site).map_err(log)?;
    let (mut at, mut wrong) = (Timestamp(0), None);
    for (kept, last) in repository.log_line(ends.lineage, until).map_err(failed)? {
        for first in kept.pieces.iter().filter(|first| **first <= last) {
            let piece =
                repository.log_piece(kept.lineage, *first).map_err(|error| damaged(repository, &kept, error))?;
            let take = piece.each(|frame| {
                if frame.seq <= last && wrong.is_none() {
                    wrong = import.push(frame.bytes).err();
                    at = if frame.seq == until { decided(frame.bytes).unwrap_or(at) } else { at };
                }
            });
            take.map_err(|why| Failure::new("FS-SITE-LOG-DAMAGED", why, "recover from another repository"))?;
            if let Some(error) = wrong.take() {
                return Err(log(error));
            }
        }
    }
    let tail = import.finish().map_err(log)?;
    let keys: Vec<PublicKey> = ends.last.keys.iter().map(|key| PublicKey(key.0)).collect();
    list_keys(beside, &keys).map_err(log)?;
    // Proven before it is given its name: this program can follow it from the first frame to the last.
    let reader = LogReader::open(beside).map_err(log)?;
    let state = fold_all(&reader, &site, None, Depth::Outbox)?.state_hash();
    assert!((reader.lineage(), reader.tail()) == (tail.0, (tail.1, tail.2)), "what was put in is what is read");
    let from = repository.path().display().to_string();
    Recovered { repository: from, lineage: tail.0, seq: tail.1, hash: tail.2 }.keep(&folder)?;
    folder.remember_site(&site)?;
    Ok(Made { site, tail, at, state })
}

fn decided(frame: &[u8]) -> Option<Timestamp> {
    let (raw, _) = RawFrame::decode(frame).ok()?;
    Some(raw.input_section().ok()?.at)
}

/// Gives the folder its name, durable.
fn finish(beside: &Path, data: &Path) -> Result<(), Failure> {
    let named = File::open(beside).and_then(|folder| folder.sync_all()).and_then(|()| fs::rename(beside, data));
    let synced =
        named.and_then(|()| File::open(beside.parent().unwrap_or(Path::new("."))).and_then(|above| above.sync_all()));
    synced.map_err(|error| Failure::io("give its name to", data, &error))
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

/// What else the repository keeps that this log is not.
fn others(repository: &Repository, logs: &[KeptLog], ends: &Ends) -> Result<Vec<String>, Failure> {
    let line = repository.log_line(ends.lineage, ends.last.last).map_err(failed)?;
    let mut others = Vec::new();
    for kept in logs.iter().filter(|kept| line.iter().all(|(used, _)| used.lineage != kept.lineage)) {
        let frames = kept.pieces.first().map_or(0, |first| first.0);
        others.push(format!("also kept: lineage {}, from frame {frames} on; recover it with --lineage", kept.lineage));
    }
    for (kept, last) in &line {
        let Some(first) = kept.pieces.last().filter(|_| kept.lineage != ends.lineage) else { continue };
        let end = repository.log_piece(kept.lineage, *first).map_err(failed)?.last;
        if end > *last {
            let more = count(end.0 - last.0, "frame");
            others.push(format!(
                "also kept: {more} of lineage {} after frame {last}, which the log was put back without; see --lineage",
                kept.lineage
            ));
        }
    }
    Ok(others)
}
