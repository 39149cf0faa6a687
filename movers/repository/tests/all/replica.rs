//! Points made, restored, forgotten, absorbed; what they take; what is refused.

use crate::common::{BLOCK, FailSync, Recorder, Step, StopAfter, disk, noise, point, proof, replicate, restored};
use farshore_format::{BLOCK as BLOCK_LEN, DigestMap};
use farshore_repository::{BlockContent, Error, ReplicaStore, sparse};
use farshore_schemas::ids::DiskName;
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint};
use farshore_schemas::units::{ByteCount, Timestamp};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

fn open(path: &Path) -> Arc<ReplicaStore> {
    Arc::new(ReplicaStore::open(path).unwrap())
}

fn change(content: &mut [u8], block: usize, seed: u64) {
    content[block * BLOCK_LEN..(block + 1) * BLOCK_LEN].copy_from_slice(&noise(seed, BLOCK_LEN));
}

fn allocated(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { allocated(&entry.path()) } else { entry.metadata().unwrap().blocks() * 512 }
            },
        )
        .sum()
}

#[test]
fn five_points_after_one_percent_each_take_at_most_a_fifth_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let blocks = 4096;
    let mut content = noise(1, blocks * BLOCK_LEN);
    replicate(&store, "p0", &content, &[]).unwrap();
    let mut states = vec![content.clone()];
    for id in 1..=5u64 {
        for nth in 0..blocks / 100 {
            change(&mut content, (nth * 101 + id as usize * 37) % blocks, id * 1000 + nth as u64);
        }
        let sealed = replicate(&store, &format!("p{id}"), &content, &[]).unwrap();
        assert!(sealed.stored.0 <= content.len() as u64 * 15 / 1000, "{}", sealed.stored);
        states.push(content.clone());
    }
    rustix::fs::syncfs(std::fs::File::open(folder.path()).unwrap()).unwrap();
    let taken = allocated(folder.path());
    assert!(taken * 10 <= content.len() as u64 * 12, "{taken} of {}", content.len());
    for (id, state) in states.iter().enumerate() {
        assert!(restored(&store, &format!("p{id}")).unwrap() == *state, "p{id}");
    }
}

#[test]
fn holes_stay_holes_in_the_store_and_in_a_working_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    let mut content = vec![0; 32 << 20];
    content[..1 << 20].copy_from_slice(&noise(1, 1 << 20));
    content[20 << 20..21 << 20].copy_from_slice(&noise(2, 1 << 20));
    replicate(&store, "p1", &content, &[]).unwrap();
    content[..1 << 20].fill(0);
    content[10 << 20..11 << 20].copy_from_slice(&noise(3, 1 << 20));
    replicate(&store, "p2", &content, &[]).unwrap();
    for id in ["p1", "p2"] {
        let into = folder.path().join(id);
        store.materialise(&point(id), &into).unwrap();
        let image = std::fs::File::open(into.join("a.img")).unwrap();
        let taken = sparse::allocated(&image).unwrap();
        assert!(taken <= (2 << 20) * 105 / 100, "{id}: {taken}");
        assert_eq!(image.metadata().unwrap().len(), 32 << 20);
    }
    assert!(sparse::allocated(&store.newest(&disk("a.img")).unwrap()).unwrap() <= (2 << 20) * 105 / 100);
}

#[test]
fn sealing_again_answers_the_same_also_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise(1, 10 * BLOCK_LEN + 100);
    let first = replicate(&open(folder.path()), "p1", &content, &[]).unwrap();
    let store = open(folder.path());
    assert_eq!(store.seal(&point("p1"), Timestamp(1), &[proof(&content)], &[]).unwrap(), first);
    assert_eq!(store.points(), [first]);
    let other = store.seal(&point("p1"), Timestamp(1), &[proof(b"other")], &[]).unwrap_err();
    assert_eq!(other.code(), "FS-STORE-POINT-DIFFERS");
    let again = store.begin_point(&point("p1"), &[]).unwrap_err();
    assert_eq!(again.code(), "FS-STORE-POINT-SEALED");
}

