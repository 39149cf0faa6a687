//! The question who may run a protected VM: before an operator's start, beside the one after a return (`rights_tests`).

use super::tests::*;
use super::{Host, KeptDown, Why};
use crate::decider::{Decider, Input};
use crate::limits;
use crate::testing::*;
use farshore_schemas::messages::agent::Outcome;
use farshore_schemas::messages::host::{Command, Event};
use farshore_schemas::messages::{Epoch, Message, replica};
use farshore_schemas::units::Millis;

const R2: &str = "xx:replica/r2";

fn who_runs() -> Message {
    Message::Replica(replica::Command::WhoRuns { vm: vm("web"), host: address(ME) })
}

fn off() -> Command {
    Command::PowerOff { vm: vm("web") }
}

fn on_by_override() -> Command {
    Command::PowerOn { vm: vm("web"), forced: forced() }
}

fn yes() -> Command {
    epoch_is(epoch(0, "hq"), true)
}

/// The epoch that an operator's override took here while `web` was asked about.
fn forced_here() -> (Given<Host>, Epoch) {
    let given = wanted();
    let taken = Epoch { counter: 1, site: site("hq"), frame: given.context.frame };
    (given.when_from(OPS, on_by_override()), taken)
}

/// `web` runs under an override of this site, and was switched off again.
fn off_after_override() -> (Given<Host>, Epoch) {
    let (given, taken) = forced_here();
    let given = given.when_from(AGENT, ended(2, Outcome::Done)).when_from(OPS, off());
    (given.when_from(AGENT, ended(3, Outcome::Done)), taken)
}

fn kept_down(given: &Given<Host>, by: &str, epoch: Epoch) {
    assert_eq!(state(given).asked, [].into());
    assert_eq!(state(given).kept_down, [(vm("web"), KeptDown { by: address(by), epoch })].into());
}

#[test]
fn a_protected_vm_starts_by_hand_only_once_its_replica_has_said_that_it_may() {
    let given = switched_off().from(OPS).when(start("web")).sent(&[(R1, who_runs())]);
    assert_eq!(state(&given).asked[&vm("web")].why, Why::Wanted);
    let ordinal = next(&given);
    let given = given.from(R1).when(yes()).sent(&[(AGENT, power_on(ordinal, epoch(0, "hq")))]);
    assert!(state(&given).asked.is_empty());
}

#[test]
fn with_several_replicas_all_must_say_yes_and_one_no_keeps_it_down() {
    let two = || {
        let given = switched_off().when_from(R2, Command::Protect { vm: vm("web"), replica: address(R2) });
        given.from(OPS).when(start("web")).sent(&[(R1, who_runs()), (R2, who_runs())])
    };
    let ordinal = next(&two());
    let given = two().from(R1).when(yes()).sent(&[]);
    given.from(R2).when(yes()).sent(&[(AGENT, power_on(ordinal, epoch(0, "hq")))]);
    let given = two().from(R1).when(yes()).sent(&[]);
    let given =
        given.from(R2).when(epoch_is(epoch(3, "xx"), false)).sent(&[(AGENT, power_off(ordinal, epoch(3, "xx")))]);
    kept_down(&given, R2, epoch(3, "xx"));
}

#[test]
fn what_was_not_heard_of_is_learned_before_the_start() {
    // The replica failed over by override and undid that again: its right is ours, under a newer epoch than the one known.
    let ordinal = next(&wanted());
    let given = wanted().from(R1).when(epoch_is(epoch(4, "dr"), true));
    let given = given.sent(&[(AGENT, power_on(ordinal, epoch(4, "dr")))]);
    assert_eq!(state(&given).rights[&web()].epoch, epoch(4, "dr"));
    // It has failed over and not undone it: the VM stays down, an operator hears why, and a later start is refused at once.
    let given = wanted().from(R1).when(epoch_is(epoch(3, "dr"), false));
    let given = given.sent(&[(AGENT, power_off(ordinal, epoch(3, "dr")))]);
    kept_down(&given, R1, epoch(3, "dr"));
    let given = given.when_from(AGENT, ended(ordinal, Outcome::Done));
    given.from(OPS).when(start("web")).rejected("FS-HOST-NOT-YOURS");
}

#[test]
fn a_second_start_waits_for_the_same_answer_and_a_stop_ends_the_waiting() {
    wanted().from(OPS).when(start("web")).rejected("FS-HOST-ASKING");
    let given = wanted().from(OPS).when(off()).then(&[Event::QuestionDropped { vm: vm("web") }], &[]);
    let given = given.from(R1).when(yes()).rejected("FS-HOST-NOT-ASKED");
    given.from(OPS).when(off()).rejected("FS-HOST-ALREADY-OFF");
    // A guest that was started by nobody here is stopped, and not started by the answer that comes later.
    let seen = Command::Observed { vm: vm("web"), running: true, at: farshore_schemas::units::Timestamp(1) };
    let given = wanted().when_from(AGENT, seen);
    let ordinal = next(&given);
    let given = given.from(OPS).when(off()).sent(&[(AGENT, power_off(ordinal, epoch(0, "hq")))]);
    given.when_from(AGENT, ended(ordinal, Outcome::Done)).from(R1).when(yes()).rejected("FS-HOST-NOT-ASKED");
}

