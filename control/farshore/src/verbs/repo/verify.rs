//! `farshore repo verify`: reads everything, or a sample, and says what is damaged and which points that hurts; with `--repair`
//! stores anew what points need and can be had elsewhere.

use super::{bytes, failed, keys, open, open_to_read, settle_owner, spinner, threads};
use crate::cli::{Output, RepoAt, RepoVerifyArgs};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, one_line, say, structured};
use farshore_repository::{HurtPoint, RawSource, Repaired, Repository, Sample, Spares, Unlock, Verified};
use farshore_schemas::ids::PointId;
use farshore_schemas::units::ByteCount;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Runs it.
pub(super) fn run(args: &RepoVerifyArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    if args.repair { repair(args, output, quiet) } else { verify(args, output, quiet) }
}

fn verify(args: &RepoVerifyArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let begun = Instant::now();
    let repository = open_to_read(&args.at)?;
    let sample = args.sample.map(|percent| Sample { percent, seed: args.seed.unwrap_or_else(rand::random) });
    let spinner = spinner(if sample.is_some() { "reading a sample" } else { "reading everything" }, quiet);
    let verified = repository.verify_sample(threads(args.threads), sample.unwrap_or(Sample::ALL)).map_err(failed)?;
    spinner.finish_and_clear();
    let unnoted = note(&repository, &args.at, &verified)?;
    let mut shown = shown(&verified);
    shown["seconds"] = json!(begun.elapsed().as_secs_f64());
    shown["kept"] = json!(unnoted.is_none());
    shown["sample"] = json!(sample.map(|sample| json!({ "percent": sample.percent, "seed": sample.seed })));
    if !structured(output, &shown)? {
        tell(&verified);
        if let Some(sample) = sample {
            tell_sample(&verified, sample);
        }
    }
    if let Some(why) = unnoted {
        let text = "what was found could not be noted, so that a backup may count on it again";
        hint(quiet, &format!("{text}: {why}"));
    }
    ended(&verified)
}

/// Notes what was found, or that nothing is damaged any more. Answers why that could not be done.
fn note(repository: &Repository, at: &RepoAt, verified: &Verified) -> Result<Option<String>, Failure> {
    match repository.kept() {
        Ok(kept) if kept == verified.found => return Ok(None),
        // A sample knows nothing of what it left out, and may not take the place of a list that did.
        Err(error) if verified.unread > 0 => return Ok(Some(error.to_string())),
        Ok(_) | Err(_) => {}
    }
    // Whoever writes has the lock; a verification of a copy that cannot be written to is good for its answer alone.
    let kept = Repository::open(&at.path, &keys::unlock(&at.unlock)?)
        .and_then(|repository| repository.keep_found(&verified.found));
    Ok(kept.err().map(|error| error.to_string()))
}

fn shown(verified: &Verified) -> Value {
    let damage: Vec<Value> = verified.damage.iter().map(|one| json!({ "what": one.what, "why": one.why })).collect();
    let hurt = |(point, hurt): (&PointId, &HurtPoint)| {
        let disks: Vec<String> = hurt.disks.iter().map(ToString::to_string).collect();
        json!({ "point": point.to_string(), "why": hurt.why, "disks": disks })
    };
    json!({
        "records": verified.records,
        "bytes": verified.bytes,
        "complete": verified.unread == 0,
        "unread": verified.unread,
        "unread_bytes": verified.unread_bytes,
        "points": verified.points,
        "unindexed": verified.unindexed,
        "frames": verified.frames,
        "unknown": verified.unknown,
        "damage": damage,
        "hurt": verified.hurt.iter().map(hurt).collect::<Vec<Value>>(),
    })
}

fn tell(verified: &Verified) {
    let read = bytes(ByteCount(verified.bytes));
    let (records, points) = (count(verified.records, "record"), count(verified.points, "point"));
    say(&format!("{records} of {points} proven, {read} read"));
    if verified.unindexed > 0 {
        let packs = count(verified.unindexed, "pack");
        say(&format!("  {packs} not in the index yet: a writer is at work or was interrupted; the next one adds them"));
    }
    verified
        .unknown
        .iter()
        .for_each(|path| say(&one_line(&format!("  not ours: {}: it is left alone", path.display()))));
    verified.damage.iter().for_each(|one| say(&one_line(&format!("  damaged: {}: {}", one.what, one.why))));
    for (point, hurt) in &verified.hurt {
        let disks: Vec<String> = hurt.disks.iter().map(ToString::to_string).collect();
        let which = if disks.is_empty() { String::new() } else { format!(", disk {}", disks.join(", ")) };
        say(&one_line(&format!("  hurt: point {point}{which}: {}", hurt.why)));
    }
}