#[test]
fn a_checksum_other_than_the_sources_is_refused_and_rolls_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = noise(1, 8 * BLOCK_LEN);
    replicate(&store, "p1", &old, &[]).unwrap();
    let (id, a) = (point("p2"), disk("a.img"));
    store.begin_point(&id, &[DiskFacts { name: a.clone(), size: ByteCount(8 * BLOCK) }]).unwrap();
    let mut writer = store.writer(&id, &a).unwrap();
    writer.apply(3, BlockContent::Zeros).unwrap();
    assert_eq!(store.roll_back().unwrap_err().code(), "FS-STORE-DISK-BUSY");
    assert_eq!(store.writer(&id, &a).unwrap_err().code(), "FS-STORE-DISK-BUSY");
    let found = writer.finish().unwrap();
    assert_eq!(found.written.0, 0);
    let error = store.seal(&id, Timestamp(2), &[proof(&old)], &[]).unwrap_err();
    assert_eq!(error.code(), "FS-STORE-PROOF");
    assert_eq!(store.unfinished(), Some(id));
    store.roll_back().unwrap();
    store.roll_back().unwrap();
    assert_eq!(store.unfinished(), None);
    assert_eq!(store.digest_map(&a).unwrap(), DigestMap::of(&old));
    assert!(restored(&store, "p1").unwrap() == old);
}

#[test]
fn before_images_are_durable_before_their_blocks_are_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    replicate(&open(folder.path()), "p1", &noise(1, 3000 * BLOCK_LEN), &[]).unwrap();
    let recorder = Arc::new(Recorder::default());
    let store = Arc::new(ReplicaStore::open_with_faults(folder.path(), recorder.clone()).unwrap());
    replicate(&store, "p2", &noise(2, 3000 * BLOCK_LEN), &[]).unwrap();
    let steps = recorder.0.lock().unwrap();
    let (journal, raw) = (folder.path().join("open/a.img.journal"), folder.path().join("newest/a.img.raw"));
    let (mut unsynced, mut syncs) = (false, 0);
    for step in steps.iter() {
        match step {
            Step::Write(path) if *path == journal => unsynced = true,
            Step::Sync(path) if *path == journal => (unsynced, syncs) = (false, syncs + 1),
            Step::Write(path) if *path == raw => assert!(!unsynced, "overwritten before its before-image was durable"),
            Step::Write(_) | Step::Sync(_) | Step::Rename(..) => {}
        }
    }
    // One for the header, one for each batch of 4 MiB, one for the trailer.
    assert_eq!(syncs, 1 + 3 + 1);
    let named = steps.iter().position(|step| matches!(step, Step::Rename(_, to) if to.ends_with("manifest"))).unwrap();
    let last_write = steps.iter().rposition(|step| matches!(step, Step::Write(path) if *path == raw)).unwrap();
    let synced = |path: &Path| steps[last_write..named].iter().any(|step| matches!(step, Step::Sync(p) if p == path));
    assert!(synced(&raw) && synced(&journal));
}

#[test]
fn a_point_can_be_restored_while_the_next_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (old, older) = (noise(2, 50 * BLOCK_LEN), noise(1, 40 * BLOCK_LEN));
    replicate(&store, "p1", &older, &[]).unwrap();
    replicate(&store, "p2", &old, &[]).unwrap();
    let (id, a) = (point("p3"), disk("a.img"));
    store.begin_point(&id, &[DiskFacts { name: a.clone(), size: ByteCount(30 * BLOCK) }]).unwrap();
    let mut writer = store.writer(&id, &a).unwrap();
    writer.apply(7, BlockContent::Zeros).unwrap();
    writer.apply(8, BlockContent::Data(&noise(3, BLOCK_LEN))).unwrap();
    writer.flush().unwrap();
    assert!(restored(&store, "p2").unwrap() == old);
    assert!(restored(&store, "p1").unwrap() == older);
    let map = store.digest_map(&a).unwrap();
    assert_eq!(map.get(7), Some([0; 16]));
    assert_eq!(map.size(), 30 * BLOCK);
}

