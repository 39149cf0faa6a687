//! A VM's `run` folder: what its guest and its host's agent share. Made when first needed.
//!
//! - `lock`: held shortly by whoever starts a guest, or begins or ends a snapshot while no guest runs;
//! - `guest.lock`: held by the guest for its whole life. It alone says whether a guest runs;
//! - `guest.json`: who the guest is; left behind by one that was killed;
//! - `guest.sock`, `guest.log`; `snap-NAME.cow` (see `cow.rs`), `snap-NAME.broken` for one that could not be kept.

use crate::error::{HostError, Result};
use crate::image::lock_within;
use crate::process::ProcessId;
use farshore_schemas::ids::{VmName, VmRef};
use farshore_schemas::messages::Epoch;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for a lock that is only ever held shortly.
const SHORTLY: Duration = Duration::from_secs(10);
const LONGEST_RECORD: u64 = 64 * 1024;

/// What a guest writes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestRecord {
    /// Its process.
    pub process: ProcessId,
    /// The VM.
    pub vm: VmName,
    /// The VM that it stands for.
    pub origin: VmRef,
    /// The epoch that it runs under.
    pub epoch: Epoch,
}

/// A VM's `run` folder.
#[derive(Debug, Clone)]
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
}

impl RunFolder {
    /// The folder of the VM in `vm_dir`, made if it is not there.
    pub(crate) fn make(vm_dir: &Path) -> Result<RunFolder> {
        let path = vm_dir.join("run");
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(RunFolder { path }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => RunFolder::find(vm_dir)?.ok_or_else(|| {
                let why = "its entry run is not a folder; farshore needs that name".to_owned();
                HostError::VmUnusable { path: vm_dir.to_owned(), why }
            }),
            Err(error) => Err(HostError::io("making", &path)(error)),
        }
    }

    /// The folder if there is one.
    pub(crate) fn find(vm_dir: &Path) -> Result<Option<RunFolder>> {
        let path = vm_dir.join("run");
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(meta.is_dir().then_some(RunFolder { path })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HostError::io("looking at", &path)(error)),
        }
    }

    fn lock_file(&self, name: &str) -> Result<(File, PathBuf)> {
        let path = self.path.join(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(HostError::io("opening", &path))?;
        Ok((file, path))
    }

    /// Holds `lock` until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let (file, path) = self.lock_file("lock")?;
        if lock_within(&file, &path, SHORTLY)? { Ok(file) } else { Err(HostError::DiskBusy { path }) }
    }

    /// Holds `guest.lock` if no guest does within `patience`.
    pub(crate) fn guest_lock(&self, patience: Duration) -> Result<Option<File>> {
        let (file, path) = self.lock_file("guest.lock")?;
        Ok(lock_within(&file, &path, patience)?.then_some(file))
    }

    /// Whether a guest runs.
    pub(crate) fn guest_runs(&self) -> Result<bool> {
        let path = self.path.join("guest.lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(HostError::io("opening", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(source)) => Err(HostError::io("locking", &path)(source)),
        }
    }

    pub(crate) fn record_path(&self) -> PathBuf {
        self.path.join("guest.json")
    }

    /// What the guest wrote about itself, if anything.
    pub(crate) fn record(&self) -> Result<Option<GuestRecord>> {
        let path = self.record_path();
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(LONGEST_RECORD).read_to_end(&mut text).map_err(HostError::io("reading", &path))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HostError::io("reading", &path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| HostError::io("reading", &path)(error.into()))
    }

    pub(crate) fn write_record(&self, record: &GuestRecord) -> Result<()> {
        let draft = self.path.join("guest.json.new");
        let path = self.record_path();
        let text = serde_json::to_vec(record).map_err(|error| HostError::io("writing", &path)(error.into()))?;
        std::fs::write(&draft, text).map_err(HostError::io("writing", &draft))?;
        std::fs::rename(&draft, &path).map_err(HostError::io("naming", &path))
    }

    /// Removes a file of the folder; fine when it is not there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(HostError::io("removing", &path)(error)),
        }
    }

    /// The snapshots that are open, by file.
    pub(crate) fn snapshots(&self) -> Result<Vec<PathBuf>> {
        let refused = |source| HostError::FolderUnreadable { path: self.path.clone(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with("snap-") && name.ends_with(".cow")) {
                found.push(self.path.join(name));
            }
        }
        found.sort();
        Ok(found)
    }

    /// A path to the guest's socket that is short enough whatever the folder's path: by the open folder's number. It is
    /// good while the returned folder is open.
    pub(crate) fn socket(&self) -> Result<(File, PathBuf)> {
        let folder = File::open(&self.path).map_err(HostError::io("opening", &self.path))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/guest.sock", folder.as_raw_fd()));
        Ok((folder, path))
    }
}

/// Says that a snapshot must not be read any more, by its name. Needs no room on the disk.
pub(crate) fn break_snapshot(path: &Path) -> Result<()> {
    match std::fs::rename(path, path.with_extension("broken")) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(HostError::io("setting aside", path)(error)),
    }
}
