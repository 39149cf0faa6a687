//! A folder host: a folder whose sub-folders are VMs. This file finds VMs and their disks; nothing here writes.
//!
//! What counts as a disk of a VM:
//! - with `disks` in its `vm.yaml`, exactly those files, in that order;
//! - else every regular file that ends in `.raw`, `.img`, `.bin` or `.disk`;
//! - failing those, every regular file that is not hidden and does not end in `.yaml`, `.yml`, `.txt` or `.md`.
//!
//! Images are raw. Symbolic links are not followed. A folder that looks like a VM and cannot be listed is reported
//! as a problem, and so is a file that may be an image and was left out: absence from the list must never be an
//! accident. Hidden folders are not VMs; one that holds an image is reported, unless farshore made it.

use crate::error::{HostError, Result};
use crate::image::{self, Access};
use crate::vm_file::{StampsArea, VM_FILE, VmFile};
use farshore_schemas::ids::{DiskName, VmName, VmRef};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::messages::host::VmFacts;
use farshore_schemas::units::ByteCount;
use std::collections::BTreeMap;
use std::fs::FileType;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The start of every name that farshore itself gives to a folder beside the VMs.
pub const OWN_PREFIX: &str = ".farshore-";

const STOP_PATIENCE: Duration = Duration::from_secs(10);
const IMAGE_ENDINGS: [&str; 4] = [".raw", ".img", ".bin", ".disk"];
const OTHER_FORMATS: [&str; 7] = [".qcow2", ".qcow", ".vmdk", ".vhd", ".vhdx", ".vdi", ".ova"];
const NO_IMAGE_ENDINGS: [&str; 4] = [".yaml", ".yml", ".txt", ".md"];

/// A folder whose sub-folders are VMs.
#[derive(Debug, Clone)]
pub struct FolderHost {
    path: PathBuf,
    /// How long a guest may take to sync and end before it is killed.
    stop_patience: Duration,
}

/// What a host holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The VMs, by name.
    pub vms: Vec<VmFacts>,
    /// What could not be listed, or was left out, by name. A host with problems is not wholly known.
    pub problems: Vec<Problem>,
}

/// Something on a host that wants attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The folder's or file's name, made readable.
    pub subject: String,
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// The code of what was left out because it is no VM, or no disk of one, by the host's own rules.
pub const LEFT_OUT: &str = "FS-HOST-LEFT-OUT";

impl Problem {
    fn of(subject: &str, error: &HostError) -> Problem {
        Problem {
            subject: subject.to_owned(),
            code: error.code(),
            message: error.to_string(),
            advice: error.advice().to_owned(),
        }
    }

    fn left_out(subject: String, message: String, advice: &str) -> Problem {
        Problem { subject, code: LEFT_OUT, message, advice: advice.to_owned() }
    }
}

/// A VM's folder as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) disks: Vec<DiskFacts>,
    pub(crate) stamps: Option<StampsArea>,
    pub(crate) origin: Option<VmRef>,
    left_out: Vec<String>,
}

