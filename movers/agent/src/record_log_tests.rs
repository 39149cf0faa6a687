use super::*;
use farshore_schemas::ids::{Lineage, Name, SiteName};
use farshore_schemas::units::Timestamp;
use farshore_tasks::Fact;

fn record(count: u8) -> Record {
    let (site, name) = (SiteName::parse("hq").unwrap(), Name::parse("a").unwrap());
    Record {
        at: Timestamp(i64::from(count)),
        facts: vec![Fact::Incarnation { site, name, incarnation: Lineage([count; 16]) }],
    }
}

fn written(folder: &Path) -> Vec<u8> {
    let mut log = RecordLog::open(folder).unwrap().log;
    log.append([&record(1), &record(2)]).unwrap();
    log.append([&record(3)]).unwrap();
    std::fs::read(folder.join(FILE)).unwrap()
}

#[test]
fn what_was_appended_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let opened = RecordLog::open(folder.path()).unwrap();
    assert_eq!(opened.records, [record(1), record(2), record(3)]);
    assert_eq!(opened.torn, None);
}

#[test]
fn a_log_cut_at_any_byte_keeps_all_whole_records_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(folder.path());
    let ends: Vec<usize> = {
        let one = (bytes.len() - MAGIC.len()) / 3;
        (0..=3).map(|count| MAGIC.len() + count * one).collect()
    };
    for cut in 0..bytes.len() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), &bytes[..cut]).unwrap();
        let mut opened = RecordLog::open(folder.path()).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        assert_eq!(opened.records.len(), whole, "cut at {cut}");
        assert_eq!(opened.torn.is_some(), cut > MAGIC.len() && !ends.contains(&cut), "cut at {cut}");
        opened.log.append([&record(9)]).unwrap();
        let again = RecordLog::open(folder.path()).unwrap();
        assert_eq!(again.records.last(), Some(&record(9)), "cut at {cut}");
    }
}

#[test]
fn any_flipped_byte_is_damage_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(folder.path());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x41;
        std::fs::write(folder.path().join(FILE), &flipped).unwrap();
        let refused = RecordLog::open(folder.path());
        assert!(matches!(refused, Err(RecordLogError::Damage { .. })), "flip at {at}: {refused:?}");
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), flipped);
    }
}

#[test]
fn a_rewritten_log_begins_with_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = RecordLog::open(folder.path()).unwrap().log;
    log.append([&record(1), &record(2)]).unwrap();
    log.rewrite(&record(7)).unwrap();
    log.append([&record(8)]).unwrap();
    drop(log);
    assert_eq!(RecordLog::open(folder.path()).unwrap().records, [record(7), record(8)]);
}

#[test]
fn after_a_failed_rewrite_nothing_is_appended() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("log");
    let mut log = RecordLog::open(&place).unwrap().log;
    std::fs::create_dir(place.join("records.tmp")).unwrap();
    assert!(log.rewrite(&record(1)).is_err());
    assert!(matches!(log.append([&record(2)]), Err(RecordLogError::Stopped { .. })));
}
