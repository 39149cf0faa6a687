//! What the repository's agent builds on: whose a folder is, records that come from elsewhere, proving one point, digests.

use crate::common::{LINEAGE, noise};
use crate::repository::{
    back_up, content, create, disk_name, manifest, name, point_id, read_in, restore, threads, unlock,
};
use farshore_format::DigestMap;
use farshore_format::repository::{ChunkId, Compression, Packer, RecordKind, Unpacker};
use farshore_repository::{Monotonic, Owner, Repository, SentRecord, Unlock};
use farshore_schemas::ids::{Lineage, SiteName};
use farshore_schemas::messages::agent::FolderOwner;
use farshore_schemas::units::Millis;
use std::path::Path;
use std::sync::Arc;

const LATER: Lineage = Lineage([8; 16]);

fn owner(site: &str, lineage: Lineage, formerly: &[Lineage]) -> Owner {
    let site = SiteName::parse(site).unwrap();
    Owner { site, repository: name("main"), lineage, formerly: formerly.to_vec(), adopted: None }
}

fn open(path: &Path, owner: &Owner) -> farshore_repository::Result<Repository> {
    Repository::open_for_owner(path, owner, &Unlock::default())
}

#[test]
fn a_folder_is_its_owners_and_follows_it_to_a_new_lineage_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    let first = open(&path, &owner("hq", LINEAGE, &[])).unwrap();
    let found = first.owner().unwrap().unwrap();
    assert_eq!((found.site.as_str(), found.repository.as_str(), found.epoch), ("hq", "main", 1));
    first.prune(&[], 900).unwrap();
    drop(first);
    drop(open(&path, &owner("hq", LINEAGE, &[])).unwrap());
    for stranger in [owner("dr", LINEAGE, &[]), owner("hq", LATER, &[]), owner("hq", LATER, &[Lineage([1; 16])])] {
        let error = open(&path, &stranger).unwrap_err();
        assert_eq!(error.code(), "FS-REPO-OWNER", "{error}");
    }
    // The log was put back: the site speaks under a new lineage, and its positions begin anew.
    let later = open(&path, &owner("hq", LATER, &[LINEAGE])).unwrap();
    assert_eq!(later.owner().unwrap().unwrap().epoch, 2);
    later.prune(&[], 3).unwrap();
    drop(later);
    let error = open(&path, &owner("hq", LINEAGE, &[])).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-OWNER", "who has an older log is refused: {error}");
    // The site is gone for good, or so somebody thinks.
    let taken = Repository::open(&path, &unlock(None)).unwrap();
    taken.take_ownership().unwrap();
    assert!(taken.owner().unwrap().is_some_and(|owner| owner.offline() && owner.epoch == 3));
    drop(taken);
    let error = open(&path, &owner("hq", LATER, &[LINEAGE])).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-OWNER", "{error}");
}

/// Whose the folder is, as a decision names it.
fn named(path: &Path) -> FolderOwner {
    Repository::open_to_read(path, &unlock(None)).unwrap().owner().unwrap().unwrap().named()
}

