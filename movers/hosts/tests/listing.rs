//! What a folder host lists, what it reports, and what it refuses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use farshore_hosts::{FolderHost, HostError, Listing, NewVm, Problem};
use farshore_schemas::ids::{DiskName, Name, VmName, VmRef};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::ByteCount;
use std::ffi::OsStr;
use std::fs::{create_dir, create_dir_all, write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

fn vm(text: &str) -> VmName {
    VmName::parse(text).unwrap()
}

fn host_with(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, FolderHost) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let host = FolderHost::open(folder.path()).unwrap();
    (folder, host)
}

fn image(dir: &Path, name: &str) {
    create_dir_all(dir).unwrap();
    write(dir.join(name), vec![1u8; 512]).unwrap();
}

fn disks(listing: &Listing, name: &str) -> Vec<String> {
    let found = listing.vms.iter().find(|facts| facts.vm == vm(name)).unwrap();
    found.disks.iter().map(|disk| disk.name.to_string()).collect()
}

fn problem<'a>(listing: &'a Listing, subject: &str) -> &'a Problem {
    listing.problems.iter().find(|problem| problem.subject == subject).unwrap_or_else(|| panic!("{listing:?}"))
}

#[test]
fn disks_are_files_with_a_known_ending_and_failing_those_any_other_file() {
    let (_folder, host) = host_with(|path| {
        for name in ["b.raw", "A.IMG", "c.disk", "d.bin", "readme.txt", "notes.md", ".hidden"] {
            image(&path.join("many"), name);
        }
        for name in ["root", "swap", "about.yaml", "x.yml"] {
            image(&path.join("plain"), name);
        }
    });
    let listing = host.list().unwrap();
    assert_eq!(disks(&listing, "many"), ["A.IMG", "b.raw", "c.disk", "d.bin"]);
    assert_eq!(disks(&listing, "plain"), ["root", "swap"]);
    assert!(listing.problems.is_empty(), "{listing:?}");
    assert!(listing.vms.iter().all(|facts| !facts.running && facts.disks[0].size == ByteCount(512)));
}

#[test]
fn vm_yaml_names_disks_in_order_and_the_origin() {
    let (_folder, host) = host_with(|path| {
        image(&path.join("web"), "a.raw");
        image(&path.join("web"), "z");
        write(path.join("web/vm.yaml"), "# mine\ndisks: [z, a.raw]\norigin: {site: hq, host: lab, vm: old web}\n")
            .unwrap();
    });
    let listing = host.list().unwrap();
    assert_eq!(disks(&listing, "web"), ["z", "a.raw"]);
    let origin = VmRef { site: "hq".parse().unwrap(), host: Name::parse("lab").unwrap(), vm: vm("old web") };
    assert_eq!(listing.vms[0].origin, Some(origin));
}

#[test]
fn what_cannot_be_listed_is_reported() {
    let long = "n".repeat(201);
    let outside = tempfile::tempdir().unwrap();
    image(outside.path(), "secret.raw");
    let (_folder, host) = host_with(|path| {
        image(&path.join("good"), "a.raw");
        image(&path.join("good"), "data");
        image(&path.join(&long), "a.raw");
        image(&path.join("back\\slash"), "a.raw");
        image(&path.join(OsStr::from_bytes(b"bad\xff")), "a.raw");
        image(&path.join("badfile"), "x");
        write(path.join("badfile").join(OsStr::from_bytes(b"d\xfe.raw")), "x").unwrap();
        image(&path.join(".git"), "pack.bin");
        image(&path.join(".cache"), "notes");
        image(&path.join(".farshore-new-x"), "a.raw");
        create_dir(path.join("empty")).unwrap();
        image(&path.join("other"), "a.qcow2");
        symlink(outside.path(), path.join("link")).unwrap();
        create_dir(path.join("linked")).unwrap();
        symlink(outside.path().join("secret.raw"), path.join("linked/a.raw")).unwrap();
        create_dir(path.join("named")).unwrap();
        symlink(outside.path().join("secret.raw"), path.join("named/a.raw")).unwrap();
        write(path.join("named/vm.yaml"), "disks: [a.raw]").unwrap();
        image(path, "loose.img");
        write(path.join("readme.txt"), "hello").unwrap();
    });
    let listing = host.list().unwrap();
    assert_eq!(listing.vms.iter().map(|facts| facts.vm.as_str()).collect::<Vec<_>>(), ["good"]);
    for (subject, code) in [
        ("good/data", "FS-HOST-LEFT-OUT"),
        (long.as_str(), "FS-HOST-NAME"),
        ("back\\slash", "FS-HOST-NAME"),
        ("bad\u{fffd}", "FS-HOST-VM-UNUSABLE"),
        ("badfile", "FS-HOST-VM-UNUSABLE"),
        (".git", "FS-HOST-LEFT-OUT"),
        ("empty", "FS-HOST-VM-UNUSABLE"),
        ("other", "FS-HOST-VM-UNUSABLE"),
        ("link", "FS-HOST-LEFT-OUT"),
        ("linked", "FS-HOST-VM-UNUSABLE"),
        ("named", "FS-HOST-DISK-NOT-IMAGE"),
        ("loose.img", "FS-HOST-LEFT-OUT"),
    ] {
        let found = problem(&listing, subject);
        assert_eq!(found.code, code, "{found:?}");
        assert!(!found.message.is_empty() && !found.advice.is_empty());
    }
    assert_eq!(listing.problems.len(), 12, "{listing:?}");
}

