//! What waits to be confirmed: numbers, windows, repeats, supersession, renewed lineages.

use super::*;
use crate::draft::Draft;
use crate::sequencer::{AckVerdict, Sequencer, Stamped};
use farshore_core::decider::Send;
use farshore_schemas::frame::{Input, Verdict};
use farshore_schemas::units::Millis;

const NOW: Timestamp = Timestamp(1_000_000);

fn sequencer() -> Sequencer {
    Sequencer::new(&site_name("hq"), lineage(1))
}

fn send(to: &str, slot: &str) -> Send {
    Send::new(address(to), request(slot))
}

fn stamp(sequencer: &mut Sequencer, sends: Vec<Send>) -> Stamped {
    let draft = Draft {
        actor: "broker/broker".parse().unwrap(),
        actor_seq: 1,
        at: NOW,
        heard: None,
        input: Input::Wake,
        verdict: Verdict::Accepted,
        mark: None,
        lost: None,
        events: vec![0x90],
        sends,
        principal: "hq".to_owned(),
        trace: None,
    };
    let prepared = sequencer.prepare(&draft).unwrap();
    sequencer.stamp(prepared, None)
}

fn numbers(due: &[Envelope]) -> Vec<u64> {
    due.iter().map(|envelope| envelope.number).collect()
}

#[test]
fn numbers_are_given_per_receiver_when_the_frame_gets_its_place() {
    let mut hq = sequencer();
    let stamped = stamp(&mut hq, vec![send("dr:session/a", "1"), send("dr:session/b", "2"), send("dr:session/a", "3")]);
    let given: Vec<(String, u64, u16)> =
        stamped.sends.iter().map(|(to, entry)| (to.to_string(), entry.number, entry.index)).collect();
    let given: Vec<_> = given.iter().map(|(to, number, index)| (to.as_str(), *number, *index)).collect();
    assert_eq!(given, [("dr:session/a", 1, 0), ("dr:session/b", 1, 1), ("dr:session/a", 2, 2)]);
    assert_eq!(stamp(&mut hq, vec![send("dr:session/a", "4")]).sends[0].1.number, 3);
}

#[test]
fn nothing_leaves_before_its_frame_is_durable() {
    let mut hq = sequencer();
    stamp(&mut hq, vec![send("dr:session/a", "1")]);
    stamp(&mut hq, vec![send("dr:session/a", "2")]);
    assert_eq!(numbers(&hq.due(NOW, Seq(0))), []);
    assert_eq!(numbers(&hq.due(NOW, Seq(1))), [1]);
    assert_eq!(numbers(&hq.due(NOW, Seq(2))), [2]);
    assert_eq!(numbers(&hq.due(NOW, Seq(2))), [], "it is under way");
}

#[test]
fn a_window_is_under_way_at_once_and_repeats_wait_longer_each_time() {
    let mut hq = sequencer();
    stamp(&mut hq, (0..100).map(|at| send("dr:session/a", &format!("s{at}"))).collect());
    assert_eq!(numbers(&hq.due(NOW, Seq(1))).len(), 64);
    let mut at = NOW;
    for wait in [200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        assert_eq!(hq.due(at.after(Millis(if wait == 200 { 199 } else { wait / 2 - 1 })), Seq(1)), []);
        at = hq.outbox.next_attempt().unwrap();
        assert_eq!(numbers(&hq.due(at, Seq(1))), (1..=64).collect::<Vec<_>>());
        assert!(hq.outbox.next_attempt().unwrap() <= at.after(Millis(5_000)));
    }
    let channel = hq.channel();
    assert_eq!(hq.hear_ack(&channel, &address("dr:session/a"), 10, at), AckVerdict::Advanced);
    assert_eq!(numbers(&hq.due(at, Seq(1))), (65..=74).collect::<Vec<_>>(), "the window moves");
}

#[test]
fn a_receiver_that_lacks_something_gets_it_at_once_but_repeats_do_not_feed_each_other() {
    let mut hq = sequencer();
    stamp(&mut hq, vec![send("dr:session/a", "1"), send("dr:session/a", "2")]);
    hq.due(NOW, Seq(1));
    let (channel, a) = (hq.channel(), address("dr:session/a"));
    assert_eq!(hq.hear_ack(&channel, &a, 0, NOW), AckVerdict::Known);
    assert_eq!(numbers(&hq.due(NOW, Seq(1))), [1, 2]);
    let later = NOW.after(Millis(1));
    hq.hear_ack(&channel, &a, 0, later);
    assert_eq!(numbers(&hq.due(later, Seq(1))), []);
}

#[test]
fn a_clock_set_back_does_not_hold_messages_up() {
    let mut hq = sequencer();
    stamp(&mut hq, vec![send("dr:session/a", "1")]);
    hq.due(NOW, Seq(1));
    let back = Timestamp(NOW.0 - 3_600_000);
    assert_eq!(numbers(&hq.due(back, Seq(1))), []);
    assert_eq!(numbers(&hq.due(back.after(Millis(5_000)), Seq(1))), [1]);
}

