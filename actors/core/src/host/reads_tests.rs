//! Reading: each reader has a snapshot of its own, and none stays for ever.

use super::tests::*;
use super::{RETRY_AFTER, ReadStatus};
use crate::testing::*;
use farshore_schemas::messages::agent::{Outcome, TaskSpec};
use farshore_schemas::messages::host::Command;
use farshore_schemas::messages::{Message, session};
use farshore_schemas::units::Timestamp;

fn begin(ordinal: u64) -> Message {
    let (host, vm, snapshot) = (name("h1"), vm("web"), name(&format!("snap-{ordinal}")));
    run(ordinal, Some((web(), epoch(0, "hq"))), TaskSpec::SnapshotBegin { host, vm, snapshot })
}

fn end(ordinal: u64, snapshot: u64) -> Message {
    let (host, vm, snapshot) = (name("h1"), vm("web"), name(&format!("snap-{snapshot}")));
    run(ordinal, Some((web(), epoch(0, "hq"))), TaskSpec::SnapshotEnd { host, vm, snapshot })
}

fn frozen() -> Outcome {
    Outcome::Snapshot { disks: disks(), taken: Timestamp(5) }
}

fn prepare() -> Command {
    Command::PrepareRead { vm: vm("web") }
}

fn end_read() -> Command {
    Command::EndRead { vm: vm("web") }
}

#[test]
fn each_reader_has_a_snapshot_of_its_own() {
    let given = listed().from(S1).when(prepare()).sent(&[(AGENT, begin(1))]);
    let given = given.from(S2).when(prepare()).sent(&[(AGENT, begin(2))]);
    let told =
        session::Command::ReadPrepared { vm: vm("web"), snapshot: name("snap-2"), disks: disks(), taken: Timestamp(5) };
    let given = given.from(AGENT).when(ended(2, frozen())).sent(&[(S2, Message::Session(told))]);
    let given = given.from(S2).when(end_read()).sent(&[(AGENT, end(3, 2))]).when_from(AGENT, ended(3, Outcome::Done));
    let readers = &state(&given).reads[&vm("web")].0;
    assert_eq!(readers.keys().map(ToString::to_string).collect::<Vec<_>>(), [S1]);
}

#[test]
fn a_reading_that_ends_before_it_began_is_let_go_once_it_has() {
    let given = listed().when_from(S1, prepare()).from(S1).when(end_read()).sent(&[]);
    let given = given.from(AGENT).when(ended(1, frozen())).sent(&[(AGENT, end(2, 1))]);
    assert!(state(&given.when_from(AGENT, ended(2, Outcome::Done))).reads.is_empty());
}

#[test]
fn a_snapshot_that_could_not_be_made_is_reported() {
    let told = session::Command::HostFailed { vm: vm("web"), failure: failure() };
    let given = listed().when_from(S1, prepare()).from(AGENT).when(ended(1, failed()));
    assert!(state(&given.sent(&[(S1, Message::Session(told))])).reads.is_empty());
}

#[test]
fn a_snapshot_that_could_not_be_let_go_is_let_go_later() {
    let ready = listed().when_from(S1, prepare()).when_from(AGENT, ended(1, frozen()));
    let given = ready.when_from(S1, end_read()).when_from(AGENT, ended(2, failed()));
    let again = given.context.now.after(RETRY_AFTER);
    assert_eq!(state(&given).reads[&vm("web")].0[&address(S1)].status, ReadStatus::EndDelayed { again });
    let given = wake_when_due(given);
    assert!(state(&given.when_from(AGENT, ended(3, Outcome::Done))).reads.is_empty());
}

#[test]
fn a_reader_that_refuses_its_snapshot_does_not_keep_it() {
    let ready = listed().when_from(S1, prepare()).from(AGENT).when(ended(1, frozen()));
    let told = ready.decision().sends[0].body.clone();
    let given = ready.accepted().from(S1).when_input(refused_by(S1, told, "FS-SESSION-UNKNOWN"));
    given.sent(&[(AGENT, end(2, 1))]);
}
