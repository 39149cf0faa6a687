//! P6 at the repository: how points come, are forgotten and go.

use super::RETRY_AFTER;
use super::tests::*;
use crate::testing::*;
use farshore_schemas::messages::agent::Outcome;
use farshore_schemas::messages::repository::{Command, Event, Purpose};
use farshore_schemas::messages::{Message, session};
use farshore_schemas::units::{ByteCount, Timestamp};

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
fn what_differs_from_what_was_read_is_removed_once_nothing_is_open() {
    let given = writing(served(), S1).when_from(S1, commit("p1", 1, 7));
    let refused = given.when_from(AGENT, ended(1, durable(4)));
    assert!(points(&refused).is_empty());
    assert!(!state(&refused).pruning(None), "the session still writes");
    refused.clone().from(S1).when(commit("p1", 1, 7)).rejected("FS-REPOSITORY-POINT-FORGOTTEN");
    let last = next(&refused);
    let shut = refused.clone().when_from(S1, Command::CloseAccess).from(AGENT).when(ended(last, Outcome::Done));
    assert_eq!(pruned(shut.decision()), Some(vec![point("p1")]));
    let gone = Outcome::Pruned { points: vec![point("p1")], freed: ByteCount(5) };
    let given = agent_ends(shut.accepted(), last + 1, gone);
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
fn retention_keeps_the_newest_by_the_time_they_were_taken() {
    let given = writing(served(), S1);
    let given = ["p1", "p3", "p2", "p4"].into_iter().fold(given, |given, id| {
        let taken = id[1..].parse().unwrap();
        made(given, S1, (id, taken, 2))
    });
    assert_eq!(points(&given), ["p3", "p4"]);
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
    let held = given.clone().from(OPS).when(Command::Hold { point: point("p1"), hold: true }).accepted();
    let read = given.clone().from(S2).when(open(Purpose::Read, Some("p1"))).accepted();
    let checked = given.from(OPS).when(Command::Verify { point: point("p1") }).accepted();
    for given in [held, read, checked] {
        assert_eq!(points(&made(writing(given, S1), S1, ("p2", 2, 1))), ["p1", "p2"]);
    }
}

#[test]
fn a_prune_waits_until_the_last_access_is_shut_and_names_only_forgotten_points() {
    let given = writing(writing(served(), S1), S2);
    let given = made(made(given, S1, ("p1", 1, 1)), S1, ("p2", 2, 1));
    assert_eq!(state(&given).forgotten.len(), 1);
    let given = closed(given, S1);
    assert!(!state(&given).pruning(None), "another access holds");
    let given = given.from(S2).when(Command::CloseAccess).accepted();
    assert!(!state(&given).pruning(None), "it holds until the agent has shut it");
    let last = next(&given) - 1;
    let shut = given.from(AGENT).when(ended(last, Outcome::Done));
    assert_eq!(pruned(shut.decision()), Some(vec![point("p1")]));
    let given = shut.accepted();
    let gone = Outcome::Pruned { points: vec![point("p1")], freed: ByteCount(5) };
    let given = agent_ends(given, last + 1, gone);
    assert!(state(&given).forgotten.is_empty());
}

#[test]
fn an_access_asked_for_during_a_prune_waits_for_its_end() {
    let pruning = with_points(1);
    let prune = next(&pruning) - 1;
    let waiting = pruning.from(S1).when(open(Purpose::Write, None)).sent(&[]);
    let gone = Outcome::Pruned { points: vec![point("p1")], freed: ByteCount(5) };
    for outcome in [gone, failed("FS-AGENT-X")] {
        let then = waiting.clone().from(AGENT).when(ended(prune, outcome));
        then.sent(&[(AGENT, run(prune + 1, open_spec()))]);
    }
    // Closed before it was ever ordered, it is simply gone.
    let gone = waiting.from(S1).when(Command::CloseAccess).sent(&[]);
    assert!(state(&gone).accesses.is_empty());
}

#[test]
fn a_prune_that_fails_or_leaves_points_is_ordered_again_later() {
    for outcome in [failed("FS-AGENT-X"), Outcome::Pruned { points: Vec::new(), freed: ByteCount(0) }] {
        let pruning = with_points(1);
        let prune = next(&pruning) - 1;
        let given = agent_ends(pruning, prune, outcome);
        assert_eq!(state(&given).prune_again, Some(given.context.now.after(RETRY_AFTER)));
        let given = wake_when_due(given);
        assert!(state(&given).pruning(None) && state(&given).prune_again.is_none());
    }
}

#[test]
fn a_prune_that_is_due_while_something_is_open_is_put_off() {
    let pruning = with_points(1);
    let prune = next(&pruning) - 1;
    let given = writing(agent_ends(pruning, prune, failed("FS-AGENT-X")), S1);
    let given = wake_when_due(wake_when_due(given));
    assert!(!state(&given).pruning(None) && state(&given).prune_again.is_some());
}

#[test]
fn points_that_the_agent_lost_without_an_order_are_an_alarm() {
    let pruning = with_points(1);
    let prune = next(&pruning) - 1;
    let gone = Outcome::Pruned { points: vec![point("p1"), point("p2")], freed: ByteCount(5) };
    let then = pruning.from(AGENT).when(ended(prune, gone));
    assert!(then.decision().events.contains(&Event::PointsLost { points: vec![point("p2")] }));
    assert_eq!(points(&then.accepted()), ["p2"]);
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
