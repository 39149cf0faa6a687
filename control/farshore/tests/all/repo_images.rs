//! `farshore repo` with disks that lie in something else than raw files: qcow2 images, block devices, and points as files.

use crate::support::{Said, command, poll, run, text, tool, tool_runs};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Whole sectors, no whole regions.
const SIZE: u64 = (20 << 20) + 512;

/// A folder with a raw disk, which has holes, and a repository.
struct Place {
    folder: tempfile::TempDir,
    disk: Vec<u8>,
}

impl Place {
    fn new() -> Place {
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn repo(&self, verb: &str, args: &[&str]) -> Said {
        let repository = self.path("r");
        let mut command = command(&[&["-o", "json", "repo", verb, text(&repository)], args].concat());
        command.env_remove("FARSHORE_PASSPHRASE");
        run(command)
    }

    fn back_up(&self, point: &str, image: &str, args: &[&str]) -> Said {
        let image = self.path(image);
        self.repo("backup", &[&[text(&image), "--vm", "web", "--point", point], args].concat())
    }

    fn convert(&self, from: &str, to: &str, args: &[&str]) {
        let (from, to) = (self.path(from), self.path(to));
        let mut command = tool("qemu-img", "qemu-utils");
        tool_runs(command.arg("convert").args(args).args([&from, &to]));
    }

    #[track_caller]
    fn is_disk(&self, path: &Path) {
        assert!(fs::read(path).unwrap() == self.disk, "{} is the disk", path.display());
    }

    fn packs(&self) -> Vec<PathBuf> {
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
    small.refused(1, &["FS-REPO-SMALL-DEVICE", &(SIZE - 512).to_string()]);
    let file = place.repo("restore", &["one", "--disk", "disk.raw", "--to-device", text(&place.path("disk.raw"))]);
    file.refused(1, &["FS-REPO-NOT-A-DEVICE"]);
    place.is_disk(&place.path("disk.raw"));
}

/// A repository that is mounted; unmounted at the end if a test fails before.
struct Mounted {
    child: Child,
    on: PathBuf,
}

impl Mounted {
    fn new(place: &Place, args: &[&str]) -> Mounted {
        let on = place.path("mnt");
        fs::create_dir_all(&on).unwrap();
        let repository = place.path("r");
        let mut command = command(&[&["-o", "json", "repo", "mount", text(&repository), text(&on)], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It says so when it is, and then nothing more.
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.take_while(|line| line != "}").count() > 1);
        Mounted { child, on }
    }

    /// Waits for its end; its exit code and what it said.
    fn ends(mut self) -> (Option<i32>, String) {
        let code = poll(|| self.child.try_wait().unwrap()).expect("it ends").code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }

    fn stop(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(tool("umount", "mount").args(["-l".as_ref(), self.on.as_os_str()]).stderr(Stdio::null()).status());
        drop(self.child.wait());
    }
}

#[test]
fn points_are_files_while_the_repository_is_mounted() {
    let place = Place::new();
    place.back_up("one", "disk.raw", &[]).good();
    fs::copy(place.path("disk.raw"), place.path("other.raw")).unwrap();
    OpenOptions::new().write(true).open(place.path("other.raw")).unwrap().write_all_at(b"changed", 9 << 20).unwrap();
    place.back_up("two", "other.raw", &[]).good();
    let mounted = Mounted::new(&place, &[]);
    let mut points: Vec<_> = fs::read_dir(&mounted.on).unwrap().map(|point| point.unwrap().file_name()).collect();
    points.sort();
    assert_eq!(points, ["one", "two"]);
    let file = mounted.on.join("one/disk.raw");
    place.is_disk(&file);
    assert!(fs::read(mounted.on.join("two/other.raw")).unwrap() == fs::read(place.path("other.raw")).unwrap());
    let file = File::open(&file).unwrap();
    for (offset, length) in [(0, 1), ((4 << 20) - 3, 7), ((13 << 20) + 4000, 9000), (SIZE - 5, 5)] {
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, offset).unwrap();
        assert!(piece == place.disk[offset as usize..][..length], "{length} bytes at {offset}");
    }
    assert_eq!(file.read_at(&mut [0; 10], SIZE).unwrap(), 0);
    let error = File::create(mounted.on.join("one/disk.raw")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    drop(file);
    // Holes are holes: a copy takes no more space than the disk.
    let copy = place.path("copy.raw");
    tool_runs(tool("cp", "coreutils").arg("--sparse=auto").args([&mounted.on.join("one/disk.raw"), &copy]));
    place.is_disk(&copy);
    assert!(fs::metadata(&copy).unwrap().blocks() * 512 < 6 << 20);
    mounted.stop();
    let on = mounted.on.clone();
    assert_eq!(mounted.ends().0, Some(0));
    assert_eq!(fs::read_dir(on).unwrap().count(), 0, "it is unmounted");
}

#[test]
fn a_mount_that_is_taken_away_ends_and_shows_only_what_was_asked_for() {
    let place = Place::new();
    place.back_up("one", "disk.raw", &[]).good();
    place.back_up("two", "disk.raw", &[]).good();
    let mounted = Mounted::new(&place, &["--point", "two"]);
    assert_eq!(fs::read_dir(&mounted.on).unwrap().count(), 1);
    tool_runs(tool("umount", "mount").arg(&mounted.on));
    assert_eq!(mounted.ends().0, Some(0));
    let nowhere = place.repo("mount", &[text(&place.path("nowhere"))]);
    nowhere.refused(1, &["FS-REPO-MOUNT", "nowhere"]);
    place.repo("mount", &[text(&place.path("mnt")), "--point", "none"]).refused(10, &["FS-REPO-NO-POINT"]);
}

#[test]
fn what_is_damaged_cannot_be_read_from_a_mount_and_it_does_not_end_well() {
    let place = Place::new();
    place.back_up("one", "disk.raw", &[]).good();
    for pack in place.packs() {
        let file = OpenOptions::new().read(true).write(true).open(pack).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 5000).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 5000).unwrap();
    }
    let mounted = Mounted::new(&place, &[]);
    let error = fs::read(mounted.on.join("one/disk.raw")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    mounted.stop();
    let (code, said) = mounted.ends();
    assert_eq!(code, Some(21), "{said}");
    assert!(said.contains("FS-REPO-DAMAGE") && said.contains("one/disk.raw"), "{said}");
}

#[test]
fn a_point_that_cannot_be_shown_is_named_and_what_lies_in_a_folder_is_not_hidden() {
    let place = Place::new();
    for point in ["lost", "rotten", "sound"] {
        place.back_up(point, "disk.raw", &[]).good();
    }
    fs::remove_file(place.path("r/points/lost")).unwrap();
    fs::write(place.path("r/points/rotten"), b"rubbish").unwrap();
    let mounted = Mounted::new(&place, &["--quiet"]);
    place.is_disk(&mounted.on.join("sound/disk.raw"));
    assert_eq!(fs::read_dir(&mounted.on).unwrap().count(), 1);
    mounted.stop();
    let (code, said) = mounted.ends();
    assert_eq!(code, Some(21), "{said}");
    assert!(said.contains("2 points not shown"), "{said}");
    let mounted = Mounted::new(&place, &["--point", "sound"]);
    mounted.stop();
    assert_eq!(mounted.ends().0, Some(0));
    // On itself it would wait for itself.
    place.repo("mount", &[text(&place.path("r"))]).refused(1, &["FS-REPO-MOUNT", "holds something"]);
}
