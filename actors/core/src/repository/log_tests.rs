//! The log goes with the data: what is ordered when, and what a failure costs.

use super::tests::*;
use super::{RETRY_AFTER, Repository};
use crate::decider::{Decision, Input};
use crate::testing::*;
use farshore_schemas::ids::{Lineage, Seq};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::agent::{self, FolderOwner, MissingFrames, Outcome, TaskSpec};
use farshore_schemas::messages::repository::{Command, Event, Work};
use farshore_schemas::units::{ByteCount, Millis};

const CONTROL: &str = "hq:api/control";

fn log_served(at: &str) -> Command {
    Command::LogServed { source: endpoint(at) }
}

/// The repository with an open access for writing, and the control's log served.
fn keeping() -> Given<Repository> {
    writing(served(), S1).from(CONTROL).when(log_served("hq/c1")).accepted()
}

fn kept(lineage_of: u8, seq: u64) -> Outcome {
    Outcome::LogKept {
        lineage: lineage(lineage_of),
        seq: Seq(seq),
        hash: digest(9),
        fetched: ByteCount(100),
        missing: MissingFrames::default(),
    }
}

/// Open shipments, with what each must reach.
fn shipments(given: &Given<Repository>) -> Vec<(u64, u64)> {
    let open = state(given).orders.open.iter();
    open.filter_map(
        |(ordinal, open)| if let Work::KeepLog { least } = open.work { Some((*ordinal, least.0)) } else { None },
    )
    .collect()
}

/// A point is made, in a frame of its own.
fn point_made(given: Given<Repository>, id: &str, taken: i64) -> Given<Repository> {
    made(given.later(Millis(1)), S1, (id, taken, 3))
}

fn source_of(given: &Given<Repository>, ordinal: u64) -> String {
    let TaskSpec::KeepLog { source, .. } = &state(given).orders.open[&ordinal].order.spec else {
        panic!("another order")
    };
    source.address.clone()
}

#[test]
fn each_point_that_is_made_orders_the_log_to_be_kept_one_shipment_at_a_time() {
    let given = keeping();
    assert!(shipments(&given).is_empty(), "there is no point that it would go with");
    let given = point_made(given, "p1", 1);
    let [(first, _)] = shipments(&given)[..] else { panic!("one shipment") };
    let given = point_made(given, "p2", 2);
    assert_eq!(shipments(&given).len(), 1, "the second waits");
    let owed = state(&given).log.owed.unwrap();
    let given = agent_ends(given, first, kept(1, owed.0 - 1));
    let [(second, least)] = shipments(&given)[..] else { panic!("what is owed is ordered") };
    assert!(second > first && least >= owed.0);
    let given = agent_ends(given, second, kept(1, least));
    assert!(shipments(&given).is_empty());
    let log = &state(&given).log;
    assert_eq!((log.kept.as_ref().map(|kept| kept.seq), &log.failed, log.owed), (Some(Seq(least)), &None, None));
}

#[test]
fn what_a_shipment_reached_already_is_not_shipped_again() {
    let given = point_made(point_made(keeping(), "p1", 1), "p2", 2);
    let [(ordinal, _)] = shipments(&given)[..] else { panic!("one shipment") };
    let far = state(&given).log.owed.unwrap().0 + 10;
    let given = agent_ends(given, ordinal, kept(1, far));
    assert!(shipments(&given).is_empty());
    assert_eq!(state(&given).log.owed, None, "it is there");
}

#[test]
fn what_is_missing_of_the_copy_is_in_the_log() {
    let given = point_made(keeping(), "p1", 1);
    let [(ordinal, least)] = shipments(&given)[..] else { panic!("one shipment") };
    let missing = MissingFrames::of([(Seq(2), Seq(4))]);
    assert_eq!(missing.frames, 3);
    let (lineage, seq, hash, fetched) = (lineage(1), Seq(least), digest(9), ByteCount(100));
    let outcome = Outcome::LogKept { lineage, seq, hash, fetched, missing: missing.clone() };
    let given = agent_ends(given, ordinal, outcome);
    assert_eq!(state(&given).log.kept.as_ref().unwrap().missing, missing);
}

#[test]
fn a_shipment_that_fails_costs_no_point_is_told_and_is_tried_again() {
    let given = point_made(keeping(), "p1", 1);
    let [(ordinal, _)] = shipments(&given)[..] else { panic!("one shipment") };
    let given = agent_ends(given, ordinal, failed("FS-AGENT-LINK"));
    assert_eq!(points(&given), ["p1"]);
    let told = state(&given).log.failed.clone().unwrap();
    assert_eq!((told.failure.code.as_str(), told.again), ("FS-AGENT-LINK", Some(given.context.now.after(RETRY_AFTER))));
    assert!(shipments(&given).is_empty());
    let later = given.later(RETRY_AFTER).from(ME).when_input(Input::Wake).accepted();
    let [(again, least)] = shipments(&later)[..] else { panic!("it is ordered again") };
    assert_eq!(state(&later).log.failed.as_ref().unwrap().again, None, "no wake in vain");
    let done = agent_ends(later, again, kept(1, least));
    assert_eq!(state(&done).log.failed, None);
}

