//! What an agent and a guest say to each other on the guest's socket: one request and one reply per connection, each a
//! line of JSON of bounded length.

use crate::cow::Begin;
use crate::error::{HostError, Result};
use crate::run::RunFolder;
use farshore_schemas::ids::{Name, VmName};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The longest request.
pub(crate) const LONGEST_REQUEST: u64 = 4096;
const LONGEST_REPLY: u64 = 8 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// How is it?
    Status,
    /// Sync and end.
    Stop,
    /// Freeze a view.
    SnapshotBegin { snapshot: Name },
    /// Let go of it.
    SnapshotEnd { snapshot: Name },
    /// Write files.
    Write { seed: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Status(GuestStatus),
    Done,
    Begun(Begin),
    Written { bytes: u64 },
    Refused { code: String, message: String },
}

/// What a guest says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStatus {
    /// The count of the newest stamp on the disk; 0 without a stamps area.
    pub count: u64,
    /// Snapshots that it keeps.
    pub snapshots: Vec<Name>,
}

/// Asks the guest of a VM.
pub(crate) fn ask(run: &RunFolder, vm: &VmName, request: &Request, patience: Duration) -> Result<Reply> {
    let reply = exchange(run, request, patience).map_err(|error| {
        if let HostError::Io { source, .. } = error { HostError::GuestSilent { vm: vm.clone(), source } } else { error }
    })?;
    match reply {
        Reply::Refused { code, message } => Err(HostError::GuestRefused { vm: vm.clone(), code, message }),
        Reply::Status(_) | Reply::Done | Reply::Begun(_) | Reply::Written { .. } => Ok(reply),
    }
}

fn exchange(run: &RunFolder, request: &Request, patience: Duration) -> Result<Reply> {
    let (_folder, path) = run.socket()?;
    let talk = || -> io::Result<Reply> {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let line = read_line(&stream, LONGEST_REPLY)?;
        Ok(serde_json::from_slice(&line)?)
    };
    talk().map_err(HostError::io("asking", &run.path))
}

/// One line, without its end.
pub(crate) fn read_line(stream: &UnixStream, longest: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(longest)).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line is not whole, or too long"));
    }
    Ok(line)
}
