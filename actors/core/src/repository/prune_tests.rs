//! How what is forgotten goes: marked beside everything, swept when nobody counts on it, deleted after its hold.

use super::tests::*;
use super::{RETRY_AFTER, Trash};
use crate::decider::Decider;
use crate::testing::*;
use farshore_schemas::messages::agent::{Failure, Outcome, PruneStep, TaskSpec};
use farshore_schemas::messages::repository::{Command, Event, Purpose};
use farshore_schemas::units::{ByteCount, Millis};

/// S2 writes; S1 has made p2 of which p1 is forgotten, and the mark is under way. Its ordinal.
fn marking() -> (Given<super::Repository>, u64) {
    let given = writing(writing(served(), S1), S2);
    let given = made(made(given, S1, ("p1", 1, 1)), S1, ("p2", 2, 1));
    let mark = next(&given) - 1;
    (given, mark)
}

/// p1 is swept, nothing is open.
fn with_trash() -> (Given<super::Repository>, u64) {
    let (given, mark) = marking();
    let given = closed(closed(agent_ends(given, mark, Outcome::Done), S1), S2);
    let sweep = next(&given) - 1;
    let given = agent_ends(given, sweep, gone(&["p1"]));
    let (named, _) = state(&given).trash.first_key_value().unwrap();
    let named = *named;
    (given, named)
}

fn trash(given: &Given<super::Repository>) -> &Trash {
    state(given).trash.values().next().unwrap()
}

fn early(left: Millis) -> Outcome {
    let (code, message, advice) = ("FS-REPO-HELD".to_owned(), String::new(), String::new());
    Outcome::TooEarly { failure: Failure { code, message, advice, transient: true }, left }
}

#[test]
fn a_mark_is_ordered_at_once_beside_open_accesses_and_names_its_log_position() {
    let given = made(writing(served(), S1), S1, ("p1", 1, 1));
    let (ordinal, position) = (next(&given), given.context.frame.0);
    let then = given.from(S1).when(commit("p2", 2, 1)).accepted().from(AGENT).when(ended(ordinal, durable(3)));
    assert_eq!(marked(then.decision()), Some(vec![point("p1")]));
    let spec = TaskSpec::PrunePoints {
        repository: name("r1"),
        points: vec![point("p1")],
        mark: position,
        position,
        step: PruneStep::Mark,
    };
    let last = then.decision().sends.last().unwrap().body.clone();
    assert_eq!(last, run(ordinal + 1, spec));
}

#[test]
fn the_sweep_waits_for_every_access_that_stood_at_the_mark_until_the_agent_has_shut_it() {
    let (given, mark) = marking();
    let given = agent_ends(given, mark, Outcome::Done);
    assert!(!state(&given).stepping(None), "two accesses stand");
    let given = closed(given, S1);
    assert!(!state(&given).stepping(None), "another access stands");
    let given = given.from(S2).when(Command::CloseAccess).accepted();
    let last = next(&given) - 1;
    let then = given.from(AGENT).when(ended(last, Outcome::Done));
    assert_eq!(swept(then.decision()), Some(vec![point("p1")]));
    let given = agent_ends(then.accepted(), last + 1, gone(&["p1"]));
    assert!(state(&given).forgotten.is_empty() && state(&given).marked.is_none());
}

#[test]
fn what_opens_after_the_mark_delays_nothing_and_is_not_delayed() {
    let (given, mark) = marking();
    let given = closed(closed(agent_ends(given, mark, Outcome::Done), S1), S2);
    let sweep = next(&given) - 1;
    let given = agent_ends(given, sweep, gone(&["p1"]));
    // S1 stands at the second mark; S2 comes after it.
    let given = made(writing(given, S1), S1, ("p3", 3, 1));
    let mark = next(&given) - 1;
    let given = agent_ends(given, mark, Outcome::Done);
    let ordinal = next(&given);
    let given = given.from(S2).when(open(Purpose::Write, None)).sent(&[(AGENT, run(ordinal, open_spec()))]);
    let given = agent_ends(given, ordinal, Outcome::Done);
    let given = closed(given, S1);
    assert!(state(&given).stepping(None), "the sweep does not wait for what came later");
    assert!(state(&given).accesses.contains_key(&address(S2)));
    // The same party again is another access.
    let given = given.from(S1).when(open(Purpose::Write, None)).accepted();
    assert!(state(&given).marked.as_ref().unwrap().waits.is_empty());
}

#[test]
fn a_mark_or_sweep_that_fails_begins_anew_later_and_what_it_moved_is_held() {
    let (given, mark) = marking();
    let marking_failed = agent_ends(given.clone(), mark, failed("FS-AGENT-X"));
    assert!(state(&marking_failed).trash.is_empty());
    let marked_well = closed(closed(agent_ends(given, mark, Outcome::Done), S1), S2);
    let sweep = next(&marked_well) - 1;
    let left = Outcome::Pruned { points: Vec::new(), bytes: ByteCount(0) };
    let sweeps = [failed("FS-REPO-NO-MARK"), left].map(|outcome| agent_ends(marked_well.clone(), sweep, outcome));
    assert!(sweeps.iter().all(|given| state(given).trash.len() == 1));
    for given in sweeps.into_iter().chain([marking_failed]) {
        assert_eq!(state(&given).prune_again, Some(given.context.now.after(RETRY_AFTER)));
        assert!(!state(&given).stepping(None));
        let given = wake_when_due(given);
        assert!(state(&given).stepping(None) && state(&given).prune_again.is_none());
    }
}

