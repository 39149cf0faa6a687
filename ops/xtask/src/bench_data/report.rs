//! What was measured, as medians, as ratios to each peer, and beside the aims.

use super::tools::{OURS, OURS_PLAIN, Step};
use super::{BenchError, Figure, Measured, Plan, Taken};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

/// A step's medians and every run's wall time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    median: Figure,
    walls_s: Vec<f64>,
}

/// A tool's rows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ToolReport {
    name: &'static str,
    version: String,
    failed: Option<String>,
    steps: BTreeMap<&'static str, Row>,
}

/// How often a peer needs what we need.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    wall: f64,
    cpu: f64,
    stored: f64,
}

/// What was aimed at, and whether it is met; null when what it is measured against is missing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Aim {
    aim: &'static str,
    value: Option<f64>,
    met: Option<bool>,
}

/// An aim that is met from `bound` on.
pub(crate) fn least(aim: &'static str, value: Option<f64>, bound: f64) -> Aim {
    Aim { aim, value, met: value.map(|value| value >= bound) }
}

/// An aim that is met up to `bound`.
pub(crate) fn most(aim: &'static str, value: Option<f64>, bound: f64) -> Aim {
    Aim { aim, value, met: value.map(|value| value <= bound) }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.2}"));
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "open",
        };
        write!(f, "{met:<7} {} ({value})", self.aim)
    }
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    size_mib: u64,
    runs: usize,
    processors: usize,
    floor_bytes: Option<u64>,
    tools: Vec<ToolReport>,
    ratios: BTreeMap<&'static str, BTreeMap<&'static str, Ratio>>,
    aims: Vec<Aim>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

/// The medians of a step; none when it was not run.
fn figure(taken: &Taken, step: Step) -> Option<Figure> {
    let runs = taken.get(&step).filter(|runs| !runs.is_empty())?;
    let of = |value: fn(&Figure) -> f64| median(runs.iter().map(value).collect());
    Some(Figure {
        wall_s: of(|run| run.wall_s),
        cpu_s: of(|run| run.cpu_s),
        peak_mib: of(|run| run.peak_mib),
        stored_bytes: of(|run| run.stored_bytes as f64) as u64,
    })
}

fn of<'a>(measured: &'a [Measured], name: &str) -> Option<&'a Taken> {
    measured.iter().find(|one| one.tool.name == name && one.failed.is_none()).map(|one| &one.taken)
}

/// Puts the report together.
pub(crate) fn make(plan: &Plan, measured: &[Measured], floor: Option<u64>) -> Report {
    let tools = measured.iter().map(|one| ToolReport {
        name: one.tool.name,
        version: one.tool.version.clone(),
        failed: one.failed.clone(),
        steps: one.taken.iter().filter_map(|(step, runs)| Some((step.name(), row(&one.taken, *step, runs)?))).collect(),
    });
    let peers = measured.iter().filter(|one| one.tool.name != OURS && one.failed.is_none());
    Report {
        size_mib: plan.size_mib,
        runs: plan.runs.max(1),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        floor_bytes: floor,
        tools: tools.collect(),
        ratios: peers.map(|peer| (peer.tool.name, ratios(measured, &peer.taken))).collect(),
        aims: aims(measured, floor),
    }
}

fn row(taken: &Taken, step: Step, runs: &[Figure]) -> Option<Row> {
    Some(Row { median: figure(taken, step)?, walls_s: runs.iter().map(|run| run.wall_s).collect() })
}

fn ratios(measured: &[Measured], peer: &Taken) -> BTreeMap<&'static str, Ratio> {
    let ratio = |step: Step| {
        let (ours, theirs) = (figure(of(measured, OURS)?, step)?, figure(peer, step)?);
        let stored = theirs.stored_bytes as f64 / ours.stored_bytes as f64;
        Some((step.name(), Ratio { wall: theirs.wall_s / ours.wall_s, cpu: theirs.cpu_s / ours.cpu_s, stored }))
    };
    Step::ALL.into_iter().filter_map(ratio).collect()
}

