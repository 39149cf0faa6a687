//! Snapshots from the agent's side: begun and ended by asking the guest, or here while no guest runs. Either way the
//! snapshot is a file in the run folder (`cow.rs`), so that a guest started later goes on keeping it.

use crate::cow::{self, Begin, FrozenDisk, Tail};
use crate::error::{HostError, Result};
use crate::folder::{FolderHost, read_layout};
use crate::image::{self, Access, ImageFacts};
use crate::power::misunderstood;
use crate::reader::SnapshotReader;
use crate::run::{RunFolder, break_snapshot};
use crate::talk::{Reply, Request, ask};
use farshore_schemas::ids::{DiskName, Name, VmName};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::Timestamp;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a guest may take to answer, or to come or go meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// A snapshot that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// The VM's disks as they were.
    pub disks: Vec<DiskFacts>,
    /// When that was.
    pub taken: Timestamp,
}

impl SnapshotFacts {
    fn of(begin: &Begin) -> SnapshotFacts {
        SnapshotFacts { disks: begin.disk_facts(), taken: begin.taken }
    }
}

impl FolderHost {
    /// Freezes a view of all disks of a VM at one moment, whether its guest runs or not. Beginning a snapshot that has
    /// begun tells about that one again.
    ///
    /// # Errors
    /// `FS-HOST-DISK-BUSY` while something other than a guest writes a disk; what the guest says.
    pub fn snapshot_begin(&self, vm: &VmName, snapshot: &Name) -> Result<SnapshotFacts> {
        let dir = self.vm_dir(vm)?;
        read_layout(&dir)?;
        let run = RunFolder::make(&dir)?;
        let request = Request::SnapshotBegin { snapshot: snapshot.clone() };
        match with_guest_or_lock(&run, vm, &request)? {
            Holder::Guest(Reply::Begun(begin)) => Ok(SnapshotFacts::of(&begin)),
            Holder::Guest(_) => Err(misunderstood(vm)),
            Holder::Us(_lock) => begin_at_rest(&dir, &run, snapshot),
        }
    }

    /// Lets go of a snapshot; fine when it is gone already.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub fn snapshot_end(&self, vm: &VmName, snapshot: &Name) -> Result<()> {
        let dir = match self.vm_dir(vm) {
            Ok(dir) => dir,
            Err(HostError::VmMissing { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(run) = RunFolder::find(&dir)? else { return Ok(()) };
        match with_guest_or_lock(&run, vm, &Request::SnapshotEnd { snapshot: snapshot.clone() })? {
            Holder::Guest(_) => Ok(()),
            Holder::Us(_lock) => remove_files(&run, snapshot),
        }
    }

    /// Opens a disk for reading: as it was when `snapshot` began, or, without one, as it lies (the VM must be off and stay
    /// off). Call [`SnapshotReader::finish`] at the end: only then is what was read known to be true.
    ///
    /// # Errors
    /// `FS-HOST-SNAPSHOT-MISSING`, `FS-HOST-SNAPSHOT-LOST`, `FS-HOST-VM-RUNS`, `FS-HOST-DISK-MISSING`.
    pub fn open_for_reading(&self, vm: &VmName, disk: &DiskName, snapshot: Option<&Name>) -> Result<SnapshotReader> {
        let dir = self.vm_dir(vm)?;
        let path = dir.join(disk.as_str());
        let Some(snapshot) = snapshot else {
            self.disk_path(vm, disk)?;
            self.refuse_while_running(vm)?;
            return SnapshotReader::at_rest(path);
        };
        let missing = || HostError::SnapshotMissing { vm: vm.clone(), snapshot: snapshot.to_string() };
        let run = RunFolder::find(&dir)?.ok_or_else(missing)?;
        let cow = cow::cow_path(&run.path, snapshot);
        let tail = match Tail::open(&cow) {
            Ok(tail) => tail,
            Err(HostError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let broken = cow.with_extension("broken");
                if broken.exists() {
                    let why =
                        "the guest could not keep it (is the disk full?), or a task wrote to the disks".to_owned();
                    return Err(HostError::SnapshotLost { path: broken, why });
                }
                return Err(missing());
            }
            Err(error) => return Err(error),
        };
        SnapshotReader::frozen(path, disk, tail, run)
    }

    /// Opens the image of a VM that is off for writing, and holds it locked: no guest can start on it meanwhile. Open
    /// snapshots of the VM end as broken, because nobody keeps the old content for them.
    ///
    /// # Errors
    /// `FS-HOST-VM-RUNS`, `FS-HOST-DISK-BUSY`, `FS-HOST-DISK-MISSING`.
    pub fn open_for_writing(&self, vm: &VmName, disk: &DiskName) -> Result<File> {
        let path = self.disk_path(vm, disk)?;
        self.refuse_while_running(vm)?;
        let run = RunFolder::make(&self.vm_dir(vm)?)?;
        let _lock = run.lock()?;
        let file = image::open(&path, Access::Write)?;
        image::lock(&file, &path)?;
        for snapshot in run.snapshots()? {
            break_snapshot(&snapshot)?;
        }
        Ok(file)
    }
}

/// Who may change snapshots now.
enum Holder {
    /// The guest, which did it and answered.
    Guest(Reply),
    /// We, while this lock is held: no guest runs and none can start.
    Us(File),
}

/// Asks the guest, or holds off any guest. A guest may be about to come or go: then it is tried again.
fn with_guest_or_lock(run: &RunFolder, vm: &VmName, request: &Request) -> Result<Holder> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lock = run.lock()?;
        if !run.guest_runs()? {
            return Ok(Holder::Us(lock));
        }
        drop(lock);
        match ask(run, vm, request, PATIENCE) {
            Ok(reply) => return Ok(Holder::Guest(reply)),
            Err(HostError::GuestSilent { source, .. }) if is_coming_or_going(&source) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

/// What a caller meets who comes before the guest listens, or when it is about to end.
fn is_coming_or_going(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    [NotFound, ConnectionRefused, ConnectionReset, BrokenPipe, UnexpectedEof].contains(&error.kind())
}

fn begin_at_rest(dir: &Path, run: &RunFolder, snapshot: &Name) -> Result<SnapshotFacts> {
    let path = cow::cow_path(&run.path, snapshot);
    match Tail::open(&path) {
        Ok(tail) => return Ok(SnapshotFacts::of(&tail.begin)),
        // Of an earlier boot, or never whole: it is begun anew.
        Err(_) => remove_files(run, snapshot)?,
    }
    let mut disks = Vec::new();
    let mut held = Vec::new();
    for disk in read_layout(dir)?.disks {
        let path = dir.join(disk.name.as_str());
        let file = image::open(&path, Access::Read)?;
        image::lock(&file, &path)?;
        disks.push(FrozenDisk { name: disk.name, facts: ImageFacts::of(&file, &path)? });
        held.push(file);
    }
    let boot = crate::process::boot_id()?;
    let begin = Begin { snapshot: snapshot.clone(), boot, taken: crate::guest::now(), disks };
    cow::create(&run.path, &begin)?;
    Ok(SnapshotFacts::of(&begin))
}

pub(crate) fn remove_files(run: &RunFolder, snapshot: &Name) -> Result<()> {
    ["cow", "broken", "new"].iter().try_for_each(|ending| run.remove(&format!("snap-{snapshot}.{ending}")))
}
