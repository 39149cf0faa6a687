//! Power on, off, cut; locks; a guest that outlives its agent; stamps.

use crate::harness::Test;
use crate::rig::{AGENT, Rig, epoch, name, origin, program, until};
use farshore_hosts::{DemoVm, FolderHost, HostError, PowerOn, PoweredOff, VmStatus, read_files, read_stamps};
use farshore_schemas::ids::VmName;
use farshore_schemas::units::ByteCount;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    ("power_on_is_told_by_status_and_power_off_ends_it", on_and_off),
    ("power_on_again_is_harmless_and_another_epoch_is_refused", on_twice),
    ("a_second_guest_on_the_same_images_refuses_to_start", second_guest),
    ("a_guest_outlives_the_agent_that_started_it", outlives),
    ("a_killed_guest_is_seen_as_off_and_its_stale_record_harms_nobody", killed),
    ("a_hung_guest_is_killed_by_power_off", hung),
    ("stamps_go_on_counting_over_restarts_and_kills", stamps_count_on),
    ("a_guest_ends_when_its_folder_is_gone", folder_gone),
    ("a_guest_writes_about_one_percent_into_its_files", writes_files),
    ("a_user_image_gets_a_scratch_disk_and_only_that_is_written", scratch),
    ("a_guest_without_stamps_holds_its_disks_and_writes_nothing", writes_nothing),
    ("nonsense_on_the_socket_is_answered_and_the_guest_goes_on", nonsense),
    ("a_vm_that_runs_is_neither_removed_nor_written_to", guarded_while_running),
    ("a_very_long_path_has_a_working_socket", long_path),
];

fn on_and_off() {
    let rig = Rig::with_disks(2);
    assert!(!rig.running());
    rig.on(3).unwrap();
    let VmStatus::Running(record) = rig.host.status(&rig.vm).unwrap() else { panic!("it does not run") };
    assert_eq!((&record.epoch, &record.origin, &record.vm), (&epoch(3), &origin(), &rig.vm));
    assert!(rig.host.list().unwrap().vms[0].running);
    assert_eq!(rig.host.power_off(&rig.vm).unwrap(), PoweredOff::Stopped);
    assert!(!rig.running());
    assert_eq!(rig.host.power_off(&rig.vm).unwrap(), PoweredOff::WasOff);
    assert!(!rig.run_file("guest.json").exists());
}

fn on_twice() {
    let rig = Rig::new();
    rig.on(3).unwrap();
    let pid = rig.pid();
    rig.on(3).unwrap();
    assert_eq!(rig.pid(), pid);
    let refused = rig.on(4).unwrap_err();
    assert!(matches!(refused, HostError::VmRuns { epoch: 3, .. }), "{refused}");
}

fn second_guest() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    // Another VM folder with the same image under another name: the lock on the image itself is what refuses.
    let twin = rig.host.path().join("twin");
    std::fs::create_dir(&twin).unwrap();
    std::fs::hard_link(rig.image(), twin.join("system.raw")).unwrap();
    let vm = VmName::parse("twin").unwrap();
    let how = PowerOn { origin: &origin(), epoch: &epoch(1), program: &program() };
    let refused = rig.host.power_on(&vm, &how).unwrap_err();
    assert_eq!(refused.code(), "FS-HOST-GUEST-START");
    assert!(refused.to_string().contains("FS-HOST-DISK-BUSY"), "{refused}");
    assert!(!rig.host.status(&vm).unwrap().is_running());
    rig.host.power_off(&rig.vm).unwrap();
    rig.host.power_on(&vm, &how).unwrap();
    let busy = rig.on(1).unwrap_err();
    assert!(busy.to_string().contains("FS-HOST-DISK-BUSY"), "{busy}");
    rig.host.pull_the_plug(&vm).unwrap();
}

/// What the agent of the next test does: power on, say so, wait to be killed.
pub(crate) fn agent_that_dies(args: &[OsString]) -> ExitCode {
    let host = FolderHost::open(Path::new(&args[0])).unwrap();
    let how = PowerOn { origin: &origin(), epoch: &epoch(2), program: &program() };
    host.power_on(&VmName::parse("web").unwrap(), &how).unwrap();
    println!("on");
    let _ = std::io::stdin().read(&mut [0u8; 1]);
    ExitCode::SUCCESS
}

