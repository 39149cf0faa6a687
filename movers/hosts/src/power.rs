//! Power: starting a VM's guest so that it outlives this process, stopping it, and looking at it. Which epoch may start
//! is decided elsewhere (the agent's task table); here it is handed to the guest, which writes it down and stamps with it.

use crate::error::{HostError, Result};
use crate::folder::FolderHost;
use crate::guest::Start;
use crate::run::{GuestRecord, RunFolder};
use crate::talk::{GuestStatus, Reply, Request, ask};
use farshore_schemas::ids::{VmName, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::units::ByteCount;
use std::io::{ErrorKind, PipeReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a guest may take to come up (it reads its stamps and the open snapshots).
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a guest that ends by itself, or was killed, may take to let go of its disks.
const END_PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_READY_LINE: usize = 4096;

/// Whether a VM runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmStatus {
    /// No guest.
    Off,
    /// A guest holds the VM.
    Running(Box<GuestRecord>),
}

impl VmStatus {
    /// Whether a guest holds the VM.
    pub fn is_running(&self) -> bool {
        match self {
            VmStatus::Off => false,
            VmStatus::Running(_) => true,
        }
    }
}

/// How to start a VM.
#[derive(Debug, Clone, Copy)]
pub struct PowerOn<'a> {
    /// The VM that it stands for: itself, or the one it replaces.
    pub origin: &'a VmRef,
    /// The right to run; the guest stamps with it.
    pub epoch: &'a Epoch,
    /// The program whose first argument `guest` leads to [`crate::guest_main`]; an absolute path, as the guest is started
    /// in `/`.
    pub program: &'a Path,
}

/// What power-off found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoweredOff {
    /// It was off.
    WasOff,
    /// It synced its disks and ended.
    Stopped,
    /// It did not end in time and was killed.
    Killed,
}

impl FolderHost {
    /// Whether a VM runs. What says so is a lock that the guest holds while it lives, not a file it wrote.
    ///
    /// # Errors
    /// `FS-HOST-VM-MISSING`, or when its run folder cannot be read.
    pub fn status(&self, vm: &VmName) -> Result<VmStatus> {
        match RunFolder::find(&self.vm_dir(vm)?)? {
            Some(run) => status_of(&run, vm),
            None => Ok(VmStatus::Off),
        }
    }

    /// Starts a VM's guest. Does nothing when it runs under this epoch for this origin. Returns once the guest holds all
    /// disks and answers.
    ///
    /// # Errors
    /// `FS-HOST-VM-RUNS` when it runs under another epoch; `FS-HOST-GUEST-START` with the guest's reason.
    pub fn power_on(&self, vm: &VmName, how: &PowerOn<'_>) -> Result<()> {
        let dir = self.vm_dir(vm)?;
        crate::folder::read_layout(&dir)?;
        let run = RunFolder::make(&dir)?;
        if let VmStatus::Running(record) = status_of(&run, vm)? {
            return if &record.origin == how.origin && &record.epoch == how.epoch {
                Ok(())
            } else {
                Err(HostError::VmRuns { vm: vm.clone(), epoch: record.epoch.counter })
            };
        }
        let start = Start { vm: vm.clone(), origin: how.origin.clone(), epoch: how.epoch.clone() };
        launch(vm, &dir, &start, how.program)
    }

    /// Stops a VM's guest: it syncs its disks and ends; one that does not end in time is killed. Returns once no guest
    /// holds the disks.
    ///
    /// # Errors
    /// `FS-HOST-GUEST-STUCK` when it does not even end when killed.
    pub fn power_off(&self, vm: &VmName) -> Result<PoweredOff> {
        let Some(run) = RunFolder::find(&self.vm_dir(vm)?)? else { return Ok(PoweredOff::WasOff) };
        let VmStatus::Running(record) = status_of(&run, vm)? else { return Ok(PoweredOff::WasOff) };
        // A guest that does not answer is killed below like one that does not end.
        let asked = ask(&run, vm, &Request::Stop, self.stop_patience());
        if (asked.is_ok() || !run.guest_runs()?) && run.guest_lock(self.stop_patience())?.is_some() {
            return Ok(PoweredOff::Stopped);
        }
        kill(&run, vm, &record)?;
        Ok(PoweredOff::Killed)
    }

    /// Kills a VM's guest at once, as a power cut would: for drills.
    ///
    /// # Errors
    /// `FS-HOST-GUEST-STUCK` when it does not end.
    pub fn pull_the_plug(&self, vm: &VmName) -> Result<()> {
        let Some(run) = RunFolder::find(&self.vm_dir(vm)?)? else { return Ok(()) };
        match status_of(&run, vm)? {
            VmStatus::Off => Ok(()),
            VmStatus::Running(record) => kill(&run, vm, &record),
        }
    }

