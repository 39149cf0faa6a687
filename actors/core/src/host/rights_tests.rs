//! P5 at the host: who may run what, and what follows.

use super::tests::*;
use super::{Holder, Host, State};
use crate::decider::Decider;
use crate::testing::*;
use farshore_schemas::messages::agent::{Outcome, TaskSpec};
use farshore_schemas::messages::host::{Command, Event, StopAsker, VmFacts, Work};
use farshore_schemas::messages::{Message, replica};
use farshore_schemas::units::Timestamp;

fn who_runs() -> Message {
    Message::Replica(replica::Command::WhoRuns { vm: vm("web"), host: address(ME) })
}

fn refusal(given: &crate::decider::Decision<Event>) -> String {
    let Message::Refused(refused) = &given.sends[0].body else { panic!("{given:?}") };
    refused.refusal.code.clone()
}

#[test]
fn a_release_stops_the_guest_under_the_next_epoch_and_is_answered_once_it_is_off() {
    let given = protected().from(R1).when(release(2)).sent(&[(AGENT, power_off(1, epoch(2, "dr")))]);
    assert_eq!(state(&given).rights[&web()].holder, Holder::Elsewhere);
    let told = replica::Command::Released { epoch: epoch(2, "dr"), failure: None };
    let given = given.from(AGENT).when(ended(1, Outcome::Done)).sent(&[(R1, Message::Replica(told))]);
    assert!(!state(&given).inventory[&vm("web")].running);
}

#[test]
fn a_guest_that_cannot_be_stopped_is_reported_and_still_counts_as_running() {
    let given = protected().when_from(R1, release(2));
    let told = replica::Command::Released { epoch: epoch(2, "dr"), failure: Some(failure()) };
    let given = given.from(AGENT).when(ended(1, failed())).sent(&[(R1, Message::Replica(told))]);
    assert!(state(&given).inventory[&vm("web")].running);
}

#[test]
fn a_grant_powers_on_under_its_epoch_and_is_answered() {
    let ordinal = next(&released());
    let given = released().from(R1).when(grant(3, true)).sent(&[(AGENT, power_on(ordinal, epoch(3, "dr")))]);
    let told = replica::Command::PoweredOn { host: address(ME), epoch: epoch(3, "dr"), failure: None };
    let given = given.from(AGENT).when(ended(ordinal, Outcome::Done)).sent(&[(R1, Message::Replica(told))]);
    assert!(state(&given).inventory[&vm("web")].running);
    released().from(R1).when(grant(3, false)).sent(&[]).when(grant(3, true)).accepted();
}

#[test]
fn a_working_vm_that_no_listing_has_shown_is_granted_started_and_then_listed() {
    let origin = vm_ref("dr/h9/shop");
    let fence = || Some((origin.clone(), epoch(1, "dr")));
    let shop = Command::Grant { vm: vm("shop"), origin: origin.clone(), epoch: epoch(1, "dr"), power_on: true };
    let on = run(1, fence(), TaskSpec::PowerOn { host: name("h1"), vm: vm("shop") });
    let given = listed().from(R1).when(shop).sent(&[(AGENT, on)]);
    let then = given.from(AGENT).when(ended(1, Outcome::Done));
    let discovers = |event: &Event| matches!(event, Event::Ordered { work: Work::Discover, .. });
    assert!(then.decision().events.iter().any(discovers));
    let given = then.accepted();
    assert_eq!(state(&given).inventory[&vm("shop")].origin, Some(origin.clone()));
    let read = given.from(R1).when(Command::PrepareRead { vm: vm("shop") });
    let fenced = |event: &Event| matches!(event, Event::Ordered { order, .. } if order.fence == fence());
    assert!(read.decision().events.iter().any(fenced));
}

#[test]
fn stop_guest_is_done_for_a_vm_that_is_gone_too() {
    let given = listed().when_from(OPS, Command::Discover).when_from(AGENT, ended(1, inventory(&[], true)));
    let given = given.from(R1).when(stop_guest(2)).sent(&[(AGENT, power_off(2, epoch(2, "dr")))]);
    let told =
        replica::Command::PoweredOff { host: address(ME), mover: name("m1"), epoch: epoch(2, "dr"), failure: None };
    given.from(AGENT).when(ended(2, Outcome::Done)).sent(&[(R1, Message::Replica(told))]);
}

