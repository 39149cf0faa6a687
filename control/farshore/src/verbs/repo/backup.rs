//! `farshore repo backup`: reads images in and makes a point of them.

use super::{bar, bytes, changed, failed, image_failed, open, threads};
use crate::cli::{CompressionClass, ImageFormat, Output, RepoBackupArgs};
use crate::failure::{Exit, Failure};
use crate::output::{hint, say, structured, table, time};
use farshore_format::repository::{Compression, PointDisk, PointManifest};
use farshore_images::{Backing, Format};
use farshore_repository::{BackedUp, BackupOptions, Changes, Repository, Source, Stages, WriteSession};
use farshore_repository::{Error, Store};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId, SiteName, VmName, VmRef};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What tells that an image was written to: device, inode, size, and times of the last change of content and of the inode, in
/// seconds and nanoseconds; none for a device, which has no such times.
type State = Option<[i128; 5]>;

/// An image to read.
struct Image {
    path: PathBuf,
    name: DiskName,
    source: farshore_images::Image,
    /// Every file that it is read from, as it was before.
    states: Vec<(PathBuf, State)>,
}

/// How images are opened.
#[derive(Debug, Clone, Copy, Default)]
struct Opening {
    /// By their names, if none.
    format: Option<ImageFormat>,
    backing: Backing,
}

/// What a whole backup came to.
struct Outcome {
    point: PointManifest,
    /// The point must stay until then.
    immutable: Option<Timestamp>,
    disks: Vec<BackedUp>,
    stages: Stages,
    seconds: f64,
    threads: NonZeroUsize,
}

/// The disks of the point before, and what may have changed since where that is known.
struct Base {
    disks: Vec<PointDisk>,
    ranges: Option<Vec<Range<u64>>>,
}

/// Counts what is read.
struct Counted<'a> {
    source: &'a farshore_images::Image,
    bar: &'a ProgressBar,
}

impl Source for Counted<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn extents(&self) -> &[Range<u64>] {
        self.source.extents()
    }

    fn allocated(&self) -> &[Range<u64>] {
        self.source.allocated()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.source.read_at(offset, into)?;
        self.bar.inc(into.len() as u64);
        Ok(())
    }
}

/// Runs the verb.
pub(super) fn run(args: &RepoBackupArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let begun = Instant::now();
    // Both take a while: the one walks the images' extents, the other derives a key.
    let (images, repository) = std::thread::scope(|scope| {
        let images = scope.spawn(|| look_at(&args.images, Opening::of(args)));
        let repository = open(&args.at);
        (images.join().expect("looking at an image does not panic"), repository)
    });
    let (images, repository) = (images?, Arc::new(repository?));
    if args.changed.is_some() && images.len() > 1 {
        let text = "--changed lists the ranges of one disk, and several were named";
        return Err(Failure::new("FS-REPO-CHANGED", text, "back the VM up without --changed"));
    }
    let taken = Timestamp(jiff::Timestamp::now().as_millisecond());
    let point = point_name(&repository, args, taken)?;
    let base = base(&repository, args, &images)?;
    let (session, stages, threads) = (repository.write_session(), Stages::default(), threads(args.threads));
    let ranges = base.as_ref().and_then(|base| base.ranges.as_deref());
    let bar = bar(to_read(&images, ranges), quiet);
    let disks = read_all(&images, &mut |image| {
        bar.set_message(image.name.to_string());
        let disk = base.as_ref().and_then(|base| base.disks.iter().find(|disk| disk.name == image.name));
        let changes = disk.map(|disk| Changes { disk, ranges });
        let options = BackupOptions { compression: compression(args.compression), threads, path: image.path.clone() };
        read_in(&session, (image, changes), (&options, &stages), &bar)
    })?;
    bar.finish_and_clear();
    let point = PointManifest {
        point,
        vm: owner(&args.vm)?,
        taken,
        disks: disks.iter().map(point_disk).collect(),
        stored: disks.iter().fold(ByteCount(0), |sum, disk| sum + disk.stored),
    };
    let immutable = args.immutable.map(|days| Millis::from_mins(days * 24 * 60));
    repository.commit_immutable(&point, immutable).map_err(failed)?;
    drop(session);
    // The point is made and its date is written: what the file system does besides is no reason to fail.
    if immutable.is_some()
        && let Err(error) = repository.keep_immutable()
    {
        hint(quiet, &format!("not all that must stay bears the file system's attribute: {error}"));
    }
    let immutable = repository.immutable_until(&point.point).map_err(failed)?;
    tell(&Outcome { point, immutable, disks, stages, seconds: begun.elapsed().as_secs_f64(), threads }, output)
}

/// No site has discovered these VMs: their place says so.
fn owner(vm: &VmName) -> Result<VmRef, Failure> {
    let defect = |bad: farshore_schemas::ids::BadId| Failure::defect(&bad);
    let (site, host) = (SiteName::parse("local").map_err(defect)?, Name::parse("files").map_err(defect)?);
    Ok(VmRef { site, host, vm: vm.clone() })
}

