//! Making and removing VMs. A VM appears whole, by a rename, and bears who made it, so that a repeated order finds
//! its own work and nobody removes or takes over what somebody else made.

use crate::error::{HostError, Result};
use crate::folder::{FolderHost, OWN_PREFIX, read_layout};
use crate::image;
use crate::vm_file::{StampsArea, VM_FILE, VmFile};
use farshore_schemas::ids::{VmName, VmRef};
use farshore_schemas::messages::agent::DiskFacts;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Who made a VM's folder: one line of text in it.
const MADE_BY: &str = ".farshore-made-by";

/// A VM to be made.
#[derive(Debug, Clone)]
pub struct NewVm<'a> {
    /// Its name.
    pub vm: &'a VmName,
    /// Its disks; made empty (all holes) at these sizes.
    pub disks: &'a [DiskFacts],
    /// The VM that it stands for.
    pub origin: &'a VmRef,
    /// The area that its guest may stamp, where that is known.
    pub stamps: Option<&'a StampsArea>,
    /// Who makes it: a task's id, a replica's name. One line.
    pub made_by: &'a str,
}

impl FolderHost {
    /// Makes a VM with empty disks. Does nothing when a VM of that name, made by the same maker, is there.
    ///
    /// # Errors
    /// `FS-HOST-VM-EXISTS` when a VM of that name was made by somebody else.
    pub fn create_vm(&self, new: &NewVm<'_>) -> Result<()> {
        let path = self.path().join(new.vm.as_str());
        let exists = || HostError::VmExists { path: path.clone(), made_by: new.made_by.to_owned() };
        if fs::symlink_metadata(&path).is_ok() {
            return if made_by(&path)?.as_deref() == Some(new.made_by) { Ok(()) } else { Err(exists()) };
        }
        let draft = self.start_draft(new.vm)?;
        for disk in new.disks {
            let image = draft.join(disk.name.as_str());
            let file = File::create_new(&image).map_err(HostError::io("making", &image))?;
            file.set_len(disk.size.0).map_err(HostError::io("sizing", &image))?;
            file.sync_all().map_err(HostError::io("syncing", &image))?;
        }
        let about = VmFile {
            disks: Some(new.disks.iter().map(|disk| disk.name.clone()).collect()),
            stamps: new.stamps.cloned(),
            origin: Some(new.origin.clone()),
            ..VmFile::default()
        };
        write_durably(&draft.join(VM_FILE), about.text().as_bytes())?;
        write_durably(&draft.join(MADE_BY), new.made_by.as_bytes())?;
        read_layout(&draft)?;
        self.publish(&draft, &path, new.made_by)
    }

    /// An empty folder in which to make a VM; what an earlier attempt left is removed.
    pub(crate) fn start_draft(&self, vm: &VmName) -> Result<PathBuf> {
        let draft = self.own_path("new", vm);
        remove_folder(&draft)?;
        fs::create_dir(&draft).map_err(HostError::io("making", &draft))?;
        Ok(draft)
    }

    /// Gives a finished draft its name, durably, unless that name was taken meanwhile.
    pub(crate) fn publish(&self, draft: &Path, path: &Path, made_by: &str) -> Result<()> {
        image::sync_folder(draft)?;
        let no_replace = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, draft, rustix::fs::CWD, path, no_replace) {
            Ok(()) => image::sync_folder(self.path()),
            Err(rustix::io::Errno::EXIST) => {
                Err(HostError::VmExists { path: path.to_owned(), made_by: made_by.to_owned() })
            }
            Err(errno) => Err(HostError::os("renaming a new VM to", path)(errno)),
        }
    }

    /// Removes a VM that is off and that this maker made. Does nothing when there is none of that name.
    ///
    /// # Errors
    /// `FS-HOST-VM-NOT-OURS`, `FS-HOST-VM-RUNS`.
    pub fn remove_vm(&self, vm: &VmName, maker: &str) -> Result<()> {
        let gone = self.own_path("gone", vm);
        remove_folder(&gone)?;
        let path = match self.vm_dir(vm) {
            Ok(path) => path,
            Err(HostError::VmMissing { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        if made_by(&path)?.as_deref() != Some(maker) {
            return Err(HostError::NotOurs { path, made_by: maker.to_owned() });
        }
        self.refuse_while_running(vm)?;
        fs::rename(&path, &gone).map_err(HostError::io("removing", &path))?;
        image::sync_folder(self.path())?;
        remove_folder(&gone)
    }

    /// Who made a VM with [`FolderHost::create_vm`]; none for a VM that was found there.
    ///
    /// # Errors
    /// `FS-HOST-VM-MISSING`.
    pub fn made_by(&self, vm: &VmName) -> Result<Option<String>> {
        made_by(&self.vm_dir(vm)?)
    }

    fn own_path(&self, what: &str, vm: &VmName) -> PathBuf {
        self.path().join(format!("{OWN_PREFIX}{what}-{vm}"))
    }
}

fn made_by(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(MADE_BY);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(HostError::io("reading", &path)(error)),
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(HostError::io("removing", path)(error)),
    }
}

pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(HostError::io("making", path))?;
    file.write_all(bytes).map_err(HostError::io("writing", path))?;
    file.sync_all().map_err(HostError::io("syncing", path))
}
