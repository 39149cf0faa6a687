//! What a guest does when it is asked. A caller that talks nonsense, or not at all, gets an error or nothing, and the
//! guest goes on.

use super::{Guest, log, now};
use crate::error::{HostError, Result};
use crate::stamps::STAMP_BLOCK;
use crate::talk::{GuestStatus, LONGEST_REQUEST, Reply, Request, read_line};
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a caller may take to say its line: it holds up the stamps.
const CALLER_PATIENCE: Duration = Duration::from_secs(2);

impl Guest {
    /// Answers one caller; true when the guest is to end.
    pub(super) fn answer_one(&mut self) -> Result<bool> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => return Ok(false),
            Err(error) => return Err(HostError::io("listening in", &self.run.path)(error)),
        };
        let request = match hear(&stream) {
            Ok(request) => request,
            Err(error) => {
                log(&format!("a caller could not be understood: {error}"));
                let code = "FS-HOST-GUEST-REQUEST".to_owned();
                tell(stream, &Reply::Refused { code, message: error.to_string() });
                return Ok(false);
            }
        };
        if request == Request::Stop {
            self.stop()?;
            tell(stream, &Reply::Done);
            return Ok(true);
        }
        match self.answer(&request) {
            Ok(reply) => tell(stream, &reply),
            Err(error) => {
                log(&format!("{request:?}: {error}"));
                tell(stream, &Reply::Refused { code: error.code().to_owned(), message: error.to_string() });
                // A disk that failed is not written to again: its state is unknown until it is opened anew.
                if matches!(error, HostError::Io { .. }) {
                    return Err(error);
                }
            }
        }
        Ok(false)
    }

    fn answer(&mut self, request: &Request) -> Result<Reply> {
        match request {
            Request::Status => Ok(Reply::Status(GuestStatus {
                count: self.stamper.as_ref().map_or(0, |stamper| stamper.count()),
                snapshots: self.disks.snapshot_names(),
            })),
            Request::Stop => Ok(Reply::Done),
            Request::SnapshotBegin { snapshot } => {
                let begin = self.disks.begin_snapshot(&self.run, snapshot, now())?;
                log(&format!("snapshot {snapshot} begins"));
                Ok(Reply::Begun(begin))
            }
            Request::SnapshotEnd { snapshot } => {
                self.disks.end_snapshot(&self.run, snapshot)?;
                log(&format!("snapshot {snapshot} ends"));
                Ok(Reply::Done)
            }
            Request::Write { seed } => self.write(*seed),
        }
    }

    fn write(&mut self, seed: u64) -> Result<Reply> {
        let mut bytes = 0;
        let mut file_systems = 0;
        for disk in 0..self.disks.count() {
            if self.disks.is_ours(disk)? {
                file_systems += 1;
                bytes += super::write::write_files(&mut self.disks, disk, seed)?;
                self.disks.sync(disk)?;
            }
        }
        if file_systems == 0 {
            let Some(stamper) = &mut self.stamper else {
                return Err(HostError::NothingToWrite { vm: self.vm.clone() });
            };
            for _ in 0..stamper.blocks() {
                stamper.stamp(&mut self.disks)?;
                bytes += STAMP_BLOCK;
            }
            stamper.sync(&mut self.disks)?;
        }
        Ok(Reply::Written { bytes })
    }

    /// Makes everything durable and signs off, so that the disks at rest are known to be as this guest left them.
    fn stop(&mut self) -> Result<()> {
        self.disks.sync_all()?;
        self.disks.sign_off();
        self.run.remove("guest.sock")?;
        self.run.remove("guest.json")
    }
}

fn hear(stream: &UnixStream) -> std::io::Result<Request> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CALLER_PATIENCE))?;
    stream.set_write_timeout(Some(CALLER_PATIENCE))?;
    let line = read_line(stream, LONGEST_REQUEST)?;
    Ok(serde_json::from_slice(&line)?)
}

fn tell(mut stream: UnixStream, reply: &Reply) {
    let told = serde_json::to_vec(reply).map_err(std::io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        stream.write_all(&line)
    });
    if let Err(error) = told {
        log(&format!("a caller was gone before its answer: {error}"));
    }
}
