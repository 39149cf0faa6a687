//! The guest: a small process that stands for a running VM. It holds the VM's disks exclusively, stamps a block about
//! every 20 ms, keeps snapshots readable by copying a block before it overwrites it, and obeys its socket. It has no
//! parent and outlives whoever started it; it ends when it is told to, when a disk fails, or when its folder is gone.
//!
//! One thread does all of it in turn, so that a snapshot begins between two writes.

mod answer;
pub(crate) mod disks;
mod stamper;
mod write;

use crate::error::{HostError, Result};
use crate::folder::{find_stamps_area, read_layout};
use crate::process::ProcessId;
use crate::run::{GuestRecord, RunFolder};
use disks::Disks;
use farshore_schemas::ids::{VmName, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::units::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use stamper::Stamper;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a block is stamped.
const STAMP_EVERY: Duration = Duration::from_millis(20);
/// How often the guest looks whether its folder is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A guest that has just ended, or an agent that looks, may hold the lock for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_LOG: u64 = 1024 * 1024;

/// What a guest is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    pub(crate) vm: VmName,
    pub(crate) origin: VmRef,
    pub(crate) epoch: Epoch,
}

/// The whole guest program: what the binary runs when its first argument is `guest`, with the arguments after that one.
/// Only [`crate::FolderHost::power_on`] starts it. Call it before any thread is started.
pub fn guest_main(args: &[OsString]) -> ExitCode {
    let outcome = match args {
        [verb, folder, order] if verb == "launch" => launch(Path::new(folder), order),
        [verb, folder, order] if verb == "serve" => serve(Path::new(folder), order),
        _ => Err("usage: guest launch|serve FOLDER ORDER; started by power-on only".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Whoever waits on the pipe reads one line; later there is nobody, and the log has it.
            say(&why.replace('\n', " "));
            log(&why);
            ExitCode::FAILURE
        }
    }
}

/// Leaves the session of whoever started us, starts the guest proper and ends, so that the guest is nobody's child.
fn launch(folder: &Path, order: &OsString) -> std::result::Result<(), String> {
    rustix::process::setsid().map_err(|errno| format!("leaving the session: {errno}"))?;
    let run = RunFolder::make(folder).map_err(|error| error.to_string())?;
    let path = run.path.join("guest.log");
    let long = std::fs::metadata(&path).is_ok_and(|meta| meta.len() > LONGEST_LOG);
    let opened = File::options().create(true).append(!long).write(true).truncate(long).open(&path);
    let errors = opened.map_err(|error| format!("opening {}: {error}", path.display()))?;
    Command::new("/proc/self/exe")
        .args(["guest", "serve"])
        .arg(folder)
        .arg(order)
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("starting the guest: {error}"))?;
    Ok(())
}

fn serve(folder: &Path, order: &OsString) -> std::result::Result<(), String> {
    let order = order.to_str().ok_or("the order is not UTF-8")?;
    let start: Start = serde_json::from_str(order).map_err(|error| format!("the order cannot be read: {error}"))?;
    let mut guest = Guest::open(folder, start).map_err(|error| format!("{error} ({})", error.code()))?;
    say("ready");
    log(&format!("runs {} under epoch {} of {}", guest.vm, guest.epoch.counter, guest.epoch.site));
    let ended = guest.live();
    match &ended {
        Ok(end) => log(&format!("ends: {end:?}")),
        Err(error) => log(&format!("ends: {error} ({})", error.code())),
    }
    // The record is left when a disk failed: whoever looks finds who it was. The lock ends with the process.
    ended.map(|_| ()).map_err(|error| error.to_string())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more: then nobody needs to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn log(line: &str) {
    let at = now();
    // A log that cannot be written is no reason to let go of the disks.
    let _ = writeln!(std::io::stderr().lock(), "{}.{:03} {line}", at.0.div_euclid(1000), at.0.rem_euclid(1000));
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Why a guest ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    FolderGone,
}

struct Guest {
    vm: VmName,
    epoch: Epoch,
    run: RunFolder,
    disks: Disks,
    stamper: Option<Stamper>,
    listener: UnixListener,
    record: PathBuf,
    record_inode: u64,
    _lock: File,
}

impl Guest {
    /// Takes the VM's disks and goes on with what is under way there.
    fn open(dir: &Path, start: Start) -> Result<Guest> {
        let run = RunFolder::make(dir)?;
        let _starting = run.lock()?;
        let Some(lock) = run.guest_lock(LOCK_PATIENCE)? else {
            return Err(HostError::VmRuns { vm: start.vm, epoch: run.record()?.map_or(0, |r| r.epoch.counter) });
        };
        let layout = read_layout(dir)?;
        let area = find_stamps_area(dir, &layout)?;
        let mut disks = Disks::open(dir, &layout.disks)?;
        disks.resume_snapshots(&run)?;
        let process = ProcessId::own()?;
        let stamper = match area {
            Some(area) => Some(Stamper::open(&disks, &area, &start.epoch, &process)?),
            None => None,
        };
        run.remove("guest.sock")?;
        let (_folder, socket) = run.socket()?;
        let listener = UnixListener::bind(&socket).map_err(HostError::io("listening in", &run.path))?;
        listener.set_nonblocking(true).map_err(HostError::io("listening in", &run.path))?;
        let record = GuestRecord { process, vm: start.vm.clone(), origin: start.origin, epoch: start.epoch.clone() };
        run.write_record(&record)?;
        let record = run.record_path();
        let record_inode = std::fs::metadata(&record).map_err(HostError::io("looking at", &record))?.ino();
        Ok(Guest { vm: start.vm, epoch: start.epoch, run, disks, stamper, listener, record, record_inode, _lock: lock })
    }

    fn live(&mut self) -> Result<End> {
        let mut stamp_at = Instant::now();
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            let due = if self.stamper.is_some() { stamp_at.min(look_at) } else { look_at };
            if self.wait_until(due)? && self.answer_one()? {
                return Ok(End::Stopped);
            }
            let now = Instant::now();
            if now >= stamp_at
                && let Some(stamper) = &mut self.stamper
            {
                stamper.stamp(&mut self.disks)?;
                stamp_at = now + STAMP_EVERY;
            }
            if now >= look_at {
                if self.folder_gone() {
                    return Ok(End::FolderGone);
                }
                look_at = now + LOOK_EVERY;
            }
        }
    }

    /// Waits for a caller until `due`; whether one is there.
    fn wait_until(&self, due: Instant) -> Result<bool> {
        let left = due.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(HostError::os("waiting in", &self.run.path)(errno)),
        }
    }

    /// A VM whose folder was deleted or replaced has lost its disks: nobody could stop this process any more.
    fn folder_gone(&self) -> bool {
        !std::fs::metadata(&self.record).is_ok_and(|meta| meta.ino() == self.record_inode)
    }
}