#[test]
fn a_wrong_vm_yaml_is_reported_with_line_and_column() {
    let cases = [
        ("disks: [a.raw]\ndisk: b.raw\n", 2, 1, "disk"),
        ("disks: a.raw\n", 1, 8, "sequence"),
        ("stamps:\n  disk: a.raw\n  offset: deep\n  length: 4096\n", 3, 11, "u64"),
        ("stamps: {disk: a.raw, offset: 1, length: 4096}", 1, 9, "multiples of 4096"),
        ("stamps: {disk: a.raw, offset: 0, length: 0}", 1, 9, "length"),
        ("stamps: {disk: a.raw, offset: 18446744073709547520, length: 8192}", 1, 9, "too large"),
        ("disks: [a.raw]\nstamps: {disk: a.raw, offset: 0, length: 8192}", 2, 9, "ends after the disk"),
        ("stamps: {disk: b.raw, offset: 0, length: 4096}", 1, 9, "not a disk"),
        ("disks: [a.raw,\n  a.raw]\n", 2, 3, "twice"),
        ("disks:\n- a.raw\n- ../up.raw\n", 3, 3, "disk name"),
        ("origin: {site: HQ, host: lab, vm: web}", 1, 16, "site name"),
        ("origin: {site: hq, host: lab}", 1, 20, "vm"),
        ("disks: [a.raw]\ndisks: [a.raw]\n", 2, 1, "disks"),
        ("disks: [a.raw\n", 1, 1, ""),
    ];
    for (text, line, column, word) in cases {
        let (_folder, host) = host_with(|path| {
            image(&path.join("web"), "a.raw");
            write(path.join("web/vm.yaml"), text).unwrap();
        });
        let listing = host.list().unwrap();
        assert!(listing.vms.is_empty());
        assert_eq!(problem(&listing, "web").code, "FS-HOST-VM-YAML");
        let HostError::VmYaml { line: l, column: c, message, .. } = host.disks(&vm("web")).unwrap_err() else {
            panic!("{text}");
        };
        assert!(message.contains(word) && !message.contains("at line"), "{text}: {message}");
        // Where an unclosed list is noticed is the parser's affair.
        assert!(word.is_empty() || (l, c) == (line, column), "{text}: {l}:{c}: {message}");
    }
    for bytes in [vec![0xffu8; 10], vec![b'#'; 70_000], b"[".repeat(60_000)] {
        let (_folder, host) = host_with(|path| {
            image(&path.join("web"), "a.raw");
            write(path.join("web/vm.yaml"), &bytes).unwrap();
        });
        assert_eq!(problem(&host.list().unwrap(), "web").code, "FS-HOST-VM-YAML");
    }
}

#[test]
fn a_disk_named_in_vm_yaml_that_is_gone_is_reported() {
    let (_folder, host) = host_with(|path| {
        image(&path.join("web"), "a.raw");
        write(path.join("web/vm.yaml"), "disks: [a.raw, b.raw]").unwrap();
    });
    let listing = host.list().unwrap();
    assert!(listing.vms.is_empty());
    assert_eq!(problem(&listing, "web").code, "FS-HOST-DISK-MISSING");
}