#[test]
fn a_confirmation_is_recorded_by_the_next_frame_and_folded() {
    let mut hq = sequencer();
    stamp(&mut hq, vec![send("dr:session/a", "1"), send("dr:session/a", "2")]);
    let (channel, a) = (hq.channel(), address("dr:session/a"));
    assert_eq!(hq.hear_ack(&channel, &a, 1, NOW), AckVerdict::Advanced);
    assert_eq!(hq.hear_ack(&channel, &a, 1, NOW), AckVerdict::Known);
    assert_eq!(hq.outbox.waiting().map(|(_, count)| count).sum::<usize>(), 1, "it is not sent again");
    assert_eq!(hq.memory().outbox.len(), 2, "a fold of the frames so far cannot know of it");
    let stamped = stamp(&mut hq, Vec::new());
    let section = RawFrame::decode(&stamped.bytes).unwrap().0.events_section().unwrap();
    assert_eq!(section.acked, [(a, 1)]);
    assert_eq!(hq.memory().outbox.len(), 1);
    let again = stamp(&mut hq, Vec::new());
    assert_eq!(RawFrame::decode(&again.bytes).unwrap().0.events_section().unwrap().acked, []);
}

#[test]
fn many_confirmations_are_spread_over_frames() {
    let mut hq = sequencer();
    for at in 0..600 {
        stamp(&mut hq, vec![send(&format!("dr:session/s{at}"), "1")]);
    }
    let channel = hq.channel();
    for at in 0..600 {
        hq.hear_ack(&channel, &address(&format!("dr:session/s{at}")), 1, NOW);
    }
    let left: Vec<usize> = (0..3)
        .map(|_| {
            stamp(&mut hq, Vec::new());
            hq.outbox.len()
        })
        .collect();
    assert_eq!(left, [344, 88, 0]);
}

#[test]
fn acks_of_others_and_of_what_was_never_sent_are_told_apart() {
    let mut hq = sequencer();
    stamp(&mut hq, vec![send("dr:session/a", "1"), send("hq:session/b", "2")]);
    let (ours, a) = (hq.channel(), address("dr:session/a"));
    let renewed = Channel { lineage: lineage(8), ..ours.clone() };
    assert_eq!(hq.hear_ack(&renewed, &a, 1, NOW), AckVerdict::NotOurs);
    assert_eq!(hq.hear_ack(&ours, &a, 2, NOW), AckVerdict::AheadOfUs);
    assert_eq!(hq.hear_ack(&ours, &address("dr:session/never"), 1, NOW), AckVerdict::AheadOfUs);
    assert_eq!(
        hq.hear_ack(&ours, &address("hq:session/b"), 1, NOW),
        AckVerdict::NotOurs,
        "local ones are confirmed by frames"
    );
}

#[test]
fn a_later_message_with_the_same_key_empties_the_earlier_one() {
    let mut hq = sequencer();
    let keyed = |slot| send("dr:session/a", slot).superseding("state");
    stamp(&mut hq, vec![keyed("1"), send("dr:session/a", "2"), keyed("3")]);
    let bodies: Vec<bool> = hq.due(NOW, Seq(1)).iter().map(|envelope| envelope.body.is_some()).collect();
    assert_eq!(bodies, [false, true, true]);
}

#[test]
fn a_body_that_no_bus_takes_does_not_fit() {
    let hq = sequencer();
    let mut spec = super::hello("hq");
    if let Message::Mover(mover::Command::Hello { version, .. }) = &mut spec {
        *version = "v".repeat(190 * 1024);
    }
    let draft = Draft {
        actor: "broker/broker".parse().unwrap(),
        actor_seq: 1,
        at: NOW,
        heard: None,
        input: Input::Wake,
        verdict: Verdict::Accepted,
        mark: None,
        lost: None,
        events: vec![0x90],
        sends: vec![Send::new(address("dr:session/a"), spec)],
        principal: "hq".to_owned(),
        trace: None,
    };
    assert!(hq.prepare(&draft).is_err());
}

#[test]
fn a_renewed_lineage_numbers_anew_what_waits_and_folds_the_same() {
    let mut hq = Live::with_mover("hq", 1);
    (1..=3).for_each(|number| drop(hq.deliver(&ask(number))));
    let sent = hq.due();
    let to_session: Vec<u64> = numbers(&sent).into_iter().filter(|number| *number > 0).collect();
    assert!(to_session.len() >= 3);
    let channel = hq.site.sequencer.channel();
    hq.site.sequencer.hear_ack(&channel, &address("dr:session/s1"), 1, hq.now);
    hq.deliver(&ask(4));
    let step = hq.site.renew_lineage(lineage(5), "restored from a copy", hq.now);
    hq.keep(&step);
    let due = hq.due();
    let first = due.iter().find(|envelope| envelope.to == address("dr:session/s1")).unwrap();
    assert_eq!((first.number, first.channel.lineage, first.id.lineage), (1, lineage(5), lineage(1)));
    hq.deliver(&ask(5));
    hq.folds_and_redecides(lineage(1));
}

#[test]
fn the_floor_is_the_first_number_that_was_not_confirmed() {
    let mut hq = sequencer();
    stamp(&mut hq, (1..=3).map(|at| send("dr:session/a", &format!("s{at}"))).collect());
    let floors = |hq: &mut Sequencer, at| -> Vec<u64> { hq.due(at, Seq(9)).iter().map(|sent| sent.floor).collect() };
    assert_eq!(floors(&mut hq, NOW), [1, 1, 1]);
    let channel = hq.channel();
    hq.hear_ack(&channel, &address("dr:session/a"), 2, NOW);
    assert_eq!(floors(&mut hq, NOW.after(Millis(10_000))), [3], "confirmed, whether a frame has recorded it or not");
    stamp(&mut hq, vec![send("dr:session/a", "s4")]);
    assert_eq!(floors(&mut hq, NOW.after(Millis(30_000))), [3, 3]);
}