#[test]
fn blocks_beyond_the_disk_or_of_a_wrong_length_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (id, a) = (point("p1"), disk("a.img"));
    assert_eq!(store.writer(&id, &a).unwrap_err().code(), "FS-STORE-NOT-BEGUN");
    store.begin_point(&id, &[DiskFacts { name: a.clone(), size: ByteCount(BLOCK + 10) }]).unwrap();
    let mut writer = store.writer(&id, &a).unwrap();
    for (block, length) in [(0, 10), (1, BLOCK_LEN), (2, BLOCK_LEN), (u64::MAX, 1)] {
        let error = writer.apply(block, BlockContent::Data(&vec![1; length])).unwrap_err();
        assert!(matches!(error, Error::BadBlock { .. }), "{block}");
    }
    assert!(matches!(writer.apply(2, BlockContent::Zeros), Err(Error::BadBlock { .. })));
    writer.apply(1, BlockContent::Data(&[5; 10])).unwrap();
    assert_eq!(writer.finish().unwrap().written.0, 10);
}

#[test]
fn working_disks_are_absorbed_once_as_the_newest_point() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    let mut content = noise(1, 64 * BLOCK_LEN);
    content.resize(256 * BLOCK_LEN, 0);
    replicate(&store, "p1", &content, &[]).unwrap();
    let working = folder.path().join("working");
    store.materialise(&point("p1"), &working).unwrap();
    let image = std::fs::OpenOptions::new().read(true).write(true).open(working.join("a.img")).unwrap();
    image.write_all_at(&noise(9, BLOCK_LEN), 200 * BLOCK).unwrap();
    sparse::punch(&image, 8 * BLOCK, 20 * BLOCK).unwrap();
    let after = std::fs::read(working.join("a.img")).unwrap();
    let images: Vec<(DiskName, _)> = vec![(disk("a.img"), working.join("a.img"))];
    let sealed = store.absorb((&point("p2"), Timestamp(5)), &images, &[]).unwrap();
    assert_eq!(sealed.disks, [proof(&after)]);
    std::fs::remove_dir_all(&working).unwrap();
    assert_eq!(store.absorb((&point("p2"), Timestamp(5)), &images, &[]).unwrap(), sealed);
    assert!(restored(&store, "p2").unwrap() == after);
    assert!(restored(&store, "p1").unwrap() == content);
    let delta = std::fs::metadata(folder.path().join("store/points/00000001-p1/a.img.delta")).unwrap().len();
    assert!(delta < 22 * BLOCK, "21 blocks changed, the delta has {delta} bytes");
}

#[test]
fn a_second_disk_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let a = noise(1, 20 * BLOCK_LEN);
    replicate(&store, "p1", &a, &[]).unwrap();
    let (id, b) = (point("p2"), disk("b.img"));
    for name in [disk("a.img"), b.clone()] {
        store.begin_point(&id, &[DiskFacts { name: name.clone(), size: ByteCount(20 * BLOCK) }]).unwrap();
        store.writer(&id, &name).unwrap().finish().unwrap();
    }
    let zeros = DiskPoint { name: b.clone(), ..proof(&vec![0; 20 * BLOCK_LEN]) };
    let short = store.seal(&id, Timestamp(2), &[proof(&a)], &[]).unwrap_err();
    assert_eq!(short.code(), "FS-REPO-INCOMPLETE");
    store.seal(&id, Timestamp(2), &[proof(&a), zeros], &[]).unwrap();
    let mut changed = a.clone();
    change(&mut changed, 4, 77);
    replicate(&store, "p3", &changed, &[]).unwrap();
    let into = folder.path().join("into");
    store.materialise(&id, &into).unwrap();
    assert!(std::fs::read(into.join("b.img")).unwrap() == vec![0; 20 * BLOCK_LEN]);
    store.forget(&[id]).unwrap();
    assert!(store.newest(&b).is_err());
    replicate(&store, "p4", &a, &[point("p3")]).unwrap();
    assert!(restored(&store, "p1").unwrap() == a);
    assert_eq!(store.points().iter().map(|sealed| sealed.point.to_string()).collect::<Vec<_>>(), ["p1", "p4"]);
}

#[test]
fn a_missing_or_damaged_delta_is_told_and_nothing_is_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    replicate(&store, "p1", &noise(1, 4 * BLOCK_LEN), &[]).unwrap();
    replicate(&store, "p2", &noise(2, 4 * BLOCK_LEN), &[]).unwrap();
    let path = folder.path().join("points/00000001-p1/a.img.delta");
    let sound = std::fs::read(&path).unwrap();
    for at in (0..sound.len()).step_by(97).chain([sound.len() - 1]) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(restored(&store, "p1").unwrap_err().code(), "FS-STORE-DAMAGE", "byte {at}");
        std::fs::write(&path, &sound[..at]).unwrap();
        assert_eq!(restored(&store, "p1").unwrap_err().code(), "FS-STORE-DAMAGE", "cut at {at}");
    }
    std::fs::remove_file(&path).unwrap();
    let into = tempfile::tempdir().unwrap();
    store.materialise(&point("p1"), into.path()).unwrap_err();
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
    assert!(restored(&store, "p2").is_ok());
}

