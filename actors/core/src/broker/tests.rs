use super::Broker;
use crate::decider::Input;
use crate::testing::*;
use farshore_schemas::messages::broker::{Command, Event, Priority};
use farshore_schemas::messages::mover::{MoverSpec, Role};
use farshore_schemas::messages::{Message, replica, session};
use proptest::prelude::*;

const ME: &str = "hq:broker/broker";
const S1: &str = "hq:session/s1";
const S2: &str = "hq:session/s2";
const R1: &str = "dr:replica/r1";

fn spec(slots: u32, roles: &[Role]) -> MoverSpec {
    MoverSpec { roles: roles.to_vec(), slots }
}

fn mover_is(mover: &str, spec: Option<MoverSpec>, there: bool) -> Command {
    let endpoint = there.then(|| endpoint(&format!("hq/{mover}")));
    Command::MoverIs { mover: name(mover), spec, endpoint }
}

fn request(slot: &str, must: Option<&str>, priority: Priority) -> Command {
    Command::RequestSlot { slot: name(slot), role: Role::Source, must: must.map(name), priority }
}

fn any(slot: &str) -> Command {
    request(slot, None, Priority::Normal)
}

fn release(slot: &str) -> Command {
    Command::ReleaseSlot { slot: name(slot) }
}

/// A broker that knows source movers with so many slots.
fn with(movers: &[(&str, u32)]) -> Given<Broker> {
    movers.iter().fold(given(ME, []), |given, (mover, slots)| {
        let described = mover_is(mover, Some(spec(*slots, &[Role::Source])), true);
        given.from(&format!("hq:mover/{mover}")).when(described).accepted()
    })
}

fn granted(slot: &str, mover: &str, reasons: &[&str]) -> Message {
    let reasons = reasons.iter().map(|line| (*line).to_owned()).collect();
    let endpoint = endpoint(&format!("hq/{mover}"));
    Message::Session(session::Command::SlotGranted { slot: name(slot), mover: name(mover), endpoint, reasons })
}

/// Who was granted what, by a decision's events.
fn grants(events: &[Event]) -> Vec<(String, String, String)> {
    let of = |event: &Event| {
        let Event::SlotGranted { holder, slot, mover, .. } = event else { return None };
        Some((holder.entity.name.to_string(), slot.to_string(), mover.to_string()))
    };
    events.iter().filter_map(of).collect()
}

fn one(holder: &str, slot: &str, mover: &str) -> Vec<(String, String, String)> {
    vec![(holder.to_owned(), slot.to_owned(), mover.to_owned())]
}

#[test]
fn every_state_answers_every_input() {
    let held = with(&[("m1", 1)]).from(S1).when(any("a")).accepted();
    let states = [given::<Broker>(ME, []), held.clone(), held.from(S2).when(any("b")).accepted()];
    let source = || Some(spec(1, &[Role::Source]));
    let inputs: Vec<Row<Broker>> = vec![
        ("mover-is", "hq:mover/m1", Input::Command(mover_is("m1", source(), true))),
        ("mover-away", "hq:mover/m1", Input::Command(mover_is("m1", source(), false))),
        ("mover-removed", "hq:mover/m1", Input::Command(mover_is("m1", None, false))),
        ("mover-by-another", "hq:mover/m2", Input::Command(mover_is("m1", source(), true))),
        ("request", S1, Input::Command(any("a"))),
        ("request-must", S1, Input::Command(request("c", Some("m1"), Priority::Normal))),
        ("request-by-host", "hq:host/h", Input::Command(any("a"))),
        ("release", S1, Input::Command(release("a"))),
        ("release-all", S1, Input::Command(Command::ReleaseAll { holder: address(S1) })),
        ("grant-refused", S1, refused_by(S1, granted("a", "m1", &[]), "FS-SESSION-UNKNOWN")),
        ("other-refused", S1, refused_by(S1, Message::Broker(any("a")), "FS-X")),
        ("wake", ME, Input::Wake),
    ];
    lists_all::<Broker>(&inputs, 4, |command| match command {
        Command::MoverIs { .. } => 0,
        Command::RequestSlot { .. } => 1,
        Command::ReleaseSlot { .. } => 2,
        Command::ReleaseAll { .. } => 3,
    });
    let wanted = "\
mover-is: ok ok ok
mover-away: ok ok ok
mover-removed: MOVER-UNKNOWN ok ok
mover-by-another: NOT-THE-MOVER NOT-THE-MOVER NOT-THE-MOVER
request: ok ok ok
request-must: ok ok ok
request-by-host: HOLDER-KIND HOLDER-KIND HOLDER-KIND
release: ok ok ok
release-all: ok ok ok
grant-refused: REFUSAL-UNEXPECTED ok ok
other-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED
wake: NOT-DUE NOT-DUE NOT-DUE
";
    assert_eq!(table(&states, &inputs), wanted);
}

