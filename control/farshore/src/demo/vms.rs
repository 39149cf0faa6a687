//! The demo's VMs: made by the binary, or copied from the user's folder; and SHA-256 over what their disks hold.

use crate::failure::Failure;
use crate::output::count;
use farshore_hosts::{DemoVm, FolderHost, StampsArea};
use farshore_schemas::ids::{DiskName, VmName};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::ByteCount;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What disks held: SHA-256 per disk, in hexadecimal.
pub(crate) type Hashes = BTreeMap<DiskName, String>;

fn host_failure(error: &farshore_hosts::HostError) -> Failure {
    Failure::coded(&error.to_string(), error.advice())
}

/// Opens the folder of a host, made if need be.
pub(crate) fn open(path: &Path) -> Result<FolderHost, Failure> {
    std::fs::create_dir_all(path).map_err(|error| Failure::io("make", path, &error))?;
    FolderHost::open(path).map_err(|error| host_failure(&error))
}

/// Makes three VMs with real file systems.
pub(crate) fn make(host: &FolderHost, seed: u64) -> Result<Vec<VmName>, Failure> {
    let wanted = [("web", 48, 1), ("db", 48, 2), ("files", 64, 1)];
    let mut names = Vec::new();
    for (number, (name, mib, disks)) in (1u64..).zip(wanted) {
        let vm: VmName = name.parse().map_err(|error: farshore_schemas::ids::BadId| Failure::defect(&error))?;
        let demo =
            DemoVm { vm: &vm, seed: seed.wrapping_mul(16).wrapping_add(number), size: ByteCount(mib << 20), disks };
        host.demo_vm(&demo).map_err(|error| host_failure(&error))?;
        names.push(vm);
    }
    Ok(names)
}

/// Copies the VMs of a folder of the user's, which is only read, and gives each a scratch disk for its guest to write to.
/// A sub-folder is a VM; images that lie in the folder itself are the disks of one VM, named as the folder.
pub(crate) fn copy(from: &Path, host: &FolderHost) -> Result<Vec<VmName>, Failure> {
    let theirs = FolderHost::open(from).map_err(|error| host_failure(&error))?;
    let listing = theirs.list().map_err(|error| host_failure(&error))?;
    let (loose, wrong): (Vec<_>, Vec<_>) = listing.problems.iter().partition(|problem| problem.code == LOOSE_IMAGE);
    if let Some(problem) = wrong.first() {
        return Err(Failure::new(problem.code, format!("{}: {}", problem.subject, problem.message), &problem.advice));
    }
    let mut sources = Vec::new();
    if !loose.is_empty() {
        let images = loose.iter().map(|problem| from.join(&problem.subject)).collect();
        sources.push((named_as(from), images));
    }
    for facts in &listing.vms {
        let disk = |disk: &DiskFacts| theirs.disk_path(&facts.vm, &disk.name).map_err(|error| host_failure(&error));
        sources.push((facts.vm.clone(), facts.disks.iter().map(disk).collect::<Result<Vec<_>, _>>()?));
    }
    if sources.is_empty() {
        let text = format!("there is no VM in {}", from.display());
        let advice = "put raw images there, or each VM's images into a folder of its own";
        return Err(Failure::new("FS-DEMO-NO-VMS", text, advice).not_found());
    }
    for (number, (vm, images)) in (0u64..).zip(&sources) {
        copy_vm(vm, images, host)?;
        host.add_scratch_disk(vm, number).map_err(|error| host_failure(&error))?;
    }
    Ok(sources.into_iter().map(|(vm, _)| vm).collect())
}

/// How a listing reports an image that lies beside the VM folders.
const LOOSE_IMAGE: &str = "FS-HOST-LEFT-OUT";

/// A VM named as a folder, or `images` when the folder's name is none for a VM.
fn named_as(folder: &Path) -> VmName {
    let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let name = whole.file_name().and_then(|name| VmName::parse(name.to_str()?).ok());
    name.unwrap_or_else(|| VmName::parse("images").expect("a legal name"))
}

fn copy_vm(vm: &VmName, images: &[PathBuf], host: &FolderHost) -> Result<(), Failure> {
    let target = host.path().join(vm.as_str());
    std::fs::create_dir(&target).map_err(|error| Failure::io("make", &target, &error))?;
    for image in images {
        let name = image.file_name().ok_or_else(|| Failure::defect(&format!("{} names no file", image.display())))?;
        copy_sparse(image, &target.join(name))?;
    }
    Ok(())
}

fn copy_sparse(source: &Path, target: &Path) -> Result<(), Failure> {
    let read = File::open(source).map_err(|error| Failure::io("read", source, &error))?;
    let written = farshore_repository::sparse::copy(&read, target);
    let written = written.map_err(|error| Failure::coded(&error.to_string(), "check the folder and free space"))?;
    written.sync_all().map_err(|error| Failure::io("write", target, &error))
}

/// SHA-256 over every disk of a VM. Where a guest stamps while it runs (`without` its area) reads as zeros.
pub(crate) fn hashes(host: &FolderHost, vm: &VmName, without: Option<&StampsArea>) -> Result<Hashes, Failure> {
    let disks = host.disks(vm).map_err(|error| host_failure(&error))?;
    let mut hashes = Hashes::new();
    for disk in disks {
        let path = host.disk_path(vm, &disk.name).map_err(|error| host_failure(&error))?;
        let area = without.filter(|area| area.disk == disk.name);
        hashes.insert(disk.name, hash(&path, area)?);
    }
    Ok(hashes)
}

fn hash(path: &Path, without: Option<&StampsArea>) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::io("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0u64;
    loop {
        let read = file.read_at(&mut buffer, at).map_err(failed)?;
        if read == 0 {
            break;
        }
        if let Some(area) = without {
            for (byte, place) in buffer[..read].iter_mut().zip(at..) {
                if (area.offset..area.offset + area.length).contains(&place) {
                    *byte = 0;
                }
            }
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The area where a VM's guest stamps.
pub(crate) fn stamps(host: &FolderHost, vm: &VmName) -> Result<Option<StampsArea>, Failure> {
    host.stamps_area(vm).map_err(|error| host_failure(&error))
}

/// Compares, and says so in a few words; a difference is a failure.
pub(crate) fn same(what: &str, held: &Hashes, holds: &Hashes) -> Result<String, Failure> {
    if held != holds {
        let text = format!("{what}: the disks should hold {held:?} and hold {holds:?}");
        return Err(Failure::new("FS-DEMO-PROOF", text, "this is a defect: please report it with the folder")
            .with(crate::failure::Exit::Mismatch));
    }
    let first = held.values().next().map(|hash| hash.chars().take(12).collect::<String>()).unwrap_or_default();
    let disks = count(held.len(), "disk");
    Ok(format!("{disks}, sha256 {first}…"))
}
