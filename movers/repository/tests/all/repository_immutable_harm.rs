//! What must stay, when files of the folder are taken away or damaged.

use crate::repository::{restore, threads};
use crate::repository_immutable::{BEGIN, PERIOD, Place, Set, bears, commit, files, flag, fresh, only, refused};
use crate::repository_no_files::WAYS;
use farshore_repository::Spares;
use farshore_schemas::units::ByteCount;

#[test]
fn a_point_whose_file_was_taken_away_keeps_its_packs_until_it_is_dropped_by_name() {
    for period in [None, Some(PERIOD)] {
        let (place, clock) = (Place::new(), Set::new(BEGIN));
        let repository = fresh(&place, &clock);
        commit(&repository, &place, "one", (&[(0, 400, 1)], period));
        commit(&repository, &place, "two", (&[(0, 400, 7)], None));
        let file = place.repository().join("points/one");
        let bytes = std::fs::read(&file).unwrap();
        let _ = flag(&file, false);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(repository.immutability().unwrap().points.len(), usize::from(period.is_some()));
        assert_eq!(repository.prune(&[], 1).unwrap_err().code(), "FS-REPO-DAMAGE");
        assert_eq!(repository.mark_points(&only("two"), (2, 2)).unwrap_err().code(), "FS-REPO-DAMAGE");
        match period {
            Some(period) => {
                refused(repository.prune(&only("one"), 3), "one");
                clock.pass(period);
            }
            None => {
                std::fs::write(&file, &bytes).unwrap();
                restore(&repository, "one", &place.path("out")).unwrap();
                std::fs::remove_file(&file).unwrap();
            }
        }
        let pruned = repository.prune(&only("one"), 4).unwrap();
        assert!(pruned.marked > ByteCount(0), "{pruned:?}");
        assert!(repository.verify(threads()).unwrap().sound());
    }
}

#[test]
fn lists_that_were_taken_away_free_nothing_that_bears_the_attribute() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    let file = place.repository().join("points/one");
    if !place.can_mark(&file) {
        return;
    }
    for name in ["immutable", "immutable.copy"] {
        std::fs::remove_file(place.repository().join(name)).unwrap();
    }
    assert_eq!(repository.prune(&only("one"), 1).unwrap_err().code(), "FS-REPO-DAMAGE");
    assert_eq!(repository.verify(threads()).unwrap().damage.len(), 1);
    assert!(bears(&file));
    flag(&file, false).unwrap();
    repository.prune(&only("one"), 2).unwrap();
}

#[test]
fn one_damaged_point_does_not_keep_the_attribute_from_the_others() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "a", (&[(0, 30, 1)], Some(PERIOD)));
    let first = files(&place.repository().join("packs"));
    commit(&repository, &place, "b", (&[(0, 400, 9), (1024, 400, 11)], Some(PERIOD)));
    if !place.can_mark(&place.repository().join("points/a")) {
        return;
    }
    for pack in &first {
        let length = std::fs::metadata(pack).unwrap().len();
        std::fs::write(pack, vec![0; usize::try_from(length).unwrap()]).unwrap();
    }
    repository.keep_immutable().unwrap_err();
    let packs = files(&place.repository().join("packs"));
    assert!(packs.iter().filter(|pack| !first.contains(pack)).any(|pack| bears(pack)), "{packs:?}");
}

#[test]
fn either_list_is_missed_and_made_anew_from_the_other() {
    let (place, clock) = (Place::new(), Set::new(BEGIN));
    let repository = fresh(&place, &clock);
    commit(&repository, &place, "one", (&[(0, 30, 1)], Some(PERIOD)));
    for name in ["immutable", "immutable.copy"] {
        let path = place.repository().join(name);
        let ways = WAYS.iter().map(|(way, put)| (*way, Some(*put))).chain([("gone", None)]);
        for (way, put) in ways {
            std::fs::remove_file(&path).unwrap();
            put.into_iter().for_each(|put| put(&path));
            let found = repository.verify(threads()).unwrap();
            assert!(found.damage.len() == 1 && found.hurt.is_empty(), "{name} {way}: {found:?}");
            refused(repository.prune(&only("one"), 1), "one");
            let repaired = repository.repair(Spares::default(), threads()).unwrap();
            assert!(repaired.after.sound(), "{name} {way}: {repaired:?}");
        }
    }
}
