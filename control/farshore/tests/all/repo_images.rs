//! `farshore repo` with disks that lie in something else than raw files: qcow2 images and block devices.

use crate::support::{Said, command, run, text, tool, tool_runs};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Whole sectors, no whole regions.
pub(crate) const SIZE: u64 = (20 << 20) + 512;

/// A folder with a raw disk, which has holes, and a repository.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) disk: Vec<u8>,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let raw = File::create(folder.path().join("disk.raw")).unwrap();
        raw.set_len(SIZE).unwrap();
        for (seed, offset) in [(1u64, 0), (2, 5 << 20), (3, (13 << 20) + 4096), (4, SIZE - 700)] {
            raw.write_all_at(&noise(seed, (SIZE - offset).min(1 << 20)), offset).unwrap();
        }
        let disk = fs::read(folder.path().join("disk.raw")).unwrap();
        let place = Place { folder, disk };
        place.repo("init", &["--name", "r"]).good();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn repo(&self, verb: &str, args: &[&str]) -> Said {
        let repository = self.path("r");
        let mut command = command(&[&["-o", "json", "repo", verb, text(&repository)], args].concat());
        command.env_remove("FARSHORE_PASSPHRASE");
        run(command)
    }

    pub(crate) fn back_up(&self, point: &str, image: &str, args: &[&str]) -> Said {
        let image = self.path(image);
        self.repo("backup", &[&[text(&image), "--vm", "web", "--point", point], args].concat())
    }

    fn convert(&self, from: &str, to: &str, args: &[&str]) {
        let (from, to) = (self.path(from), self.path(to));
        let mut command = tool("qemu-img", "qemu-utils");
        tool_runs(command.arg("convert").args(args).args([&from, &to]));
    }

    #[track_caller]
    pub(crate) fn is_disk(&self, path: &Path) {
        assert!(fs::read(path).unwrap() == self.disk, "{} is the disk", path.display());
    }

    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.path("r/packs")).unwrap().map(|folder| folder.unwrap().path());
        let packs = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|pack| pack.unwrap().path()));
        packs.collect()
    }
}

fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_qcow2_image_and_the_raw_disk_in_it_are_one_disk() {
    let place = Place::new();
    place.convert("disk.raw", "plain.qcow2", &["-O", "qcow2"]);
    place.convert("disk.raw", "packed.qcow2", &["-c", "-O", "qcow2"]);
    place.back_up("raw", "disk.raw", &[]).good();
    for image in ["plain", "packed"] {
        let said = place.back_up(image, &format!("{image}.qcow2"), &[]).good().json();
        assert_eq!(said["new"], 0, "the repository has all that is in {image}.qcow2: {said}");
        place.repo("restore", &[image, "--to", text(&place.path(image))]).good();
        // It is raw now, and its name says so.
        place.is_disk(&place.path(image).join(format!("{image}.qcow2.raw")));
    }
    place.repo("restore", &["raw", "--to", text(&place.path("q")), "--format", "qcow2"]).good();
    let made = place.path("q/disk.raw.qcow2");
    tool_runs(tool("qemu-img", "qemu-utils").arg("check").arg(&made));
    place.convert("q/disk.raw.qcow2", "again.raw", &["-O", "raw"]);
    place.is_disk(&place.path("again.raw"));
    assert!(fs::metadata(&made).unwrap().len() < 5 << 20, "holes take no space in it");
}

#[test]
fn an_image_opens_no_other_file_unless_asked() {
    let place = Place::new();
    place.convert("disk.raw", "base.qcow2", &["-O", "qcow2"]);
    let (base, top) = (place.path("base.qcow2"), place.path("top.qcow2"));
    tool_runs(
        tool("qemu-img", "qemu-utils").args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).args([&base, &top]),
    );
    place.back_up("denied", "top.qcow2", &[]).refused(22, &["FS-IMAGE-BACKING", "base.qcow2", "--allow-backing"]);
    place.back_up("allowed", "top.qcow2", &["--allow-backing"]).good();
    place.repo("restore", &["allowed", "--to", text(&place.path("out"))]).good();
    place.is_disk(&place.path("out/top.qcow2.raw"));
    // One that is behind itself comes to an end.
    tool_runs(tool("qemu-img", "qemu-utils").args(["rebase", "-u", "-F", "qcow2", "-b"]).args([&top, &top]));
    place.back_up("loop", "top.qcow2", &["--allow-backing"]).refused(21, &["FS-IMAGE-UNSOUND", "too many files"]);
}