#[test]
fn a_free_slot_is_granted_at_once_with_its_reason() {
    let told = granted("a", "m1", &["m1: direct, 0/2 slots, chosen"]);
    with(&[("m1", 2)]).from(S1).when(any("a")).sent(&[(S1, told)]);
}

#[test]
fn the_least_loaded_mover_is_chosen_and_at_most_five_reasons_are_given() {
    let movers = [("m1", 1), ("m2", 2), ("m3", 2), ("m4", 2), ("m5", 2), ("m6", 2)];
    let busy = with(&movers).from(S2).when(request("x", Some("m1"), Priority::Normal)).accepted();
    let busy = busy.when(request("y", Some("m2"), Priority::Normal)).accepted();
    let reasons = [
        "m3: direct, 0/2 slots, chosen",
        "m4: direct, 0/2 slots, free, but more loaded or later by name",
        "m5: direct, 0/2 slots, free, but more loaded or later by name",
        "m6: direct, 0/2 slots, free, but more loaded or later by name",
        "and 2 more",
    ];
    busy.from(S1).when(any("a")).sent(&[(S1, granted("a", "m3", &reasons))]);
}

#[test]
fn the_mover_that_must_do_it_is_waited_for_although_others_are_free() {
    let full = with(&[("m1", 1), ("m2", 4)]).from(S1).when(request("a", Some("m1"), Priority::Normal)).accepted();
    let waiting = full.from(S2).when(request("b", Some("m1"), Priority::Normal));
    assert_eq!(grants(&waiting.decision().events), []);
    let freed = waiting.accepted().from(S1).when(release("a"));
    assert_eq!(grants(&freed.decision().events), one("s2", "b", "m1"));
}

#[test]
fn a_mover_that_is_not_known_yet_is_waited_for() {
    let waiting = given::<Broker>(ME, []).from(S1).when(request("a", Some("m1"), Priority::Normal)).accepted();
    let described = mover_is("m1", Some(spec(1, &[Role::Source])), true);
    let come = waiting.from("hq:mover/m1").when(described);
    assert_eq!(grants(&come.decision().events), one("s1", "a", "m1"));
}

#[test]
fn a_mover_without_the_role_is_not_waited_for() {
    let target = mover_is("m1", Some(spec(1, &[Role::Target])), true);
    let given = given::<Broker>(ME, []).from("hq:mover/m1").when(target).accepted();
    let given = given.from(S1).when(request("a", Some("m1"), Priority::Normal)).rejected("FS-BROKER-ROLE-MISSING");
    let waiting = given.when(any("a"));
    assert_eq!(grants(&waiting.decision().events), []);
}

#[test]
fn priority_goes_before_arrival_and_arrival_decides_among_equals() {
    let full = with(&[("m1", 1)]).from(S1).when(any("a")).accepted();
    let queued = full.from(S2).when(any("b")).accepted().from(S2).when(any("c")).accepted();
    let queued = queued.from(R1).when(request("d", None, Priority::Restore)).accepted();
    let first = queued.from(S1).when(release("a"));
    assert_eq!(grants(&first.decision().events), one("r1", "d", "m1"));
    let second = first.accepted().from(R1).when(release("d"));
    assert_eq!(grants(&second.decision().events), one("s2", "b", "m1"));
    let third = second.accepted().from(S2).when(release("b"));
    assert_eq!(grants(&third.decision().events), one("s2", "c", "m1"));
}

#[test]
fn a_replica_is_told_in_its_own_words() {
    let told = with(&[("m1", 1)]).from(R1).when(any("a"));
    let body = &told.decision().sends[0].body;
    assert!(matches!(body, Message::Replica(replica::Command::SlotGranted { .. })), "{body:?}");
}