fn outlives() {
    let rig = Rig::new();
    let mut agent = Command::new(program())
        .arg(AGENT)
        .arg(rig.host.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0u8; 3];
    agent.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let pid = rig.pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let agent_pid = agent.id().to_string();
    assert!(
        fields[1] != agent_pid && fields[2] != agent_pid && fields[3] != agent_pid,
        "parent, group or session: {stat}"
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(rig.pid(), pid);
    rig.wait_for_stamps(3);
    assert_eq!(rig.host.power_off(&rig.vm).unwrap(), PoweredOff::Stopped);
}

fn kill(pid: i32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn killed() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    let pid = rig.pid();
    kill(pid, "-KILL");
    until("the VM is off", || !rig.running());
    // What it left says a process that is no more; even if its pid were somebody else's, nobody would be killed.
    let left = std::fs::read_to_string(rig.run_file("guest.json")).unwrap();
    let own = left.replace(&format!("\"pid\":{pid}"), &format!("\"pid\":{}", std::process::id()));
    assert_ne!(left, own);
    std::fs::write(rig.run_file("guest.json"), own).unwrap();
    assert_eq!(rig.host.power_off(&rig.vm).unwrap(), PoweredOff::WasOff);
    rig.on(2).unwrap();
    assert_ne!(rig.pid(), pid);
}

fn hung() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    kill(rig.pid(), "-STOP");
    let host = rig.host.clone().with_stop_patience(Duration::from_millis(100));
    assert_eq!(host.power_off(&rig.vm).unwrap(), PoweredOff::Killed);
    assert!(!rig.running());
}

fn stamps_count_on() {
    let rig = Rig::new();
    let area = rig.host.stamps_area(&rig.vm).unwrap().unwrap();
    assert!(read_stamps(&rig.image(), &area).unwrap().is_empty());
    rig.on(1).unwrap();
    rig.wait_for_stamps(5);
    rig.host.pull_the_plug(&rig.vm).unwrap();
    let first = read_stamps(&rig.image(), &area).unwrap();
    rig.on(2).unwrap();
    rig.wait_for_stamps(5);
    rig.host.power_off(&rig.vm).unwrap();
    let both = read_stamps(&rig.image(), &area).unwrap();
    assert!(first.len() >= 5 && both.len() >= first.len() + 5);
    assert!(both.windows(2).all(|pair| pair[1].count == pair[0].count + 1), "a gap or a repeat");
    let (old, new): (Vec<_>, Vec<_>) = both.iter().partition(|stamp| stamp.epoch == 1);
    assert!(old.last().unwrap().count < new[0].count && old.last().unwrap().time <= new[0].since);
    assert!(new.iter().all(|stamp| stamp.guest == new[0].guest && stamp.guest != old[0].guest));
    // A copy without its vm.yaml still tells where its stamps are.
    std::fs::remove_file(rig.host.path().join("web/vm.yaml")).unwrap();
    assert_eq!(rig.host.stamps_area(&rig.vm).unwrap(), Some(area));
}

fn folder_gone() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    let pid = rig.pid();
    std::fs::remove_dir_all(rig.host.path().join("web")).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    until("the guest ends", || state().is_empty() || state().contains(") Z "));
}

fn writes_files() {
    let rig = Rig::with_disks(2);
    let files = |disk: &str| {
        let image = std::fs::read(rig.host.path().join("web").join(disk)).unwrap();
        read_files(std::io::Cursor::new(image)).unwrap()
    };
    let before = (files("system.raw"), files("data1.raw"));
    rig.on(1).unwrap();
    let written = rig.host.guest_write(&rig.vm, 42).unwrap();
    rig.host.power_off(&rig.vm).unwrap();
    let after = (files("system.raw"), files("data1.raw"));
    assert!((SIZE_SHARE..=SIZE_SHARE * 2).contains(&(written.0 / 2)), "{written}");
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        let kept = before.iter().filter(|file| after.contains(file)).count();
        assert!(kept < before.len() && after.iter().any(|(path, _)| path.starts_with("LOGS/NOTE")));
        let lengths = |files: &[(String, Vec<u8>)]| {
            files.iter().filter(|f| !f.0.contains("NOTE")).map(|f| f.1.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(before), lengths(after));
    }
}

const SIZE_SHARE: u64 = crate::rig::SIZE / 100;