fn point_disk(disk: &BackedUp) -> PointDisk {
    PointDisk { name: disk.name.clone(), size: disk.size, checksum: disk.checksum, disk: Digest(disk.disk.0) }
}

fn look_at(paths: &[PathBuf], opening: Opening) -> Result<Vec<Image>, Failure> {
    let mut images: Vec<Image> = Vec::new();
    for path in paths {
        let state = state_of(path)?;
        let text = path.file_name().unwrap_or_default().to_string_lossy();
        let name = DiskName::parse(&text).map_err(|bad| {
            Failure::new("FS-REPO-DISK-NAME", bad.to_string(), "give the image such a name, or link to it under one")
        })?;
        if images.iter().any(|image| image.name == name) {
            let text = format!("two of the images are named {name}: a VM's disks are named after their files");
            return Err(Failure::new("FS-REPO-DISK-NAME", text, "link to one of them under another name"));
        }
        let source = opening.open(path)?;
        let behind = source.backing_files().iter().map(|path| Ok((path.clone(), state_of(path)?)));
        let states = std::iter::once(Ok((path.clone(), state))).chain(behind).collect::<Result<_, Failure>>()?;
        images.push(Image { path: path.clone(), name, source, states });
    }
    Ok(images)
}

impl Opening {
    fn of(args: &RepoBackupArgs) -> Opening {
        let backing = if args.allow_backing { Backing::Allowed } else { Backing::Denied };
        Opening { format: args.format, backing }
    }

    fn open(self, path: &Path) -> Result<farshore_images::Image, Failure> {
        let opened = match self.format {
            Some(ImageFormat::Raw) => farshore_images::Image::open(path, Format::Raw, self.backing),
            Some(ImageFormat::Qcow2) => farshore_images::Image::open(path, Format::Qcow2, self.backing),
            None => farshore_images::Image::open_by_name(path, self.backing),
        };
        opened.map_err(|error| image_failed(&error))
    }
}

fn compression(class: CompressionClass) -> Compression {
    match class {
        CompressionClass::None => Compression::None,
        CompressionClass::Fast => Compression::Fast,
        CompressionClass::Balanced => Compression::Balanced,
        CompressionClass::High => Compression::High,
    }
}

fn state_of(path: &Path) -> Result<State, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?;
    let time = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (content, inode) =
        (time(metadata.mtime(), metadata.mtime_nsec()), time(metadata.ctime(), metadata.ctime_nsec()));
    let size = i128::from(metadata.len());
    Ok(metadata.is_file().then(|| [i128::from(metadata.dev()), i128::from(metadata.ino()), size, content, inode]))
}

