//! Telling processes apart: a pid alone may have been given to somebody else since, so it goes with the boot and the
//! tick at which its process was started.

use crate::error::{HostError, Result};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One process, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// Its pid.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub started_ticks: u64,
    /// The boot.
    pub boot: String,
}

impl ProcessId {
    /// This process.
    pub(crate) fn own() -> Result<ProcessId> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let path = Path::new("/proc/self/stat");
        let started_ticks = started_ticks(pid).ok_or_else(|| {
            HostError::io("reading", path)(std::io::Error::other("the process's start time is not there"))
        })?;
        Ok(ProcessId { pid, started_ticks, boot: boot_id()? })
    }

    /// Kills exactly this process, if it is there.
    pub(crate) fn kill(&self) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let path = Path::new("/proc").join(self.pid.to_string());
        let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(HostError::os("opening", &path)(errno)),
        };
        // Checked after the handle is open: from here on the pid cannot be given to another process.
        if self.boot != boot_id()? || started_ticks(self.pid) != Some(self.started_ticks) {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(HostError::os("killing", &path)(errno)),
        }
    }
}

/// The machine's boot.
pub(crate) fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(HostError::io("reading", path))?;
    Ok(text.trim().to_owned())
}

fn started_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in the second field may hold spaces and brackets: count from its last bracket. Field 22 is the start.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}
