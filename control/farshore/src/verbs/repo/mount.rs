//! `farshore repo mount`: points as files, until it is unmounted or told to stop.

use super::{failed, open_to_read, threads};
use crate::cli::{Output, RepoMountArgs};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, say, structured};
use farshore_format::repository::PointManifest;
use farshore_mount::{Mounted, Options, Refused};
use farshore_repository::{Error, Repository, Store};
use farshore_schemas::ids::PointId;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often to look whether somebody has unmounted it.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the verb.
pub(super) fn run(args: &RepoMountArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let repository = Arc::new(open_to_read(&args.at)?);
    let (points, hidden) = points(&repository, args, quiet)?;
    empty(args)?;
    let options = Options { threads: threads(args.threads), everybody: args.everybody };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::defect(&error))?;
    let refused = runtime.block_on(async {
        // Listened for before it is mounted: one that comes between leaves no mount behind.
        let stop = Stop::new()?;
        let mounted = farshore_mount::mount(&repository, &points, &args.on, options)
            .map_err(|error| unmountable(args, &error))?;
        told(args, points.len() as u64, (output, quiet))?;
        stop.or_unmounted(&mounted).await;
        mounted.unmount().map_err(|error| busy(args, &error))
    })?;
    ended(refused, &hidden)
}

/// Those asked for; without any, all that can be read, and the names of those that cannot.
fn points(
    repository: &Repository,
    args: &RepoMountArgs,
    quiet: bool,
) -> Result<(Vec<PointManifest>, Vec<PointId>), Failure> {
    let named = |name: &farshore_schemas::ids::Name| {
        let point = PointId(name.clone());
        let found = repository.point(&point).map_err(failed)?;
        found.ok_or_else(|| failed(Error::NoPoint { store: Store::Repository, point }))
    };
    if !args.points.is_empty() {
        return Ok((args.points.iter().map(named).collect::<Result<_, _>>()?, Vec::new()));
    }
    let (mut points, mut hidden) = (Vec::new(), Vec::new());
    for name in repository.point_names().map_err(failed)? {
        match repository.point(&name) {
            Ok(point) => points.extend(point),
            Err(error) => {
                hint(quiet, &format!("point {name} is not shown: {error}"));
                hidden.push(name);
            }
        }
    }
    for name in repository.lost_points().map_err(failed)? {
        hint(quiet, &format!("point {name} is not shown: the roster names it, and its file is missing"));
        hidden.push(name);
    }
    Ok((points, hidden))
}

/// Refuses a folder that holds something: a mount would hide it, or, on the repository's own folder, wait for itself.
fn empty(args: &RepoMountArgs) -> Result<(), Failure> {
    let holds = std::fs::read_dir(&args.on).map(|mut entries| entries.next().is_some());
    match holds {
        Ok(true) => Err(unmountable(args, &std::io::Error::other("it holds something, which a mount would hide"))),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
            let text =
                format!("could not mount on {}: a mount whose program is gone is still there", args.on.display());
            Err(Failure::new(
                "FS-REPO-MOUNT",
                text,
                "take it away with fusermount3 -u (or umount -l), then mount again",
            ))
        }
        Err(error) => Err(unmountable(args, &error)),
    }
}

fn unmountable(args: &RepoMountArgs, error: &std::io::Error) -> Failure {
    let text = format!("could not mount on {}: {error}", args.on.display());
    let advice = "mount on an empty folder of your own; as another user than root it needs fusermount3 (package fuse3), and for \
                  --everybody the line user_allow_other in /etc/fuse.conf";
    Failure::new("FS-REPO-MOUNT", text, advice)
}

fn busy(args: &RepoMountArgs, error: &std::io::Error) -> Failure {
    let text = format!("could not unmount {}: {error}", args.on.display());
    let advice = "end what uses files in it, then unmount it with fusermount3 -u";
    Failure::new("FS-REPO-MOUNT", text, advice).with(Exit::Busy)
}

fn told(args: &RepoMountArgs, points: u64, (output, quiet): (Output, bool)) -> Result<(), Failure> {
    let shown = json!({ "mounted": args.on.to_string_lossy(), "points": points });
    if !structured(output, &shown)? {
        say(&format!("{} mounted on {}", count(points, "point"), args.on.display()));
    }
    hint(
        quiet,
        "points made from now on are not shown; a prune's trash keeps what is shown for its hold, then reading it fails",
    );
    Ok(())
}

/// Whoever read from it was refused a read, or missed a point, but this program must not end as if all had been well.
fn ended(refused: Refused, hidden: &[PointId]) -> Result<(), Failure> {
    let Some(first) = refused.first else {
        let Some(point) = hidden.first() else { return Ok(()) };
        let text = format!("{} not shown, the first is {point}", count(hidden.len() as u64, "point"));
        let advice =
            "verify the repository with farshore repo verify; mount the others by their names to leave these out";
        return Err(Failure::new("FS-REPO-DAMAGE", text, advice).with(Exit::Mismatch));
    };
    let text = format!("{} failed: {first}", count(refused.reads, "read"));
    let advice = "verify the repository with farshore repo verify; what was copied out of the mount is not whole";
    Err(Failure::new("FS-REPO-DAMAGE", text, advice).with(Exit::Mismatch))
}

/// SIGINT and SIGTERM.
struct Stop(Signal, Signal);

impl Stop {
    fn new() -> Result<Stop, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::defect(&error));
        Ok(Stop(listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
    }

    async fn or_unmounted(mut self, mounted: &Mounted) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = self.0.recv() => return,
                _ = self.1.recv() => return,
                _ = look.tick() => {
                    if mounted.ended() {
                        return;
                    }
                }
            }
        }
    }
}
