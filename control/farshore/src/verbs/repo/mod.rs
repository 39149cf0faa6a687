//! `farshore repo`: a repository's folder without a site. It is the way in and out when there is no control plane: who has
//! the folder and a passphrase has the data.

pub(crate) mod adopt;
mod backup;
mod changed;
pub(crate) mod hold;
pub(crate) mod keys;
mod mount;
mod prune;
mod restore;
mod verify;

use crate::cli::{Output, RepoAt, RepoInitArgs, RepoVerb};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, rows, say, structured, time};
use farshore_format::repository::PointManifest;
use farshore_repository::Error;
use farshore_repository::{Create, Immutability, Repository, SharedDomain, Unlock};
use farshore_schemas::units::ByteCount;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::time::Duration;

/// Runs one of the verbs.
pub(crate) fn run(verb: RepoVerb, output: Output, quiet: bool) -> Result<(), Failure> {
    match verb {
        RepoVerb::Init(args) => init(&args, output, quiet),
        RepoVerb::Backup(args) => backup::run(&args, output, quiet),
        RepoVerb::Points { at } => points(&at, output),
        RepoVerb::Stats { at } => stats(&at, output),
        RepoVerb::Verify(args) => verify::run(&args, output, quiet),
        RepoVerb::Restore(args) => restore::run(&args, output, quiet),
        RepoVerb::Mount(args) => mount::run(&args, output, quiet),
        RepoVerb::Prune(args) => prune::run(&args, output, quiet),
        RepoVerb::Adopt(args) => adopt::run(&args, output),
        RepoVerb::Hold(args) => hold::hold(&args),
        RepoVerb::Release { held } => hold::release(&held),
        RepoVerb::Key(verb) => keys::run(verb, output, quiet),
    }
}

fn failed(error: Error) -> Failure {
    Failure::repository(&error)
}

fn image_failed(error: &farshore_images::ImageError) -> Failure {
    match error {
        farshore_images::ImageError::Raw(error) => Failure::repository(error),
        farshore_images::ImageError::Ambiguous { .. }
        | farshore_images::ImageError::Backing { .. }
        | farshore_images::ImageError::Unsupported { .. }
        | farshore_images::ImageError::Size { .. } => {
            Failure::new(&error.code(), error.to_string(), error.advice()).with(Exit::Refused)
        }
        farshore_images::ImageError::Unsound { .. } => {
            Failure::new(&error.code(), error.to_string(), error.advice()).with(Exit::Mismatch)
        }
    }
}

/// Opens it for writing.
fn open(at: &RepoAt) -> Result<Repository, Failure> {
    Repository::open(&at.path, &keys::unlock(&at.unlock)?).map_err(failed)
}

/// Opens it to be read, whoever else uses it.
fn open_to_read(at: &RepoAt) -> Result<Repository, Failure> {
    Repository::open_to_read(&at.path, &keys::unlock(&at.unlock)?).map_err(failed)
}

/// What a site's log tells of its folder is only true while nobody changes it behind its back.
fn settle_owner(repository: &Repository, take: bool, advice: &str) -> Result<(), Failure> {
    let owner = match repository.owner() {
        Err(Error::Damage { .. }) if take => return repository.take_ownership().map(drop).map_err(failed),
        owner => owner.map_err(failed)?,
    };
    let Some(owner) = owner else { return Ok(()) };
    if owner.offline() {
        return Ok(());
    }
    if take {
        return repository.take_ownership().map(drop).map_err(failed);
    }
    let text =
        format!("the folder is repository {} of site {}, whose log knows these points", owner.repository, owner.site);
    Err(Failure::new("FS-REPO-OWNED", text, advice).with(Exit::Refused))
}

fn threads(told: Option<NonZeroUsize>) -> NonZeroUsize {
    const MOST: NonZeroUsize = NonZeroUsize::new(256).expect("it is not 0");
    let told = told.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    // More are of no use on any machine, and could not be had on most.
    told.min(MOST)
}

fn bytes(count: ByteCount) -> String {
    HumanBytes(count.0).to_string()
}