fn scratch() {
    let rig = Rig::new();
    let dir = rig.host.path().join("mail");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("own.img"), vec![0xa5u8; 1024 * 1024]).unwrap();
    let vm = VmName::parse("mail").unwrap();
    rig.host.add_scratch_disk(&vm, 1).unwrap();
    rig.host.add_scratch_disk(&vm, 1).unwrap();
    let disks = rig.host.disks(&vm).unwrap();
    assert_eq!(disks.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["own.img", farshore_hosts::SCRATCH_DISK]);
    rig.host.power_on(&vm, &PowerOn { origin: &origin(), epoch: &epoch(1), program: &program() }).unwrap();
    rig.host.guest_write(&vm, 9).unwrap();
    until("it has stamped", || rig.host.guest_status(&vm).unwrap().count > 0);
    rig.host.power_off(&vm).unwrap();
    assert!(std::fs::read(dir.join("own.img")).unwrap().iter().all(|byte| *byte == 0xa5));
    let area = rig.host.stamps_area(&vm).unwrap().unwrap();
    assert!(!read_stamps(&dir.join(farshore_hosts::SCRATCH_DISK), &area).unwrap().is_empty());
}

fn writes_nothing() {
    let rig = Rig::new();
    let dir = rig.host.path().join("mail");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("own.img"), vec![0x5au8; 300_001]).unwrap();
    let vm = VmName::parse("mail").unwrap();
    rig.host.power_on(&vm, &PowerOn { origin: &origin(), epoch: &epoch(1), program: &program() }).unwrap();
    let refused = rig.host.guest_write(&vm, 1).unwrap_err();
    assert!(refused.to_string().contains("FS-HOST-NOTHING-TO-WRITE"), "{refused}");
    assert_eq!(rig.host.guest_status(&vm).unwrap().count, 0);
    assert_eq!(rig.host.power_off(&vm).unwrap(), PoweredOff::Stopped);
    assert_eq!(std::fs::read(dir.join("own.img")).unwrap(), vec![0x5au8; 300_001]);
}

fn nonsense() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    let long = vec![b'x'; 100_000];
    let deep = "[".repeat(4000);
    for line in [
        &b"not json\n"[..],
        b"\"fly\"\n",
        b"{\"write\":{\"seed\":1,\"hard\":1}}\n",
        b"\xff\xfe\n",
        &long,
        deep.as_bytes(),
    ] {
        let mut socket = UnixStream::connect(rig.run_file("guest.sock")).unwrap();
        // The guest may hang up before it has read all of a line that is too long.
        let _ = socket.write_all(line);
        let _ = socket.write_all(b"\n");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        assert!(line.len() > 4096 || answer.contains("FS-HOST-GUEST-REQUEST"), "{answer}");
    }
    rig.wait_for_stamps(1);
}

fn guarded_while_running() {
    let rig = Rig::new();
    rig.on(6).unwrap();
    let disk = crate::rig::disk("system.raw");
    let written = rig.host.open_for_writing(&rig.vm, &disk).unwrap_err();
    assert!(matches!(written, HostError::VmRuns { epoch: 6, .. }));
    assert!(rig.host.open_for_reading(&rig.vm, &disk, None).is_err());
    assert_eq!(rig.host.remove_vm(&rig.vm, "somebody").unwrap_err().code(), "FS-HOST-VM-NOT-OURS");
    rig.host.power_off(&rig.vm).unwrap();
    let held = rig.host.open_for_writing(&rig.vm, &disk).unwrap();
    assert!(rig.on(6).unwrap_err().to_string().contains("FS-HOST-DISK-BUSY"));
    assert_eq!(rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap_err().code(), "FS-HOST-DISK-BUSY");
    drop(held);
    rig.on(6).unwrap();
}

fn long_path() {
    let rig = Rig::new();
    let deep = rig.host.path().join("d".repeat(200)).join("e".repeat(200));
    std::fs::create_dir_all(&deep).unwrap();
    let host = FolderHost::open(&deep).unwrap();
    let vm = VmName::parse(&"v".repeat(200)).unwrap();
    host.demo_vm(&DemoVm { vm: &vm, seed: 1, size: ByteCount(4 * 1024 * 1024), disks: 1 }).unwrap();
    host.power_on(&vm, &PowerOn { origin: &origin(), epoch: &epoch(1), program: &program() }).unwrap();
    until("it has stamped", || host.guest_status(&vm).unwrap().count > 0);
    assert_eq!(host.power_off(&vm).unwrap(), PoweredOff::Stopped);
}
