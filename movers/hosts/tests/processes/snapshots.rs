//! Reading a disk as it was, while its guest writes, dies, comes back; and noticing what cannot be trusted.

use crate::harness::Test;
use crate::rig::{Rig, disk, name, read_all};
use farshore_hosts::HostError;
use std::fs::{File, read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) const TESTS: &[Test] = &[
    ("a_snapshot_gives_the_bytes_of_its_beginning_while_the_guest_writes", under_write),
    ("beginning_and_ending_a_snapshot_twice_is_harmless", twice),
    ("a_snapshot_begun_at_rest_holds_when_the_guest_starts_and_writes", begun_at_rest),
    ("a_snapshot_outlives_a_killed_guest_and_the_next_goes_on_keeping_it", killed_guest),
    ("a_snapshot_outlives_a_guest_that_stops_in_good_order", stopped_guest),
    ("a_half_written_record_is_cut_off_by_the_next_guest", torn_record),
    ("an_image_that_changes_while_it_is_read_is_an_error", changed_at_rest),
    ("an_image_changed_beside_its_guest_is_an_error", changed_beside_guest),
    ("an_image_changed_after_its_guest_died_is_an_error", changed_after_death),
    ("an_image_changed_between_two_guests_is_an_error", changed_between_guests),
    ("a_snapshot_that_ends_while_it_is_read_is_an_error", ended_while_read),
    ("writing_to_the_disk_at_rest_breaks_open_snapshots", broken_by_writing),
    ("a_snapshot_of_another_boot_is_not_read_and_can_be_begun_anew", other_boot),
    ("a_damaged_snapshot_file_is_an_error", damaged),
    ("a_full_guest_refuses_another_snapshot", too_many),
];

/// Begins a snapshot of a VM that is off; the disk's content then, read from the image itself.
fn frozen(rig: &Rig, snapshot: &str) -> Vec<u8> {
    rig.host.snapshot_begin(&rig.vm, &name(snapshot)).unwrap();
    read(rig.image()).unwrap()
}

fn under_write() {
    let rig = Rig::with_disks(2);
    // One begins at rest, so that its content is known; the other begins while the guest writes.
    let expected = frozen(&rig, "a");
    rig.on(1).unwrap();
    let done = AtomicBool::new(false);
    let writes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let seed = writes.fetch_add(1, Ordering::AcqRel);
                rig.host.guest_write(&rig.vm, seed).unwrap();
            }
        });
        let live = rig.host.snapshot_begin(&rig.vm, &name("b")).unwrap();
        assert_eq!(live.disks.len(), 2);
        let first = {
            let mut reader = rig.reader("b").unwrap();
            let bytes = read_all(&mut reader);
            reader.finish().unwrap();
            bytes
        };
        for _ in 0..5 {
            let from = writes.load(Ordering::Acquire);
            let mut a = rig.reader("a").unwrap();
            let mut b = rig.reader("b").unwrap();
            crate::rig::until("the guest writes", || writes.load(Ordering::Acquire) > from + 2);
            assert!(read_all(&mut a) == expected, "snapshot a differs from the disk at its beginning");
            assert!(read_all(&mut b) == first, "snapshot b differs from one read to the next");
            a.finish().unwrap();
            b.finish().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert!(read(rig.image()).unwrap() != expected, "the guest must have written");
    assert!(rig.run_file("snap-a.cow").metadata().unwrap().len() > 100_000);
}

fn twice() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    let first = rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    rig.wait_for_stamps(3);
    assert_eq!(rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap(), first);
    assert_eq!(rig.host.guest_status(&rig.vm).unwrap().snapshots, [name("s")]);
    rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
    rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
    assert!(matches!(rig.reader("s").unwrap_err(), HostError::SnapshotMissing { .. }));
    assert!(rig.host.guest_status(&rig.vm).unwrap().snapshots.is_empty());
    rig.host.power_off(&rig.vm).unwrap();
    let rest = rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    assert_eq!(rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap(), rest);
    rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
    rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
    assert!(!rig.run_file("snap-s.cow").exists());
}