/// A bar over bytes; hidden when nobody looks.
fn bar(total: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// A sign of life of what does not say how far it is.
fn spinner(what: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

fn init(args: &RepoInitArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let unlock = keys::unlock(&args.at.unlock)?;
    let domain = args.domain_from.as_ref().map(|other| {
        let theirs = args.domain_passphrase_file.as_ref().map(|file| keys::from_file(file)).transpose()?;
        let theirs = Unlock { passphrase: theirs.or_else(|| unlock.passphrase.clone()) };
        Repository::domain_of(other, &theirs).map_err(failed)
    });
    let domain: Option<SharedDomain> = domain.transpose()?;
    if domain.as_ref().is_some_and(|domain| domain.sealed) && unlock.passphrase.is_none() {
        let text = "a repository that is not encrypted would hold the secret of an encrypted one's domain in clear";
        return Err(Failure::new("FS-REPO-DOMAIN", text, "give this repository a passphrase, or a domain of its own")
            .with(Exit::Refused));
    }
    let own = || args.domain.clone().unwrap_or_else(|| args.name.clone());
    let make = Create {
        name: args.name.clone(),
        domain: domain.as_ref().map_or_else(own, |domain| domain.name.clone()),
        domain_secret: domain.map(|domain| domain.secret),
        passphrase: unlock.passphrase,
        padding: args.padding,
    };
    let repository = Repository::create(&args.at.path, &make).map_err(failed)?;
    let shown = json!({
        "repository": repository.name().to_string(),
        "domain": repository.domain_name().to_string(),
        "encrypted": repository.encrypted(),
        "padded": repository.padded(),
    });
    if !structured(output, &shown)? {
        let how = if repository.encrypted() { "encrypted" } else { "not encrypted" };
        say(&format!("repository {} is at {}, {how}", make.name, args.at.path.display()));
    }
    if repository.encrypted() {
        hint(quiet, "keep the passphrase: without it nobody can read what will be stored, and nobody can help");
    } else {
        hint(quiet, "whoever reads this folder reads the disks; a repository is encrypted when it is made, or never");
    }
    Ok(())
}

fn point_json(point: &PointManifest) -> Value {
    let disks: Vec<Value> = point
        .disks
        .iter()
        .map(|disk| {
            json!({ "name": disk.name.to_string(), "size": disk.size.0, "checksum": disk.checksum.map(|sum| sum.to_string()) })
        })
        .collect();
    json!({
        "point": point.point.to_string(),
        "vm": point.vm.vm.to_string(),
        "host": point.vm.host.to_string(),
        "site": point.vm.site.to_string(),
        "taken": point.taken.0,
        "size": point.disks.iter().map(|disk| disk.size.0).sum::<u64>(),
        "stored": point.stored.0,
        "disks": disks,
    })
}

/// Points that can be read are listed though others cannot.
fn points(at: &RepoAt, output: Output) -> Result<(), Failure> {
    let repository = open_to_read(at)?;
    let (mut sound, mut first) = (Vec::new(), None);
    for name in repository.point_names().map_err(failed)? {
        match repository.point(&name) {
            Ok(point) => sound.extend(point),
            Err(error) => first = first.or(Some(failed(error))),
        }
    }
    sound.sort_by(|a, b| (a.taken, &a.point).cmp(&(b.taken, &b.point)));
    let listed: Vec<(&PointManifest, Value)> = sound.iter().map(|point| (point, point_json(point))).collect();
    let values: Vec<&Value> = listed.iter().map(|(_, value)| value).collect();
    if !structured(output, &values)? {
        rows(Output::Table, &sound, &["point", "vm", "taken", "disks", "size", "stored"], |point| {
            let size = point.disks.iter().fold(ByteCount(0), |sum, disk| sum + disk.size);
            vec![
                point.point.to_string(),
                point.vm.vm.to_string(),
                time(point.taken.0),
                point.disks.len().to_string(),
                bytes(size),
                bytes(point.stored),
            ]
        })?;
    }
    first.map_or(Ok(()), Err)
}

fn stats(at: &RepoAt, output: Output) -> Result<(), Failure> {
    let repository = open_to_read(at)?;
    let points = repository.point_names().map_err(failed)?.len();
    let owner = repository.owner().map_err(failed)?;
    let (stored, trash) = (repository.stored().map_err(failed)?, repository.trash().map_err(failed)?);
    let immutable = repository.immutability().map_err(failed)?;
    let until = immutable.points.values().max();
    let shown = json!({
        "repository": repository.name().to_string(),
        "domain": repository.domain_name().to_string(),
        "encrypted": repository.encrypted(),
        "padded": repository.padded(),
        "points": points,
        "packs": repository.packs(),
        "stored": stored.0,
        "trash": trash.0,
        "immutable": { "points": immutable.points.len(), "until": until.map(|until| until.0), "attribute": immutable.marked },
        "position": repository.position().map_err(failed)?,
        "owner": owner.as_ref().map(|owner| {
            json!({ "site": owner.site.to_string(), "repository": owner.repository.to_string(), "epoch": owner.epoch })
        }),
    });
    if structured(output, &shown)? {
        return Ok(());
    }
    let lines = [
        ("repository", repository.name().to_string()),
        ("domain", repository.domain_name().to_string()),
        ("owner", adopt::owner_line(owner.as_ref())),
        ("encrypted", if repository.encrypted() { "yes" } else { "no" }.to_owned()),
        ("padded", if repository.padded() { "yes" } else { "no" }.to_owned()),
        ("points", points.to_string()),
        ("immutable", immutable_line(&immutable)),
        ("packs", repository.packs().to_string()),
        ("stored", bytes(stored)),
        ("trash", bytes(trash)),
    ];
    lines.iter().for_each(|(what, value)| say(&format!("{what:<11} {value}")));
    Ok(())
}

fn immutable_line(immutable: &Immutability) -> String {
    let Some(until) = immutable.points.values().max() else { return "no point".to_owned() };
    let (points, bear) = (count(immutable.points.len() as u64, "point"), immutable.marked);
    format!("{points}, the last until {}; {bear} bear the file system's attribute", time(until.0))
}