#[test]
fn a_raw_disk_that_begins_like_an_image_is_not_taken_for_one() {
    let place = Place::new();
    place.convert("disk.raw", "base.qcow2", &["-O", "qcow2"]);
    fs::rename(place.path("base.qcow2"), place.path("odd.raw")).unwrap();
    place.back_up("guess", "odd.raw", &[]).refused(22, &["FS-IMAGE-FORMAT", "--format"]);
    place.back_up("bytes", "odd.raw", &["--format", "raw"]).good();
    place.repo("restore", &["bytes", "--to", text(&place.path("b"))]).good();
    assert!(fs::read(place.path("b/odd.raw")).unwrap() == fs::read(place.path("odd.raw")).unwrap());
    place.back_up("disk", "odd.raw", &["--format", "qcow2"]).good();
    place.repo("restore", &["disk", "--to", text(&place.path("d"))]).good();
    place.is_disk(&place.path("d/odd.raw"));
    // And what is named like one, but is none.
    fs::copy(place.path("disk.raw"), place.path("no.qcow2")).unwrap();
    place.back_up("none", "no.qcow2", &[]).refused(21, &["FS-IMAGE-UNSOUND", "no.qcow2"]);
}

#[test]
fn a_damaged_image_is_an_error_and_no_panic() {
    let place = Place::new();
    place.convert("disk.raw", "sound.qcow2", &["-c", "-O", "qcow2"]);
    let sound = fs::read(place.path("sound.qcow2")).unwrap();
    let mut refused = 0;
    for number in 0..40u64 {
        let mut bytes = sound.clone();
        // The header, then the tables behind it.
        let at = if number < 20 { number * 4 } else { 0x1_0000 * (number % 5) + (number - 20) * 8 } as usize;
        bytes[at.min(sound.len() - 8)..][..8].copy_from_slice(&noise(number + 9, 8));
        fs::write(place.path("hurt.qcow2"), &bytes).unwrap();
        let said = place.back_up(&format!("p{number}"), "hurt.qcow2", &[]);
        assert!(!said.err.contains("panicked at control") && !said.err.contains("panicked at movers"), "{}", said.err);
        assert!([0, 1, 21, 22].contains(&said.code), "{:?}: {}", said.code, said.err);
        refused += usize::from(said.code != 0);
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn an_image_that_was_cut_short_is_not_read_as_zeros() {
    let place = Place::new();
    for (kind, how) in [("plain", &["-O", "qcow2"][..]), ("packed", &["-c", "-O", "qcow2"])] {
        place.convert("disk.raw", "sound.qcow2", how);
        let sound = fs::read(place.path("sound.qcow2")).unwrap();
        for cut in [1, 4096, 65536, 200_000, sound.len() / 2] {
            fs::write(place.path("short.qcow2"), &sound[..sound.len() - cut]).unwrap();
            let point = format!("{kind}-{cut}");
            let said = place.back_up(&point, "short.qcow2", &[]);
            assert!(said.code != 0 || cut < sound.len() / 2, "{kind}, {cut} bytes less: {}", said.out);
            if said.code == 0 {
                // What is missing is nothing that its disk names.
                place.repo("restore", &[&point, "--to", text(&place.path(&point))]).good();
                place.is_disk(&place.path(&point).join("short.qcow2.raw"));
            }
        }
    }
}

#[test]
fn compressed_clusters_of_an_image_that_was_cut_short_are_not_filled_up() {
    let mut place = Place::new();
    // What packs well, into many clusters: zeros behind its bytes unpack to something of the right length.
    let words: Vec<Vec<u8>> =
        noise(3, 4000).chunks(7).map(|word| word.iter().map(|byte| b'a' + byte % 26).collect()).collect();
    let text_of: Vec<u8> = noise(5, 300_000)
        .iter()
        .zip(noise(9, 300_000))
        .flat_map(|(a, b)| words[(usize::from(*a) * 256 + usize::from(b)) % words.len()].iter().copied())
        .collect();
    place.disk = text_of[..2 << 20].to_vec();
    fs::write(place.path("disk.raw"), &place.disk).unwrap();
    place.convert("disk.raw", "sound.qcow2", &["-c", "-O", "qcow2"]);
    let sound = fs::read(place.path("sound.qcow2")).unwrap();
    place.back_up("sound", "sound.qcow2", &[]).good();
    let mut refused = 0;
    for cut in [1, 100, 400, 511, 512, 700, 2000, 8000, 16_000, 30_000, 40_000, 100_000] {
        fs::write(place.path("short.qcow2"), &sound[..sound.len() - cut]).unwrap();
        let point = format!("less-{cut}");
        let said = place.back_up(&point, "short.qcow2", &[]);
        if said.code == 0 {
            // Only what the last sector was filled up with is missing.
            assert!(cut < 512, "{cut} bytes less: {}", said.out);
            place.repo("restore", &[&point, "--to", text(&place.path(&point))]).good();
            place.is_disk(&place.path(&point).join("short.qcow2.raw"));
        } else {
            said.refused(21, &["FS-IMAGE-UNSOUND", "cut short"]);
            refused += 1;
        }
    }
    assert!(refused >= 8, "{refused}");
}

#[test]
fn an_image_whose_tables_are_too_small_for_its_disk_is_not_read_as_zeros() {
    let place = Place::new();
    let (create, base) = (["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"], place.path("base.qcow2"));
    place.convert("disk.raw", "base.qcow2", &["-O", "qcow2"]);
    tool_runs(tool("qemu-img", "qemu-utils").args(create).args([&base, &place.path("top.qcow2")]));
    let mut bytes = fs::read(&base).unwrap();
    bytes[26] ^= 1; // Its size has 8 bytes from byte 24 on.
    fs::write(&base, bytes).unwrap();
    for (image, options) in [("base.qcow2", &[][..]), ("top.qcow2", &["--allow-backing"])] {
        place.back_up("larger", image, options).refused(21, &["FS-IMAGE-UNSOUND", "does not lead to all"]);
    }
}

#[test]
fn an_image_whose_tables_lie_behind_its_end_is_not_read_as_zeros() {
    let place = Place::new();
    let sparse = File::create(place.path("wide.raw")).unwrap();
    sparse.set_len(3 << 30).unwrap();
    for offset in [0, 600 << 20, (2 << 30) + 4096] {
        sparse.write_all_at(&noise(offset, 1 << 20), offset).unwrap();
    }
    place.convert("wide.raw", "wide.qcow2", &["-O", "qcow2"]);
    let sound = fs::read(place.path("wide.qcow2")).unwrap();
    place.back_up("sound", "wide.qcow2", &[]).good();
    // A disk of 3 GiB has six tables, three of them here, between its data: each cluster is the last once.
    let mut refused = 0;
    for cut in (1..sound.len() / 65536).map(|clusters| clusters * 65536).flat_map(|at| [at, at + 4096]) {
        fs::write(place.path("short.qcow2"), &sound[..cut]).unwrap();
        let said = place.back_up(&format!("cut-{cut}"), "short.qcow2", &[]);
        said.refused(21, &["FS-IMAGE-UNSOUND"]);
        refused += 1;
    }
    assert!(refused > 90, "{refused}");
}

#[test]
fn what_is_encrypted_or_made_by_a_newer_qemu_is_refused_with_the_way_out() {
    let place = Place::new();
    let luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    place.convert("disk.raw", "luks.qcow2", &["--object", "secret,id=s,data=abc", "-O", "qcow2", "-o", luks]);
    place.convert("disk.raw", "zstd.qcow2", &["-c", "-O", "qcow2", "-o", "compression_type=zstd"]);
    place.convert("disk.raw", "divided.qcow2", &["-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"]);
    for (image, why) in [("luks", "encrypted"), ("zstd", "compressed"), ("divided", "extended_l2")] {
        let said = place.back_up(image, &format!("{image}.qcow2"), &[]);
        said.refused(22, &["FS-IMAGE-UNSUPPORTED", why, "qemu-img convert"]);
    }
    let (create, base) = (["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"], place.path("luks.qcow2"));
    let top = place.path("top.qcow2");
    tool_runs(tool("qemu-img", "qemu-utils").args(create).args([&base, &top]).arg("1M"));
    place.back_up("behind", "top.qcow2", &["--allow-backing"]).refused(22, &["FS-IMAGE-UNSUPPORTED", "luks.qcow2"]);
    // A raw disk behind an image is one, whatever it begins with.
    tool_runs(tool("qemu-img", "qemu-utils").args(["rebase", "-u", "-F", "raw", "-b"]).args([&base, &top]));
    place.back_up("raw", "top.qcow2", &["--allow-backing"]).good();
}

#[test]
fn a_small_image_makes_no_disk_without_end() {
    let place = Place::new();
    tool_runs(
        tool("qemu-img", "qemu-utils").args(["create", "-q", "-f", "qcow2"]).arg(place.path("h.qcow2")).arg("16T"),
    );
    let image = OpenOptions::new().read(true).write(true).open(place.path("h.qcow2")).unwrap();
    let mut header = [0; 48];
    image.read_exact_at(&mut header, 0).unwrap();
    let four = |at: usize| u64::from(u32::from_be_bytes(header[at..at + 4].try_into().unwrap()));
    let (entries, table, end) =
        (four(36), four(40) << 32 | four(44), image.metadata().unwrap().len().next_multiple_of(65536));
    // All of them lead to one table, of which every other entry leads to a cluster.
    image.write_all_at(&(1 << 63 | end).to_be_bytes().repeat(entries as usize), table).unwrap();
    image.write_all_at(&[(1u64 << 63 | (end + 65536)).to_be_bytes(), [0; 8]].concat().repeat(4096), end).unwrap();
    image.set_len(end + 2 * 65536).unwrap();
    place.back_up("h", "h.qcow2", &[]).refused(21, &["FS-IMAGE-UNSOUND", "more than once"]);
}

/// A loop device, let go at the end.
struct Loop(String);

impl Loop {
    fn over(image: &Path) -> Loop {
        let said = tool_runs(tool("losetup", "mount").args(["--find", "--show"]).arg(image));
        Loop(said.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(tool("losetup", "mount").args(["--detach", &self.0]).status());
    }
}

#[test]
fn a_disk_is_restored_to_a_block_device_and_read_from_one() {
    let place = Place::new();
    place.back_up("one", "disk.raw", &[]).good();
    let under = place.path("device");
    // Larger than the disk, and full of something else.
    fs::write(&under, noise(77, SIZE + 1024 * 1024)).unwrap();
    let device = Loop::over(&under);
    place.repo("restore", &["one", "--disk", "disk.raw", "--to-device", &device.0]).good();
    let written = fs::read(&device.0).unwrap();
    assert!(written[..place.disk.len()] == place.disk, "the device holds the disk");
    assert!(written[place.disk.len()..] == noise(77, SIZE + 1024 * 1024)[place.disk.len()..], "and what lay behind it");
    drop(device);
    OpenOptions::new().write(true).open(&under).unwrap().set_len(SIZE).unwrap();
    let device = Loop::over(&under);
    let said = place.repo("backup", &[&device.0, "--vm", "web", "--point", "device"]).good().json();
    assert_eq!(said["new"], 0, "{said}");
    drop(device);
    OpenOptions::new().write(true).open(&under).unwrap().set_len(SIZE - 512).unwrap();
    let device = Loop::over(&under);
    let small = place.repo("restore", &["one", "--disk", "disk.raw", "--to-device", &device.0]);
    small.refused(22, &["FS-REPO-SMALL-DEVICE", &(SIZE - 512).to_string()]);
    let file = place.repo("restore", &["one", "--disk", "disk.raw", "--to-device", text(&place.path("disk.raw"))]);
    file.refused(22, &["FS-REPO-NOT-A-DEVICE"]);
    place.is_disk(&place.path("disk.raw"));
}
