//! What can go wrong on a folder host. Each error names the thing, says why, and what to do; the code is stable.

use farshore_schemas::ids::{DiskName, VmName};
use farshore_schemas::messages::agent::Failure;
use std::io;
use std::path::{Path, PathBuf};

/// An error of a folder host or of a guest process.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The host's folder is not there.
    #[error("the host folder {path} does not exist")]
    FolderMissing {
        /// The folder.
        path: PathBuf,
    },
    /// The host's folder is something else.
    #[error("the host folder {path} is not a folder")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder cannot be read; never taken for an empty one.
    #[error("the folder {path} cannot be read: {source}")]
    FolderUnreadable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such VM.
    #[error("there is no VM folder {path}")]
    VmMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A VM's `vm.yaml` is wrong.
    #[error("{path}:{line}:{column}: {message}")]
    VmYaml {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// A folder that cannot be a VM as it is.
    #[error("{path} cannot be taken as a VM: {why}")]
    VmUnusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A disk that should be there is not.
    #[error("the disk image {path} does not exist")]
    DiskMissing {
        /// The image.
        path: PathBuf,
    },
    /// A disk image is not a regular file.
    #[error("{path} cannot be used as a disk image: {why}")]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// An image was changed by somebody else while it was read.
    #[error("the disk image {path} changed while it was read: {what}")]
    DiskChanged {
        /// The image.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Somebody else holds the image.
    #[error("the disk image {path} is in use by another process")]
    DiskBusy {
        /// The image.
        path: PathBuf,
    },
    /// A VM of that name exists and this task did not make it.
    #[error("a VM folder {path} exists already and was not made by {made_by}")]
    VmExists {
        /// The folder.
        path: PathBuf,
        /// Who wanted to make it.
        made_by: String,
    },
    /// A VM may be removed only by whoever made it.
    #[error("the VM folder {path} was not made by {made_by}, so it is left alone")]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Who wanted to remove it.
        made_by: String,
    },
    /// The VM runs, and must not for this.
    #[error("the guest of VM {vm} runs (epoch {epoch})")]
    VmRuns {
        /// The VM.
        vm: VmName,
        /// The counter of its epoch; 0 also when the guest has not told yet.
        epoch: u64,
    },
    /// The VM is off, and must run for this.
    #[error("the guest of VM {vm} does not run")]
    VmOff {
        /// The VM.
        vm: VmName,
    },
    /// The guest did not come up.
    #[error("the guest of VM {vm} did not start: {why}")]
    GuestStart {
        /// The VM.
        vm: VmName,
        /// What it said.
        why: String,
    },
    /// The guest refused a command.
    #[error("the guest of VM {vm} refused: {message} ({code})")]
    GuestRefused {
        /// The VM.
        vm: VmName,
        /// The guest's code.
        code: String,
        /// What it said.
        message: String,
    },
    /// The guest does not answer.
    #[error("the guest of VM {vm} does not answer: {source}")]
    GuestSilent {
        /// The VM.
        vm: VmName,
        /// What the socket said.
        source: io::Error,
    },
    /// The guest did not end, not even when it was killed.
    #[error("the guest of VM {vm} did not end: {why}")]
    GuestStuck {
        /// The VM.
        vm: VmName,
        /// What was tried.
        why: String,
    },
    /// A snapshot is not there.
    #[error("VM {vm} has no snapshot {snapshot}")]
    SnapshotMissing {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        snapshot: String,
    },
    /// A snapshot is there but can no longer be read truthfully.
    #[error("the snapshot {path} cannot be trusted any more: {why}")]
    SnapshotLost {
        /// The snapshot's file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is neither a file system of ours nor a stamps area.
    #[error("VM {vm} has nothing that its guest may write to")]
    NothingToWrite {
        /// The VM.
        vm: VmName,
    },
    /// The file system on a disk refused.
    #[error("the FAT file system on {path} refused: {source}")]
    Fat {
        /// The image.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] farshore_schemas::ids::BadId),
    /// The operating system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Result of everything here.
pub type Result<T> = std::result::Result<T, HostError>;

impl HostError {
    /// For `map_err`: the operating system refused to do something to a path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostError {
        let path = path.to_owned();
        move |source| HostError::Io { doing, path, source }
    }

    /// For `map_err` with rustix.
    pub(crate) fn os(doing: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> HostError {
        let path = path.to_owned();
        move |errno| HostError::Io { doing, path, source: errno.into() }
    }

    /// The disk's path is missing or something else.
    pub(crate) fn opening(path: &Path) -> impl FnOnce(io::Error) -> HostError {
        let path = path.to_owned();
        move |source| match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOENT) => HostError::DiskMissing { path },
            Some(rustix::io::Errno::LOOP) => {
                HostError::NotAnImage { path, why: "it is a symbolic link, and those are not followed" }
            }
            Some(_) | None => HostError::Io { doing: "opening", path, source },
        }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            HostError::FolderMissing { .. } => "FS-HOST-FOLDER-MISSING",
            HostError::NotAFolder { .. } => "FS-HOST-FOLDER-NOT-FOLDER",
            HostError::FolderUnreadable { .. } => "FS-HOST-FOLDER-UNREADABLE",
            HostError::VmMissing { .. } => "FS-HOST-VM-MISSING",
            HostError::VmYaml { .. } => "FS-HOST-VM-YAML",
            HostError::VmUnusable { .. } => "FS-HOST-VM-UNUSABLE",
            HostError::DiskMissing { .. } => "FS-HOST-DISK-MISSING",
            HostError::NotAnImage { .. } => "FS-HOST-DISK-NOT-IMAGE",
            HostError::DiskChanged { .. } => "FS-HOST-DISK-CHANGED",
            HostError::DiskBusy { .. } => "FS-HOST-DISK-BUSY",
            HostError::VmExists { .. } => "FS-HOST-VM-EXISTS",
            HostError::NotOurs { .. } => "FS-HOST-VM-NOT-OURS",
            HostError::VmRuns { .. } => "FS-HOST-VM-RUNS",
            HostError::VmOff { .. } => "FS-HOST-VM-OFF",
            HostError::GuestStart { .. } => "FS-HOST-GUEST-START",
            HostError::GuestRefused { .. } => "FS-HOST-GUEST-REFUSED",
            HostError::GuestSilent { .. } => "FS-HOST-GUEST-SILENT",
            HostError::GuestStuck { .. } => "FS-HOST-GUEST-STUCK",
            HostError::SnapshotMissing { .. } => "FS-HOST-SNAPSHOT-MISSING",
            HostError::SnapshotLost { .. } => "FS-HOST-SNAPSHOT-LOST",
            HostError::NothingToWrite { .. } => "FS-HOST-NOTHING-TO-WRITE",
            HostError::Fat { .. } => "FS-HOST-FAT",
            HostError::Name(_) => "FS-HOST-NAME",
            HostError::Io { .. } => "FS-HOST-IO",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            HostError::FolderMissing { .. } => {
                "Make the folder, mount what should be there, or correct the host's path; nothing was taken as deleted."
            }
            HostError::NotAFolder { .. } => "Name a folder whose sub-folders are VMs.",
            HostError::FolderUnreadable { .. } => {
                "Check the mount and the permissions of the agent's user; nothing was taken as deleted."
            }
            HostError::VmMissing { .. } => "Look at the host's VMs, and correct the name.",
            HostError::VmYaml { .. } => "Correct the file at that line; the fields are disks, stamps and origin.",
            HostError::VmUnusable { .. } => "Follow the reason given, or move the folder out of the host's folder.",
            HostError::DiskMissing { .. } => "Bring the image back, or take it out of vm.yaml.",
            HostError::NotAnImage { .. } => "Put a raw image there as a regular file.",
            HostError::DiskChanged { .. } => {
                "Find what writes to the image beside its guest, stop it, and run the job again."
            }
            HostError::DiskBusy { .. } => "Wait for the other task or guest to end, then try again.",
            HostError::VmExists { .. } => "Choose another name, or move that folder away.",
            HostError::NotOurs { .. } => "Delete it by hand if it is no longer wanted.",
            HostError::VmRuns { .. } => "Power the VM off first.",
            HostError::VmOff { .. } => "Power the VM on first.",
            HostError::GuestStart { .. } => "Look at run/guest.log in the VM's folder.",
            HostError::GuestRefused { .. } => "Follow the guest's reason; run/guest.log has more.",
            HostError::GuestSilent { .. } => "Try again; if it stays silent, power the VM off.",
            HostError::GuestStuck { .. } => "Look for a hung disk or mount under the VM's folder, then try again.",
            HostError::SnapshotMissing { .. } => "Begin a new snapshot; this one has ended.",
            HostError::SnapshotLost { .. } => {
                "Drop it and begin a new snapshot; what was read from it must not be used."
            }
            HostError::NothingToWrite { .. } => "Give the VM a stamps area in vm.yaml, or a scratch disk.",
            HostError::Fat { .. } => "Check the file system, and that it has room.",
            HostError::Name(_) => "Correct the name.",
            HostError::Io { .. } => "Check the disk, its free space and the permissions of the agent's user.",
        }
    }

    /// Whether the same thing may succeed later without anybody's help.
    pub fn transient(&self) -> bool {
        match self {
            HostError::DiskChanged { .. }
            | HostError::DiskBusy { .. }
            | HostError::VmRuns { .. }
            | HostError::GuestSilent { .. }
            | HostError::GuestStuck { .. }
            | HostError::GuestStart { .. }
            | HostError::SnapshotMissing { .. }
            | HostError::SnapshotLost { .. }
            | HostError::FolderMissing { .. }
            | HostError::FolderUnreadable { .. }
            | HostError::Io { .. } => true,
            HostError::NotAFolder { .. }
            | HostError::VmMissing { .. }
            | HostError::VmYaml { .. }
            | HostError::VmUnusable { .. }
            | HostError::DiskMissing { .. }
            | HostError::NotAnImage { .. }
            | HostError::VmExists { .. }
            | HostError::NotOurs { .. }
            | HostError::VmOff { .. }
            | HostError::GuestRefused { .. }
            | HostError::NothingToWrite { .. }
            | HostError::Fat { .. }
            | HostError::Name(_) => false,
        }
    }

    /// As an agent reports it.
    pub fn failure(&self) -> Failure {
        Failure {
            code: self.code().to_owned(),
            message: self.to_string(),
            advice: self.advice().to_owned(),
            transient: self.transient(),
        }
    }

    pub(crate) fn disk_missing(dir: &Path, disk: &DiskName) -> HostError {
        HostError::DiskMissing { path: dir.join(disk.as_str()) }
    }
}