#[test]
fn a_lower_epoch_is_refused_whatever_brings_it() {
    for old in [release(1), grant(1, false), stop_guest(1), epoch_is(epoch(1, "dr"), false)] {
        released().from(R1).when(old).rejected("FS-HOST-EPOCH-OLD");
    }
}

#[test]
fn an_equal_epoch_of_another_site_is_a_conflict_that_changes_nothing() {
    let other = || epoch(2, "xx");
    let inputs = [
        Command::Release { vm: vm("web"), epoch: other() },
        Command::Grant { vm: vm("web"), origin: web(), epoch: other(), power_on: true },
        Command::StopGuest { vm: vm("web"), origin: web(), epoch: other() },
        epoch_is(other(), false),
    ];
    for input in inputs {
        let before = released();
        let then = before.clone().from("xx:replica/r9").when(input);
        let (known, by) = (epoch(2, "dr"), address("xx:replica/r9"));
        let event = Event::EpochConflict { origin: web(), known, offered: other(), by };
        assert_eq!(then.decision().events, [event]);
        assert_eq!(refusal(then.decision()), "FS-HOST-EPOCH-CONFLICT");
        assert_eq!(then.accepted().state, before.state);
    }
}

#[test]
fn the_same_epoch_of_the_same_site_may_come_again() {
    released().when_from(R1, release(2)).when_from(R1, stop_guest(2)).when_from(R1, grant(2, true));
}

#[test]
fn epochs_outlive_the_definition() {
    let gone = released().when_from(R1, Command::Unprotect { vm: vm("web") }).when_from(OPS, Command::Remove);
    let State::Undefined { rights, next_order } = &gone.state else { panic!("removed") };
    assert_eq!((rights[&web()].epoch.counter, *next_order), (2, 2));
    let back = gone.when_from(OPS, Command::Define(spec("/vms")));
    back.from(R1).when(grant(1, true)).rejected("FS-HOST-EPOCH-OLD");
}

#[test]
fn an_operator_starts_only_what_may_run_here() {
    let ordinal = next(&released());
    released().from(OPS).when(start("web")).rejected("FS-HOST-NOT-YOURS");
    let db = vm_ref("hq/h1/db");
    let on = TaskSpec::PowerOn { host: name("h1"), vm: vm("db") };
    released().from(OPS).when(start("db")).sent(&[(AGENT, run(ordinal, Some((db, epoch(0, "hq"))), on))]);
}

#[test]
fn an_override_takes_the_next_epoch_in_this_sites_name_and_is_in_the_log() {
    let given = released();
    let (ordinal, frame) = (next(&given), given.context.frame);
    let then = given.clone().from(OPS).when(Command::PowerOn { vm: vm("web"), forced: forced() });
    let taken = farshore_schemas::messages::Epoch { counter: 3, site: site("hq"), frame };
    let event = Event::RightForced { vm: vm("web"), origin: web(), epoch: taken.clone(), forced: forced().unwrap() };
    assert_eq!(then.decision().events[0], event);
    let after = then.sent(&[(AGENT, power_on(ordinal, taken))]);
    after.from(R1).when(grant(2, true)).rejected("FS-HOST-EPOCH-OLD");
    let blank = forced().map(|it| farshore_schemas::messages::Override { reason: " ".to_owned(), ..it });
    given.from(OPS).when(Command::PowerOn { vm: vm("web"), forced: blank }).rejected("FS-HOST-NO-REASON");
}

#[test]
fn a_restored_vm_that_stands_for_another_does_not_run_beside_it() {
    let restored = VmFacts { origin: Some(web()), ..facts("web-old", false) };
    let given = listed().when_from(OPS, Command::Discover);
    let given = given.when_from(AGENT, ended(1, inventory(&[facts("web", true), restored], true)));
    given.from(OPS).when(start("web-old")).rejected("FS-HOST-NOT-YOURS");
}

