//! When retention looks, and which clock it believes.

use super::Repository;
use super::tests::*;
use crate::decider::{Decider, Input};
use crate::testing::*;
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::Event;
use farshore_schemas::units::{Millis, Timestamp};

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn by_days(days: u32) -> Keep {
    Keep { points: None, days: Some(days), ..Keep::newest(1) }
}

/// A point that is taken now.
fn taken(given: Given<Repository>, (id, keep): (&str, &Keep)) -> Given<Repository> {
    let (ordinal, now) = (next(&given), given.context.now.0);
    agent_ends(given.from(S1).when(commit_by(id, now, keep.clone())).accepted(), ordinal, durable(3))
}

/// Points p1 to p5, a day apart, of which the first look kept all: no access is open.
fn five(keep: &Keep) -> Given<Repository> {
    let given = (1..=5)
        .fold(writing(served(), S1), |given, n| looked(taken(given, (&format!("p{n}"), keep)).later(Millis(DAY))));
    assert_eq!(points(&given), ["p1", "p2", "p3", "p4", "p5"]);
    closed(given, S1)
}

/// Wakes, if it is time to.
fn looked(given: Given<Repository>) -> Given<Repository> {
    let due = Repository::next_wake(&given.state).is_some_and(|due| due <= given.context.now);
    if due { given.from(ME).when_input(Input::Wake).accepted() } else { given }
}

fn days_pass(given: Given<Repository>, days: u32) -> Given<Repository> {
    (0..days).fold(given, |given, _| looked(given.later(Millis(DAY))))
}

#[test]
fn days_pass_though_no_point_comes_and_three_points_stay() {
    let given = five(&by_days(6));
    let one = days_pass(given, 2);
    assert_eq!(points(&one), ["p2", "p3", "p4", "p5"]);
    assert_eq!(points(&days_pass(one, 60)), ["p3", "p4", "p5"]);
}

#[test]
fn a_rule_that_counts_points_alone_never_wakes() {
    let given = closed(taken(writing(served(), S1), ("p1", &Keep::newest(3))), S1);
    assert_eq!(Repository::next_wake(&given.state), None);
}

#[test]
fn what_is_old_is_marked_at_once() {
    let then = days_pass(five(&by_days(6)), 1).later(Millis(DAY)).from(ME).when_input(Input::Wake);
    assert_eq!(marked(then.decision()), Some(vec![point("p1")]));
}

#[test]
fn a_clock_that_jumps_ahead_makes_nothing_old_for_a_day() {
    let jumped = looked(five(&by_days(6)).later(Millis(5_000 * DAY)));
    assert_eq!(points(&jumped).len(), 5);
    // A point that comes meanwhile forgets nothing either.
    let given = closed(taken(writing(jumped.clone(), S1), ("p6", &by_days(6))), S1);
    assert_eq!(points(&given).len(), 6);
    // It was right after all: the machine was off.
    assert_eq!(points(&days_pass(jumped, 1)), ["p3", "p4", "p5"]);
}

#[test]
fn a_clock_that_jumped_and_was_set_right_within_the_day_has_cost_nothing() {
    let given = five(&by_days(6));
    let right = given.context.now;
    let mut given = looked(given.later(Millis(5_000 * DAY)));
    given.context.now = right.after(Millis(1));
    let given = closed(taken(writing(given, S1), ("p6", &by_days(6))), S1);
    assert_eq!(points(&given).len(), 6);
    let calendar = state(&given).calendar.unwrap();
    assert_eq!((calendar.counts, calendar.doubt), (right.after(Millis(1)), None));
    assert!(Repository::next_wake(&given.state).is_some_and(|next| next <= right.after(Millis(2 * DAY))));
}

#[test]
fn a_look_is_in_the_log_with_the_time_that_it_counts_with() {
    let given = five(&by_days(6)).later(Millis(100 * DAY)).from(ME);
    let (at, before) = (given.context.now, state(&given).calendar.unwrap().counts);
    let then = given.when_input(Input::Wake);
    assert_eq!(then.decision().events, [Event::CalendarRead { at, counts: before }]);
    assert!(before < at && Timestamp(0) < before);
}

#[test]
fn a_held_point_stays_whatever_its_age() {
    let given = five(&by_days(6)).from(OPS).when(hold("p1")).accepted();
    assert_eq!(points(&days_pass(given, 60)), ["p1", "p3", "p4", "p5"]);
}