#[test]
fn a_guest_that_runs_by_then_is_not_started_twice() {
    let seen = Command::Observed { vm: vm("web"), running: true, at: farshore_schemas::units::Timestamp(1) };
    let given = wanted().when_from(AGENT, seen).from(R1).when(yes()).sent(&[]);
    assert!(state(&given).asked.is_empty());
}

#[test]
fn an_override_does_not_wait_and_no_answer_undoes_it() {
    let ordinal = next(&wanted());
    let (given, taken) = forced_here();
    assert!(state(&given).asked.is_empty());
    assert_eq!(next(&given), ordinal + 1);
    given.clone().from(R1).when(yes()).rejected("FS-HOST-NOT-ASKED");
    given.clone().from(R1).when(epoch_is(epoch(0, "hq"), false)).rejected("FS-HOST-EPOCH-OLD");
    given.clone().from(R1).when(epoch_is(epoch(5, "dr"), false)).sent(&[]);
    let given = given.when_from(AGENT, ended(ordinal, Outcome::Done));
    assert_eq!(state(&given).rights[&web()].epoch, taken);
}

#[test]
fn a_protected_vm_may_be_overridden_without_asking_at_all() {
    let given = switched_off();
    let (ordinal, frame) = (next(&given), given.context.frame);
    let taken = Epoch { counter: 1, site: site("hq"), frame };
    given.from(OPS).when(on_by_override()).sent(&[(AGENT, power_on(ordinal, taken))]);
    // Nothing is overridden where nobody is asked.
    let given = listed().from(OPS).when(Command::PowerOn { vm: vm("db"), forced: forced() });
    assert!(given.decision().events.iter().all(|event| !matches!(event, Event::RightForced { .. })));
}

#[test]
fn a_replica_that_never_heard_of_an_override_here_may_agree_or_not() {
    let (given, taken) = off_after_override();
    let given = given.from(OPS).when(start("web")).sent(&[(R1, who_runs())]);
    let ordinal = next(&given);
    given.clone().from(R1).when(yes()).sent(&[(AGENT, power_on(ordinal, taken))]);
    let given = given.from(R1).when(epoch_is(epoch(0, "hq"), false));
    let given = given.then(&[Event::KeptDown { vm: vm("web"), by: address(R1), epoch: epoch(0, "hq") }], &[]);
    kept_down(&given, R1, epoch(0, "hq"));
}

#[test]
fn a_conflict_of_epochs_ends_the_question_with_no() {
    let (given, known) = off_after_override();
    let given = given.when_from(OPS, start("web")).from(R1).when(epoch_is(epoch(1, "dr"), false));
    assert_eq!(refusal_code(&given.decision().sends[0].body), "FS-HOST-EPOCH-CONFLICT");
    let given = given.accepted();
    kept_down(&given, R1, epoch(1, "dr"));
    assert_eq!(state(&given).rights[&web()].epoch, known);
}

fn refusal_code(message: &Message) -> &str {
    let Message::Refused(refused) = message else { panic!("{message:?}") };
    &refused.refusal.code
}

#[test]
fn a_grant_is_a_yes_and_a_release_a_no() {
    let ordinal = next(&wanted());
    let given = wanted().from(R1).when(grant(4, false)).sent(&[(AGENT, power_on(ordinal, epoch(4, "dr")))]);
    assert!(state(&given).asked.is_empty());
    // Its replica starts it: it is started once, for the replica.
    let given = wanted().from(R1).when(grant(4, true)).sent(&[(AGENT, power_on(ordinal, epoch(4, "dr")))]);
    given.from(R1).when(yes()).rejected("FS-HOST-NOT-ASKED");
    // After a return the replica decides whether it runs, not what was before.
    asking().from(R1).when(grant(4, false)).sent(&[]);
    let given = wanted().when_from(R1, release(2));
    kept_down(&given, R1, epoch(2, "dr"));
    given.when_from(AGENT, ended(ordinal, Outcome::Done)).from(R1).when(yes()).rejected("FS-HOST-NOT-ASKED");
}

#[test]
fn a_grant_of_one_replica_does_not_answer_for_another() {
    let given = switched_off().when_from(R2, Command::Protect { vm: vm("web"), replica: address(R2) });
    let given = given.when_from(OPS, start("web")).from(R1).when(grant(4, false)).sent(&[]);
    let awaited: Vec<_> = state(&given).asked[&vm("web")].awaited.iter().cloned().collect();
    assert_eq!(awaited, [address(R2)]);
}