#[test]
fn a_folder_is_taken_from_another_owner_by_a_decision_that_names_it_and_the_other_is_shut_out() {
    const THIRD: Lineage = Lineage([9; 16]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    // The site, and what was recovered from its log while it was thought to be lost.
    let (old, new) = (owner("hq", LINEAGE, &[]), owner("hq", LATER, &[LINEAGE]));
    drop(open(&path, &old).unwrap());
    drop(open(&path, &new).unwrap());
    let refused = |owner: &Owner| assert_eq!(open(&path, owner).unwrap_err().code(), "FS-REPO-OWNER");
    refused(&old);
    let over = FolderOwner { lineage: LATER, epoch: 2 };
    refused(&Owner { adopted: Some(FolderOwner { epoch: 1, ..over }), ..old.clone() });
    let back = Owner { adopted: Some(over), ..old.clone() };
    assert_eq!(open(&path, &back).unwrap().owner().unwrap().unwrap().epoch, 3);
    // The other knows this lineage as a former one of its own, and yet does not come back by itself, nor does its heir.
    refused(&new);
    refused(&owner("hq", THIRD, &[LINEAGE, LATER]));
    // But the heir of who has it does.
    drop(open(&path, &owner("hq", THIRD, &[LINEAGE])).unwrap());
    refused(&back);
    refused(&new);
    let again = Owner { adopted: Some(named(&path)), ..new.clone() };
    drop(open(&path, &again).unwrap());
    refused(&owner("hq", THIRD, &[LINEAGE]));
    assert_eq!(named(&path), FolderOwner { lineage: LATER, epoch: 5 });
    drop(open(&path, &again).unwrap());
    assert_eq!(named(&path).epoch, 5, "a decision counts once");
    // A folder that was taken from every site can be given to one.
    let offline = Repository::open(&path, &unlock(None)).unwrap().take_ownership().unwrap();
    refused(&again);
    drop(open(&path, &Owner { adopted: Some(offline), ..owner("dr", LINEAGE, &[]) }).unwrap());
    assert_eq!(named(&path), FolderOwner { lineage: LINEAGE, epoch: 7 });
}

#[test]
fn who_has_lost_the_folder_while_it_was_open_changes_nothing_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    let repository = Arc::new(open(&path, &owner("hq", LINEAGE, &[])).unwrap());
    repository.prune(&[], 1).unwrap();
    let image = folder.path().join("a.img");
    std::fs::write(&image, content(1, 40_960)).unwrap();
    let point = back_up(&repository, "p1", &image);
    // A file system that knows no locks, or a file that was put back.
    let file = path.join("owner.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"epoch\": 1", "\"epoch\": 2")).unwrap();
    let hold = (Millis(0), Monotonic::ZERO);
    let refused = [
        ("prune", repository.prune(&[], 2).map(drop)),
        ("commit", repository.commit_point(&point).map(drop)),
        ("mark", repository.mark_points(&[], (2, 2))),
        ("sweep", repository.sweep_marked(&[], (2, 2), hold).map(drop)),
        ("empty", repository.empty_trash((1, 2), hold).map(drop)),
        ("count", repository.count_trash(Monotonic::ZERO)),
    ];
    for (what, answer) in refused {
        let error = answer.expect_err(what);
        assert_eq!(error.code(), "FS-REPO-OWNER", "{what}: {error}");
    }
}

#[test]
fn what_a_crash_left_of_making_a_repository_is_made_whole() {
    let folder = tempfile::tempdir().unwrap();
    for left in [&["packs"][..], &["packs", "points", "index", "keys", "trash", "digests"]] {
        let path = folder.path().join(left.len().to_string());
        left.iter().for_each(|part| std::fs::create_dir_all(path.join(part)).unwrap());
        drop(open(&path, &owner("hq", LINEAGE, &[])).unwrap());
    }
    let path = folder.path().join("others");
    std::fs::create_dir_all(path.join("packs")).unwrap();
    std::fs::write(path.join("packs/mine"), "x").unwrap();
    assert_eq!(open(&path, &owner("hq", LINEAGE, &[])).unwrap_err().code(), "FS-REPO-FOREIGN");
}

#[test]
fn a_folder_of_an_older_format_says_that_it_must_be_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("format.json"), r#"{"format": 0, "name": "main", "lineage": "x"}"#).unwrap();
    let error = open(folder.path(), &owner("hq", LINEAGE, &[])).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-OLD-FORMAT");
    assert!(error.advice().contains("made anew"), "{error}");
    std::fs::write(folder.path().join("format.json"), r#"{"format": 2}"#).unwrap();
    assert_eq!(open(folder.path(), &owner("hq", LINEAGE, &[])).unwrap_err().code(), "FS-REPO-NEWER");
}

fn sent(repository: &Repository, content: &[u8]) -> SentRecord {
    let mut bytes = Vec::new();
    Packer::new(Compression::Balanced).pack(content, &mut bytes);
    let id = repository.domain().id(RecordKind::Data, content);
    SentRecord { id, kind: RecordKind::Data, plain: content.len() as u32, bytes }
}

#[test]
fn a_record_from_elsewhere_is_stored_once_and_only_when_it_is_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&folder.path().join("r"), Some("x"));
    let (one, other) = (sent(&repository, &content(1, 9000)), sent(&repository, &content(2, 9000)));
    let mut unpacker = Unpacker::default();
    let wrong = [
        SentRecord { id: other.id, ..one.clone() },
        SentRecord { plain: 8999, ..one.clone() },
        SentRecord { plain: u32::MAX, ..one.clone() },
        SentRecord { kind: RecordKind::Leaf, ..one.clone() },
        SentRecord { bytes: Vec::new(), ..one.clone() },
        SentRecord { bytes: other.bytes.clone(), ..one.clone() },
    ];
    for record in wrong {
        let error = repository.put_records(&[other.clone(), record], &mut unpacker).unwrap_err();
        assert_eq!(error.code(), "FS-REPO-BAD-CHUNK", "{error}");
    }
    assert_eq!(repository.have(&[one.id, other.id]).unwrap(), [false, false], "nothing of a bad message is kept");
    assert!(repository.put_records(&[one.clone(), other.clone()], &mut unpacker).unwrap() > 9000);
    assert_eq!(repository.put_records(std::slice::from_ref(&one), &mut unpacker).unwrap(), 0);
    repository.flush().unwrap();
    let asked = [other.id, one.id, other.id];
    let back = repository.stored_records(&asked, usize::MAX).unwrap();
    assert_eq!(back, [other.clone(), one.clone(), other.clone()]);
    assert_eq!(repository.stored_records(&asked, 10).unwrap(), std::slice::from_ref(&other), "at least one");
    let none = repository.stored_records(&[ChunkId([9; 32])], 10).unwrap_err();
    assert_eq!(none.code(), "FS-REPO-NO-CHUNK");
    drop(repository);
    let reader = Repository::open_to_read(&folder.path().join("r"), &unlock(Some("x"))).unwrap();
    assert_eq!(reader.stored_records(&asked[..1], 10).unwrap(), [other]);
}