#[test]
fn a_grant_must_name_what_the_vm_stands_for() {
    let other = Command::Grant { vm: vm("web"), origin: vm_ref("dr/h9/x"), epoch: epoch(1, "dr"), power_on: true };
    listed().from(R1).when(other).rejected("FS-HOST-OTHER-ORIGIN");
}

#[test]
fn a_protected_guest_found_down_after_a_return_is_asked_about_and_not_started() {
    let back = protected().when_from(MOVER, ready(1));
    let down = [facts("web", false), facts("db", false)];
    let given = back.from(AGENT).when(ended(1, inventory(&down, true))).sent(&[(R1, who_runs())]);
    given.from(OPS).when(start("web")).rejected("FS-HOST-ASKING");
}

#[test]
fn the_agents_own_report_during_a_return_is_asked_about_too() {
    let back = protected().when_from(MOVER, ready(1));
    let seen = Command::Observed { vm: vm("web"), running: false, at: Timestamp(1) };
    let given = back.from(AGENT).when(seen.clone()).sent(&[(R1, who_runs())]);
    // The listing that follows finds nothing new, and asks nobody twice.
    given.from(AGENT).when(ended(1, inventory(&[facts("web", false), facts("db", false)], true))).sent(&[]);
    // Without a return it is somebody's wish, and stays as it is.
    protected().from(AGENT).when(seen).sent(&[]);
}

#[test]
fn a_restart_of_the_sites_control_is_a_return_as_well() {
    let given = protected();
    let resumed = Host::resume(&given.state, &given.context);
    assert_eq!(resumed.events[0], Event::ReturnBegan);
    let mut given = given;
    resumed.events.iter().for_each(|event| Host::evolve(&mut given.state, event));
    assert!(state(&given).returning);
    // Nothing is owed by a host whose agent has not come, or that is not defined.
    assert!(Host::resume(&defined().state, &given.context).is_empty());
    assert!(Host::resume(&State::default(), &given.context).is_empty());
    // A listing under way is not ordered twice.
    assert!(Host::resume(&given.state, &given.context).sends.is_empty());
}

#[test]
fn a_guest_that_no_replica_protects_is_left_as_found() {
    let back = listed().when_from(MOVER, ready(1));
    back.from(AGENT).when(ended(1, inventory(&[facts("web", false), facts("db", false)], true))).sent(&[]);
}

#[test]
fn epoch_is_yours_starts_the_guest_again_once_every_replica_has_said_so() {
    let one = asking();
    let ordinal = next(&one);
    one.from(R1).when(epoch_is(epoch(0, "hq"), true)).sent(&[(AGENT, power_on(ordinal, epoch(0, "hq")))]);
    let r2 = "xx:replica/r2";
    let two = protected().when_from(r2, Command::Protect { vm: vm("web"), replica: address(r2) });
    let two = two.when_from(MOVER, ready(1));
    let down = [facts("web", false), facts("db", false)];
    let two = two.from(AGENT).when(ended(1, inventory(&down, true))).sent(&[(R1, who_runs()), (r2, who_runs())]);
    let two = two.from(R1).when(epoch_is(epoch(0, "hq"), true)).sent(&[]);
    two.from(r2).when(epoch_is(epoch(0, "hq"), true)).sent(&[(AGENT, power_on(ordinal, epoch(0, "hq")))]);
}

#[test]
fn epoch_is_not_yours_keeps_it_down_and_raises_its_fence() {
    let given = asking();
    let ordinal = next(&given);
    let given = given.from(R1).when(epoch_is(epoch(2, "dr"), false));
    let given = given.sent(&[(AGENT, power_off(ordinal, epoch(2, "dr")))]);
    let Work::Stop { asker, .. } = &state(&given).orders.open[&ordinal].work else { panic!() };
    assert_eq!(*asker, StopAsker::Nobody);
    let given = given.from(AGENT).when(ended(ordinal, Outcome::Done)).sent(&[]);
    given.from(OPS).when(start("web")).rejected("FS-HOST-NOT-YOURS");
}