    /// Lets the guest write: a few files (about one percent of the disk) in each file system that farshore made, or else
    /// its stamps area once through. What is written follows from `seed`. Returns how much, once it is durable.
    ///
    /// # Errors
    /// `FS-HOST-VM-OFF`; what the guest says.
    pub fn guest_write(&self, vm: &VmName, seed: u64) -> Result<ByteCount> {
        let run = self.running(vm)?;
        match ask(&run, vm, &Request::Write { seed }, ANSWER_PATIENCE)? {
            Reply::Written { bytes } => Ok(ByteCount(bytes)),
            Reply::Status(_) | Reply::Done | Reply::Begun(_) | Reply::Refused { .. } => Err(misunderstood(vm)),
        }
    }

    /// Asks the guest how it is.
    ///
    /// # Errors
    /// `FS-HOST-VM-OFF`, `FS-HOST-GUEST-SILENT`.
    pub fn guest_status(&self, vm: &VmName) -> Result<GuestStatus> {
        let run = self.running(vm)?;
        match ask(&run, vm, &Request::Status, ANSWER_PATIENCE)? {
            Reply::Status(status) => Ok(status),
            Reply::Done | Reply::Begun(_) | Reply::Written { .. } | Reply::Refused { .. } => Err(misunderstood(vm)),
        }
    }

    fn running(&self, vm: &VmName) -> Result<RunFolder> {
        match RunFolder::find(&self.vm_dir(vm)?)? {
            Some(run) if run.guest_runs()? => Ok(run),
            Some(_) | None => Err(HostError::VmOff { vm: vm.clone() }),
        }
    }

    pub(crate) fn refuse_while_running(&self, vm: &VmName) -> Result<()> {
        match self.status(vm)? {
            VmStatus::Off => Ok(()),
            VmStatus::Running(record) => Err(HostError::VmRuns { vm: vm.clone(), epoch: record.epoch.counter }),
        }
    }
}

pub(crate) fn misunderstood(vm: &VmName) -> HostError {
    let source = std::io::Error::new(ErrorKind::InvalidData, "its answer does not fit the question");
    HostError::GuestSilent { vm: vm.clone(), source }
}

fn status_of(run: &RunFolder, vm: &VmName) -> Result<VmStatus> {
    if !run.guest_runs()? {
        return Ok(VmStatus::Off);
    }
    // A guest that is just starting holds the lock until it has written who it is.
    let _starting = run.lock()?;
    if !run.guest_runs()? {
        return Ok(VmStatus::Off);
    }
    match run.record()? {
        Some(record) => Ok(VmStatus::Running(Box::new(record))),
        // It removed its record and is about to end.
        None => match run.guest_lock(END_PATIENCE)? {
            Some(_) => Ok(VmStatus::Off),
            None => {
                let why = "it holds the VM and does not say who it is".to_owned();
                Err(HostError::GuestStuck { vm: vm.clone(), why })
            }
        },
    }
}

fn kill(run: &RunFolder, vm: &VmName, record: &GuestRecord) -> Result<()> {
    record.process.kill()?;
    match run.guest_lock(END_PATIENCE)? {
        Some(_) => Ok(()),
        None => {
            let why = format!("process {} was killed and still holds the disks", record.process.pid);
            Err(HostError::GuestStuck { vm: vm.clone(), why })
        }
    }
}

/// Starts the launcher, which starts the guest and ends: so the guest has no parent that could take it along, and leaves
/// no dead child to this process. The guest says on a pipe how it went.
fn launch(vm: &VmName, dir: &Path, start: &Start, program: &Path) -> Result<()> {
    let failed = |why: String| HostError::GuestStart { vm: vm.clone(), why };
    let order = serde_json::to_string(start).map_err(|error| failed(error.to_string()))?;
    let (mut ready, said) = std::io::pipe().map_err(HostError::io("making a pipe for", dir))?;
    let mut launcher = Command::new(program)
        .args(["guest", "launch"])
        .arg(dir)
        .arg(order)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(said)
        .stderr(Stdio::null())
        .spawn()
        .map_err(HostError::io("starting", program))?;
    let line = read_ready_line(&mut ready);
    let ended = launcher.wait().map_err(HostError::io("waiting for", program))?;
    match line.map_err(HostError::io("listening to the guest in", dir))?.as_str() {
        "ready" => Ok(()),
        "" => Err(failed(format!("it ended without a word ({ended})"))),
        why => Err(failed(why.to_owned())),
    }
}

/// Reads until the line ends or everybody who could write it is gone.
fn read_ready_line(ready: &mut PipeReader) -> std::io::Result<String> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline = Instant::now() + START_PATIENCE;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < LONGEST_READY_LINE {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&*ready, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(std::io::Error::new(ErrorKind::TimedOut, "it did not come up in time")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut some = [0u8; 512];
        let count = ready.read(&mut some)?;
        if count == 0 {
            break;
        }
        line.extend_from_slice(&some[..count]);
    }
    Ok(String::from_utf8_lossy(&line).lines().next().unwrap_or_default().to_owned())
}
