//! `cargo xtask crash --repository`: backups, prunes, restores and repairs of a repository's folder, killed with SIGKILL at random
//! moments, and stopped by a disk that is full at every place where they write. After each, every announced point must be
//! there, restore byte for byte, and the next prune must work. Real processes on real files.

mod full;
mod image;
mod store;

use crate::crash::{Choices, Wrong, build};
use image::Image;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::{Ended, Store, Verb};

/// Kills between two looks at everything.
const LOOK_EVERY: u64 = 10;
/// VMs that are backed up.
const VMS: [&str; 3] = ["web", "db", "files"];
const PASSPHRASE: &str = "crash";

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Processes to kill.
    pub(crate) kills: u64,
    /// Of the choices.
    pub(crate) seed: u64,
    /// The binary; built when not named.
    pub(crate) program: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    kills: u64,
    killed_backups: u64,
    killed_prunes: u64,
    killed_restores: u64,
    killed_repairs: u64,
    /// Processes that came to their end before they would have been killed.
    ended: u64,
    /// Points that the process could not announce any more and that are there all the same.
    points_kept: u64,
    restores_byte_equal: u64,
    looks: u64,
    /// Runs that a full disk stopped, each at another place.
    full_disk_stops: u64,
    seconds: f64,
    seed: u64,
    violations: u64,
}

impl Report {
    /// Nothing was broken.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations == 0
    }

    fn violation(&mut self, what: &str) {
        self.violations += 1;
        // A closed standard error is no reason to stop.
        let _closed = writeln!(std::io::stderr(), "violation after kill {}: {what}", self.kills);
    }
}

/// Runs it all. What it left is kept when something is wrong.
pub(crate) fn run(plan: &Plan) -> Result<Report, Wrong> {
    let program = plan.program.as_deref().map_or_else(build, |program| Ok(std::fs::canonicalize(program)?))?;
    let temporary = tempfile::Builder::new().prefix("farshore-crash-").tempdir()?;
    let copy = temporary.path().join("farshore");
    std::fs::copy(&program, &copy)?;
    let begun = Instant::now();
    let mut report = Report { seed: plan.seed, ..Report::default() };
    let ended = work(plan, temporary.path(), &copy, &mut report);
    report.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    if ended.is_err() || !report.is_clean() {
        let kept = temporary.keep();
        writeln!(std::io::stderr(), "what it left is in {}", kept.display())?;
    }
    ended.map(|()| report)
}

fn work(plan: &Plan, folder: &Path, program: &Path, report: &mut Report) -> Result<(), Wrong> {
    // One in four kills meets an encrypted repository: there most of the time goes into the key.
    let parts = [("plain", None, plan.kills - plan.kills / 4), ("sealed", Some(PASSPHRASE), plan.kills / 4)];
    for (stream, (name, passphrase, kills)) in (0u64..).zip(parts) {
        let store = Store::make(&folder.join(name), program, passphrase)?;
        Rig::new(store, Choices::new(plan.seed, stream), report)?.work(kills)?;
    }
    full::run(&folder.join("full"), program, report)
}

/// A repository under work.
struct Rig<'a> {
    store: Store,
    choices: Choices,
    images: Vec<Image>,
    /// How long each verb takes when it is left alone: kills are spread over it.
    usual: [Duration; 4],
    report: &'a mut Report,
}

impl<'a> Rig<'a> {
    fn new(mut store: Store, mut choices: Choices, report: &'a mut Report) -> Result<Rig<'a>, Wrong> {
        let image = |vm: &&str| Image::make(&store.folder.join(format!("{vm}.raw")), &mut choices);
        let images = VMS.iter().map(image).collect::<Result<Vec<_>, _>>()?;
        for (vm, image) in VMS.iter().zip(&images) {
            store.undisturbed(&Verb::Backup { vm: (*vm).to_owned(), image })?;
        }
        Ok(Rig { store, choices, images, usual: [Duration::from_millis(100); 4], report })
    }

    fn work(mut self, kills: u64) -> Result<(), Wrong> {
        let end = self.report.kills + kills;
        while self.report.kills < end {
            let before = self.report.kills;
            self.step()?;
            if self.report.kills > before && self.report.kills.is_multiple_of(LOOK_EVERY) {
                self.look()?;
                writeln!(std::io::stderr(), "{} killed, {} points", self.report.kills, self.store.points.len())?;
            }
        }
        self.look()?;
        // And it is a good repository still: prune until one point of each VM is left, twice, so that the trash goes.
        for _ in 0..2 {
            self.store.undisturbed(&Verb::Prune { keep: 1 })?;
        }
        self.look()
    }

    /// Starts something and kills it at some moment, unless it has ended by then.
    fn step(&mut self) -> Result<(), Wrong> {
        let vm = self.choices.of(0..VMS.len() as u64) as usize;
        let (index, verb) = match self.choices.of(0..100) {
            0..60 => {
                self.images[vm].change(&mut self.choices)?;
                (0, Verb::Backup { vm: VMS[vm].to_owned(), image: &self.images[vm] })
            }
            60..85 => (1, Verb::Prune { keep: 1 + self.choices.of(0..3) }),
            85..95 => (2, Verb::Restore { point: self.store.any_point(&mut self.choices)? }),
            _ => {
                self.store.spoil(&mut self.choices)?;
                (3, Verb::Repair)
            }
        };
        let until = self.usual[index].as_micros() as u64 * 11 / 10;
        let after = Duration::from_micros(self.choices.of(0..until.max(1)));
        let begun = Instant::now();
        match self.store.killed(&verb, after)? {
            Ended::Killed => {
                self.report.kills += 1;
                let Report { killed_backups, killed_prunes, killed_restores, killed_repairs, .. } = self.report;
                let counted = [killed_backups, killed_prunes, killed_restores, killed_repairs];
                *counted.into_iter().nth(index).expect("one for each verb") += 1;
                if matches!(verb, Verb::Repair) {
                    // What was begun is done, or the damage is still there.
                    self.store.undisturbed(&verb)?;
                }
                // Without it, a machine that has become slower would never let one come near its end.
                self.usual[index] = self.usual[index].mul_f64(1.03);
            }
            Ended::Well => {
                self.report.ended += 1;
                self.usual[index] = (self.usual[index] * 3 + begun.elapsed()) / 4;
            }
            Ended::Badly(said) => self.report.violation(&format!("{verb:?} failed undisturbed: {said}")),
        }
        self.report.points_kept += self.store.settle(&verb).map_or_else(|wrong| self.broken(&wrong), Ok)?;
        Ok(())
    }

    /// A finding, unless the rig itself cannot go on.
    fn broken(&mut self, wrong: &Wrong) -> Result<u64, Wrong> {
        self.report.violation(&wrong.to_string());
        if self.report.violations > 20 { Err("too much is broken to go on".into()) } else { Ok(0) }
    }

    /// Everything is read, and every point restored.
    fn look(&mut self) -> Result<(), Wrong> {
        self.report.looks += 1;
        match self.store.all_is_well() {
            Ok(restored) => self.report.restores_byte_equal += restored,
            Err(wrong) => drop(self.broken(&wrong)?),
        }
        Ok(())
    }
}

/// Bytes that the files below a folder have.
fn bytes_below(folder: &Path) -> Result<u64, Wrong> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