impl FolderHost {
    /// Opens a folder host.
    ///
    /// # Errors
    /// `FS-HOST-FOLDER-MISSING`, `-NOT-FOLDER`, `-UNREADABLE`.
    pub fn open(path: &Path) -> Result<FolderHost> {
        let unreadable = |source| HostError::FolderUnreadable { path: path.to_owned(), source };
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(HostError::FolderMissing { path: path.to_owned() });
            }
            Err(error) => return Err(unreadable(error)),
        };
        if !path.is_dir() {
            return Err(HostError::NotAFolder { path });
        }
        std::fs::read_dir(&path).map_err(unreadable)?;
        Ok(FolderHost { path, stop_patience: STOP_PATIENCE })
    }

    /// Sets how long a guest may take to sync and end at power-off before it is killed; 10 s otherwise.
    #[must_use]
    pub fn with_stop_patience(self, stop_patience: Duration) -> FolderHost {
        FolderHost { stop_patience, ..self }
    }

    pub(crate) fn stop_patience(&self) -> Duration {
        self.stop_patience
    }

    /// The folder, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the VMs.
    ///
    /// # Errors
    /// When the folder is gone or cannot be read to its end: it is never taken for an empty one.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for (name, kind) in entries(&self.path)? {
            self.list_entry(&name, kind, &mut listing);
        }
        Ok(listing)
    }

    fn list_entry(&self, name: &Entry, kind: FileType, listing: &mut Listing) {
        let shown = name.shown();
        let Entry::Text(text) = name else {
            let error = HostError::VmUnusable {
                path: self.path.join(&shown),
                why: "its name is not UTF-8; rename it".to_owned(),
            };
            return listing.problems.push(Problem::of(&shown, &error));
        };
        if kind.is_symlink() {
            let message = format!("{text} is a symbolic link, and those are not followed");
            return listing.problems.push(Problem::left_out(shown, message, "Move the VM's folder itself here."));
        }
        if !kind.is_dir() {
            if has_ending(text, &IMAGE_ENDINGS) || has_ending(text, &OTHER_FORMATS) {
                let message = format!("the image {text} lies in the host's folder itself, so it belongs to no VM");
                let advice = "Make a folder for the VM and move its images there.";
                listing.problems.push(Problem::left_out(shown, message, advice));
            }
            return;
        }
        if text.starts_with('.') {
            if !text.starts_with(OWN_PREFIX) && self.holds_image(text) {
                let message = format!("the hidden folder {text} holds an image; hidden folders are not VMs");
                listing.problems.push(Problem::left_out(shown, message, "Rename it if it is a VM."));
            }
            return;
        }
        match self.vm_facts(text) {
            Ok((vm, left_out)) => {
                for file in left_out {
                    let message = format!("{file} in VM {text} may be an image and is not among its disks");
                    let advice = "Name the VM's disks in its vm.yaml.";
                    listing.problems.push(Problem::left_out(format!("{text}/{file}"), message, advice));
                }
                listing.vms.push(vm);
            }
            Err(error) => listing.problems.push(Problem::of(&shown, &error)),
        }
    }

    fn vm_facts(&self, text: &str) -> Result<(VmFacts, Vec<String>)> {
        let vm = VmName::parse(text)?;
        let layout = self.layout(&vm)?;
        let running = self.status(&vm)?.is_running();
        Ok((VmFacts { vm, disks: layout.disks, running, origin: layout.origin }, layout.left_out))
    }

    fn holds_image(&self, folder: &str) -> bool {
        entries(&self.path.join(folder)).is_ok_and(|found| {
            found.keys().any(|name| matches!(name, Entry::Text(text) if has_ending(text, &IMAGE_ENDINGS)))
        })
    }

    /// A VM's disks, in order.
    ///
    /// # Errors
    /// `FS-HOST-VM-MISSING`, or what is wrong with the VM's folder.
    pub fn disks(&self, vm: &VmName) -> Result<Vec<DiskFacts>> {
        Ok(self.layout(vm)?.disks)
    }

    /// The VM that this one stands for, if its `vm.yaml` names one.
    ///
    /// # Errors
    /// `FS-HOST-VM-MISSING`, or what is wrong with the VM's folder.
    pub fn origin(&self, vm: &VmName) -> Result<Option<VmRef>> {
        Ok(self.layout(vm)?.origin)
    }

    /// Where the image of a disk lies. The disk must be one of the VM's.
    ///
    /// # Errors
    /// `FS-HOST-VM-MISSING`, `FS-HOST-DISK-MISSING`, or what is wrong with the VM's folder.
    pub fn disk_path(&self, vm: &VmName, disk: &DiskName) -> Result<PathBuf> {
        let dir = self.vm_dir(vm)?;
        if !read_layout(&dir)?.disks.iter().any(|known| &known.name == disk) {
            return Err(HostError::disk_missing(&dir, disk));
        }
        Ok(dir.join(disk.as_str()))
    }

    /// The area that the guest of this VM stamps: as `vm.yaml` says, else `STAMPS.BIN` in a file system made by
    /// farshore, else none.
    ///
    /// # Errors
    /// `FS-HOST-VM-MISSING`, or what is wrong with the VM's folder.
    pub fn stamps_area(&self, vm: &VmName) -> Result<Option<StampsArea>> {
        let dir = self.vm_dir(vm)?;
        find_stamps_area(&dir, &read_layout(&dir)?)
    }

    /// The VM's folder, which must be a folder and no symbolic link.
    pub(crate) fn vm_dir(&self, vm: &VmName) -> Result<PathBuf> {
        let dir = self.path.join(vm.as_str());
        match std::fs::symlink_metadata(&dir) {
            Ok(meta) if meta.is_dir() => Ok(dir),
            Ok(_) => {
                let why = "it is not a folder, or is a symbolic link to one".to_owned();
                Err(HostError::VmUnusable { path: dir, why })
            }
            // A whole host that is gone must not look like one VM that is gone.
            Err(error) if error.kind() == ErrorKind::NotFound => match FolderHost::open(&self.path) {
                Ok(_) => Err(HostError::VmMissing { path: dir }),
                Err(error) => Err(error),
            },
            Err(error) => Err(HostError::io("looking at", &dir)(error)),
        }
    }

    fn layout(&self, vm: &VmName) -> Result<Layout> {
        read_layout(&self.vm_dir(vm)?)
    }
}