/// As told, or made from the VM's name and the time; none that there is.
fn point_name(repository: &Repository, args: &RepoBackupArgs, taken: Timestamp) -> Result<PointId, Failure> {
    let there = repository.point_names().map_err(failed)?;
    if let Some(told) = &args.point {
        let point = PointId(told.clone());
        if there.contains(&point) {
            let text = format!("the repository has a point {point} already");
            return Err(
                Failure::new("FS-REPO-POINT-EXISTS", text, "give the new point a name of its own").with(Exit::Refused)
            );
        }
        return Ok(point);
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let vm: String = args.vm.as_str().chars().map(legal).take(36).collect();
    let vm = match vm.trim_matches('-') {
        "" => "vm",
        vm => vm,
    };
    let at = jiff::Timestamp::from_millisecond(taken.0).map_err(|error| Failure::defect(&error))?;
    let stem = format!("{vm}-{}", at.strftime("%Y%m%d-%H%M%S"));
    let names = std::iter::once(stem.clone()).chain((2u32..).map(|number| format!("{stem}-{number}")));
    for name in names {
        let point = PointId(Name::parse(&name).map_err(|bad| Failure::defect(&bad))?);
        if !there.contains(&point) {
            return Ok(point);
        }
    }
    Err(Failure::defect(&"every name is taken"))
}

/// The point that this one follows: the one that was named, with what changed since, or else the VM's newest, to tell by its
/// digests what has not changed.
fn base(repository: &Repository, args: &RepoBackupArgs, images: &[Image]) -> Result<Option<Base>, Failure> {
    let owner = owner(&args.vm)?;
    let (Some(file), Some(base), [image]) = (&args.changed, &args.base, images) else {
        return newest(repository, &owner);
    };
    let base = PointId(base.clone());
    let point = repository.point(&base).map_err(failed)?;
    let point = point.ok_or_else(|| failed(Error::NoPoint { store: Store::Repository, point: base.clone() }))?;
    if point.vm != owner {
        let text = format!("point {base} is of VM {}, not of {}", point.vm.vm, args.vm);
        return Err(Failure::new("FS-REPO-BASE", text, "name a point of the same VM").with(Exit::Refused));
    }
    if point.disks.iter().all(|disk| disk.name != image.name) {
        return Err(failed(Error::NoDisk { point: base, disk: image.name.clone() }));
    }
    Ok(Some(Base { disks: point.disks, ranges: Some(changed::read(file, image.source.size())?) }))
}

/// The newest point of a VM that can be read: without one a backup only takes longer.
fn newest(repository: &Repository, owner: &VmRef) -> Result<Option<Base>, Failure> {
    let mut newest: Option<PointManifest> = None;
    for name in repository.point_names().map_err(failed)? {
        match repository.point(&name) {
            Ok(Some(point)) if point.vm == *owner => {
                if newest.as_ref().is_none_or(|newest| newest.taken <= point.taken) {
                    newest = Some(point);
                }
            }
            Ok(Some(_) | None) => {}
            Err(error) => tracing::warn!(point = %name, %error, "a point cannot be read"),
        }
    }
    Ok(newest.map(|point| Base { disks: point.disks, ranges: None }))
}

fn to_read(images: &[Image], changed: Option<&[Range<u64>]>) -> u64 {
    let total = |ranges: &[Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
    changed.map_or_else(|| images.iter().map(|image| total(image.source.extents())).sum(), total)
}

/// Reads the images one after the other. All must be as they were when the last has been read: only then are they the disks of
/// one VM at one moment.
fn read_all(
    images: &[Image],
    read: &mut dyn FnMut(&Image) -> Result<BackedUp, Failure>,
) -> Result<Vec<BackedUp>, Failure> {
    let disks = images.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    images.iter().try_for_each(still)?;
    Ok(disks)
}

fn read_in(
    session: &WriteSession,
    (image, changes): (&Image, Option<Changes<'_>>),
    (options, stages): (&BackupOptions, &Stages),
    bar: &ProgressBar,
) -> Result<BackedUp, Failure> {
    let source = Counted { source: &image.source, bar };
    session.repository().backup_disk(&image.name, (&source, options, changes), stages).map_err(failed)
}

/// Refuses when a file that an image is read from has changed since it was first looked at.
fn still(image: &Image) -> Result<(), Failure> {
    let mut moved = None;
    for (path, state) in &image.states {
        if state_of(path)? != *state {
            moved = moved.or(Some(path));
        }
    }
    let Some(path) = moved else { return Ok(()) };
    let text = format!("{} was written to while the disks were read: no point is made", path.display());
    let advice = "stop its VM or take a snapshot, then run it again";
    Err(Failure::new("FS-REPO-MOVING", text, advice).with(Exit::Mismatch))
}

fn tell(outcome: &Outcome, output: Output) -> Result<(), Failure> {
    let sum = |of: fn(&BackedUp) -> ByteCount| outcome.disks.iter().fold(ByteCount(0), |sum, disk| sum + of(disk));
    let (read, new, stored) = (sum(|disk| disk.read), sum(|disk| disk.new), sum(|disk| disk.stored));
    // Seconds are summed over threads; a stage that keeps them all busy all the time has a share of one.
    let share = |seconds: f64| (seconds / (outcome.seconds * outcome.threads.get() as f64)).clamp(0.0, 1.0);
    let busy: Vec<(&str, f64)> = outcome.stages.seconds().map(|(stage, spent)| (stage, share(spent))).into();
    let disks: Vec<Value> = outcome
        .disks
        .iter()
        .map(|disk| {
            json!({ "name": disk.name.to_string(), "size": disk.size.0, "read": disk.read.0, "new": disk.new.0, "stored": disk.stored.0 })
        })
        .collect();
    let shown = json!({
        "point": outcome.point.point.to_string(),
        "vm": outcome.point.vm.vm.to_string(),
        "disks": disks,
        "read": read.0,
        "new": new.0,
        "stored": stored.0,
        "immutable": outcome.immutable.map(|until| until.0),
        "seconds": outcome.seconds,
        "busy": busy.iter().map(|(stage, share)| ((*stage).to_owned(), json!(share))).collect::<serde_json::Map<_, _>>(),
        "bottleneck": outcome.stages.bottleneck(),
    });
    if structured(output, &shown)? {
        return Ok(());
    }
    let row = |disk: &BackedUp| {
        vec![disk.name.to_string(), bytes(disk.size), bytes(disk.read), bytes(disk.new), bytes(disk.stored)]
    };
    table(&["disk", "size", "read", "new", "stored"], outcome.disks.iter().map(row).collect());
    let busy: Vec<String> = busy.iter().map(|(stage, share)| format!("{stage} {:.0} %", share * 100.0)).collect();
    say(&format!(
        "point {}: {} read, {} new, {} stored in {:.1} s; busy: {}; bottleneck: {}",
        outcome.point.point,
        bytes(read),
        bytes(new),
        bytes(stored),
        outcome.seconds,
        busy.join(", "),
        outcome.stages.bottleneck()
    ));
    if let Some(until) = outcome.immutable {
        say(&format!("immutable until {}", time(until.0)));
    }
    Ok(())
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