#[test]
fn what_is_forgotten_meanwhile_is_marked_when_the_sweep_has_ended() {
    let (given, mark) = marking();
    let given = made(given, S2, ("p3", 3, 1));
    let given = closed(closed(agent_ends(given, mark, Outcome::Done), S1), S2);
    let sweep = next(&given) - 1;
    let then = given.from(AGENT).when(ended(sweep, gone(&["p1"])));
    assert_eq!(marked(then.decision()), Some(vec![point("p2")]));
}

#[test]
fn points_that_the_agent_lost_without_an_order_are_an_alarm() {
    let (given, mark) = marking();
    let given = closed(closed(agent_ends(given, mark, Outcome::Done), S1), S2);
    let sweep = next(&given) - 1;
    let then = given.from(AGENT).when(ended(sweep, gone(&["p1", "p2"])));
    assert!(then.decision().events.contains(&Event::PointsLost { points: vec![point("p2")] }));
    assert_eq!(points(&then.accepted()), ["p2"]);
}

#[test]
fn the_trash_is_emptied_when_its_hold_has_passed_here_and_there() {
    let (given, named) = with_trash();
    assert_eq!(trash(&given).due, given.context.now.after(HOLD));
    let due = trash(&given).due;
    let asked = wake_when_due(given);
    assert_eq!(asked.context.now, due);
    let ordinal = next(&asked) - 1;
    let held = agent_ends(asked.clone(), ordinal, early(Millis::from_mins(20)));
    assert_eq!(trash(&held).due, due.after(Millis::from_mins(20)));
    let impatient = agent_ends(asked, ordinal, early(Millis(1)));
    assert_eq!(trash(&impatient).due, due.after(Millis::from_mins(1)));
    let again = wake_when_due(held);
    let last = next(&again) - 1;
    let freed = Outcome::Pruned { points: Vec::new(), bytes: ByteCount(7) };
    let then = again.from(AGENT).when(ended(last, freed));
    assert!(then.decision().events.contains(&Event::TrashEmptied { mark: named, freed: ByteCount(7) }));
    assert!(state(&then.accepted()).trash.is_empty());
}

#[test]
fn the_trash_waits_for_accesses_and_checks_that_stood_at_the_sweep() {
    let (given, mark) = marking();
    let given = closed(closed(agent_ends(given, mark, Outcome::Done), S1), S2);
    let sweep = next(&given) - 1;
    let given = given.from(S2).when(open(Purpose::Read, Some("p2"))).accepted();
    let given = agent_ends(given, sweep + 1, Outcome::Done);
    let given = given.from(OPS).when(Command::Verify { point: point("p2") }).accepted();
    let check = next(&given) - 1;
    let given = agent_ends(given, sweep, gone(&["p1"]));
    let waits = |given: &Given<super::Repository>| <super::Repository as Decider>::next_wake(&given.state).is_none();
    assert!(waits(&given));
    let given = closed(given, S2);
    assert!(waits(&given), "the check still runs");
    let found = Outcome::Verified { chunks: 1, damage: Vec::new(), damaged: 0 };
    let given = agent_ends(given, check, found);
    assert!(!waits(&given));
}

#[test]
fn a_hold_is_lengthened_and_never_shortened_for_what_is_in_the_trash() {
    let (given, _) = with_trash();
    let since = trash(&given).since;
    for (minutes, lasts) in [(1, 60), (90, 90), (30, 90)] {
        let Command::Define(mut spec) = define("/r") else { panic!() };
        spec.trash_hold = Millis::from_mins(minutes);
        let given = given.clone();
        let given = if lasts == 90 {
            let mut longest = spec.clone();
            longest.trash_hold = Millis::from_mins(90);
            given.from(OPS).when(Command::Define(longest)).accepted()
        } else {
            given
        };
        let given = given.from(OPS).when(Command::Define(spec)).accepted();
        assert_eq!(trash(&given).due, since.after(Millis::from_mins(lasts)), "{minutes}");
        let asked = wake_when_due(given);
        let (_, open) = state(&asked).orders.open.last_key_value().unwrap();
        let TaskSpec::PrunePoints { step: PruneStep::Empty { hold }, .. } = open.order.spec else { panic!() };
        assert_eq!(hold, Millis::from_mins(lasts));
    }
}

#[test]
fn one_step_is_under_way_at_a_time() {
    let (given, _) = with_trash();
    let emptying = wake_when_due(given);
    let ordinal = next(&emptying) - 1;
    // p2 is forgotten while the trash is being emptied: its mark waits for that.
    let given = made(writing(emptying, S1), S1, ("p3", 3, 1));
    assert_eq!(state(&given).forgotten.len(), 1);
    assert_eq!(state(&given).orders.open.len(), 1);
    let freed = Outcome::Pruned { points: Vec::new(), bytes: ByteCount(7) };
    let then = given.from(AGENT).when(ended(ordinal, freed));
    assert_eq!(marked(then.decision()), Some(vec![point("p2")]));
}
