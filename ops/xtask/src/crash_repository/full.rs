//! A disk that is full: backup, prune and restore on a small file system in memory that is a little larger each time, until
//! nothing stops them any more. So each place where they write is the one where no space is left, once.

use super::image::Image;
use super::store::{Ended, Store, Verb};
use super::{Report, VMS, bytes_below};
use crate::crash::{Choices, Wrong};
use std::path::{Path, PathBuf};
use std::process::Command;

/// By how much the disk grows: a page, the least that such a file system gives.
const STEP: u64 = 4096;
/// Room enough for everything.
const AMPLE: u64 = 256 << 20;

/// A file system in memory, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<SmallDisk, Wrong> {
        std::fs::create_dir_all(at)?;
        let disk = SmallDisk(at.to_owned());
        call(
            Command::new("mount").args(["-t", "tmpfs", "-o"]).arg(format!("size={AMPLE}")).arg("farshore-full").arg(at),
        )?;
        Ok(disk)
    }

    fn resize(&self, bytes: u64) -> Result<(), Wrong> {
        call(Command::new("mount").arg("-o").arg(format!("remount,size={bytes}")).arg(&self.0))
    }

    /// Bytes in use.
    fn used(&self) -> Result<u64, Wrong> {
        let told = rustix::fs::statvfs(&self.0)?;
        Ok((told.f_blocks - told.f_bfree) * told.f_frsize)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing is left to be done about a failure here: the folder cannot be deleted then, which is told.
        drop(call(Command::new("umount").arg("-l").arg(&self.0)));
    }
}

fn call(command: &mut Command) -> Result<(), Wrong> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("FS-CRASH-MOUNT: {command:?}: {said}; full disks are tried on a file system in memory, which only root can mount").into())
}

/// What fills the disk.
#[derive(Debug, Clone, Copy)]
enum Work {
    Backup,
    Prune,
    Restore,
}

/// A disk and what is done on it.
struct Rig<'a> {
    disk: SmallDisk,
    store: Store,
    images: Vec<Image>,
    choices: Choices,
    report: &'a mut Report,
}

/// Tries all of it; the more was killed, the finer.
pub(super) fn run(folder: &Path, program: &Path, report: &mut Report) -> Result<(), Wrong> {
    // Into how many steps the size of the repository is cut, and how many pages before the size that is enough are tried one
    // by one.
    let (sizes, fine) = ((report.kills / 10).clamp(4, 40), (report.kills / 20).clamp(3, 24));
    std::fs::create_dir_all(folder)?;
    let mut choices = Choices::new(report.seed, 2);
    let disk = SmallDisk::mount(&folder.join("disk"))?;
    let images = VMS
        .iter()
        .map(|vm| Image::make(&folder.join(format!("{vm}.raw")), &mut choices))
        .collect::<Result<Vec<_>, _>>()?;
    let store = Store::make(&disk.0, program, None)?;
    let mut rig = Rig { disk, store, images, choices, report };
    for work in [Work::Backup, Work::Prune, Work::Restore] {
        // Coarsely over all that is written, then page by page over the end: there the small files lie.
        let coarse = (bytes_below(&rig.store.folder.join("r"))? / sizes).max(fine * STEP);
        let enough = rig.fill(work, (0, coarse))?;
        rig.fill(work, (enough.saturating_sub(fine * STEP), STEP))?;
    }
    Ok(())
}

impl Rig<'_> {
    /// Points enough to be dropped, and something new to be read in.
    fn prepare(&mut self) -> Result<(), Wrong> {
        while self.store.points.len() < 3 * VMS.len() {
            for (vm, image) in VMS.iter().zip(&mut self.images) {
                image.change(&mut self.choices)?;
                self.store.undisturbed(&Verb::Backup { vm: (*vm).to_owned(), image })?;
            }
        }
        self.images[0].change(&mut self.choices)
    }

    /// With `first` bytes left, and `step` more each time, until it is done. Answers with how many.
    fn fill(&mut self, work: Work, (first, step): (u64, u64)) -> Result<u64, Wrong> {
        self.prepare()?;
        let mut left = first;
        while !self.attempt(work, left)? {
            left += step;
            if left > AMPLE / 2 {
                self.report.violation(&format!("{work:?} still fails with {left} bytes left"));
                break;
            }
        }
        // It goes on working.
        self.store.undisturbed(&Verb::Prune { keep: 2 })?;
        Ok(left)
    }

    /// Whether it was done with so many bytes left.
    fn attempt(&mut self, work: Work, left: u64) -> Result<bool, Wrong> {
        let verb = match work {
            Work::Backup => Verb::Backup { vm: VMS[0].to_owned(), image: &self.images[0] },
            Work::Prune => Verb::Prune { keep: 1 },
            Work::Restore => Verb::Restore { point: self.store.any_point(&mut self.choices)? },
        };
        self.disk.resize(self.disk.used()?.max(STEP) + left)?;
        let ended = self.store.tried(&verb)?;
        self.disk.resize(AMPLE)?;
        let settled = self.store.settle(&verb).and_then(|_| self.store.all_is_well());
        self.store.clear_out()?;
        let report = &mut *self.report;
        match settled {
            Ok(restored) => report.restores_byte_equal += restored,
            Err(wrong) => report.violation(&format!("{work:?} with {left} bytes left: {wrong}")),
        }
        report.looks += 1;
        match &ended {
            Ended::Well => {}
            Ended::Badly(said) if said.contains("FS-") => report.full_disk_stops += 1,
            Ended::Badly(said) => report.violation(&format!("{work:?} with {left} bytes left: {said}")),
            Ended::Killed => report.violation(&format!("{work:?} with {left} bytes left died of a signal")),
        }
        Ok(matches!(ended, Ended::Well))
    }
}
