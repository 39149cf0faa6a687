//! `farshore demo --from`: VMs of the user's own images.

use crate::support::{STEPS, demo, nothing_panicked, sha256, steps, text, tool, tool_runs, tree};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes that a file takes on its disk.
pub(crate) fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).blocks() * 512
}

/// The holes of one are holes of the other, and zeros that take space in one take it in the other: their allocated sizes
/// differ by at most 5 %.
#[track_caller]
pub(crate) fn as_sparse_as(copy: &Path, original: &Path) {
    let (copied, had) = (allocated(copy), allocated(original));
    assert!(copied.abs_diff(had) * 20 <= had, "{} takes {copied} bytes, its original {had}", copy.display());
}

fn make_images(folder: &Path) {
    let files = folder.with_extension("files");
    fs::create_dir_all(files.join("etc/deep/er")).unwrap();
    for number in 0..300u32 {
        let body: Vec<u8> =
            (0..20_000u32).flat_map(|at| (at ^ number).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        fs::write(
            files.join(format!("etc/deep/er/file-{number}")),
            &body[..usize::try_from(number * 200 + 1).unwrap()],
        )
        .unwrap();
    }
    fs::create_dir_all(folder.join("linux")).unwrap();
    fs::create_dir_all(folder.join("windows")).unwrap();
    let ext4 = folder.join("linux/root.raw");
    tool_runs(tool("mkfs.ext4", "e2fsprogs").args(["-q", "-F", "-d", text(&files), text(&ext4), "64M"]));
    let ntfs = folder.join("windows/c.raw");
    File::create(&ntfs).unwrap().set_len(48 << 20).unwrap();
    tool_runs(tool("mkfs.ntfs", "ntfs-3g").args(["-q", "-F", "-f", text(&ntfs)]));
}

#[test]
fn the_demo_protects_images_of_the_user_and_never_writes_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let (images, kept) = (folder.path().join("images"), folder.path().join("kept"));
    make_images(&images);
    let before = tree(&images);
    let (said, ..) = demo(&kept, &["--from", text(&images)], |_| {});
    assert_eq!(steps(&said.good()), STEPS);
    assert_eq!(tree(&images), before, "the user's images are only read");
    for site in ["hq", "dr"] {
        nothing_panicked(&kept.join(site));
    }
    let hosts = kept.join("hq/hosts/hq-host");
    for (vm, disk) in [("linux", "root.raw"), ("windows", "c.raw")] {
        let original = images.join(vm).join(disk);
        for copy in [hosts.join(format!("{vm}-restored")).join(disk), hosts.join(vm).join(disk)] {
            assert_eq!(sha256(&copy), sha256(&original), "{}", copy.display());
            as_sparse_as(&copy, &original);
        }
        let replica = replica_disk(&kept.join("dr/hosts/dr-host/.farshore-replicas"), vm, disk);
        assert_eq!(sha256(&replica), sha256(&original), "{}", replica.display());
        as_sparse_as(&replica, &original);
    }
    for vm in ["linux", "linux-restored"] {
        tool_runs(tool("e2fsck", "e2fsprogs").args(["-fn", text(&hosts.join(vm).join("root.raw"))]));
    }
}

#[test]
fn images_beside_each_other_are_the_disks_of_one_vm() {
    let folder = tempfile::tempdir().unwrap();
    let (images, kept) = (folder.path().join("pair"), folder.path().join("kept"));
    fs::create_dir(&images).unwrap();
    // One whose size is no multiple of anything, one that is mostly hole.
    let body: Vec<u8> = (0..750_000u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(images.join("a.img"), &body[..2_999_999]).unwrap();
    fs::write(images.join("b.raw"), &body[..100_000]).unwrap();
    File::options().write(true).open(images.join("b.raw")).unwrap().set_len(20 << 20).unwrap();
    let (said, ..) = demo(&kept, &["--from", text(&images)], |_| {});
    assert_eq!(steps(&said.good()), STEPS);
    for disk in ["a.img", "b.raw"] {
        let restored = kept.join("hq/hosts/hq-host/pair-restored").join(disk);
        assert_eq!(sha256(&restored), sha256(&images.join(disk)), "{disk}");
        as_sparse_as(&restored, &images.join(disk));
    }
}

/// The newest state of a VM's disk in a replica store.
fn replica_disk(stores: &Path, vm: &str, disk: &str) -> std::path::PathBuf {
    let store = fs::read_dir(stores).unwrap().map(|entry| entry.unwrap().path());
    let of_vm =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("offsite-{vm}-"));
    store.into_iter().find(of_vm).expect("each VM has a replica").join(format!("newest/{disk}.raw"))
}
