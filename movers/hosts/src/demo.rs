//! VMs for the demo and for tests: real file systems on real images, made by the binary alone, the same for the same
//! seed; and a scratch disk that gives a VM made from somebody's own images a place for its guest to write.

use crate::error::{HostError, Result};
use crate::fat::locate_stamps_file;
use crate::folder::{FolderHost, read_layout};
use crate::image;
use crate::make::write_durably;
use crate::stamps::{STAMP_BLOCK, Stamp};
use crate::vm_file::{StampsArea, VM_FILE, VmFile};
use crate::volume::{self, Plan};
use farshore_schemas::ids::{DiskName, VmName};
use farshore_schemas::units::ByteCount;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The name of the disk that [`FolderHost::add_scratch_disk`] adds.
pub const SCRATCH_DISK: &str = "farshore-scratch.raw";
const SCRATCH_BYTES: u64 = 4 * 1024 * 1024;

/// A VM to be made up.
#[derive(Debug, Clone)]
pub struct DemoVm<'a> {
    /// Its name.
    pub vm: &'a VmName,
    /// Its content follows from this.
    pub seed: u64,
    /// The size of each disk, 4 MiB at least; about a third of it is filled.
    pub size: ByteCount,
    /// How many disks; 1 or more. The first holds the stamps area.
    pub disks: u8,
}

impl FolderHost {
    /// Makes a VM with FAT file systems on its disks (`system.raw`, `data1.raw`, ...). It appears whole, or not at all.
    ///
    /// # Errors
    /// `FS-HOST-VM-EXISTS`; `FS-HOST-VM-UNUSABLE` for a size that is too small.
    pub fn demo_vm(&self, demo: &DemoVm<'_>) -> Result<()> {
        let path = self.path().join(demo.vm.as_str());
        if fs::symlink_metadata(&path).is_ok() {
            return Err(HostError::VmExists { path, made_by: "the demo".to_owned() });
        }
        let draft = self.start_draft(demo.vm)?;
        let mut names = Vec::new();
        let mut stamps = None;
        for number in 0..demo.disks.max(1) {
            let name = if number == 0 { "system.raw".to_owned() } else { format!("data{number}.raw") };
            let disk = DiskName::parse(&name)?;
            let seed = demo.seed.wrapping_mul(0x100).wrapping_add(u64::from(number));
            let plan = Plan { seed, fill: demo.size.0 / 3, stamps: number == 0 };
            let area = make_disk(&draft, &disk, demo.size.0, &plan)?;
            stamps = stamps.or(area);
            names.push(disk);
        }
        let about = VmFile { disks: Some(names), stamps, ..VmFile::default() };
        write_durably(&draft.join(VM_FILE), about.text().as_bytes())?;
        self.publish(&draft, &path, "the demo")
    }

    /// Adds a small disk with a file system and a stamps area to a VM that is off, and names it in the VM's `vm.yaml`. Does
    /// nothing when the VM has it.
    ///
    /// # Errors
    /// `FS-HOST-VM-RUNS`; what is wrong with the VM.
    pub fn add_scratch_disk(&self, vm: &VmName, seed: u64) -> Result<()> {
        let dir = self.vm_dir(vm)?;
        let layout = read_layout(&dir)?;
        let disk = DiskName::parse(SCRATCH_DISK)?;
        let mut names: Vec<DiskName> = layout.disks.iter().map(|known| known.name.clone()).collect();
        let listed = VmFile::read(&dir)?.is_some_and(|file| file.stamps.is_some_and(|area| area.disk == disk));
        if listed && names.contains(&disk) {
            return Ok(());
        }
        self.refuse_while_running(vm)?;
        // Left by an attempt that did not get as far as vm.yaml: a VM without one lists it, too.
        names.retain(|name| name != &disk);
        let image = dir.join(SCRATCH_DISK);
        if image.exists() {
            fs::remove_file(&image).map_err(HostError::io("removing", &image))?;
        }
        let plan = Plan { seed, fill: SCRATCH_BYTES / 4, stamps: true };
        let stamps = make_disk(&dir, &disk, SCRATCH_BYTES, &plan)?;
        names.push(disk);
        let about = VmFile { disks: Some(names), stamps, origin: layout.origin, ..VmFile::default() };
        let draft = dir.join(".vm.yaml.new");
        write_durably(&draft, about.text().as_bytes())?;
        let path = dir.join(VM_FILE);
        fs::rename(&draft, &path).map_err(HostError::io("naming", &path))?;
        image::sync_folder(&dir)
    }
}

/// Makes one disk; the stamps area on it, if it is to have one.
fn make_disk(dir: &Path, disk: &DiskName, size: u64, plan: &Plan) -> Result<Option<StampsArea>> {
    let path = dir.join(disk.as_str());
    if size < volume::SMALLEST {
        let why = format!("a disk with a file system needs {} at least", ByteCount(volume::SMALLEST));
        return Err(HostError::VmUnusable { path, why });
    }
    let file =
        File::options().read(true).write(true).create_new(true).open(&path).map_err(HostError::io("making", &path))?;
    file.set_len(size).map_err(HostError::io("sizing", &path))?;
    volume::make(&file, size, plan).map_err(|source| HostError::Fat { path: path.clone(), source })?;
    let mut area = None;
    if plan.stamps {
        let span = locate_stamps_file(&file, &path)?.ok_or_else(|| HostError::Fat {
            path: path.clone(),
            source: std::io::Error::other("the stamps file does not lie in one piece"),
        })?;
        let blank = Stamp::blank()?.encode();
        for at in span.clone().step_by(STAMP_BLOCK as usize) {
            file.write_all_at(blank.as_slice(), at).map_err(HostError::io("writing", &path))?;
        }
        area = Some(StampsArea { disk: disk.clone(), offset: span.start, length: span.end - span.start });
    }
    file.sync_all().map_err(HostError::io("syncing", &path))?;
    Ok(area)
}
