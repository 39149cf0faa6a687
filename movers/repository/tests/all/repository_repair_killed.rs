//! Repair after whatever a killed writer has left, and after a killed repair.

use crate::common::StopAfter;
use crate::repository::{restore, try_back_up, unlock};
use crate::repository_repair::World;
use farshore_repository::Repository;
use std::fs;
use std::sync::Arc;

#[test]
fn a_repair_that_ends_at_any_change_goes_on_from_there() {
    let world = World::new(None);
    let largest = world.packs().into_iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[2000] ^= 1;
    fs::write(&largest, bytes).unwrap();
    fs::write(world.at("r/points/two"), b"no point").unwrap();
    fs::remove_file(world.at("r/points/one")).unwrap();
    fs::remove_file(world.at("r/roster")).unwrap();
    world.copy("r", "damaged");
    for changes in 0.. {
        world.copy("damaged", "r");
        let faults = Arc::new(StopAfter::crash(changes));
        let outcome = Repository::open_with_faults(&world.at("r"), &unlock(None), faults.clone())
            .and_then(|repository| world.repair_as(&repository, &["copy"], &[]));
        if !faults.reached() {
            assert!(outcome.unwrap().after.sound());
            assert!(changes > 20, "the test has met only {changes} changes");
            break;
        }
        let repaired = world.repair(&["copy"], &[]);
        assert!(repaired.after.sound(), "after {changes} changes: {repaired:?}");
        world.is_whole(&format!("after {changes} changes"));
    }
}

#[test]
fn a_point_that_a_killed_backup_has_left_is_mended_like_any_other() {
    let world = World::new(None);
    world.image("three.raw", 17);
    world.copy("r", "two");
    let mut met = 0;
    for changes in 0.. {
        world.copy("two", "r");
        let faults = Arc::new(StopAfter::crash(changes));
        let repository = Repository::open_with_faults(&world.at("r"), &unlock(None), faults.clone());
        let killed =
            repository.and_then(|repository| try_back_up(&Arc::new(repository), "three", &world.at("three.raw")));
        world.copy("r", "copy");
        let came = world.at("r/points/three").exists();
        met += u64::from(came && faults.reached());
        for damaged in ["points/three", "roster", "roster.copy", "points/one"] {
            world.copy("copy", "r");
            let Ok(mut bytes) = fs::read(world.at("r").join(damaged)) else { continue };
            bytes[20] ^= 1;
            fs::write(world.at("r").join(damaged), bytes).unwrap();
            let why = format!("{damaged} after {changes} changes");
            let repaired = world.repair(&["copy"], &[]);
            assert!(repaired.after.sound(), "{why}: {repaired:?}");
            world.is_whole(&why);
            if came {
                restore(&world.open(), "three", &world.at("out")).unwrap_or_else(|error| panic!("{why}: {error}"));
                assert!(fs::read(world.at("out")).unwrap() == fs::read(world.at("three.raw")).unwrap(), "{why}");
            }
        }
        if !faults.reached() {
            killed.unwrap();
            break;
        }
    }
    assert!(met > 1, "a point that nobody announced was met {met} times");
}

#[test]
fn a_point_that_a_killed_repair_has_written_anew_is_mended_from_a_copy_of_that() {
    let world = World::new(None);
    fs::remove_file(world.at("r/points/one")).unwrap();
    world.copy("r", "without");
    let mut met = 0;
    for changes in 0.. {
        world.copy("without", "r");
        let faults = Arc::new(StopAfter::crash(changes));
        let repository = Repository::open_with_faults(&world.at("r"), &unlock(None), faults.clone());
        let killed = repository.and_then(|repository| world.repair_as(&repository, &["copy"], &[]));
        if !faults.reached() {
            assert!(killed.unwrap().after.sound());
            break;
        }
        if world.at("r/points/one").exists() {
            world.copy("r", "later");
            fs::write(world.at("r/points/one"), b"rubbish").unwrap();
            let repaired = world.repair(&["later"], &[]);
            assert!(repaired.after.sound(), "after {changes} changes: {repaired:?}");
            world.is_whole(&format!("after {changes} changes"));
            met += 1;
        }
    }
    assert!(met > 1, "a point that was written anew was met {met} times");
}
