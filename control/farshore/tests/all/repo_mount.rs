//! `farshore repo mount`: points as files.

use crate::repo_images::{Place, SIZE};
use crate::support::{command, poll, text, tool, tool_runs};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Child, Stdio};

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
    let mut killed = Mounted::new(&place, &[]);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    place.repo("mount", &[text(&killed.on)]).refused(1, &["FS-REPO-MOUNT", "fusermount3 -u"]);
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