#[test]
fn a_host_folder_that_is_missing_or_no_folder_is_an_error_and_never_empty() {
    let (folder, host) = host_with(|path| image(&path.join("web"), "a.raw"));
    let missing = FolderHost::open(&folder.path().join("nowhere")).unwrap_err();
    assert_eq!(missing.code(), "FS-HOST-FOLDER-MISSING");
    assert!(missing.to_string().contains("nowhere") && missing.advice().contains("mount"));
    let file = FolderHost::open(&folder.path().join("web/a.raw")).unwrap_err();
    assert_eq!(file.code(), "FS-HOST-FOLDER-NOT-FOLDER");
    folder.close().unwrap();
    assert_eq!(host.list().unwrap_err().code(), "FS-HOST-FOLDER-MISSING");
    // A VM is not taken as deleted because its whole host is gone.
    assert_eq!(host.status(&vm("web")).unwrap_err().code(), "FS-HOST-FOLDER-MISSING");
    assert_eq!(host.remove_vm(&vm("web"), "me").unwrap_err().code(), "FS-HOST-FOLDER-MISSING");
    write(host.path(), "a file").unwrap();
    assert_eq!(host.list().unwrap_err().code(), "FS-HOST-FOLDER-UNREADABLE");
    std::fs::remove_file(host.path()).unwrap();
}

#[test]
fn listing_leaves_no_trace() {
    let (folder, host) = host_with(|path| image(&path.join("web"), "a.raw"));
    host.list().unwrap();
    host.power_off(&vm("web")).unwrap();
    host.snapshot_end(&vm("web"), &Name::parse("s").unwrap()).unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path().join("web")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["a.raw"]);
}

fn origin() -> VmRef {
    VmRef { site: "hq".parse().unwrap(), host: Name::parse("lab").unwrap(), vm: vm("web \u{e9}") }
}

#[test]
fn a_made_vm_is_sparse_and_making_it_again_is_harmless_but_for_others_refused() {
    let (_folder, host) = host_with(|path| image(&path.join("found"), "a.raw"));
    let disk = |name: &str, size| DiskFacts { name: DiskName::parse(name).unwrap(), size: ByteCount(size) };
    let facts = [disk("true", 1 << 30), disk("a 'b\" c.raw", 12_345)];
    let (name, from) = (vm("new"), origin());
    let new = NewVm { vm: &name, disks: &facts, origin: &from, stamps: None, made_by: "hq:session/s1.4" };
    // What a crash in the middle of it left behind is in nobody's way.
    image(&host.path().join(".farshore-new-new"), "half.raw");
    host.create_vm(&new).unwrap();
    assert_eq!(host.disks(&name).unwrap(), facts);
    assert_eq!(host.origin(&name).unwrap(), Some(origin()));
    assert!(host.disk_path(&name, &facts[0].name).unwrap().metadata().unwrap().blocks() < 64);
    write(host.disk_path(&name, &facts[1].name).unwrap(), vec![7u8; 12_345]).unwrap();
    host.create_vm(&new).unwrap();
    assert_eq!(std::fs::read(host.disk_path(&name, &facts[1].name).unwrap()).unwrap(), vec![7u8; 12_345]);
    let other = host.create_vm(&NewVm { made_by: "hq:session/s2.1", ..new.clone() }).unwrap_err();
    assert_eq!(other.code(), "FS-HOST-VM-EXISTS");
    let found = vm("found");
    assert_eq!(host.create_vm(&NewVm { vm: &found, ..new.clone() }).unwrap_err().code(), "FS-HOST-VM-EXISTS");
    assert_eq!(host.remove_vm(&name, "hq:session/s2.1").unwrap_err().code(), "FS-HOST-VM-NOT-OURS");
    assert_eq!(host.remove_vm(&found, "hq:session/s1.4").unwrap_err().code(), "FS-HOST-VM-NOT-OURS");
    host.remove_vm(&name, "hq:session/s1.4").unwrap();
    host.remove_vm(&name, "hq:session/s1.4").unwrap();
    let listing = host.list().unwrap();
    assert_eq!(listing.vms.iter().map(|facts| facts.vm.as_str()).collect::<Vec<_>>(), ["found"]);
    assert!(listing.problems.is_empty(), "{listing:?}");
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 1);
}