/// Reads what a VM's folder holds.
pub(crate) fn read_layout(dir: &Path) -> Result<Layout> {
    let file = VmFile::read(dir)?.unwrap_or_default();
    let (names, left_out) = match file.disks {
        Some(names) => (names, Vec::new()),
        None => choose_disks(dir)?,
    };
    let mut disks = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(name.as_str());
        let image = image::open(&path, Access::Read)?;
        let size = image.metadata().map_err(HostError::io("looking at", &path))?.len();
        disks.push(DiskFacts { name, size: ByteCount(size) });
    }
    if let Some(area) = &file.stamps {
        check_area(area, &disks).map_err(|message| {
            let (line, column) = file.stamps_at;
            HostError::VmYaml { path: dir.join(VM_FILE), line, column, message }
        })?;
    }
    Ok(Layout { disks, stamps: file.stamps, origin: file.origin, left_out })
}

pub(crate) fn find_stamps_area(dir: &Path, layout: &Layout) -> Result<Option<StampsArea>> {
    if layout.stamps.is_some() {
        return Ok(layout.stamps.clone());
    }
    for disk in &layout.disks {
        let path = dir.join(disk.name.as_str());
        let image = image::open(&path, Access::Read)?;
        if let Some(span) = crate::fat::find_stamps_file(&image, &path)? {
            return Ok(Some(StampsArea { disk: disk.name.clone(), offset: span.start, length: span.end - span.start }));
        }
    }
    Ok(None)
}

fn check_area(area: &StampsArea, disks: &[DiskFacts]) -> std::result::Result<(), String> {
    let Some(disk) = disks.iter().find(|disk| disk.name == area.disk) else {
        return Err(format!("stamps: {} is not a disk of this VM", area.disk));
    };
    if area.offset.checked_add(area.length).is_none_or(|end| end > disk.size.0) {
        return Err(format!("stamps: the area ends after the disk {} ({})", area.disk, disk.size));
    }
    Ok(())
}

/// Which files are disks when `vm.yaml` does not say, and which files may be images and are not taken.
fn choose_disks(dir: &Path) -> Result<(Vec<DiskName>, Vec<String>)> {
    let unusable = |why: String| HostError::VmUnusable { path: dir.to_owned(), why };
    let mut images = Vec::new();
    let mut others = Vec::new();
    for (name, kind) in entries(dir)? {
        let shown = name.shown();
        if shown.starts_with('.') || has_ending(&shown, &NO_IMAGE_ENDINGS) || kind.is_dir() {
            continue;
        }
        if !matches!(name, Entry::Text(_)) {
            return Err(unusable(format!("the name of the file {shown} is not UTF-8; rename it")));
        }
        if kind.is_symlink() {
            return Err(unusable(format!(
                "{shown} is a symbolic link, and those are not followed; put the image here"
            )));
        }
        if has_ending(&shown, &OTHER_FORMATS) {
            return Err(unusable(format!("{shown} is not a raw image; convert it")));
        }
        if !kind.is_file() {
            continue;
        }
        if has_ending(&shown, &IMAGE_ENDINGS) { images.push(shown) } else { others.push(shown) }
    }
    let (chosen, left_out) = if images.is_empty() { (others, Vec::new()) } else { (images, others) };
    if chosen.is_empty() {
        return Err(unusable("it holds no disk image; put one there, or move the folder away".to_owned()));
    }
    let names = chosen.iter().map(|name| DiskName::parse(name)).collect::<std::result::Result<_, _>>()?;
    Ok((names, left_out))
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Text(String),
    NotText(std::ffi::OsString),
}

impl Entry {
    /// The name for people.
    fn shown(&self) -> String {
        match self {
            Entry::Text(text) => text.clone(),
            Entry::NotText(bytes) => bytes.to_string_lossy().into_owned(),
        }
    }
}

/// The entries of a folder by name, or an error when it cannot be read to its end.
fn entries(dir: &Path) -> Result<BTreeMap<Entry, FileType>> {
    let unreadable = |source: std::io::Error| {
        if source.kind() == ErrorKind::NotFound {
            return HostError::FolderMissing { path: dir.to_owned() };
        }
        HostError::FolderUnreadable { path: dir.to_owned(), source }
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            // It went away between reading the folder and looking at it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(error)),
        };
        found.insert(entry.file_name().into_string().map_or_else(Entry::NotText, Entry::Text), kind);
    }
    Ok(found)
}

fn has_ending(name: &str, endings: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}