#[test]
fn a_replica_that_lets_go_is_not_waited_for_and_one_that_comes_is() {
    let ordinal = next(&wanted());
    let unprotect = || Command::Unprotect { vm: vm("web") };
    wanted().from(R1).when(unprotect()).sent(&[(AGENT, power_on(ordinal, epoch(0, "hq")))]);
    let protect = || Command::Protect { vm: vm("web"), replica: address(R2) };
    let given = wanted().from(R2).when(protect()).sent(&[(R2, who_runs())]);
    let given = given.from(R2).when(protect()).sent(&[]);
    let given = given.from(R1).when(yes()).sent(&[]);
    given.from(R2).when(unprotect()).sent(&[(AGENT, power_on(ordinal, epoch(0, "hq")))]);
    // After a return a guest is left down when nobody protects it any more, and started when the others have said yes.
    let given = asking().from(R2).when(protect()).sent(&[(R2, who_runs())]);
    let ordinal = next(&given);
    let given = given.from(R1).when(yes()).sent(&[]);
    given.from(R2).when(unprotect()).sent(&[(AGENT, power_on(ordinal, epoch(0, "hq")))]);
    asking().from(R1).when(unprotect()).sent(&[]);
}

#[test]
fn it_is_asked_again_until_it_is_answered_at_longer_and_longer_intervals() {
    let mut given = wanted();
    let asked = given.context.now;
    assert_eq!(state(&given).asked[&vm("web")].again, asked.after(limits::QUESTION));
    let mut waits = Vec::new();
    for _ in 0..6 {
        let before = given.context.now;
        let due = state(&given).asked[&vm("web")].again;
        given.context.now = due;
        let then = given.from(ME).when_input(Input::Wake);
        let again = then.decision().sends.iter().filter(|send| send.body == who_runs()).count();
        assert_eq!(again, 1);
        given = then.accepted();
        waits.push((due.0 - before.0) / 60_000);
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    given.from(R1).when(yes()).accepted();
}

#[test]
fn a_question_that_waits_to_be_delivered_stands_for_the_ones_before() {
    let then = switched_off().from(OPS).when(start("web"));
    assert_eq!(then.decision().sends[0].supersede, Some("who-runs/web".to_owned()));
    assert_eq!(then.decision().sends[0].expires, None);
}

#[test]
fn a_refused_question_is_asked_again_and_shown_until_it_is() {
    let given = wanted().when_input(refused_by(R1, who_runs(), "FS-REPLICA-UNKNOWN")).accepted();
    let question = state(&given).asked[&vm("web")].clone();
    assert_eq!(question.refused, [(address(R1), "FS-REPLICA-UNKNOWN".to_owned())].into());
    let mut given = given.later(limits::QUESTION);
    given.context.now = given.context.now.max(question.again);
    let given = given.from(ME).when_input(Input::Wake).accepted();
    let question = &state(&given).asked[&vm("web")];
    assert!(question.refused.is_empty() && question.awaited.contains(&address(R1)));
}

#[test]
fn a_restart_and_a_return_leave_the_question_as_it_is() {
    let mut given = wanted();
    let question = state(&given).asked.clone();
    let resumed = Host::resume(&given.state, &given.context);
    resumed.events.iter().for_each(|event| Host::evolve(&mut given.state, event));
    assert_eq!(state(&given).asked, question);
    let back = wanted().when_from(MOVER, ready(2));
    let ordinal = next(&back) - 1;
    let down = [facts("web", false), facts("db", false)];
    let back = back.from(AGENT).when(ended(ordinal, inventory(&down, true))).sent(&[]);
    assert_eq!(state(&back).asked, question);
    // A VM that is gone is not asked about any more.
    let gone = wanted().when_from(OPS, Command::Discover);
    let gone = gone.from(AGENT).when(ended(2, inventory(&[facts("db", false)], true))).accepted();
    assert!(state(&gone).asked.is_empty());
}

#[test]
fn what_kept_it_down_is_forgotten_once_it_runs_or_is_asked_about_again() {
    let (given, _) = off_after_override();
    let given = given.when_from(OPS, start("web")).when_from(R1, epoch_is(epoch(0, "hq"), false));
    assert!(!state(&given).kept_down.is_empty());
    assert!(state(&given.clone().when_from(OPS, start("web"))).kept_down.is_empty());
    assert!(state(&given.clone().when_from(OPS, on_by_override())).kept_down.is_empty());
    assert!(state(&given.when_from(R1, grant(7, false))).kept_down.is_empty());
}

#[test]
fn nobody_is_asked_about_a_vm_that_no_replica_protects() {
    let db = start("db");
    let then = protected().from(OPS).when(db);
    assert!(then.decision().sends.iter().all(|send| send.to == address(AGENT)));
    assert!(limits::QUESTION < limits::QUESTION_MOST && limits::WORD > Millis::from_mins(5));
}
