//! Disks that farshore makes: real file systems, the same for the same seed, sparse, with a place for stamps.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use farshore_hosts::{DemoVm, FolderHost, HostError, read_files, read_stamps};
use farshore_schemas::ids::VmName;
use farshore_schemas::units::ByteCount;
use std::collections::BTreeSet;
use std::fs::read;
use std::io::Cursor;
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1024 * 1024;

fn vm(text: &str) -> VmName {
    VmName::parse(text).unwrap()
}

fn make(host: &FolderHost, name: &str, seed: u64, size: u64) -> farshore_hosts::Result<()> {
    host.demo_vm(&DemoVm { vm: &vm(name), seed, size: ByteCount(size), disks: 2 })
}

#[test]
fn the_same_seed_gives_the_same_disks_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let host = FolderHost::open(folder.path()).unwrap();
    make(&host, "a", 1, 48 * MIB).unwrap();
    make(&host, "b", 1, 48 * MIB).unwrap();
    make(&host, "c", 2, 48 * MIB).unwrap();
    for disk in ["system.raw", "data1.raw"] {
        let content = |name: &str| read(host.path().join(name).join(disk)).unwrap();
        assert!(content("a") == content("b"));
        assert!(content("a") != content("c"));
    }
    assert!(read(host.path().join("a/system.raw")).unwrap() != read(host.path().join("a/data1.raw")).unwrap());
    assert_eq!(make(&host, "a", 1, 48 * MIB).unwrap_err().code(), "FS-HOST-VM-EXISTS");
}

#[test]
fn about_a_third_of_a_disk_is_data_and_the_rest_is_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    let host = FolderHost::open(folder.path()).unwrap();
    make(&host, "a", 3, 64 * MIB).unwrap();
    for disk in host.disks(&vm("a")).unwrap() {
        assert_eq!(disk.size.0, 64 * MIB);
        let allocated = host.disk_path(&vm("a"), &disk.name).unwrap().metadata().unwrap().blocks() * 512;
        assert!((20 * MIB..25 * MIB).contains(&allocated), "{allocated}");
    }
}

#[test]
fn files_can_be_read_back_and_differ_in_kind() {
    let folder = tempfile::tempdir().unwrap();
    let host = FolderHost::open(folder.path()).unwrap();
    make(&host, "a", 4, 32 * MIB).unwrap();
    let files = read_files(Cursor::new(read(host.path().join("a/data1.raw")).unwrap())).unwrap();
    assert_eq!(files.len(), 21);
    let kinds = |content: &[u8]| {
        let text = content.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ' || *byte == b'\n');
        let repeats = content.chunks(16 * 1024).collect::<BTreeSet<_>>().len() == 1;
        (text, repeats)
    };
    let found: BTreeSet<_> = files.iter().map(|(_, content)| kinds(content)).collect();
    assert_eq!(found, BTreeSet::from([(true, false), (false, true), (false, false)]));
}

#[test]
fn the_stamps_area_is_found_on_every_size_of_disk() {
    let folder = tempfile::tempdir().unwrap();
    let host = FolderHost::open(folder.path()).unwrap();
    // FAT16 with small and with large clusters, and FAT32.
    for (name, size) in [("s", 4 * MIB), ("m", 48 * MIB), ("odd", 50 * MIB + 512 * 3), ("l", 300 * MIB)] {
        make(&host, name, 5, size).unwrap();
        let area = host.stamps_area(&vm(name)).unwrap().unwrap();
        assert_eq!((area.disk.as_str(), area.length % 4096, area.offset % 4096), ("system.raw", 0, 0));
        assert!(area.length >= 64 * 4096);
        std::fs::remove_file(host.path().join(name).join("vm.yaml")).unwrap();
        assert_eq!(host.stamps_area(&vm(name)).unwrap(), Some(area.clone()), "{name}");
        let image = host.path().join(name).join("system.raw");
        assert!(read_stamps(&image, &area).unwrap().is_empty());
        // It starts with a block that nobody has stamped yet.
        let bytes = read(&image).unwrap();
        assert!(&bytes[area.offset as usize..][..8] == b"FSSTAMP1");
    }
}

#[test]
fn a_size_without_room_for_a_file_system_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = FolderHost::open(folder.path()).unwrap();
    let refused = make(&host, "a", 1, MIB).unwrap_err();
    assert!(matches!(refused, HostError::VmUnusable { .. }) && refused.to_string().contains("4.0 MiB"), "{refused}");
    let listing = host.list().unwrap();
    assert!(listing.vms.is_empty() && listing.problems.is_empty());
}

#[test]
fn damaged_or_foreign_boot_sectors_are_never_taken_for_ours() {
    let folder = tempfile::tempdir().unwrap();
    let host = FolderHost::open(folder.path()).unwrap();
    make(&host, "a", 6, 4 * MIB).unwrap();
    std::fs::remove_file(host.path().join("a/vm.yaml")).unwrap();
    std::fs::remove_file(host.path().join("a/data1.raw")).unwrap();
    let image = host.path().join("a/system.raw");
    let whole = read(&image).unwrap();
    for at in 0..62 {
        for value in [0u8, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            std::fs::write(&image, bytes).unwrap();
            // Wherever it points then: no panic, and an area lies on the disk and holds stamps.
            if let Some(found) = host.stamps_area(&vm("a")).unwrap() {
                assert!(found.offset + found.length <= 4 * MIB && found.length > 0, "{at}");
            }
        }
    }
}
