//! Who holds a point, why, and until when.

use super::Repository;
use super::tests::*;
use crate::decider::{Decider, Input};
use crate::testing::*;
use farshore_schemas::messages::repository::{Command, Event, Hold};
use farshore_schemas::units::{Millis, Timestamp};

const DAY: Millis = Millis::from_mins(24 * 60);

fn hold_until(until: Option<Timestamp>, reason: &str) -> Command {
    Command::Hold { point: point("p1"), until, reason: reason.to_owned() }
}

#[test]
fn who_holds_and_why_and_until_when_is_in_the_log() {
    let given = with_points(7).from(OPS);
    let (since, until) = (given.context.now, Some(given.context.now.after(DAY)));
    let hold = Hold { by: "ops".to_owned(), reason: "audit".to_owned(), since, until };
    let held = given.when(hold_until(until, "audit")).then(&[Event::HoldSet { point: point("p1"), hold }], &[]);
    let released = Event::HoldReleased { point: point("p1"), by: "ops".to_owned(), at: since };
    let free = held.when(Command::Release { point: point("p1") }).then(&[released], &[]);
    assert_eq!(state(&free).points[&point("p1")].held, None);
}

#[test]
fn a_hold_that_says_nothing_or_ends_before_it_begins_is_refused() {
    let given = with_points(7).from(OPS);
    let now = given.context.now;
    given.clone().when(hold_until(None, " ")).rejected("FS-REPOSITORY-HOLD-REASON");
    given.clone().when(hold_until(Some(now), "audit")).rejected("FS-REPOSITORY-HOLD-PAST");
    given.clone().when(Command::Release { point: point("p1") }).rejected("FS-REPOSITORY-HOLD-UNCHANGED");
    given
        .when(hold_until(None, "audit"))
        .accepted()
        .when(hold_until(None, "audit"))
        .rejected("FS-REPOSITORY-HOLD-UNCHANGED");
}

#[test]
fn a_hold_that_is_set_anew_counts_as_it_was_set_last() {
    let given = with_points(7).from(OPS).when(hold_until(None, "audit")).accepted();
    let until = Some(given.context.now.after(DAY));
    let given = given.when(hold_until(until, "audit")).accepted();
    assert_eq!(state(&given).points[&point("p1")].held.as_ref().unwrap().until, until);
}

#[test]
fn what_was_held_goes_a_day_after_its_hold_has_ended_at_the_latest() {
    let given = closed(made(writing(served(), S1), S1, ("p1", 1, 1)), S1).from(OPS);
    let until = given.context.now.after(DAY);
    let given = given.when(hold_until(Some(until), "audit")).accepted();
    let given = closed(made(writing(given, S1), S1, ("p2", 2, 1)), S1);
    assert_eq!(points(&given), ["p1", "p2"]);
    // The first look only reads the calendar.
    let first = wake_when_due(given.from(ME));
    assert_eq!(points(&first), ["p1", "p2"]);
    let then = first.later(DAY).when_input(Input::Wake);
    assert_eq!(marked(then.decision()), Some(vec![point("p1")]));
    let given = then.accepted();
    assert_eq!(points(&given), ["p2"]);
    let ordinal = next(&given) - 1;
    let given = agent_ends(given, ordinal, failed("FS-AGENT-X"));
    let again = state(&given).prune_again;
    assert_eq!(Repository::next_wake(&given.state), again, "nothing else is dated any more");
}