fn begun_at_rest() {
    let rig = Rig::new();
    let expected = frozen(&rig, "s");
    let mut early = rig.reader("s").unwrap();
    rig.on(1).unwrap();
    rig.host.guest_write(&rig.vm, 1).unwrap();
    let mut late = rig.reader("s").unwrap();
    assert!(read_all(&mut early) == expected && read_all(&mut late) == expected);
    early.finish().unwrap();
    late.finish().unwrap();
}

fn killed_guest() {
    let rig = Rig::new();
    let expected = frozen(&rig, "s");
    for round in 0..3 {
        rig.on(round + 1).unwrap();
        rig.host.guest_write(&rig.vm, round).unwrap();
        let mut before = rig.reader("s").unwrap();
        rig.host.pull_the_plug(&rig.vm).unwrap();
        let mut after = rig.reader("s").unwrap();
        assert!(read_all(&mut before) == expected && read_all(&mut after) == expected);
        before.finish().unwrap();
        after.finish().unwrap();
    }
}

fn stopped_guest() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    let mut reader = rig.reader("s").unwrap();
    let first = read_all(&mut reader);
    rig.host.guest_write(&rig.vm, 1).unwrap();
    rig.host.power_off(&rig.vm).unwrap();
    assert!(read_all(&mut reader) == first);
    reader.finish().unwrap();
    rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
}

fn torn_record() {
    let rig = Rig::new();
    let expected = frozen(&rig, "s");
    rig.on(1).unwrap();
    rig.wait_for_stamps(3);
    rig.host.pull_the_plug(&rig.vm).unwrap();
    let cow = File::options().write(true).open(rig.run_file("snap-s.cow")).unwrap();
    let length = cow.metadata().unwrap().len();
    // As if the guest had been killed inside the write of a record: a header and some of its content.
    let whole = read(rig.run_file("snap-s.cow")).unwrap();
    let last_block = whole.len() - (12 + 12 + 4096 + 4);
    cow.write_all_at(&whole[last_block..last_block + 1000], length).unwrap();
    let mut reader = rig.reader("s").unwrap();
    assert!(read_all(&mut reader) == expected);
    rig.on(2).unwrap();
    rig.host.guest_write(&rig.vm, 5).unwrap();
    assert!(read_all(&mut reader) == expected);
    reader.finish().unwrap();
}

fn write_beside(rig: &Rig) {
    let image = File::options().write(true).open(rig.image()).unwrap();
    image.write_all_at(b"somebody else", 5 * 1024 * 1024).unwrap();
}

fn assert_changed(result: farshore_hosts::Result<()>) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), "FS-HOST-DISK-CHANGED");
    assert!(error.to_string().contains("changed while it was read"), "{error}");
    assert!(error.transient() && !error.advice().is_empty());
}

fn changed_at_rest() {
    let rig = Rig::new();
    for change in 0..3 {
        rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
        let mut frozen = rig.reader("s").unwrap();
        let mut plain = rig.host.open_for_reading(&rig.vm, &disk("system.raw"), None).unwrap();
        read_all(&mut frozen);
        read_all(&mut plain);
        match change {
            0 => write_beside(&rig),
            1 => File::options().write(true).open(rig.image()).unwrap().set_len(crate::rig::SIZE + 1).unwrap(),
            _ => {
                let copy = rig.host.path().join("copy");
                std::fs::copy(rig.image(), &copy).unwrap();
                std::fs::rename(copy, rig.image()).unwrap();
            }
        }
        assert_changed(frozen.finish());
        assert_changed(plain.finish());
        rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
    }
    std::fs::remove_file(rig.host.path().join("web/vm.yaml")).unwrap();
    File::options().write(true).open(rig.image()).unwrap().set_len(1000).unwrap();
    let mut short = rig.host.open_for_reading(&rig.vm, &disk("system.raw"), None).unwrap();
    short.read_at(0, &mut [0u8; 1000]).unwrap();
    File::options().write(true).open(rig.image()).unwrap().set_len(10).unwrap();
    assert_changed(short.read_at(0, &mut [0u8; 1000]));
}

