//! The demo's story over a slice of seeds, each deliberate bug, and replay of recorded choices. The whole range of seeds is
//! `farshore sim run demo --seeds 1..2000`.

use crate::{Options, Outcome, Report, run, run_seed};

fn say(report: &Report) -> String {
    serde_json::to_string_pretty(report).unwrap()
}

fn once(seed: u64) -> Outcome {
    run_seed("demo", seed, &Options::default(), false).unwrap()
}

#[test]
fn every_promise_holds_over_a_slice_of_seeds_and_each_seed_runs_the_same_twice() {
    let options = Options { twice_every: 1, ..Options::default() };
    let report = run("demo", 1..=60, &options, &|_| {}).unwrap();
    assert_eq!(report.violations, 0, "{}", say(&report));
    assert_eq!((report.seeds, report.seeds_twice), (60, 60));
    assert!(report.totals.faults.len() >= 12, "a slice meets most kinds of faults: {}", say(&report));
}

#[test]
fn the_repository_keeps_what_is_counted_on_over_a_slice_of_seeds() {
    let options = Options { twice_every: 8, ..Options::default() };
    let report = run("repository", 1..=2000, &options, &|_| {}).unwrap();
    assert_eq!(report.violations, 0, "{}", say(&report));
    assert_eq!((report.seeds, report.seeds_twice), (2000, 250));
    assert_eq!(report.totals.faults.len(), 11, "a slice meets every kind of fault: {}", say(&report));
}

#[test]
fn a_seed_of_the_repository_is_its_choices() {
    let run = |seed| run_seed("repository", seed, &Options::default(), false).unwrap();
    let again = crate::replay("repository", 5, &run(5).choices, &Options::default()).unwrap();
    assert_eq!(again.trace, run(5).trace);
    assert_ne!(run(6).trace, run(5).trace);
}

#[test]
fn a_seed_is_its_choices() {
    let first = once(3);
    let again = crate::replay("demo", 3, &first.choices, &Options::default()).unwrap();
    assert_eq!((again.trace, again.choices.len()), (first.trace, first.choices.len()));
    let short = crate::replay("demo", 3, &first.choices[..first.choices.len() / 3], &Options::default()).unwrap();
    assert_ne!(short.trace, first.trace);
    assert_eq!(short.violations, []);
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(once(1).trace, once(2).trace);
}

#[test]
fn an_unknown_scenario_is_refused_by_name() {
    let error = run("no-such", 1..=1, &Options::default(), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("\"no-such\"") && error.to_string().contains("demo"), "{error}");
}

#[cfg(feature = "deliberate-bugs")]
mod bugs {
    use crate::{BUGS, Bug, Options, Report, run};
    use std::ops::RangeInclusive;

    fn hunt(bug: Bug, seeds: RangeInclusive<u64>) -> Report {
        let options = Options { bug: Some(bug), stop_at_first: true, twice_every: 0, ..Options::default() };
        run(bug.scenario(), seeds, &options, &|_| {}).unwrap()
    }

    /// The promise whose checker must find a bug.
    fn promise(bug: Bug) -> &'static [&'static str] {
        match bug {
            Bug::EpochCheckSkipped => &["P4"],
            Bug::AckBeforeSync => &["P1", "P4"],
            Bug::WatermarkNotKept => &["P4"],
            Bug::PointAnnouncedBeforeChunks => &["P6"],
            Bug::HashMapOrder => &["P3"],
            Bug::LineageNotRenewed => &["P1"],
            Bug::StartedWithoutAsking => &["P5"],
            Bug::FloorIgnored => &["liveness"],
            Bug::SweepDoesNotWait
            | Bug::MarkedHitCounts
            | Bug::CommitUnchecked
            | Bug::HoldByWallClock
            | Bug::OwnerNotChecked
            | Bug::UnknownManifestNotHeld
            | Bug::ImmutableDropped => &["P6"],
        }
    }

    #[test]
    fn each_deliberate_bug_is_found_by_the_checker_of_its_promise() {
        for bug in BUGS {
            let report = hunt(bug, 1..=2000);
            let found = report.first_violations.iter().find(|found| promise(bug).contains(&found.violation.promise));
            let found = found.unwrap_or_else(|| panic!("{bug:?}: {}", super::say(&report)));
            assert!(found.violation.step > 0 && (1..=2000).contains(&found.seed), "{found:?}");
            eprintln!("{bug:?}: seed {} step {} {}", found.seed, found.violation.step, found.violation.promise);
        }
    }
}
