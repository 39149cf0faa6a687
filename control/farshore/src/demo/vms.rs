//! The demo's VMs: made by the binary, or copied from the user's folder; and SHA-256 over what their disks hold.

use crate::failure::Failure;
use farshore_hosts::{DemoVm, FolderHost, StampsArea};
use farshore_schemas::ids::{DiskName, VmName};
use farshore_schemas::units::ByteCount;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

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
pub(crate) fn copy(from: &Path, host: &FolderHost) -> Result<Vec<VmName>, Failure> {
    let theirs = FolderHost::open(from).map_err(|error| host_failure(&error))?;
    let listing = theirs.list().map_err(|error| host_failure(&error))?;
    if let Some(problem) = listing.problems.first() {
        return Err(Failure::new(problem.code, format!("{}: {}", problem.subject, problem.message), &problem.advice));
    }
    if listing.vms.is_empty() {
        let text = format!("there is no VM in {}", from.display());
        return Err(
            Failure::new("FS-DEMO-NO-VMS", text, "put each VM's raw images into a folder of its own there").not_found()
        );
    }
    let mut names = Vec::new();
    for (number, facts) in (0u64..).zip(&listing.vms) {
        let target = host.path().join(facts.vm.as_str());
        std::fs::create_dir_all(&target).map_err(|error| Failure::io("make", &target, &error))?;
        for disk in &facts.disks {
            let source = theirs.disk_path(&facts.vm, &disk.name).map_err(|error| host_failure(&error))?;
            copy_sparse(&source, &target.join(disk.name.as_str()))?;
        }
        host.add_scratch_disk(&facts.vm, number).map_err(|error| host_failure(&error))?;
        names.push(facts.vm.clone());
    }
    Ok(names)
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
    let disks = if held.len() == 1 { "1 disk".to_owned() } else { format!("{} disks", held.len()) };
    Ok(format!("{disks}, sha256 {first}…"))
}