#[test]
fn a_start_of_the_control_supersedes_the_shipment_that_asks_where_it_was() {
    let given = point_made(keeping(), "p1", 1);
    let [(old, _)] = shipments(&given)[..] else { panic!("one shipment") };
    let then = given.from(CONTROL).when(log_served("hq/c2"));
    let told: Vec<_> = then.decision().sends.iter().map(|send| send.body.clone()).collect();
    assert_eq!(told[0], Message::Agent(agent::Command::Cancel { task: task(old) }), "the agent stops asking there");
    let given = then.accepted();
    let [(new, least)] = shipments(&given)[..] else { panic!("one shipment, at once") };
    assert!(new > old && source_of(&given, new) == endpoint("hq/c2").address);
    assert!(state(&given).log.failed.is_none(), "nothing has failed");
    let done = agent_ends(given, new, kept(1, least));
    assert!(shipments(&done).is_empty());
    // What the agent says of the old one changes nothing any more.
    done.from(AGENT).when(ended(old, Outcome::Cancelled)).rejected("FS-REPOSITORY-TASK-UNKNOWN");
}

#[test]
fn a_shipment_that_fails_while_more_comes_to_be_owed_is_ordered_again_at_once() {
    let given = point_made(point_made(keeping(), "p1", 1), "p2", 2);
    let [(ordinal, _)] = shipments(&given)[..] else { panic!("one shipment") };
    let given = agent_ends(given, ordinal, failed("FS-AGENT-LINK"));
    let [(again, _)] = shipments(&given)[..] else { panic!("what is owed is ordered") };
    let given = agent_ends(given, again, failed("FS-AGENT-LINK"));
    assert!(shipments(&given).is_empty(), "once; then it waits");
}

/// What the agent was told of the folder last.
fn served_as(decision: &Decision<Event>) -> (Vec<Lineage>, Option<FolderOwner>) {
    let told = decision.sends.iter().find_map(|send| {
        let Message::Agent(agent::Command::ServeRepository { formerly, adopted, .. }) = &send.body else { return None };
        Some((formerly.clone(), *adopted))
    });
    told.expect("the agent is told of the folder")
}

#[test]
fn a_lineage_that_the_folder_bears_and_the_log_forgot_is_a_former_one() {
    let then = keeping().from(CONTROL).when(Command::OwnedBefore { lineage: lineage(9) });
    assert_eq!(served_as(then.decision()), (vec![lineage(9)], None));
    let given = then.accepted();
    let given = given.from(CONTROL).when(Command::OwnedBefore { lineage: lineage(9) }).then(&[], &[]);
    given.from(CONTROL).when(log_served("hq/c1")).then(&[], &[]);
    // An agent that comes later is told, too.
    let then = served().from(CONTROL).when(Command::OwnedBefore { lineage: lineage(9) }).accepted();
    let then = then.from(MOVER).when(ready(2));
    assert_eq!(served_as(then.decision()), (vec![lineage(9)], None));
}

#[test]
fn an_operator_takes_the_folder_from_an_owner_by_name_with_a_reason_and_the_log_is_kept_there_at_once() {
    let then = keeping().from(OPS).when(adopt("it is gone"));
    let owner = FolderOwner { lineage: lineage(8), epoch: 4 };
    assert_eq!(served_as(then.decision()), (Vec::new(), Some(owner)));
    assert!(matches!(&then.decision().events[0], Event::Adopted { why, .. } if why.reason == "it is gone"));
    let given = then.accepted();
    assert_eq!((shipments(&given).len(), state(&given).log.adopted), (1, Some(owner)));
    keeping().from(OPS).when(adopt("")).rejected("FS-REPOSITORY-OVERRIDE");
}

#[test]
fn the_log_is_kept_for_points_that_are_there_when_it_is_first_served_and_nothing_is_said_twice() {
    let given = point_made(writing(served(), S1), "p1", 1);
    assert!(shipments(&given).is_empty(), "nobody serves it");
    let given = given.from(CONTROL).when(log_served("hq/c1")).accepted();
    assert_eq!(shipments(&given).len(), 1);
    given.from(CONTROL).when(log_served("hq/c1")).then(&[], &[]);
}

#[test]
fn only_the_sites_own_control_says_where_its_log_is() {
    for other in ["dr:api/control", "hq:session/s1"] {
        served().from(other).when(log_served("hq/c1")).rejected("FS-REPOSITORY-NOT-MY-CONTROL");
    }
}

#[test]
fn a_shipment_holds_no_prune_back() {
    let given = point_made(keeping(), "p1", 1);
    let given = made(given, S1, ("p2", 2, 1));
    assert_eq!(shipments(&given).len(), 1, "it is under way");
    let mark = next(&given) - 1;
    let given = agent_ends(given, mark, Outcome::Done);
    let given = given.from(S1).when(Command::CloseAccess).accepted();
    let close = next(&given) - 1;
    let then = given.from(AGENT).when(ended(close, Outcome::Done));
    assert_eq!(swept(then.decision()), Some(vec![point("p1")]));
}
