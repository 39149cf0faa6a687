//! Pieces of the log's copy that are damaged or gone, and what lies in the folder and is none of it.

use crate::common::LINEAGE;
use crate::repository::{create, threads, unlock};
use crate::repository_log::{Log, OTHER, log, root};
use farshore_repository::Repository;
use farshore_schemas::ids::Seq;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// A log of two lineages in several pieces, and the files of the pieces in order.
fn long(folder: &tempfile::TempDir) -> (Log, Vec<PathBuf>) {
    let repository = create(&root(folder), None);
    let mut log = Log::default();
    log.grow(LINEAGE, 70, 200_000);
    log.grow(OTHER, 30, 200_000);
    log.keep(&repository).unwrap();
    let files = repository.logs().unwrap();
    let mut files: Vec<(Seq, PathBuf)> = files
        .iter()
        .flat_map(|kept| kept.pieces.iter().map(|first| (*first, repository.log_path(kept.lineage, *first))))
        .collect();
    files.sort();
    assert!(files.len() >= 6);
    (log, files.into_iter().map(|(_, path)| path).collect())
}

#[test]
fn a_piece_that_is_damaged_or_gone_is_fetched_again_wherever_it_is_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let (log, files) = long(&folder);
    let first_of = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    for (at, path) in files.iter().enumerate() {
        let until = files.get(at + 1).map_or(log.frames.len() as u64, |next| first_of(next) - 1);
        let wanted: Vec<u64> = (first_of(path)..=until).collect();
        let whole = fs::read(path).unwrap();
        let damages: [&dyn Fn(); 3] =
            [&|| fs::remove_file(path).unwrap(), &|| fs::write(path, &whole[..whole.len() / 2]).unwrap(), &|| {
                fs::write(path, fs::read(&files[(at + 1) % files.len()]).unwrap()).unwrap()
            }];
        for damage in damages {
            damage();
            let repository = Repository::open(&root(&folder), &unlock(None)).unwrap();
            assert!(at + 1 == files.len() || !repository.verify(threads()).unwrap().sound());
            let (fetched, missing) = log.keep_from(Seq(1), &repository).unwrap();
            assert_eq!((fetched, missing), (wanted.clone(), vec![]), "{}", path.display());
            log.is_kept(&repository);
            assert!(repository.verify(threads()).unwrap().sound());
        }
    }
    // Two that follow each other, over the border of the lineages.
    let border = files.iter().position(|path| path.to_string_lossy().contains(&OTHER.to_string())).unwrap();
    fs::remove_file(&files[border - 1]).unwrap();
    fs::remove_file(&files[border]).unwrap();
    let repository = Repository::open(&root(&folder), &unlock(None)).unwrap();
    log.keep(&repository).unwrap();
    log.is_kept(&repository);
}

#[test]
fn what_is_damaged_and_archived_is_told_until_it_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let (log, files) = long(&folder);
    let second: u64 = files[1].file_name().unwrap().to_str().unwrap().parse().unwrap();
    let whole = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &whole[..100]).unwrap();
    let repository = Repository::open(&root(&folder), &unlock(None)).unwrap();
    for begun in [10, second, 80, 100] {
        let (fetched, missing) = log.keep_from(Seq(begun), &repository).unwrap();
        let lost = second.min(begun) - 1;
        assert_eq!(missing, [(1, lost)], "archived before frame {begun}");
        assert_eq!(fetched, (lost + 1..second).collect::<Vec<_>>());
        fs::write(&files[0], &whole[..100]).unwrap();
        let beside = root(&folder).join("log").join(LINEAGE.to_string()).join(format!("{begun:020}"));
        if begun < second {
            fs::remove_file(beside).unwrap();
        }
    }
    fs::write(&files[0], &whole).unwrap();
    assert_eq!(log.keep_from(Seq(80), &repository).unwrap(), (vec![], vec![]), "it was put back");
    log.is_kept(&repository);
}

#[test]
fn more_pieces_than_are_read_at_once_are_read_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&root(&folder), None);
    let mut log = Log::default();
    log.grow(LINEAGE, 600, 220_000);
    log.keep(&repository).unwrap();
    let pieces = repository.logs().unwrap()[0].pieces.clone();
    assert!(pieces.len() > 25, "{}", pieces.len());
    fs::write(repository.log_path(LINEAGE, pieces[20]), "no piece").unwrap();
    let mut rounds = 0;
    while !repository.verify(threads()).unwrap().sound() {
        log.keep(&repository).unwrap();
        rounds += 1;
        assert!(rounds <= 3, "it is found in the end");
    }
    assert!(rounds > 0);
    log.is_kept(&repository);
}

#[test]
fn what_a_log_was_put_back_without_is_not_asked_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&root(&folder), None);
    let mut old = Log::default();
    old.grow(LINEAGE, 70, 200_000);
    old.keep(&repository).unwrap();
    let mut new = Log { frames: old.frames[..25].to_vec() };
    new.grow(OTHER, 10, 10);
    new.keep(&repository).unwrap();
    let forgotten =
        *repository.logs().unwrap().iter().find(|kept| kept.lineage == LINEAGE).unwrap().pieces.last().unwrap();
    fs::write(repository.log_path(LINEAGE, forgotten), "no piece").unwrap();
    assert_eq!(new.keep(&repository).unwrap(), 36, "it has that no more, and does not need it");
    new.is_kept(&repository);
    let verified = repository.verify(threads()).unwrap();
    assert_eq!((verified.damage.len(), verified.log_damage), (1, 1), "but it is told");
}

#[test]
fn what_lies_in_the_folder_and_is_no_part_of_it_stops_nothing_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Arc::new(create(&root(&folder), None));
    let image = folder.path().join("a.img");
    fs::write(&image, crate::repository::content(1, 200_000)).unwrap();
    let point = crate::repository::back_up(&repository, "p1", &image);
    repository.commit_point(&point).unwrap();
    log(20).keep(&repository).unwrap();
    drop(repository);
    let lineage = format!("log/{LINEAGE}");
    let pack = fs::read_dir(root(&folder).join("packs")).unwrap().next().unwrap().unwrap().file_name();
    let pack = format!("packs/{}", pack.to_string_lossy());
    let folders = ["log/old", "packs/backup", "points/a b", "index/old", &format!("{lineage}/x"), &format!("{pack}/x")];
    let files = [
        "log/README",
        "packs/README",
        "points/READ ME",
        "index/README",
        &format!("{lineage}/README"),
        &format!("{pack}/README"),
        &format!("log/{OTHER}"),
        "packs/zz",
    ];
    folders.iter().for_each(|stray| fs::create_dir(root(&folder).join(stray)).unwrap());
    files.iter().for_each(|stray| fs::write(root(&folder).join(stray), "not yours").unwrap());
    let repository = Arc::new(Repository::open(&root(&folder), &unlock(None)).unwrap());
    assert_eq!(log(20).keep(&repository).unwrap(), 21);
    fs::write(&image, crate::repository::content(3, 200_000)).unwrap();
    repository.commit_point(&crate::repository::back_up(&repository, "p2", &image)).unwrap();
    repository.rebuild_index().unwrap();
    repository.prune(&[crate::repository::point_id("p1")], 1).unwrap();
    repository.prune(&[], 2).unwrap();
    let verified = repository.verify(threads()).unwrap();
    assert!(verified.sound(), "{verified:?}");
    let mut strays: Vec<PathBuf> = folders.iter().chain(&files).map(|stray| root(&folder).join(stray)).collect();
    strays.sort();
    assert_eq!(verified.unknown, strays, "all are named, and none is gone");
    log(20).is_kept(&repository);
}
