//! Deletion takes two prunes and never what a point needs.

use crate::common::{LINEAGE, disk, manifest, name, noise, point, store_disk};
use crate::repository::read_back;
use farshore_format::{CHUNK, ChunkId, encode_chunk};
use farshore_repository::Repository;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn open(path: &Path) -> Arc<Repository> {
    Arc::new(Repository::open(path, &name("main"), LINEAGE).unwrap())
}

fn back_up(repository: &Repository, id: &str, content: &[u8]) {
    let stored = store_disk(repository, "a.img", content).unwrap();
    repository.commit_point(&manifest(id, vec![stored])).unwrap();
}

#[test]
fn chunks_are_marked_by_one_prune_and_unlinked_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    back_up(&repository, "p1", &noise(1, 2 * CHUNK));
    back_up(&repository, "p2", &noise(2, CHUNK));
    let first = repository.prune(&[point("p1")], 10).unwrap();
    assert_eq!((first.freed.0, first.points), (0, vec![point("p1")]));
    assert!(first.marked.0 > 2 * CHUNK as u64);
    assert!(repository.point(&point("p1")).unwrap().is_none());
    // The same order again, as after a crash, unlinks nothing either.
    assert_eq!(repository.prune(&[point("p1")], 10).unwrap().freed.0, 0);
    let second = repository.prune(&[], 11).unwrap();
    assert!(second.freed.0 > 2 * CHUNK as u64);
    assert_eq!(repository.prune(&[], 12).unwrap().freed.0, 0);
    assert_eq!(repository.verify_point(&point("p2")).unwrap().damaged, 0);
}

#[test]
fn a_lower_position_is_refused_also_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).prune(&[], 10).unwrap();
    let repository = open(folder.path());
    back_up(&repository, "p1", &noise(1, CHUNK));
    let error = repository.prune(&[point("p1")], 9).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-POSITION");
    assert!(repository.point(&point("p1")).unwrap().is_some());
}

#[test]
fn what_is_asked_for_or_sent_again_comes_back_from_the_trash() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    back_up(&repository, "p1", &noise(1, 2 * CHUNK));
    repository.prune(&[point("p1")], 10).unwrap();
    drop(repository);
    let repository = open(folder.path());
    let id = ChunkId::of(&noise(1, 2 * CHUNK)[..CHUNK]);
    assert_eq!(repository.have(&[id]).unwrap(), [true]);
    back_up(&repository, "p2", &noise(1, 2 * CHUNK));
    repository.prune(&[], 20).unwrap();
    repository.prune(&[], 30).unwrap();
    assert_eq!(read_back(&repository, "p2", "a.img"), noise(1, 2 * CHUNK));
}

#[test]
fn a_session_under_way_keeps_what_it_stored_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    back_up(&repository, "p1", &noise(1, CHUNK));
    let session = repository.write_session();
    let found = ChunkId::of(&noise(1, CHUNK));
    assert_eq!(repository.have(&[found]).unwrap(), [true]);
    let stored = store_disk(&repository, "a.img", &noise(2, CHUNK)).unwrap();
    repository.prune(&[point("p1")], 10).unwrap();
    repository.prune(&[], 20).unwrap();
    assert!(repository.get_chunk(found).is_ok());
    repository.commit_point(&manifest("p2", vec![stored])).unwrap();
    drop(session);
    repository.prune(&[], 30).unwrap();
    repository.prune(&[], 40).unwrap();
    assert!(repository.get_chunk(found).is_err());
    assert_eq!(read_back(&repository, "p2", "a.img"), noise(2, CHUNK));
}

#[test]
fn a_point_that_the_owner_does_not_know_holds_its_chunks_and_a_damaged_one_holds_all() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    back_up(&repository, "unknown", &noise(1, CHUNK));
    repository.prune(&[point("others")], 10).unwrap();
    repository.prune(&[point("others")], 20).unwrap();
    assert_eq!(repository.verify_point(&point("unknown")).unwrap().damaged, 0);
    let lost = encode_chunk(&noise(5, CHUNK));
    repository.put_chunk(lost.id, &lost.bytes).unwrap();
    std::fs::write(folder.path().join("points/rotten"), "rotten").unwrap();
    let error = repository.prune(&[point("unknown")], 30).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-DAMAGE");
    assert!(repository.get_chunk(lost.id).is_ok());
}

#[derive(Debug, Clone)]
enum Act {
    BackUp(Vec<u8>),
    Prune(usize),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop::collection::vec(0u8..6, 1..5).prop_map(Act::BackUp),
        3 => (0usize..5).prop_map(Act::Prune),
        1 => Just(Act::Reopen),
    ]
}

/// A disk of a few kinds of chunk, so that points share many.
fn disk_of(kinds: &[u8]) -> Vec<u8> {
    kinds.iter().flat_map(|kind| if *kind == 0 { vec![0; CHUNK] } else { noise(u64::from(*kind), CHUNK) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_is_backed_up_and_pruned_every_point_reads_back(acts in prop::collection::vec(act(), 1..14)) {
        let folder = tempfile::tempdir().unwrap();
        let mut repository = open(folder.path());
        let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (position, act) in (1..).zip(acts) {
            match act {
                Act::BackUp(kinds) => {
                    let id = format!("p{position}");
                    back_up(&repository, &id, &disk_of(&kinds));
                    expected.insert(id, kinds);
                }
                Act::Prune(nth) => {
                    let dropped = expected.keys().nth(nth).cloned();
                    dropped.iter().for_each(|id| { expected.remove(id); });
                    let dropped: Vec<_> = dropped.iter().map(|id| point(id)).collect();
                    repository.prune(&dropped, position).unwrap();
                }
                Act::Reopen => {
                    drop(repository);
                    repository = open(folder.path());
                }
            }
            prop_assert_eq!(repository.points().unwrap().len(), expected.len());
        }
        for (id, kinds) in &expected {
            prop_assert_eq!(repository.verify_point(&point(id)).unwrap().damaged, 0);
            let list = repository.disk_manifest(&point(id), &disk("a.img")).unwrap();
            prop_assert_eq!(list.chunks.len(), kinds.len());
        }
    }
}
