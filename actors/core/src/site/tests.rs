use super::{Site, State};
use crate::decider::Input;
use crate::testing::*;
use farshore_schemas::ids::{Digest, Lineage, Seq};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::site::{Command, Event, SiteSpec};
use farshore_schemas::units::Timestamp;
use proptest::prelude::*;

const ME: &str = "hq:site/site";
const NOW: Timestamp = Timestamp(1_000_000);

fn define(peers: &[&str]) -> Command {
    Command::Define(SiteSpec { peers: peers.iter().map(|peer| site(peer)).collect() })
}

fn hello(lineage: Lineage, heard: Option<(u64, u8)>) -> Command {
    let heard = heard.map(|(seq, byte)| (Seq(seq), digest(byte)));
    Command::PeerHello { peer: site("dr"), lineage, heard, version: "1".to_owned() }
}

fn seen(lineage: Lineage, heard: Option<(u64, u8)>) -> Event {
    let heard: Option<(Seq, Digest)> = heard.map(|(seq, byte)| (Seq(seq), digest(byte)));
    Event::PeerSeen { peer: site("dr"), lineage, heard, version: "1".to_owned(), at: NOW }
}

/// A site that has seen its peer hear it up to frame 5.
fn acquainted() -> Given<Site> {
    let named = given::<Site>(ME, []).when(define(&["dr"])).accepted();
    named.from("dr:site/site").when(hello(lineage(2), Some((5, 5)))).accepted()
}

#[test]
fn every_state_answers_every_input() {
    let states = [given::<Site>(ME, []), acquainted()];
    let refusal = refused_by("dr:site/site", Message::Site(define(&[])), "FS-X");
    let inputs: Vec<Row<Site>> = vec![
        ("define", "hq:api/operator", Input::Command(define(&["dr"]))),
        ("define-own-peer", "hq:api/operator", Input::Command(define(&["hq"]))),
        ("hello", "dr:site/site", Input::Command(hello(lineage(2), None))),
        ("hello-of-another", "xx:site/site", Input::Command(hello(lineage(2), None))),
        ("refused", "dr:site/site", refusal),
        ("wake", ME, Input::Wake),
    ];
    lists_all::<Site>(&inputs, 2, |command| match command {
        Command::Define(_) => 0,
        Command::PeerHello { .. } => 1,
    });
    let wanted = "\
define: ok ok
define-own-peer: OWN-PEER OWN-PEER
hello: UNKNOWN ok
hello-of-another: UNKNOWN PEER-MISMATCH
refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED
wake: NOT-DUE NOT-DUE
";
    assert_eq!(table(&states, &inputs), wanted);
}

#[test]
fn a_first_hello_is_recorded() {
    let named = given::<Site>(ME, []).when(define(&["dr"])).accepted();
    named.from("dr:site/site").when(hello(lineage(2), None)).then(&[seen(lineage(2), None)], &[]);
}

#[test]
fn a_site_that_is_no_peer_is_rejected() {
    acquainted()
        .when(define(&[]))
        .accepted()
        .from("dr:site/site")
        .when(hello(lineage(2), None))
        .rejected("FS-SITE-PEER-UNKNOWN");
}

#[test]
fn hearing_less_under_the_same_lineage_is_an_alarm() {
    let (was, at) = (Seq(5), NOW);
    let alarm = |now| Event::PeerHeardLess { peer: site("dr"), lineage: lineage(2), was, now, at };
    let less = acquainted().when(hello(lineage(2), Some((4, 4))));
    less.then(&[alarm(Some(Seq(4))), seen(lineage(2), Some((4, 4)))], &[]);
    acquainted().when(hello(lineage(2), None)).then(&[alarm(None), seen(lineage(2), None)], &[]);
}

#[test]
fn hearing_more_or_as_much_is_no_alarm() {
    for heard in [(5, 5), (6, 1)] {
        acquainted().when(hello(lineage(2), Some(heard))).then(&[seen(lineage(2), Some(heard))], &[]);
    }
}

#[test]
fn another_frame_under_a_known_seq_is_an_alarm() {
    let alarm = Event::PeerHeardOther { peer: site("dr"), seq: Seq(5), was: digest(5), now: digest(6), at: NOW };
    acquainted().when(hello(lineage(2), Some((5, 6)))).then(&[alarm, seen(lineage(2), Some((5, 6)))], &[]);
}

#[test]
fn another_lineage_is_recorded_and_starts_anew() {
    let changed = Event::PeerLineageChanged { peer: site("dr"), was: lineage(2), now: lineage(3), at: NOW };
    let after = acquainted().when(hello(lineage(3), Some((1, 1))));
    after.then(&[changed, seen(lineage(3), Some((1, 1)))], &[]);
}

#[test]
fn alarms_are_counted_and_a_peer_no_longer_named_is_forgotten() {
    let alarmed = acquainted().when(hello(lineage(2), None)).accepted();
    let State::Defined { peers, .. } = &alarmed.state else { panic!("defined") };
    assert_eq!(peers[&site("dr")].alarms, 1);
    let alone = alarmed.when(define(&[])).accepted();
    assert_eq!(alone.state, State::Defined { spec: SiteSpec { peers: Vec::new() }, peers: Default::default() });
}

proptest! {
    /// Whatever is said: no panic, the fold holds (checked at every step), and hearing less never goes unnoticed.
    #[test]
    fn random_hellos(hellos in proptest::collection::vec((0u8..3, proptest::option::of((0u64..4, 0u8..3))), 0..30)) {
        let mut now = acquainted();
        let mut last = (lineage(2), Some((5, 5)));
        for (byte, heard) in hellos {
            let then = now.when(hello(lineage(byte), heard));
            let alarmed = then.decision().events.len() == 2;
            let less = last.1.map(|(seq, _)| seq) > heard.map(|(seq, _)| seq);
            prop_assert!(alarmed || !(less || last.0 != lineage(byte)));
            last = (lineage(byte), heard);
            now = then.accepted();
        }
    }
}