fn changed_beside_guest() {
    // The second disk has no stamps, so its guest does not touch it: any change is somebody else's.
    let rig = Rig::with_disks(2);
    rig.on(1).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    let second = disk("data1.raw");
    let mut reader = rig.host.open_for_reading(&rig.vm, &second, Some(&name("s"))).unwrap();
    rig.wait_for_stamps(3);
    read_all(&mut reader);
    let other = File::options().write(true).open(rig.host.disk_path(&rig.vm, &second).unwrap()).unwrap();
    other.write_all_at(b"somebody else", 5 * 1024 * 1024).unwrap();
    assert_changed(reader.finish());
}

fn changed_after_death() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    rig.wait_for_stamps(3);
    rig.host.pull_the_plug(&rig.vm).unwrap();
    let reader = rig.reader("s").unwrap();
    write_beside(&rig);
    assert_changed(reader.finish());
}

fn changed_between_guests() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    rig.wait_for_stamps(3);
    rig.host.power_off(&rig.vm).unwrap();
    write_beside(&rig);
    rig.on(2).unwrap();
    assert_changed(rig.reader("s").unwrap().finish());
}

fn assert_lost(error: HostError) {
    assert_eq!(error.code(), "FS-HOST-SNAPSHOT-LOST", "{error}");
}

fn ended_while_read() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    let mut reader = rig.reader("s").unwrap();
    rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
    assert_lost(reader.read_at(0, &mut [0u8; 512]).unwrap_err());
    assert_lost(reader.finish().unwrap_err());
    // Another one of the same name is another one.
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    let reader = rig.reader("s").unwrap();
    rig.host.snapshot_end(&rig.vm, &name("s")).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    assert_lost(reader.finish().unwrap_err());
}

fn broken_by_writing() {
    let rig = Rig::new();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    let reader = rig.reader("s").unwrap();
    drop(rig.host.open_for_writing(&rig.vm, &disk("system.raw")).unwrap());
    assert_lost(reader.finish().unwrap_err());
    assert_lost(rig.reader("s").unwrap_err());
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    rig.reader("s").unwrap().finish().unwrap();
}

fn other_boot() {
    let rig = Rig::new();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    forge(&rig, boot.trim(), "00000000-0000-4000-8000-000000000000");
    assert_lost(rig.reader("s").unwrap_err());
    rig.on(1).unwrap();
    assert!(rig.host.guest_status(&rig.vm).unwrap().snapshots.is_empty());
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    rig.reader("s").unwrap().finish().unwrap();
}

/// Changes the header of snapshot `s` and makes its checksum fit: magic, kind, length, content, crc.
fn forge(rig: &Rig, from: &str, to: &str) {
    let path = rig.run_file("snap-s.cow");
    let bytes = read(&path).unwrap();
    let size = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[12..12 + size].to_vec()).unwrap();
    assert!(header.contains(from) && from.len() == to.len());
    let mut forged = bytes[..12].to_vec();
    forged.extend_from_slice(header.replace(from, to).as_bytes());
    forged.extend_from_slice(&crc32c::crc32c(&forged[4..]).to_le_bytes());
    std::fs::write(&path, forged).unwrap();
}

fn damaged() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s")).unwrap();
    rig.wait_for_stamps(3);
    rig.host.power_off(&rig.vm).unwrap();
    let path = rig.run_file("snap-s.cow");
    let whole = read(&path).unwrap();
    rig.reader("s").unwrap().finish().unwrap();
    for at in [0, 5, 40, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        assert_lost(rig.reader("s").unwrap_err());
    }
}

fn too_many() {
    let rig = Rig::new();
    rig.on(1).unwrap();
    for number in 0..8 {
        rig.host.snapshot_begin(&rig.vm, &name(&format!("s{number}"))).unwrap();
    }
    let refused = rig.host.snapshot_begin(&rig.vm, &name("s8")).unwrap_err();
    assert_eq!(refused.code(), "FS-HOST-GUEST-REFUSED");
    rig.wait_for_stamps(3);
    rig.host.snapshot_end(&rig.vm, &name("s0")).unwrap();
    rig.host.snapshot_begin(&rig.vm, &name("s8")).unwrap();
}