#[test]
fn an_answer_alone_never_stops_a_guest_that_runs() {
    protected().from(R1).when(epoch_is(epoch(2, "dr"), false)).sent(&[]);
}

#[test]
fn a_refused_question_stays_open_and_an_unprotected_vm_is_left_down() {
    let given = asking().when_input(refused_by(R1, who_runs(), "FS-REPLICA-UNKNOWN")).accepted();
    let given = given.from(OPS).when(start("web")).rejected("FS-HOST-ASKING");
    let given = given.from(R1).when(Command::Unprotect { vm: vm("web") }).sent(&[]);
    given.from(OPS).when(start("web")).accepted();
}

#[test]
fn a_guest_seen_running_without_the_right_is_an_alarm() {
    let at = Timestamp(9);
    let seen = |running| Command::Observed { vm: vm("web"), running, at };
    let event = |running, right| Event::GuestObserved { vm: vm("web"), running, at, right };
    released().from(AGENT).when(seen(true)).then(&[event(true, false)], &[]);
    protected().from(AGENT).when(seen(true)).then(&[event(true, true)], &[]);
}

#[test]
fn a_restore_makes_a_vm_and_never_writes_over_one() {
    let create = Command::CreateVm { vm: vm("new"), disks: disks(), origin: web() };
    let spec = TaskSpec::CreateVm { host: name("h1"), vm: vm("new"), disks: disks(), origin: web() };
    let order = run(1, Some((web(), epoch(0, "hq"))), spec);
    let given = listed().from(S2).when(create.clone()).sent(&[(AGENT, order)]);
    let given = given.from(S2).when(create.clone()).rejected("FS-HOST-VM-BEING-MADE");
    let given = given.when_from(AGENT, ended(1, Outcome::Done));
    assert_eq!(state(&given).inventory[&vm("new")].origin, Some(web()));
    given.from(S2).when(create).rejected("FS-HOST-VM-EXISTS");
}

#[test]
fn a_replica_wants_the_production_vm_to_be_there_and_as_it_was() {
    let told = replica::Command::VmCreated { vm: vm("web") };
    let create = |disks| Command::CreateVm { vm: vm("web"), disks, origin: web() };
    released().from(R1).when(create(disks())).sent(&[(R1, Message::Replica(told))]);
    released().from(R1).when(create(Vec::new())).rejected("FS-HOST-VM-EXISTS");
}

/// The agent knows an epoch of `dr` for the web VM.
pub(super) fn agent_epochs(counter: u64) -> Command {
    Command::AgentEpochs { epochs: vec![(web(), epoch(counter, "dr"))] }
}

#[test]
fn what_the_agent_knows_and_this_log_has_forgotten_stands_and_is_held_by_nobody_here() {
    for before in [protected(), listed()] {
        let told = before.from(AGENT).when(agent_epochs(2));
        let recalled = told.then(&[Event::EpochsRecalled { epochs: vec![(web(), epoch(2, "dr"))] }], &[]);
        // The guest runs on; what is known already says nothing new.
        assert!(state(&recalled).inventory[&vm("web")].running);
        let recalled = recalled.from(AGENT).when(agent_epochs(2)).then(&[], &[]);
        let off = recalled.when_from(OPS, Command::PowerOff { vm: vm("web") });
        let ordinal = next(&off) - 1;
        let off = off.when_from(AGENT, ended(ordinal, Outcome::Done));
        let off = off.from(OPS).when(start("web")).rejected("FS-HOST-NOT-YOURS");
        off.from(OPS).when(Command::PowerOn { vm: vm("web"), forced: forced() }).accepted();
    }
}

#[test]
fn after_a_recall_an_older_right_is_refused_and_a_newer_grant_is_taken() {
    let recalled = || protected().when_from(AGENT, agent_epochs(2));
    recalled().from(R1).when(grant(1, false)).rejected("FS-HOST-EPOCH-OLD");
    let granted = recalled().when_from(R1, grant(3, false));
    assert!(state(&granted).may_run(&vm("web"), &granted.context));
}
