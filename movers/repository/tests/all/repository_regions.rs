//! Regions and their digests: what is as it was is left as it is stored, what is not is cut anew, and a restore writes every
//! byte, whatever the file system can do.

use crate::repository::{back_up, content, create, disk_name, manifest, options, point_id, restore, threads};
use farshore_format::repository::{ChunkId, Listed};
use farshore_repository::{BackedUp, Changes, RawSource, Repository, Stages, WriteSession};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const REGION: u64 = 4 << 20;

fn image(path: &Path, size: u64, parts: &[(u64, u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    parts.iter().for_each(|(at, seed, length)| file.write_all_at(&content(*seed, *length), *at).unwrap());
}

fn again(session: &WriteSession, image: &Path, before: &BackedUp) -> BackedUp {
    let disk = manifest("before", before).disks.remove(0);
    let source = RawSource::open(image).unwrap();
    let follows = Changes { disk: &disk, ranges: None };
    let repository = session.repository();
    repository.backup_disk(&disk_name(), (&source, &options(), Some(follows)), &Stages::default()).unwrap()
}

fn regions(repository: &Repository, disk: &BackedUp) -> Vec<Listed> {
    repository.disk_regions(&disk.disk).unwrap()
}

#[test]
fn a_disk_that_is_read_again_is_the_same_disk_and_a_change_is_one_region() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    image(&disk, 4 * REGION + 4096, &[(0, 1, 1 << 20), (REGION + 8192, 2, 3 << 20), (4 * REGION, 3, 4096)]);
    let repository = create(&folder.path().join("r"), Some("x"));
    let session = repository.write_session();
    let first = crate::repository::read_in(&session, &disk, None);
    repository.commit_point(&manifest("one", &first)).unwrap();
    let same = again(&session, &disk, &first);
    assert_eq!((same.disk, same.checksum, same.new.0), (first.disk, first.checksum, 0));
    assert_eq!(same.read, first.read, "without a list of changes everything is read");
    // One byte of the second region, and space that the third takes now.
    let file = File::options().write(true).open(&disk).unwrap();
    file.write_all_at(&[1], REGION + 70_000).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 2 * REGION, 8192).unwrap();
    let changed = again(&session, &disk, &first);
    assert_eq!(changed.checksum, Some(farshore_format::checksum(&std::fs::read(&disk).unwrap())));
    let (was, is) = (regions(&repository, &first), regions(&repository, &changed));
    let differ = |of: &dyn Fn(&Listed) -> [u8; 32]| {
        (0..was.len()).filter(|at| of(&was[*at]) != of(&is[*at])).collect::<Vec<_>>()
    };
    assert_eq!(differ(&|region| region.sum.unwrap().0), [1], "the digest is of content alone");
    assert_eq!(differ(&|region| region.leaf.0), [1, 2], "zeros that take space are told from a hole");
    assert_eq!(was[2].sum, was[3].sum, "holes have one digest, wherever they are");
    repository.commit_point(&manifest("two", &changed)).unwrap();
    let out = folder.path().join("out.raw");
    restore(&repository, "two", &out).unwrap();
    assert!(std::fs::read(&disk).unwrap() == std::fs::read(&out).unwrap());
}

/// As if the memory of whoever cut the disk had failed: its second region names sound chunks of other content.
fn crossed(repository: &Repository, session: &WriteSession, disk: &BackedUp) -> BackedUp {
    let mut listed = regions(repository, disk);
    listed[1].leaf = listed[0].leaf;
    let record = farshore_format::repository::LeafList { regions: listed }.encode();
    let domain = repository.domain();
    let put = |kind, bytes: Vec<u8>| {
        let id = domain.id(kind, &bytes);
        let (plain, mut stored) = (bytes.len() as u32, vec![0]);
        stored.extend_from_slice(&bytes);
        let record = farshore_repository::SentRecord { id, kind, plain, bytes: stored };
        session.repository().put_records(&[record], &mut Default::default()).unwrap();
        id
    };
    let list = put(farshore_format::repository::RecordKind::List, record);
    let tree = farshore_format::repository::DiskTree { size: disk.size.0, checksum: disk.checksum, lists: vec![list] };
    let record: ChunkId = put(farshore_format::repository::RecordKind::Disk, tree.encode());
    BackedUp { disk: record, ..disk.clone() }
}

#[test]
fn a_region_that_is_not_what_was_read_is_found_and_cut_anew() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    image(&disk, 2 * REGION, &[(0, 1, 1 << 20), (REGION, 3, 1 << 20)]);
    let repository = create(&folder.path().join("r"), None);
    let session = repository.write_session();
    let sound = crate::repository::read_in(&session, &disk, None);
    let wrong = crossed(&repository, &session, &sound);
    repository.commit_point(&manifest("wrong", &wrong)).unwrap();
    let out = folder.path().join("out.raw");
    let error = restore(&repository, "wrong", &out).unwrap_err();
    assert!(error.code() == "FS-REPO-DAMAGE" && error.to_string().contains("region 1"), "{error}");
    let proven = repository.verify_point(&point_id("wrong"), threads()).unwrap();
    assert!(proven.damaged == 1 && proven.damage[0].contains("region 1"), "{proven:?}");
    let healed = again(&session, &disk, &wrong);
    assert_eq!((healed.disk, healed.checksum), (sound.disk, sound.checksum));
    repository.commit_point(&manifest("healed", &healed)).unwrap();
    restore(&repository, "healed", &out).unwrap();
    assert!(std::fs::read(&disk).unwrap() == std::fs::read(&out).unwrap());
}

#[test]
fn a_restore_writes_every_byte_on_a_disk_and_in_memory_whatever_the_disks_size() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()];
    let repository = create(&folders[0].path().join("r"), Some("x"));
    for (number, tail) in [0u64, 1, 511, 512, 4095, 4096, 5000, 65_536 + 77].into_iter().enumerate() {
        let disk = folders[0].path().join("disk.raw");
        let size = 2 * REGION + tail;
        // Long and short runs side by side, one across two regions, and one to the very end.
        let end = (128 << 10) + tail;
        let parts = [(0, 3, 4096), (8192, 5, 200_704), (REGION - 65_536, 7, 131_072), (size - end, 9, end as usize)];
        image(&disk, size, &parts);
        let point = format!("p{number}");
        back_up(&repository, &point, &disk);
        for folder in &folders {
            let out = folder.path().join("out.raw");
            restore(&repository, &point, &out).unwrap();
            assert!(std::fs::read(&disk).unwrap() == std::fs::read(&out).unwrap(), "{size} bytes in {folder:?}");
        }
    }
}