fn tell_sample(verified: &Verified, Sample { percent, seed }: Sample) {
    let (left, bytes) = (count(verified.unread, "record"), bytes(ByteCount(verified.unread_bytes)));
    say(&format!("a sample: {left} ({bytes}) of the packs were not read, and nothing is known of them"));
    say(&format!("  --sample {percent} --seed {seed} reads the same again"));
}

/// What a verification that found something ends with.
fn ended(verified: &Verified) -> Result<(), Failure> {
    if verified.sound() {
        return Ok(());
    }
    if verified.hurt.is_empty() && verified.log_damage == verified.damage.len() as u64 {
        return Err(log_damaged(verified));
    }
    let of = if verified.unread > 0 { ", as far as a sample shows" } else { "" };
    let text = format!(
        "{} of {} cannot be restored in full{of}; {} found",
        verified.hurt.len(),
        count(verified.points, "point"),
        count(verified.damage.len() as u64, "damage")
    );
    let advice = "look at the disk under it; mend it with --repair --from a copy or --from-image the disk, or back the VMs up again, \
                  which stores anew what their disks still hold; then verify again";
    Err(Failure::new("FS-REPO-DAMAGE", text, advice).with(Exit::Mismatch))
}

/// Damage in the site's log alone.
fn log_damaged(verified: &Verified) -> Failure {
    let text = format!(
        "the copy of the site's log is damaged in {}; {} can be restored in full",
        count(verified.log_damage, "place"),
        count(verified.points, "point")
    );
    let advice = "look at the disk under it; while its site runs, the next point fetches what the site's log still has, and \
                  `farshore status` tells what it has not; farshore site recover tells how far the copy is good";
    Failure::new("FS-REPO-LOG-DAMAGE", text, advice).with(Exit::Mismatch)
}

fn repair(args: &RepoVerifyArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let (others, images) = (others(args)?, images(args)?);
    let repository = open(&args.at)?;
    repository.of_one_domain(&others).map_err(failed)?;
    let advice = "let the site's backups store anew what their disks still hold; --take-ownership takes the folder away from the \
                  site, which has it back by farshore repo adopt";
    settle_owner(&repository, args.take_ownership, advice)?;
    let spinner = spinner("repairing", quiet);
    let spares = Spares { repositories: &others, images: &images };
    let repaired = repository.repair(spares, threads(args.threads)).map_err(failed)?;
    spinner.finish_and_clear();
    let whole: Vec<String> = repaired.whole_again().map(ToString::to_string).collect();
    let mut shown = shown(&repaired.after);
    shown["stored"] = json!(repaired.stored);
    shown["nowhere"] = json!(repaired.nowhere);
    shown["set_aside"] = json!(repaired.aside);
    shown["brought_back"] = json!(repaired.brought_back.iter().map(ToString::to_string).collect::<Vec<_>>());
    shown["whole_again"] = json!(whole);
    if !structured(output, &shown)? {
        tell_repair(&repaired, &whole);
    }
    ended(&repaired.after)
}

fn tell_repair(repaired: &Repaired, whole: &[String]) {
    if repaired.before.sound() {
        say("nothing is damaged");
    } else {
        let (stored, aside) = (count(repaired.stored, "record"), count(repaired.aside, "damaged pack"));
        say(&format!("{stored} stored anew, {aside} put into the trash, which the next prune empties"));
    }
    if repaired.nowhere > 0 {
        say(&format!("  {} found nowhere, as far as can be seen", count(repaired.nowhere, "record")));
    }
    repaired.brought_back.iter().for_each(|point| say(&format!("  written anew: point {point}")));
    whole.iter().for_each(|point| say(&format!("  whole again: point {point}")));
    tell(&repaired.after);
}

fn others(args: &RepoVerifyArgs) -> Result<Vec<Repository>, Failure> {
    let theirs = args.from_passphrase_file.as_ref().map(|file| keys::from_file(file)).transpose()?;
    let theirs = Unlock { passphrase: theirs.or(keys::unlock(&args.at.unlock)?.passphrase) };
    args.from.iter().map(|path| Repository::open_to_read(path, &theirs).map_err(failed)).collect()
}

fn images(args: &RepoVerifyArgs) -> Result<Vec<(RawSource, PathBuf)>, Failure> {
    let one = |path: &PathBuf| Ok((RawSource::open(path).map_err(failed)?, path.clone()));
    args.from_image.iter().map(one).collect()
}