#[test]
fn a_store_in_use_is_locked_and_a_dropped_one_is_gone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("web");
    let store = open(&path);
    replicate(&store, "p1", &noise(1, BLOCK_LEN), &[]).unwrap();
    assert_eq!(ReplicaStore::open(&path).unwrap_err().code(), "FS-STORE-LOCKED");
    assert_eq!(ReplicaStore::drop_store(&path).unwrap_err().code(), "FS-STORE-LOCKED");
    drop(store);
    ReplicaStore::drop_store(&path).unwrap();
    ReplicaStore::drop_store(&path).unwrap();
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("format.json"), r#"{"format":3}"#).unwrap();
    assert_eq!(ReplicaStore::open(&path).unwrap_err().code(), "FS-STORE-NEWER");
}

#[test]
fn after_a_failed_sync_the_store_stops_and_reopened_rolls_back() {
    let folder = tempfile::tempdir().unwrap();
    let old = noise(1, 6 * BLOCK_LEN);
    replicate(&open(folder.path()), "p1", &old, &[]).unwrap();
    let faults = Arc::new(FailSync(Mutex::new(false)));
    let store = Arc::new(ReplicaStore::open_with_faults(folder.path(), faults.clone()).unwrap());
    *faults.0.lock().unwrap() = true;
    assert_eq!(replicate(&store, "p2", &noise(2, 6 * BLOCK_LEN), &[]).unwrap_err().code(), "FS-STORE-SYNC");
    assert_eq!(store.roll_back().unwrap_err().code(), "FS-STORE-SYNC");
    assert_eq!(restored(&store, "p1").unwrap_err().code(), "FS-STORE-SYNC");
    drop(store);
    let store = open(folder.path());
    store.roll_back().unwrap();
    assert!(restored(&store, "p1").unwrap() == old);
}

#[test]
fn a_full_disk_at_any_write_leaves_the_newest_point_and_later_succeeds() {
    let (old, new) = (noise(1, 6 * BLOCK_LEN), noise(2, 9 * BLOCK_LEN));
    for writes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        replicate(&open(folder.path()), "p1", &old, &[]).unwrap();
        let faults = Arc::new(StopAfter::full(writes));
        let store = Arc::new(ReplicaStore::open_with_faults(folder.path(), faults.clone()).unwrap());
        let result = replicate(&store, "p2", &new, &[]);
        if !faults.reached() {
            result.unwrap();
            assert!(writes > 8);
            break;
        }
        assert_eq!(result.unwrap_err().code(), "FS-STORE-FULL");
        faults.mend();
        assert_eq!(store.points().len(), 1);
        assert!(restored(&store, "p1").unwrap() == old);
        replicate(&store, "p2", &new, &[]).unwrap();
        assert!(restored(&store, "p2").unwrap() == new);
        assert!(restored(&store, "p1").unwrap() == old);
    }
}

#[test]
fn forgetting_a_point_in_the_middle_keeps_the_older_before_image() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let states: Vec<Vec<u8>> = (0..5).map(|seed| noise(seed, 10 * BLOCK_LEN)).collect();
    for (id, state) in states.iter().enumerate() {
        replicate(&store, &format!("p{id}"), state, &[]).unwrap();
    }
    // Every delta holds every block, so a merge that let the newer one win would show at once.
    let before = allocated(folder.path());
    let freed = store.forget(&[point("p2"), point("p1"), point("p4")]).unwrap();
    assert!(freed.0 > 20 * BLOCK && allocated(folder.path()) < before);
    assert!(restored(&store, "p0").unwrap() == states[0]);
    assert!(restored(&store, "p3").unwrap() == states[3]);
    assert!(restored(&store, "p4").unwrap() == states[4]);
    assert_eq!(restored(&store, "p1").unwrap_err().code(), "FS-STORE-NO-POINT");
    assert_eq!(store.forget(&[point("p1")]).unwrap().0, 0);
}
