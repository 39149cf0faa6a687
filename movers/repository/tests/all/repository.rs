//! Storing and reading back; whose folder it is; what is trusted.

use crate::common::{LINEAGE, disk, manifest, name, noise, point, store_disk};
use farshore_format::{CHUNK, ChunkId, DigestMap, decode_chunk, encode_chunk};
use farshore_repository::{Error, Repository};
use farshore_schemas::ids::Lineage;
use farshore_schemas::messages::agent::Failure;
use std::path::Path;

fn open(path: &Path) -> Repository {
    Repository::open(path, &name("main"), LINEAGE).unwrap()
}

/// Two chunks of noise, one of zeros, and a short one.
fn content(seed: u64) -> Vec<u8> {
    let mut content = noise(seed, 2 * CHUNK);
    content.extend_from_slice(&[0; CHUNK]);
    content.extend_from_slice(&noise(seed + 1, 5000));
    content
}

pub(crate) fn read_back(repository: &Repository, id: &str, disk_name: &str) -> Vec<u8> {
    let list = repository.disk_manifest(&point(id), &disk(disk_name)).unwrap();
    let mut bytes = Vec::new();
    for (index, id) in (0..).zip(&list.chunks) {
        let length = list.chunk_len(index).unwrap();
        match id.is_zero() {
            true => bytes.resize(bytes.len() + length, 0),
            false => bytes.extend(decode_chunk(*id, &repository.get_chunk(*id).unwrap()).unwrap()),
        }
    }
    bytes
}

#[test]
fn a_point_reads_back_byte_equal_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(1);
    {
        let repository = open(folder.path());
        let stored = store_disk(&repository, "a.img", &content).unwrap();
        repository.commit_point(&manifest("p1", vec![stored])).unwrap();
    }
    let repository = open(folder.path());
    assert_eq!(read_back(&repository, "p1", "a.img"), content);
    let verified = repository.verify_point(&point("p1")).unwrap();
    assert_eq!((verified.chunks, verified.damaged), (3, 0));
    assert_eq!(repository.points().unwrap().len(), 1);
}

#[test]
fn committing_again_answers_the_same_and_other_content_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    let first = manifest("p1", vec![store_disk(&repository, "a.img", &content(1)).unwrap()]);
    let stored = repository.commit_point(&first).unwrap();
    assert!(stored.0 > 2 * CHUNK as u64 && stored.0 < 3 * CHUNK as u64);
    assert_eq!(repository.commit_point(&first).unwrap(), stored);
    drop(repository);
    let repository = open(folder.path());
    assert_eq!(repository.commit_point(&first).unwrap(), stored);
    let other = manifest("p1", vec![store_disk(&repository, "a.img", &content(9)).unwrap()]);
    let error = repository.commit_point(&other).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-POINT-DIFFERS");
    assert_eq!(read_back(&repository, "p1", "a.img"), content(1));
}

#[test]
fn a_second_point_adds_only_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    let mut bytes = content(1);
    repository.commit_point(&manifest("p1", vec![store_disk(&repository, "a.img", &bytes).unwrap()])).unwrap();
    bytes[..CHUNK].copy_from_slice(&noise(50, CHUNK));
    let second = manifest("p2", vec![store_disk(&repository, "a.img", &bytes).unwrap()]);
    let stored = repository.commit_point(&second).unwrap().0;
    assert!(stored >= CHUNK as u64 && stored < CHUNK as u64 + 1024, "{stored}");
    assert_eq!(read_back(&repository, "p1", "a.img"), content(1));
    assert_eq!(read_back(&repository, "p2", "a.img"), bytes);
}

#[test]
fn a_point_with_a_missing_chunk_or_manifest_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    let stored = store_disk(&repository, "a.img", &content(1)).unwrap();
    let id = ChunkId::of(&content(1)[..CHUNK]);
    let hex = id.to_string();
    std::fs::remove_file(folder.path().join("chunks").join(&hex[..2]).join(&hex)).unwrap();
    let error = repository.commit_point(&manifest("p1", vec![stored.clone()])).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-INCOMPLETE");
    assert!(error.to_string().contains(&hex), "{error}");
    let mut unknown = stored;
    unknown.manifest.0[0] ^= 1;
    assert_eq!(repository.commit_point(&manifest("p1", vec![unknown])).unwrap_err().code(), "FS-REPO-INCOMPLETE");
    assert!(repository.points().unwrap().is_empty());
}

#[test]
fn bytes_that_are_not_the_chunk_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    let chunk = encode_chunk(&noise(1, 9000));
    let other = encode_chunk(&noise(2, 9000));
    assert_eq!(repository.put_chunk(chunk.id, &other.bytes).unwrap_err().code(), "FS-REPO-BAD-CHUNK");
    assert_eq!(repository.have(&[chunk.id, ChunkId::ZERO]).unwrap(), [false, true]);
    assert_eq!(repository.put_chunk(chunk.id, &chunk.bytes).unwrap().0, chunk.bytes.len() as u64);
    assert_eq!(repository.put_chunk(chunk.id, &chunk.bytes).unwrap().0, 0);
    assert_eq!(repository.get_chunk(other.id).unwrap_err().code(), "FS-REPO-NO-CHUNK");
}