fn aims(measured: &[Measured], floor: Option<u64>) -> Vec<Aim> {
    let step = |tool: &str, step: Step| figure(of(measured, tool)?, step);
    let wall = |tool: &str, at: Step| Some(step(tool, at)?.wall_s / step(OURS, at)?.wall_s);
    let stored = |tool: &str| Some(step(tool, Step::SecondVm)?.stored_bytes as f64);
    let ours = stored(OURS);
    let cpu = |at| Some(step(OURS, at)?.cpu_s / step("restic", at)?.cpu_s);
    let encryption = || Some(step(OURS, Step::Full)?.wall_s / step(OURS_PLAIN, Step::Full)?.wall_s);
    let peak = Step::ALL.into_iter().filter_map(|at| step(OURS, at)).map(|figure| figure.peak_mib).reduce(f64::max);
    let of_casync = || Some(ours? / stored("casync")?);
    vec![
        least("full at least 4 times as fast as restic", wall("restic", Step::Full), 4.0),
        least("full at least 2.5 times as fast as qemu-img to compressed qcow2", wall("qemu-img", Step::Full), 2.5),
        most("processor time of a full at most a quarter of restic's", cpu(Step::Full), 0.25),
        least("second VM at least 4 times as fast as restic", wall("restic", Step::SecondVm), 4.0),
        least("second VM at least 2.5 times as fast as qemu-img", wall("qemu-img", Step::SecondVm), 2.5),
        most("processor time of the second VM at most a quarter of restic's", cpu(Step::SecondVm), 0.25),
        least("second day at least 4 times as fast as restic", wall("restic", Step::SecondDay), 4.0),
        least("second day at least 2.5 times as fast as qemu-img", wall("qemu-img", Step::SecondDay), 2.5),
        most("processor time of the second day at most a quarter of restic's", cpu(Step::SecondDay), 0.25),
        most("stored after three backups at most 0.95 of casync's", of_casync(), 0.95),
        most(
            "stored after three backups at most 1.2 of the floor",
            floor.and_then(|floor| Some(ours? / floor as f64)),
            1.2,
        ),
        least("restore at least 1.5 times as fast as restic", wall("restic", Step::Restore), 1.5),
        least("verify at least 3 times as fast as restic", wall("restic", Step::Verify), 3.0),
        most("a full takes at most 1.25 of its time without encryption", encryption(), 1.25),
        most("peak memory of each step below 300 MiB", peak, 299.999),
    ]
}

/// Writes the table for people to standard error.
pub(crate) fn table(measured: &[Measured], report: &Report) -> Result<(), BenchError> {
    let mut out = std::io::stderr().lock();
    writeln!(
        out,
        "{:<24} {:<11} {:>8} {:>8} {:>9} {:>10}",
        "tool", "step", "wall s", "CPU s", "peak MiB", "stored MB"
    )?;
    for one in measured {
        writeln!(out, "{}: {}", one.tool.name, one.tool.version)?;
        if let Some(why) = &one.failed {
            writeln!(out, "  failed: {why}")?;
        }
        for step in Step::ALL {
            let Some(Figure { wall_s, cpu_s, peak_mib, stored_bytes }) = figure(&one.taken, step) else { continue };
            let stored = stored_bytes as f64 / 1e6;
            let (name, step) = (one.tool.name, step.name());
            writeln!(out, "{name:<24} {step:<11} {wall_s:>8.2} {cpu_s:>8.2} {peak_mib:>9.0} {stored:>10.1}")?;
        }
    }
    if let Some(floor) = report.floor_bytes {
        writeln!(out, "floor of the three images: {:.0} MB", floor as f64 / 1e6)?;
    }
    for aim in &report.aims {
        writeln!(out, "{aim}")?;
    }
    Ok(())
}
