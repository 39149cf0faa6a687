//! P6 at the repository: how points come, are forgotten and go.

use super::tests::*;
use crate::testing::*;
use farshore_schemas::messages::agent::Outcome;
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::{Command, Purpose};
use farshore_schemas::messages::{Message, session};
use farshore_schemas::units::{ByteCount, Timestamp};

pub(super) fn commit(id: &str, taken: i64, keep: u32) -> Command {
    commit_by(id, taken, Keep::newest(keep))
}

pub(super) fn commit_by(id: &str, taken: i64, keep: Keep) -> Command {
    Command::CommitPoint {
        point: point(id),
        vm: vm_ref("hq/h1/web"),
        job: name("nightly"),
        taken: Timestamp(taken),
        keep,
        disks: disks(3),
    }
}

#[test]
fn a_point_is_added_only_when_the_agent_has_it_durable_with_the_sessions_checksums() {
    let committing = writing(served(), S1).when_from(S1, commit("p1", 1, 7));
    assert!(points(&committing).is_empty());
    let told = session::Command::PointCommitted { point: point("p1"), stored: ByteCount(10) };
    let good = committing.clone().from(AGENT).when(ended(1, durable(3))).sent(&[(S1, Message::Session(told))]);
    assert_eq!(points(&good), ["p1"]);
    for outcome in [durable(4), failed("FS-AGENT-X"), Outcome::Done, Outcome::Cancelled] {
        let bad = committing.clone().from(AGENT).when(ended(1, outcome));
        let body = &bad.decision().sends[0].body;
        assert!(matches!(body, Message::Session(session::Command::RepositoryFailed { vm: Some(_), .. })), "{body:?}");
        assert!(points(&bad.accepted()).is_empty());
    }
}

#[test]
fn what_differs_from_what_was_read_is_no_point_and_goes_like_one_that_is_forgotten() {
    let given = writing(served(), S1).when_from(S1, commit("p1", 1, 7));
    let then = given.from(AGENT).when(ended(1, durable(4)));
    assert_eq!(marked(then.decision()), Some(vec![point("p1")]));
    let refused = then.accepted();
    assert!(points(&refused).is_empty());
    refused.clone().from(S1).when(commit("p1", 1, 7)).rejected("FS-REPOSITORY-POINT-FORGOTTEN");
    let shut = closed(agent_ends(refused, 2, Outcome::Done), S1);
    let sweep = next(&shut) - 1;
    let given = agent_ends(shut, sweep, gone(&["p1"]));
    assert!(state(&given).forgotten.is_empty() && state(&given).prune_again.is_none());
    // A commit that fails leaves nothing that is known, so nothing is removed for it.
    let failing = writing(served(), S1).when_from(S1, commit("p1", 1, 7)).when_from(AGENT, ended(1, failed("FS-X")));
    assert!(state(&failing).forgotten.is_empty());
}

#[test]
fn committing_the_same_again_is_answered_and_something_else_under_that_name_rejected() {
    let given = made(writing(served(), S1), S1, ("p1", 1, 7));
    let told = session::Command::PointCommitted { point: point("p1"), stored: ByteCount(10) };
    let given = given.from(S1).when(commit("p1", 1, 7)).then(&[], &[(S1, Message::Session(told))]);
    let Command::CommitPoint { point, vm, job, taken, keep, disks: _ } = commit("p1", 1, 7) else { panic!() };
    let other = Command::CommitPoint { point, vm, job, taken, keep, disks: disks(9) };
    given.when(other).rejected("FS-REPOSITORY-POINT-EXISTS");
}

#[test]
fn retention_keeps_the_newest_whatever_the_clock_said_when_they_were_taken() {
    let given = writing(served(), S1);
    let given = ["p1", "p3", "p2", "p4"].into_iter().fold(given, |given, id| {
        let taken = id[1..].parse().unwrap();
        made(given, S1, (id, taken, 2))
    });
    assert_eq!(points(&given), ["p2", "p4"]);
    // One point always stays.
    assert_eq!(points(&made(given, S1, ("p5", 5, 0))), ["p5"]);
}

#[test]
fn retention_counts_each_vm_and_job_for_itself() {
    let given = made(writing(served(), S1), S1, ("p1", 1, 1));
    let Command::CommitPoint { point: _, vm, job: _, taken: _, keep, disks } = commit("p2", 2, 1) else { panic!() };
    let other = Command::CommitPoint { point: point("q1"), vm, job: name("weekly"), taken: Timestamp(2), keep, disks };
    let ordinal = next(&given);
    let given = agent_ends(given.from(S1).when(other).accepted(), ordinal, durable(3));
    assert_eq!(points(&given), ["p1", "q1"]);
}

#[test]
fn held_points_and_points_that_are_read_or_checked_stay() {
    let given = closed(made(writing(served(), S1), S1, ("p1", 1, 7)), S1);
    let held = given.clone().from(OPS).when(hold("p1")).accepted();
    let read = given.clone().from(S2).when(open(Purpose::Read, Some("p1"))).accepted();
    let checked = given.from(OPS).when(Command::Verify { point: point("p1") }).accepted();
    for given in [held, read, checked] {
        assert_eq!(points(&made(writing(given, S1), S1, ("p2", 2, 1))), ["p1", "p2"]);
    }
}

#[test]
fn a_check_is_recorded_on_the_point() {
    let given = with_points(7).from(OPS).when(Command::Verify { point: point("p1") }).accepted();
    let ordinal = next(&given) - 1;
    given.clone().when(Command::Verify { point: point("p1") }).rejected("FS-REPOSITORY-VERIFYING");
    let damage: Vec<String> = (0..9).map(|line| format!("chunk {line} is gone")).collect();
    let given = agent_ends(given, ordinal, Outcome::Verified { chunks: 4, damage, damaged: 9 });
    let verified = state(&given).points[&point("p1")].verified.clone().unwrap();
    assert_eq!((verified.chunks, verified.damage.len(), verified.damaged), (4, 5, 9));
    assert_eq!(verified.at, given.context.now);
}