#[test]
fn what_a_crash_left_of_a_chunk_is_not_counted_as_stored() {
    let folder = tempfile::tempdir().unwrap();
    let chunk = encode_chunk(&noise(1, 9000));
    open(folder.path()).put_chunk(chunk.id, &chunk.bytes).unwrap();
    let hex = chunk.id.to_string();
    let path = folder.path().join("chunks").join(&hex[..2]).join(&hex);
    // A power cut after the rename and before the data: the name is there, the bytes are not.
    std::fs::write(&path, vec![0; chunk.bytes.len()]).unwrap();
    let repository = open(folder.path());
    assert_eq!(repository.have(&[chunk.id]).unwrap(), [false]);
    repository.put_chunk(chunk.id, &chunk.bytes).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), chunk.bytes);
}

#[test]
fn verify_names_a_damaged_chunk_and_the_next_backup_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    let bytes = content(1);
    repository.commit_point(&manifest("p1", vec![store_disk(&repository, "a.img", &bytes).unwrap()])).unwrap();
    let id = ChunkId::of(&bytes[CHUNK..2 * CHUNK]);
    let hex = id.to_string();
    let path = folder.path().join("chunks").join(&hex[..2]).join(&hex);
    let mut stored = std::fs::read(&path).unwrap();
    stored[100] ^= 1;
    std::fs::write(&path, stored).unwrap();
    let verified = repository.verify_point(&point("p1")).unwrap();
    assert_eq!((verified.chunks, verified.damaged), (3, 1));
    assert!(verified.damage[0].contains("a.img") && verified.damage[0].contains(&hex), "{:?}", verified.damage);
    store_disk(&repository, "a.img", &bytes).unwrap();
    assert_eq!(repository.verify_point(&point("p1")).unwrap().damaged, 0);
}

#[test]
fn another_owner_is_refused_until_the_folder_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    first.prune(&[], 100).unwrap();
    drop(first);
    let other = Lineage([8; 16]);
    let error = Repository::open(folder.path(), &name("main"), other).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-OWNER");
    assert_eq!(Repository::open(folder.path(), &name("second"), LINEAGE).unwrap_err().code(), "FS-REPO-OWNER");
    let adopted = Repository::adopt(folder.path(), &name("main"), other).unwrap();
    adopted.prune(&[], 3).unwrap();
    drop(adopted);
    Repository::open(folder.path(), &name("main"), other).unwrap();
    assert_eq!(Repository::open(folder.path(), &name("main"), LINEAGE).unwrap_err().code(), "FS-REPO-OWNER");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let newer = r#"{"format": 7, "shards": 12}"#;
    std::fs::write(folder.path().join("format.json"), newer).unwrap();
    let error = Repository::open(folder.path(), &name("main"), LINEAGE).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-NEWER");
    assert!(error.to_string().contains("format 7"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.path().join("format.json")).unwrap(), newer);
    assert!(!folder.path().join("chunks").exists());
    let failure = Failure::from(&error);
    assert!(failure.advice.contains("farshore") && !failure.transient);
}

#[test]
fn a_folder_in_use_and_a_folder_of_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let held = open(folder.path());
    assert_eq!(Repository::open(folder.path(), &name("main"), LINEAGE).unwrap_err().code(), "FS-REPO-LOCKED");
    drop(held);
    open(folder.path());
    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("holiday.jpg"), "x").unwrap();
    let error = Repository::open(foreign.path(), &name("main"), LINEAGE).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }));
    assert_eq!(std::fs::read_dir(foreign.path()).unwrap().count(), 1);
}

#[test]
fn garbage_in_the_header_or_a_manifest_is_damage_with_the_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    repository.commit_point(&manifest("p1", vec![store_disk(&repository, "a.img", &content(1)).unwrap()])).unwrap();
    drop(repository);
    let path = folder.path().join("points/p1");
    let sound = std::fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        let error = open(folder.path()).point(&point("p1")).unwrap_err();
        assert_eq!(error.code(), "FS-REPO-DAMAGE");
        assert!(error.to_string().contains("points/p1"), "{error}");
    }
    std::fs::write(folder.path().join("format.json"), "{").unwrap();
    let error = Repository::open(folder.path(), &name("main"), LINEAGE).unwrap_err();
    assert!(error.to_string().contains("format.json"), "{error}");
}

#[test]
fn digests_are_kept_dropped_and_when_damaged_absent() {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(folder.path());
    let (replica, a) = (name("web"), disk("a.img"));
    let map = DigestMap::of(&content(1));
    for id in ["p1", "p2"] {
        repository.put_digests(&replica, &point(id), &a, &map).unwrap();
    }
    assert_eq!(repository.digests(&replica, &point("p1"), &a).unwrap(), Some(map));
    repository.keep_digests(&replica, &[point("p2")]).unwrap();
    assert_eq!(repository.digests(&replica, &point("p1"), &a).unwrap(), None);
    std::fs::write(folder.path().join("digests/web/p2/a.img"), "garbage").unwrap();
    assert_eq!(repository.digests(&replica, &point("p2"), &a).unwrap(), None);
}