#[test]
fn asking_again_for_what_one_has_gives_the_same_answer_and_no_second_slot() {
    let held = with(&[("m1", 2)]).from(S1).when(any("a")).accepted();
    let told = granted("a", "m1", &["m1: direct, 0/2 slots, chosen"]);
    let again = held.when(any("a")).sent(&[(S1, told.clone())]);
    assert_eq!(again.state.used(&name("m1")), 1);
    // One refusal answers one of the two messages: the slot stays until both are refused.
    let once = again.from(S1).when_input(refused_by(S1, told.clone(), "FS-SESSION-SLOT")).accepted();
    assert_eq!(once.state.used(&name("m1")), 1);
    let twice = once.when_input(refused_by(S1, told, "FS-SESSION-UNKNOWN")).accepted();
    assert_eq!(twice.state.used(&name("m1")), 0);
}

#[test]
fn asking_again_while_waiting_keeps_the_place() {
    let full = with(&[("m1", 1)]).from(S1).when(any("a")).accepted();
    let queued = full.from(S2).when(any("b")).accepted().from(R1).when(any("c")).accepted();
    let queued = queued.from(S2).when(any("b")).accepted();
    let freed = queued.from(S1).when(release("a"));
    assert_eq!(grants(&freed.decision().events), one("s2", "b", "m1"));
}

#[test]
fn leases_of_a_mover_that_goes_away_end_and_who_waits_stays() {
    let full = with(&[("m1", 1)]).from(S1).when(any("a")).accepted().from(S2).when(any("b")).accepted();
    for gone in [mover_is("m1", None, false), mover_is("m1", Some(spec(1, &[Role::Source])), false)] {
        let after = full.clone().from("hq:mover/m1").when(gone).accepted();
        assert_eq!((after.state.leases.len(), after.state.waiting.len()), (0, 1));
        let back = after.when(mover_is("m1", Some(spec(1, &[Role::Source])), true));
        assert_eq!(grants(&back.decision().events), one("s2", "b", "m1"));
    }
}

#[test]
fn release_all_frees_and_withdraws_everything_of_the_holder() {
    let full = with(&[("m1", 1)]).from(S1).when(any("a")).accepted().when(any("b")).accepted();
    let after = full.from(S2).when(any("c")).accepted().from(S1).when(Command::ReleaseAll { holder: address(S1) });
    assert_eq!(grants(&after.decision().events), one("s2", "c", "m1"));
    assert!(after.accepted().state.waiting.is_empty());
}

proptest! {
    /// Whatever is asked in whatever order: no panic, the fold holds, no mover has more leases than slots were free for, and
    /// nobody waits for a slot that is free.
    #[test]
    fn random_requests(ops in proptest::collection::vec((0u8..6, 0u8..3, 0u8..4, 0u8..4), 0..60)) {
        let mut now = given::<Broker>(ME, []);
        for (op, who, slot, with) in ops {
            let (mover, holder) = (format!("m{}", slot % 3), format!("hq:session/s{who}"));
            let slot = format!("t{slot}");
            let must = (with > 0).then(|| format!("m{}", with % 3));
            let priority = if with == 3 { Priority::Restore } else { Priority::Normal };
            let (from, command) = match op {
                0 => (format!("hq:mover/{mover}"), mover_is(&mover, Some(spec(u32::from(with), &[Role::Source])), true)),
                1 if with == 0 => (format!("hq:mover/{mover}"), mover_is(&mover, None, false)),
                1..=3 => (holder, request(&slot, must.as_deref(), priority)),
                4 => (holder, release(&slot)),
                _ => (holder.clone(), Command::ReleaseAll { holder: address(&holder) }),
            };
            let before = now.state.clone();
            let then = now.from(&from).when(command);
            let granted: Vec<_> = then.decided.iter().flat_map(|decision| grants(&decision.events)).collect();
            now = then.whatever();
            for (name, mover) in &now.state.movers {
                let used = now.state.used(name);
                let to_it = granted.iter().any(|(_, _, to)| to == name.as_str());
                prop_assert!(used <= mover.spec.slots || (!to_it && used <= before.used(name)), "{name} {used}");
            }
            for wait in now.state.waiting.values() {
                prop_assert!(super::choose::choose(&now.state, wait).is_none(), "{wait:?} waits for a free slot");
            }
        }
    }
}
