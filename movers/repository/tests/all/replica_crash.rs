//! The process stops before the n-th change, for every n; what is opened then has every sealed point, byte-equal.

use crate::common::{StopAfter, disk, noise, point, replicate, restored};
use farshore_format::{BLOCK, DigestMap};
use farshore_repository::{ReplicaStore, Result};
use std::path::Path;
use std::sync::Arc;

/// Three states: the second is smaller than the first and has a hole, the third is longer; none ends on a block.
fn states() -> [Vec<u8>; 4] {
    let first = noise(1, 24 * BLOCK + 100);
    let mut second = first[..18 * BLOCK + 50].to_vec();
    second[4 * BLOCK..9 * BLOCK].fill(0);
    second[BLOCK..2 * BLOCK].copy_from_slice(&noise(2, BLOCK));
    let mut third = second.clone();
    third.resize(30 * BLOCK + 7, 3);
    third[5 * BLOCK..6 * BLOCK].copy_from_slice(&noise(3, BLOCK));
    let mut fourth = third.clone();
    fourth[7 * BLOCK..8 * BLOCK].copy_from_slice(&noise(4, BLOCK));
    [first, second, third, fourth]
}

fn story(path: &Path, faults: Arc<StopAfter>, states: &[Vec<u8>]) -> Result<()> {
    let store = Arc::new(ReplicaStore::open_with_faults(path, faults)?);
    for (id, state) in states.iter().enumerate() {
        // The last seal merges a point in the middle away.
        let forget = if id == 3 { vec![point("p1")] } else { Vec::new() };
        replicate(&store, &format!("p{id}"), state, &forget)?;
    }
    store.forget(&[point("p0")]).map(drop)
}

/// Opens what the crash left and checks all that it says it has.
fn check(path: &Path, states: &[Vec<u8>], changes: i64) -> usize {
    let store = Arc::new(ReplicaStore::open(path).unwrap());
    store.roll_back().unwrap();
    assert_eq!(store.unfinished(), None);
    let points: Vec<String> = store.points().iter().map(|sealed| sealed.point.to_string()).collect();
    for id in &points {
        let state = &states[id[1..].parse::<usize>().unwrap()];
        assert!(restored(&store, id).unwrap() == *state, "{id} after {changes} changes");
    }
    if let Some(newest) = points.last() {
        let state = &states[newest[1..].parse::<usize>().unwrap()];
        assert_eq!(store.digest_map(&disk("a.img")).unwrap(), DigestMap::of(state), "after {changes} changes");
    }
    // And it goes on from there.
    replicate(&store, "next", &states[1], &[]).unwrap();
    assert!(restored(&store, "next").unwrap() == states[1]);
    points.iter().for_each(|id| assert!(restored(&store, id).is_ok(), "{id} after {changes} changes"));
    points.len()
}

#[test]
fn a_crash_at_any_change_leaves_every_sealed_point_byte_equal() {
    let states = states();
    let mut last = 0;
    for changes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let faults = Arc::new(StopAfter::crash(changes));
        let told = story(folder.path(), faults.clone(), &states);
        let points = check(folder.path(), &states, changes);
        if !faults.reached() {
            told.unwrap();
            assert_eq!(points, 2);
            assert!(changes > 100, "only {changes} changes were met");
            break;
        }
        told.unwrap_err();
        assert!(points + 2 >= last, "a sealed point was lost");
        last = points;
    }
}

#[test]
fn a_crash_at_any_change_of_the_roll_back_itself_is_mended_by_the_next() {
    let states = states();
    for changes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(ReplicaStore::open(folder.path()).unwrap());
        replicate(&store, "p0", &states[0], &[]).unwrap();
        drop(store);
        // Everything of the next point is written, but the disk refuses its manifest's folder.
        let faults = Arc::new(StopAfter::crash(24));
        let store = Arc::new(ReplicaStore::open_with_faults(folder.path(), faults).unwrap());
        replicate(&store, "p1", &states[1], &[]).unwrap_err();
        drop(store);
        let faults = Arc::new(StopAfter::crash(changes));
        let told = ReplicaStore::open_with_faults(folder.path(), faults.clone()).and_then(|store| store.roll_back());
        check(folder.path(), &states, changes);
        if !faults.reached() {
            told.unwrap();
            assert!(changes > 5, "only {changes} changes were met");
            break;
        }
    }
}

#[test]
fn a_torn_end_of_the_journal_is_left_out() {
    let states = states();
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(ReplicaStore::open(folder.path()).unwrap());
    replicate(&store, "p0", &states[0], &[]).unwrap();
    let (id, a) = (point("p1"), disk("a.img"));
    let size = farshore_schemas::units::ByteCount(states[0].len() as u64);
    store.begin_point(&id, &[farshore_schemas::messages::agent::DiskFacts { name: a.clone(), size }]).unwrap();
    let mut writer = store.writer(&id, &a).unwrap();
    for block in [2, 3, 9] {
        writer.apply(block, farshore_repository::BlockContent::Zeros).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    drop(store);
    let journal = folder.path().join("open/a.img.journal");
    let sound = std::fs::read(&journal).unwrap();
    for garbage in [&noise(7, 5)[..], &noise(7, 3000)[..], b"FSDELEND", &[0; 200]] {
        std::fs::write(&journal, [&sound, garbage].concat()).unwrap();
        let store = Arc::new(ReplicaStore::open(folder.path()).unwrap());
        assert!(restored(&store, "p0").unwrap() == states[0]);
    }
    check(folder.path(), &states, 0);
}
