//! Numbers and marks: the next one, repeats, gaps, forks.

use super::*;
use farshore_schemas::envelope::Lost;
use farshore_schemas::frame::Verdict;

#[test]
fn the_next_number_is_taken_and_a_repeat_is_only_acked() {
    let mut hq = Live::with_mover("hq", 1);
    assert_eq!(verdict(&hq.deliver(&ask(1))), &Verdict::Accepted);
    let before = hq.tail();
    assert_eq!(acked(&hq.deliver(&ask(1))), Some(1));
    assert_eq!(verdict(&hq.deliver(&ask(2))), &Verdict::Accepted);
    assert_eq!(acked(&hq.deliver(&ask(1))), Some(2), "an older one is known by its number");
    assert_eq!(hq.tail(), before.next());
}

#[test]
fn a_gap_is_answered_with_the_last_number_taken() {
    let mut hq = Live::with_mover("hq", 1);
    assert_eq!(acked(&hq.deliver(&ask(3))), Some(0));
    hq.deliver(&ask(1));
    assert_eq!(acked(&hq.deliver(&ask(3))), Some(1));
}

#[test]
fn each_receiver_and_each_lineage_has_its_own_channel() {
    let mut hq = Live::with_mover("hq", 1);
    hq.deliver(&ask(1));
    let mut renewed = ask(1);
    renewed.channel.lineage = lineage(3);
    assert_eq!(verdict(&hq.deliver(&renewed)), &Verdict::Accepted);
    let elsewhere = Envelope { to: address("hq:broker/second"), ..ask(1) };
    assert_eq!(verdict(&hq.deliver(&elsewhere)), &Verdict::Accepted);
}

#[test]
fn the_last_number_with_other_content_is_a_fork() {
    let mut hq = Live::with_mover("hq", 1);
    hq.deliver(&ask(1));
    let other = Envelope { body: Some(request("another")), ..ask(1) };
    assert!(matches!(hq.deliver(&other), Step::Fork { number: 1 }));
}

#[test]
fn a_body_that_was_superseded_before_or_after_is_no_fork() {
    let mut hq = Live::with_mover("hq", 1);
    let emptied = |number| Envelope { body: None, ..ask(number) };
    hq.deliver(&ask(1));
    assert_eq!(acked(&hq.deliver(&emptied(1))), Some(1));
    assert_eq!(verdict(&hq.deliver(&emptied(2))), &Verdict::Superseded);
    assert_eq!(acked(&hq.deliver(&ask(2))), Some(2));
}

#[test]
fn a_party_without_a_decider_takes_nothing() {
    let mut hq = Live::new("hq", 1);
    assert!(matches!(hq.deliver(&Envelope { to: address("hq:agent/m1"), ..ask(1) }), Step::NoActor));
}

#[test]
fn a_clock_too_far_ahead_is_not_followed() {
    let mut hq = Live::with_mover("hq", 1);
    let at = |wall| Hlc { wall: Timestamp(wall), count: 0 };
    let now = hq.now.0;
    hq.deliver(&Envelope { sent: at(now + 300_000), ..ask(1) });
    assert_eq!(hq.site.sequencer.memory().hlc.wall, Timestamp(now + 300_000), "five minutes are followed");
    hq.deliver(&Envelope { sent: at(now + 300_001), ..ask(2) });
    assert_eq!(hq.site.sequencer.memory().hlc, Hlc { wall: Timestamp(now + 300_000), count: 2 }, "more is not");
}

/// `dr` asks for a slot as message `number`, and has nothing before `floor` any more.
fn ask_from(number: u64, floor: u64) -> Envelope {
    Envelope { floor, ..ask(number) }
}

fn lost_of(hq: &Live) -> Vec<(u64, u64)> {
    let broker = hq.site.entity(&address("hq:broker/broker").entity).unwrap();
    broker.memory().lost.iter().map(|(_, lost)| (lost.first, lost.last)).collect()
}

#[test]
fn a_receiver_that_lost_what_it_had_acked_goes_on_from_what_the_sender_still_has_and_says_so() {
    let mut hq = Live::with_mover("hq", 1);
    hq.deliver(&ask_from(1, 1));
    assert_eq!(acked(&hq.deliver(&ask_from(6, 5))), Some(1), "the fifth can still be had");
    let Step::Append { draft, .. } = hq.deliver(&ask_from(5, 5)) else { panic!("the first that is left is taken") };
    assert_eq!(draft.lost, Some(Lost { first: 2, last: 4 }));
    assert_eq!(verdict(&hq.deliver(&ask_from(6, 5))), &Verdict::Accepted);
    assert_eq!(lost_of(&hq), [(2, 4)]);
    hq.deliver(&ask_from(9, 9));
    assert_eq!(lost_of(&hq), [(2, 8)], "one alarm per channel, from the first that is lost to the last");
    hq.folds_and_redecides(lineage(1));
}

#[test]
fn a_receiver_that_lost_nothing_never_jumps() {
    let mut hq = Live::with_mover("hq", 1);
    (1..=4).for_each(|number| drop(hq.deliver(&ask_from(number, number))));
    assert_eq!(acked(&hq.deliver(&ask_from(3, 3))), Some(4), "a late repeat");
    assert_eq!(acked(&hq.deliver(&ask_from(7, 5))), Some(4), "a gap is a gap while it can be filled");
    assert_eq!(lost_of(&hq), []);
}
