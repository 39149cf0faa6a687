//! `cargo xtask bench changed`: what a backup of a large disk costs when its hypervisor says what has changed, and when
//! nobody does, beside one pass of reading and hashing it. Prints a table to standard error and JSON to standard output.

mod disk;

use super::report::{Aim, most};
use super::scratch::{Scratch, read_all, warm};
use super::{BenchError, Figure};
use disk::Disk;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Lengths of the changed runs in KiB; QEMU's bitmaps tell 64.
const RUNS_KIB: [u64; 3] = [256, 64, 4];
const MIB: u64 = 1 << 20;
const IMAGE: &str = "disk.raw";

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Size of the disk.
    pub(crate) size_mib: u64,
    /// How much of it is data.
    pub(crate) data_mib: u64,
    /// A folder on the disk to be measured.
    pub(crate) folder: PathBuf,
    /// The binary; built when not named.
    pub(crate) program: Option<PathBuf>,
}

/// A backup by a list of what changed.
#[derive(Debug, Serialize)]
struct ByList {
    run_kib: u64,
    runs: usize,
    changed_bytes: u64,
    read_bytes: u64,
    /// Bytes read for each that changed.
    read_ratio: f64,
    /// Its time as a part of the full's.
    of_full: f64,
    #[serde(flatten)]
    figure: Figure,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Report {
    size_mib: u64,
    data_bytes: u64,
    full: Figure,
    changed: Vec<ByList>,
    /// The whole disk again with nothing changed, after backups by lists: no region has a digest to be known by, so all is cut.
    after_lists: Figure,
    /// And once more, after a backup that read all: every region has its digest.
    after_all: Figure,
    /// One thread reading and hashing all that holds data.
    pass_s: f64,
    aims: Vec<Aim>,
}

/// Runs it.
///
/// # Errors
/// [`BenchError`].
pub(crate) fn run(plan: &Plan) -> Result<Value, BenchError> {
    let (program, _) = super::program(plan.program.as_deref())?;
    std::fs::create_dir_all(&plan.folder)?;
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let images = folder.path().join("made");
    std::fs::create_dir(&images)?;
    say("making the disk")?;
    let path = images.join(IMAGE);
    let mut disk = Disk::make(&path, plan.size_mib * MIB, plan.data_mib * MIB, 1)?;
    disk.sync()?;
    let scratch_at = folder.path().join("scratch");
    std::fs::create_dir(&scratch_at)?;
    let scratch = Scratch::new(&scratch_at, (&images, &[IMAGE]), &program)?;
    let report = measure(plan, &scratch, (&path, &mut disk))?;
    table(&report)?;
    Ok(serde_json::to_value(report).map_err(std::io::Error::other)?)
}

fn measure(plan: &Plan, scratch: &Scratch, (path, disk): (&Path, &mut Disk)) -> Result<Report, BenchError> {
    scratch.time("\"$FARSHORE\" -q repo init repo --name bench")?;
    warm(path)?;
    say("full")?;
    let (full, _) = backup(scratch, "full", "")?;
    let (mut base, mut changed) = ("full".to_owned(), Vec::new());
    let data_bytes = disk.data.iter().map(|extent| extent.end - extent.start).sum::<u64>();
    for run_kib in RUNS_KIB {
        let runs = disk.change(data_bytes / 100, run_kib * 1024)?;
        disk.sync()?;
        std::fs::write(scratch.at("changed"), list(&runs))?;
        let point = format!("runs-{run_kib}");
        say(&point)?;
        warm(path)?;
        let (figure, told) = backup(scratch, &point, &format!("--changed changed --base {base}"))?;
        let changed_bytes: u64 = runs.iter().map(|run| run.end - run.start).sum();
        let read_bytes = number(&told, "read")?;
        changed.push(ByList {
            run_kib,
            runs: runs.len(),
            changed_bytes,
            read_bytes,
            read_ratio: read_bytes as f64 / changed_bytes as f64,
            of_full: figure.wall_s / full.wall_s,
            figure,
        });
        base = point;
    }
    say("the whole disk again")?;
    warm(path)?;
    let pass_s = pass(path)?;
    let after_lists = nothing_new(backup(scratch, "after-lists", "")?)?;
    say("the whole disk once more")?;
    let after_all = nothing_new(backup(scratch, "after-all", "")?)?;
    let aims = aims((&full, &changed), ([&after_lists, &after_all], pass_s));
    Ok(Report { size_mib: plan.size_mib, data_bytes, full, changed, after_lists, after_all, pass_s, aims })
}

/// The point by lists is the disk, or reading all of it would have found something new.
fn nothing_new((figure, told): (Figure, Value)) -> Result<Figure, BenchError> {
    match number(&told, "new")? {
        0 => Ok(figure),
        _ => Err(BenchError::Differs(format!("reading the whole disk found what the lists had not told: {told}"))),
    }
}

fn aims((full, changed): (&Figure, &[ByList]), (unlisted, pass_s): ([&Figure; 2], f64)) -> Vec<Aim> {
    let of = |run: u64| changed.iter().find(|list| list.run_kib == run);
    let figures = changed.iter().map(|list| &list.figure).chain([full]).chain(unlisted);
    let peak = figures.map(|figure| figure.peak_mib).reduce(f64::max);
    let [after_lists, after_all] = unlisted.map(|figure| Some(figure.wall_s / pass_s));
    vec![
        most("runs of 256 KiB: at most 2 bytes read for each changed", of(256).map(|list| list.read_ratio), 2.0),
        most("runs of 256 KiB: at most 0.03 of a full's time", of(256).map(|list| list.of_full), 0.03),
        most("runs of 64 KiB: at most 3 bytes read for each changed", of(64).map(|list| list.read_ratio), 3.0),
        most("without a list, after lists: at most 1.5 of one pass", after_lists, 1.5),
        most("without a list, after a reading of all: at most 1.5 of one pass", after_all, 1.5),
        most("peak memory of each step below 300 MiB", peak, 299.999),
    ]
}

/// A backup, and what it said of itself.
fn backup(scratch: &Scratch, point: &str, how: &str) -> Result<(Figure, Value), BenchError> {
    let command =
        format!("\"$FARSHORE\" -q repo backup repo images/{IMAGE} --vm vm --point {point} {how} -o json > said");
    let figure = scratch.time(&command)?;
    let said = std::fs::read(scratch.at("said"))?;
    Ok((figure, serde_json::from_slice(&said).map_err(std::io::Error::other)?))
}

fn number(told: &Value, field: &str) -> Result<u64, BenchError> {
    told[field].as_u64().ok_or_else(|| BenchError::Differs(format!("`repo backup` does not say {field}: {told}")))
}

fn list(runs: &[Range<u64>]) -> String {
    let mut text = String::new();
    for run in runs {
        // A text takes all that is written to it.
        let _ = writeln!(text, "{} {}", run.start, run.end - run.start);
    }
    text
}

/// The limit: one thread that reads and hashes. Answers its seconds.
fn pass(path: &Path) -> Result<f64, BenchError> {
    let mut hasher = blake3::Hasher::new();
    let begun = Instant::now();
    read_all(path, &mut |bytes| {
        hasher.update(bytes);
    })?;
    std::hint::black_box(hasher.finalize());
    Ok(begun.elapsed().as_secs_f64())
}

fn say(what: &str) -> Result<(), BenchError> {
    Ok(writeln!(std::io::stderr(), "bench changed: {what}")?)
}

fn table(report: &Report) -> Result<(), BenchError> {
    let mut out = std::io::stderr().lock();
    let row = |name: &str, figure: &Figure| {
        let Figure { wall_s, cpu_s, peak_mib, stored_bytes: _ } = figure;
        format!("{name:<16} {wall_s:>8.2} {cpu_s:>8.2} {peak_mib:>9.0}")
    };
    writeln!(out, "{:<16} {:>8} {:>8} {:>9} {:>12}", "step", "wall s", "CPU s", "peak MiB", "read/changed")?;
    writeln!(out, "{}", row("full", &report.full))?;
    for list in &report.changed {
        let name = format!("runs of {} KiB", list.run_kib);
        writeln!(out, "{} {:>12.2}", row(&name, &list.figure), list.read_ratio)?;
    }
    writeln!(out, "{}", row("none, after them", &report.after_lists))?;
    writeln!(out, "{}", row("none, once more", &report.after_all))?;
    writeln!(out, "{:<16} {:>8.2}", "one pass", report.pass_s)?;
    report.aims.iter().try_for_each(|aim| writeln!(out, "{aim}"))?;
    Ok(())
}