#[test]
fn a_point_is_proven_alone_and_its_damage_is_not_counted_on_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, image) = (folder.path().join("r"), folder.path().join("disk.raw"));
    std::fs::write(&image, content(1, 2 << 20)).unwrap();
    let repository = Arc::new(open(&path, &owner("hq", LINEAGE, &[])).unwrap());
    let session = repository.write_session();
    let one = read_in(&session, &image, None);
    repository.commit_point(&manifest("one", &one)).unwrap();
    let proven = repository.verify_point(&point_id("one"), threads()).unwrap();
    assert!(proven.damaged == 0 && proven.chunks > 20, "{proven:?}");
    let packs = std::fs::read_dir(path.join("packs")).unwrap();
    let pack =
        packs.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap()).next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[1 << 20] ^= 1;
    std::fs::write(&pack, &bytes).unwrap();
    let proven = repository.verify_point(&point_id("one"), threads()).unwrap();
    assert!(proven.damaged == 1 && proven.damage[0].contains("disk disk"), "{proven:?}");
    drop(session);
    drop(repository);
    let repository = Arc::new(open(&path, &owner("hq", LINEAGE, &[])).unwrap());
    let session = repository.write_session();
    let two = read_in(&session, &image, None);
    assert!(two.new.0 > 0, "what is damaged is stored anew: {two:?}");
    repository.commit_point(&manifest("two", &two)).unwrap();
    for point in ["one", "two"] {
        assert_eq!(repository.verify_point(&point_id(point), threads()).unwrap().damaged, 0, "{point}");
        let out = folder.path().join("out");
        restore(&repository, point, &out).unwrap();
        assert!(std::fs::read(&out).unwrap() == std::fs::read(&image).unwrap());
    }
    let none = repository.verify_point(&point_id("three"), threads()).unwrap_err();
    assert_eq!(none.code(), "FS-REPO-NO-POINT");
}

#[test]
fn digests_are_kept_sealed_until_their_point_goes() {
    for passphrase in [None, Some("x")] {
        let folder = tempfile::tempdir().unwrap();
        let repository = create(&folder.path().join("r"), passphrase);
        let map = DigestMap::of(&noise(1, 100_000));
        let replica = name("web");
        for point in ["one", "two"] {
            repository.put_digests(&replica, &point_id(point), &disk_name(), &map).unwrap();
            assert_eq!(repository.digests(&replica, &point_id(point), &disk_name()).unwrap().as_ref(), Some(&map));
        }
        repository.keep_digests(&replica, &[point_id("two")]).unwrap();
        assert_eq!(repository.digests(&replica, &point_id("one"), &disk_name()).unwrap(), None);
        let file = folder.path().join("r/digests/web/two/disk");
        let mut bytes = std::fs::read(&file).unwrap();
        let digest = &blake3::hash(&noise(1, 100_000)[..4096]).as_bytes()[..16].to_vec();
        let readable = bytes.windows(16).any(|window| window == digest);
        assert_eq!(readable, passphrase.is_none(), "an encrypted repository tells nothing of a disk");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(repository.digests(&replica, &point_id("two"), &disk_name()).unwrap(), None, "damage is absence");
    }
}

#[test]
fn what_a_disk_added_is_known_until_its_point_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.raw");
    std::fs::write(&image, content(1, 1 << 20)).unwrap();
    let repository = create(&folder.path().join("r"), None);
    let session = repository.write_session();
    let disk = read_in(&session, &image, None);
    let mut point = manifest("one", &disk);
    repository.note_added(disk.disk, 700);
    repository.note_added(disk.disk, 11);
    point.stored.0 = repository.added(&point.disks);
    assert_eq!(repository.commit_point(&point).unwrap().0, 711);
    assert_eq!(repository.added(&point.disks), 0);
    point.stored.0 = 0;
    assert_eq!(repository.commit_point(&point).unwrap().0, 711, "done twice it answers the same");
}
