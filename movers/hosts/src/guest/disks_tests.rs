//! The layer under a guest's writes, without a process around it.

use super::*;
use crate::cow::{Record, Tail, cow_path};
use farshore_schemas::units::ByteCount;
use std::fs::{create_dir, read, write};

struct Rig {
    folder: tempfile::TempDir,
    run: RunFolder,
    disks: Disks,
}

const SIZE: usize = 3 * BLOCK + 100;

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    create_dir(folder.path().join("vm")).unwrap();
    let dir = folder.path().join("vm");
    write(dir.join("a.raw"), vec![1u8; SIZE]).unwrap();
    let facts = DiskFacts { name: DiskName::parse("a.raw").unwrap(), size: ByteCount(SIZE as u64) };
    let disks = Disks::open(&dir, &[facts]).unwrap();
    let run = RunFolder::make(&dir).unwrap();
    Rig { folder, run, disks }
}

impl Rig {
    fn image(&self) -> Vec<u8> {
        read(self.folder.path().join("vm/a.raw")).unwrap()
    }

    fn begin(&mut self, name: &str) -> Name {
        let snapshot = Name::parse(name).unwrap();
        self.disks.begin_snapshot(&self.run, &snapshot, Timestamp(1)).unwrap();
        snapshot
    }

    /// The blocks that a snapshot holds: offset and length.
    fn kept(&self, snapshot: &Name) -> Vec<(u64, u32)> {
        let mut tail = Tail::open(&cow_path(&self.run.path, snapshot)).unwrap();
        let mut kept = Vec::new();
        while let Some(record) = tail.next().unwrap() {
            if let Record::Block { offset, at, length, .. } = record {
                let mut data = vec![0u8; length as usize];
                tail.read(&mut data, at).unwrap();
                assert!(data.iter().all(|byte| *byte == 1), "not the content at the beginning");
                kept.push((offset, length));
            }
        }
        kept
    }
}

#[test]
fn a_block_is_kept_once_and_whole_however_it_is_overwritten() {
    let mut rig = rig();
    let first = rig.begin("first");
    rig.disks.write_at(0, &[2; 10], BLOCK as u64 - 5).unwrap();
    rig.disks.write_at(0, &[3; 10], BLOCK as u64 - 5).unwrap();
    assert_eq!(rig.kept(&first), [(0, BLOCK as u32), (BLOCK as u64, BLOCK as u32)]);
    rig.disks.write_at(0, &[4; 100], 3 * BLOCK as u64).unwrap();
    assert_eq!(rig.kept(&first).last(), Some(&(3 * BLOCK as u64, 100)));
    assert_eq!(rig.image()[BLOCK - 5..BLOCK + 5], [3; 10]);
}

#[test]
fn each_snapshot_keeps_for_itself_and_an_ended_one_keeps_no_more() {
    let mut rig = rig();
    let first = rig.begin("first");
    let second = rig.begin("second");
    rig.disks.write_at(0, &[2], 0).unwrap();
    rig.disks.end_snapshot(&rig.run, &first).unwrap();
    rig.disks.write_at(0, &[2], 2 * BLOCK as u64).unwrap();
    assert_eq!(rig.kept(&second).len(), 2);
    assert!(!cow_path(&rig.run.path, &first).exists());
    assert_eq!(rig.disks.snapshot_names(), [second]);
}

#[test]
fn a_snapshot_that_cannot_be_kept_loses_its_name_before_the_block_is_overwritten() {
    let mut rig = rig();
    let lost = rig.begin("lost");
    let fine = rig.begin("fine");
    rig.disks.snapshots[0].refuse_writes().unwrap();
    rig.disks.write_at(0, &[2; 4], 0).unwrap();
    let path = cow_path(&rig.run.path, &lost);
    assert!(!path.exists() && path.with_extension("broken").exists());
    assert_eq!(rig.disks.snapshot_names(), std::slice::from_ref(&fine));
    assert_eq!(rig.kept(&fine), [(0, BLOCK as u32)]);
    assert_eq!(rig.image()[..5], [2, 2, 2, 2, 1]);
}

#[test]
fn when_not_even_the_name_can_be_taken_the_write_is_refused_and_nothing_overwritten() {
    let mut rig = rig();
    let lost = rig.begin("lost");
    rig.disks.snapshots[0].refuse_writes().unwrap();
    // A folder in the way of the new name.
    create_dir(cow_path(&rig.run.path, &lost).with_extension("broken")).unwrap();
    let refused = rig.disks.write_at(0, &[2; 4], 0).unwrap_err();
    assert_eq!(refused.code(), "FS-HOST-IO");
    assert_eq!(rig.image(), vec![1u8; SIZE]);
}

#[test]
fn nothing_is_written_past_the_end_of_a_disk() {
    let mut rig = rig();
    for (offset, length) in [(SIZE as u64 - 1, 2), (SIZE as u64, 1), (u64::MAX, 2)] {
        assert_eq!(rig.disks.write_at(0, &vec![2; length], offset).unwrap_err().code(), "FS-HOST-IO");
    }
    let mut stream = rig.disks.stream(0);
    stream.seek(SeekFrom::End(-2)).unwrap();
    assert_eq!(stream.write(&[5; 10]).unwrap(), 2);
    assert_eq!(stream.write(&[5; 10]).unwrap(), 0);
    assert!(stream.seek(SeekFrom::Current(-(SIZE as i64) - 1)).is_err());
    assert_eq!(rig.image().len(), SIZE);
    assert!(rig.image().ends_with(&[1, 5, 5]));
}
