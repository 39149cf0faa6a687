use super::world::*;
use crate::decider::Input;
use crate::replica::{Guest, Phase};
use crate::testing::{address, name, point, vm};
use farshore_schemas::messages::agent::{Outcome, TaskSpec};
use farshore_schemas::messages::plan::{self, Action};
use farshore_schemas::messages::replica::{Command, Event, PointChoice, Rest, Side};
use farshore_schemas::messages::{Message, Override, host, mover};
use farshore_schemas::units::Timestamp;

fn failed_over() -> World {
    World::ready(&[("p1", 100)]).tell(OPS, newest()).settle().stands(Rest::Failover)
}

fn ready_to_switch() -> World {
    failed_over().tell(OPS, Command::Failback).settle().stands(Rest::ReadyToSwitch)
}

fn failed_back() -> World {
    ready_to_switch().tell(OPS, Command::Switch).settle().stands(Rest::Failback)
}

fn step_ended(action: Action) -> Message {
    Message::Plan(plan::Command::StepEnded { replica: name("r1"), action, failure: None })
}

fn yours(world: World, asks: &str) -> (World, u64, bool) {
    let ask = Command::WhoRuns { vm: vm("web"), host: address(asks) };
    let world = world.forget_sent().tell(asks, ask);
    let Some(Message::Host(host::Command::EpochIs { epoch, yours, .. })) = world.sent_to(asks).first().copied() else {
        panic!("not answered: {:?}", world.sent)
    };
    let (counter, yours) = (epoch.counter, *yours);
    (world.forget_sent(), counter, yours)
}

#[test]
fn the_whole_way_there_and_back() {
    let world = failed_back().tell(OPS, Command::CommitFailback).settle().stands(Rest::Ready);
    assert_eq!(world.points(), [point("p1"), crate::naming::commit_point(2, crate::testing::lineage(1))]);
    assert_eq!(world.known().right.holder, Some(Side::Source));
    assert!(world.known().working.is_none());
    world.point("p2", 300).tell(OPS, newest()).settle().stands(Rest::Failover);
}

#[test]
fn the_source_is_told_once_that_it_is_protected() {
    let world = World::new().tell(SESSION, open("p1"));
    let protect = Message::Host(host::Command::Protect { vm: vm("web"), replica: address(ME) });
    assert_eq!(world.sent_to(SOURCE), [&protect]);
    let world = world.tell(SESSION, seal("p1", 1, 7)).settle().tell(SESSION, open("p2"));
    assert!(world.sent_to(SOURCE).is_empty());
}

#[test]
fn the_oldest_points_are_merged_beyond_keep() {
    let world = World::ready(&[("p1", 1), ("p2", 2)]).tell(SESSION, open("p3")).tell(SESSION, seal("p3", 3, 2));
    let forgets = world.sent.iter().any(|send| match &send.body {
        Message::Mover(mover::Command::Assign { spec, .. }) => {
            matches!(spec.as_ref(), TaskSpec::SealReplicaPoint { forget, .. } if *forget == [point("p1")])
        }
        _ => false,
    });
    assert!(forgets);
    assert_eq!(world.settle().points(), [point("p2"), point("p3")]);
}

#[test]
fn a_point_is_not_merged_away_under_a_failover_that_waits_for_it() {
    let wants = Command::Failover { point: PointChoice::Point(point("p1")), forced: None };
    let world = World::ready(&[("p1", 1), ("p2", 2)]).tell(SESSION, open("p3")).tell(OPS, wants);
    let world = world.tell(SESSION, seal("p3", 3, 1)).settle().stands(Rest::Failover);
    assert_eq!(world.points(), [point("p1"), point("p2"), point("p3")]);
    assert_eq!(world.known().working.as_ref().unwrap().point, point("p1"));
}

#[test]
fn a_store_that_holds_other_bytes_has_not_sealed_the_point() {
    let world = World::ready(&[]).tell(SESSION, open("p1")).tell(SESSION, seal("p1", 1, 7));
    let Some(Message::Mover(mover::Command::Assign { task, .. })) = world.sent_to("dr:mover/dr-m").last().copied()
    else {
        panic!("no seal")
    };
    let mut disks = proofs();
    disks[1].checksum = crate::testing::digest(66);
    let outcome = Outcome::PointDurable { stored: farshore_schemas::units::ByteCount(1), disks, immutable: None };
    let ended = Command::TaskEnded { task: task.clone(), outcome };
    let world = world.forget_sent().tell("dr:mover/dr-m", ended);
    assert_eq!(world.sent_to(SESSION).into_iter().find_map(sealed), Some(false));
    assert!(world.settle().stands(Rest::Ready).points().is_empty());
}

#[test]
fn a_point_that_is_given_up_is_rolled_back_until_it_is() {
    let world = World::ready(&[("p1", 1)]).tell(SESSION, open("p2"));
    let world =
        world.refused("dr:session/other", Command::AbandonPoint { point: point("p2") }, "FS-REPLICA-NOT-ITS-POINT");
    let world = world.refused(SESSION, Command::AbandonPoint { point: point("p9") }, "FS-REPLICA-NOT-ITS-POINT");
    let world =
        world.forget_sent().tell(SESSION, Command::AbandonPoint { point: point("p2") }).settle_but(0, How::Badly);
    assert!(matches!(world.known().phase, Phase::Processing(_)), "it is not ready while its store is dirty");
    let world = world.wake().settle().stands(Rest::Ready);
    assert_eq!(world.points(), [point("p1")]);
}

#[test]
fn points_are_chosen_by_name_and_time() {
    let points = [("p1", 100), ("p2", 200), ("p3", 300)];
    let chosen = |choice: PointChoice| {
        let world = World::ready(&points).tell(OPS, Command::Failover { point: choice, forced: None }).settle();
        world.known().working.as_ref().unwrap().point.clone()
    };
    assert_eq!(chosen(PointChoice::Newest), point("p3"));
    assert_eq!(chosen(PointChoice::Point(point("p1"))), point("p1"));
    assert_eq!(chosen(PointChoice::AtOrBefore(Timestamp(299))), point("p2"));
    for choice in [PointChoice::Point(point("p9")), PointChoice::AtOrBefore(Timestamp(99))] {
        World::ready(&points).refused(OPS, Command::Failover { point: choice, forced: None }, "FS-REPLICA-NO-POINT");
    }
    World::ready(&[]).tell(SESSION, open("p1")).refused(OPS, newest(), "FS-REPLICA-NO-POINT");
}

#[test]
fn a_planned_failover_grants_only_after_the_release() {
    let world = World::ready(&[("p1", 1)]).forget_sent().tell(OPS, newest());
    let told: Vec<String> = world.sent.iter().map(|send| send.to.to_string()).collect();
    assert_eq!(told, [SOURCE], "nothing but the release is asked for");
    let world = world.settle().stands(Rest::Failover);
    let at = |wanted: fn(&Event) -> bool| world.events.iter().position(wanted).unwrap();
    assert!(at(|e| matches!(e, Event::SourceReleased)) < at(|e| matches!(e, Event::Granted { .. })));
    assert!(at(|e| matches!(e, Event::Granted { .. })) < at(|e| matches!(e, Event::GuestOn { .. })));
}

#[test]
fn an_override_needs_name_and_reason_and_asks_nobody() {
    for (by, reason) in [("", "fire"), ("ann", " ")] {
        let forced = Some(Override { by: by.into(), reason: reason.into() });
        let command = Command::Failover { point: PointChoice::Newest, forced };
        World::ready(&[("p1", 1)]).refused(OPS, command, "FS-REPLICA-OVERRIDE");
    }
    let world = World::ready(&[("p1", 1)]).forget_sent().tell(OPS, forced()).settle().stands(Rest::Failover);
    assert!(!world.events.contains(&Event::SourceReleased));
    let recorded = |event: &Event| matches!(event, Event::FailoverStarted { request, .. } if request.forced.is_some());
    assert!(world.events.iter().any(recorded));
}

#[test]
fn an_override_takes_the_place_of_a_release_that_does_not_come() {
    let world = World::ready(&[("p1", 1)]).forget_sent().tell(OPS, newest()).forget_sent();
    let world = world.refused(OPS, newest(), "FS-REPLICA-BUSY");
    world.tell(OPS, forced()).settle().stands(Rest::Failover);
}

#[test]
fn a_plan_that_overrides_an_operators_failover_is_answered() {
    let mut world = World::ready(&[("p1", 1)]).forget_sent().tell(OPS, newest()).forget_sent().tell(PLAN, forced());
    let mut answered = 0;
    while let Some(send) = (!world.sent.is_empty()).then(|| world.sent.remove(0)) {
        answered += usize::from(send.body == step_ended(Action::Failover));
        if let Some((from, input)) = answer(&send, How::Well) {
            world = world.input(&from.to_string(), input);
        }
    }
    world.stands(Rest::Failover);
    assert_eq!(answered, 1);
}

#[test]
fn a_release_that_does_not_come_fails_the_failover_which_can_be_undone() {
    let world = World::ready(&[("p1", 1)]).forget_sent().tell(OPS, newest()).forget_sent().wake();
    assert_eq!(world.rests(), (Rest::FailedFailover, Some("FS-REPLICA-TIMEOUT".into())));
    let (world, _, source) = yours(world, SOURCE);
    assert!(!source, "the right is on its way: nobody starts the VM");
    let world = world.tell(OPS, Command::UndoFailover);
    let on = |message: &&Message| matches!(message, Message::Host(host::Command::Grant { power_on: true, .. }));
    assert!(world.sent_to(SOURCE).iter().any(on), "it was asked to stop, so it is started again");
    let (_, _, source) = yours(world.settle().stands(Rest::Ready), SOURCE);
    assert!(source);
}

#[test]
fn undo_after_a_forced_failover_does_not_start_the_source() {
    let world = World::ready(&[("p1", 1)]).forget_sent().tell(OPS, forced()).settle();
    let world = world.tell(OPS, Command::UndoFailover).settle().stands(Rest::Ready);
    let granted = |event: &&Event| matches!(event, Event::Granted { side: Side::Source, .. });
    assert!(matches!(world.events.iter().find(granted), Some(Event::Granted { power_on: false, .. })));
    assert_eq!(world.known().right.epoch.counter, 2);
}

#[test]
fn a_failover_while_a_point_is_made_takes_the_point_back() {
    let world = World::ready(&[("p1", 1)]).tell(SESSION, open("p2")).forget_sent().tell(PLAN, forced());
    assert_eq!(world.sent_to(SESSION).into_iter().find_map(sealed), Some(false));
    let world = world.refused(OPS, forced(), "FS-REPLICA-BUSY");
    let world = world.tell(SESSION, Command::AbandonPoint { point: point("p2") }).settle().stands(Rest::Failover);
    assert_eq!(world.points(), [point("p1")]);
    let late = World::ready(&[("p1", 1)]).tell(SESSION, open("p2")).tell(PLAN, forced()).forget_sent().wake();
    let told = |message: &&Message| matches!(message, Message::Plan(plan::Command::StepEnded { failure: Some(_), .. }));
    assert_eq!(late.sent_to(PLAN).iter().filter(|message| told(message)).count(), 1);
}

#[test]
fn a_plan_is_answered_at_the_end_and_at_once_when_done_already() {
    let mut world = World::ready(&[("p1", 1)]).forget_sent();
    let ways = [
        (Action::Failover, newest()),
        (Action::Failback, Command::Failback),
        (Action::Switch, Command::Switch),
        (Action::Commit, Command::CommitFailback),
    ];
    for (action, command) in ways {
        let done = step_ended(action);
        world = world.tell(PLAN, command.clone());
        let mut answered = 0;
        while let Some(send) = (!world.sent.is_empty()).then(|| world.sent.remove(0)) {
            answered += usize::from(send.body == done);
            if let Some((from, input)) = answer(&send, How::Well) {
                world = world.input(&from.to_string(), input);
            }
        }
        assert_eq!(answered, 1, "{action:?}");
        if action != Action::Commit {
            let again = world.tell(PLAN, command.clone());
            assert_eq!(again.sent_to(PLAN), [&done], "{action:?}");
            world = again.forget_sent().refused(OPS, command, "FS-REPLICA-ALREADY");
        }
    }
    let world = world.tell(PLAN, Command::UndoFailover);
    assert_eq!(world.sent_to(PLAN), [&step_ended(Action::Undo)]);
}

#[test]
fn a_failback_makes_a_production_vm_that_is_gone() {
    let world = failed_over().tell(OPS, Command::Failback);
    let epoch = world.known().right.epoch.clone();
    let gone = |code: &str| Command::PoweredOff {
        host: address(SOURCE),
        mover: name("hq-m"),
        epoch: epoch.clone(),
        failure: Some(failure(code)),
    };
    let world = world.forget_sent().tell(SOURCE, gone("FS-HOST-NO-VM"));
    assert!(matches!(world.sent_to(SOURCE)[0], Message::Host(host::Command::CreateVm { .. })));
    world.settle().stands(Rest::ReadyToSwitch).tell(OPS, Command::Switch).settle().stands(Rest::Failback);
}

#[test]
fn a_failback_can_be_cancelled_and_begun_again() {
    let world = failed_over().tell(OPS, Command::Failback).forget_sent().tell(OPS, Command::UndoFailback);
    assert_eq!(world.rests(), (Rest::Failover, Some("FS-REPLICA-CANCELLED".into())));
    let world = world.tell(OPS, Command::Failback).settle().stands(Rest::ReadyToSwitch);
    world.tell(OPS, Command::UndoFailback).settle().stands(Rest::Failover);
}

#[test]
fn disks_that_differ_after_the_switch_do_not_start_production() {
    let world = ready_to_switch().tell(OPS, Command::Switch);
    let mut world = world;
    let mut spoilt = false;
    while let Some(send) = (!world.sent.is_empty()).then(|| world.sent.remove(0)) {
        let Some((from, mut input)) = answer(&send, How::Well) else { continue };
        if let Input::Command(Command::TaskEnded { outcome: Outcome::DiskReceived { disk, .. }, .. }) = &mut input {
            disk.checksum = crate::testing::digest(99);
            spoilt = true;
        }
        world = world.input(&from.to_string(), input);
    }
    assert!(spoilt);
    assert_eq!(world.rests(), (Rest::ReadyToSwitch, Some("FS-SESSION-CHECKSUM".into())));
    let production = |event: &&Event| matches!(event, Event::Granted { side: Side::Source, .. });
    assert_eq!(world.events.iter().filter(production).count(), 0);
    assert_eq!(world.known().working.as_ref().unwrap().guest, Guest::Off, "it says that the guest here is off");
    world.tell(OPS, Command::Switch).settle().stands(Rest::Failback);
}

#[test]
fn a_switch_that_failed_after_the_guest_was_stopped_can_be_taken_back_with_the_source_out_of_reach() {
    let world = ready_to_switch().tell(OPS, Command::Switch).settle_but(1, How::Refuse);
    assert_eq!(world.rests().0, Rest::ReadyToSwitch);
    let world = world.forget_sent().tell(OPS, Command::UndoFailback);
    assert!(world.sent_to(SOURCE).is_empty(), "production is known to be off");
    world.settle().stands(Rest::Failover);
}

#[test]
fn undoing_a_failback_stops_production_before_it_starts_the_replica() {
    let world = failed_back().forget_sent().tell(OPS, Command::UndoFailback);
    let told: Vec<String> = world.sent.iter().map(|send| send.to.to_string()).collect();
    assert_eq!(told, [SOURCE]);
    let counter = world.known().right.epoch.counter;
    let world = world.settle().stands(Rest::Failover);
    assert_eq!(world.known().right.epoch.counter, counter + 1, "one to stop, one to run");
    let stuck = failed_back().forget_sent().tell(OPS, Command::UndoFailback).forget_sent().wake();
    assert_eq!(stuck.rests(), (Rest::Failback, Some("FS-REPLICA-TIMEOUT".into())));
    assert_eq!(stuck.known().right.holder, Some(Side::Source), "production keeps its right");
    stuck.tell(OPS, forced()).settle().stands(Rest::Failover);
}

#[test]
fn a_guest_that_runs_after_all_ends_what_had_failed() {
    let mut world = World::ready(&[("p1", 1)]).forget_sent().tell(OPS, newest());
    let grant = loop {
        let send = world.sent.remove(0);
        if matches!(send.body, Message::Host(host::Command::Grant { .. })) {
            break send;
        }
        if let Some((from, input)) = answer(&send, How::Well) {
            world = world.input(&from.to_string(), input);
        }
    };
    let world = world.wake();
    assert_eq!(world.rests().0, Rest::FailedFailover);
    let (from, input) = answer(&grant, How::Well).unwrap();
    world.input(&from.to_string(), input).stands(Rest::Failover);
}

#[test]
fn a_replica_can_become_the_production_vm() {
    let world = failed_over().tell(OPS, Command::MakePermanent).settle().stands(Rest::PermanentFailover);
    assert!(world.points().is_empty());
    let (world, _, source) = yours(world, SOURCE);
    let (world, _, here) = yours(world, HERE);
    assert!(!source && here);
    let world = world.refused(SESSION, open("p2"), "FS-REPLICA-PERMANENT");
    let world = world.tell(OPS, Command::Remove).settle().stands(Rest::Removed);
    let (world, _, source) = yours(world, SOURCE);
    assert!(!source, "to forget the replica does not let the old VM run");
    world.refused(SESSION, open("p2"), "FS-REPLICA-RIGHT");
}

#[test]
fn a_replica_that_was_removed_keeps_its_counter() {
    let world = failed_over().tell(OPS, Command::UndoFailover).settle().tell(OPS, Command::Remove);
    let world = world.settle_but(0, How::Badly);
    assert_eq!(world.rests().0, Rest::Ready, "the store could not be deleted");
    let world = world.tell(OPS, Command::Remove).settle().stands(Rest::Removed);
    let world = world.point("p7", 7).tell(OPS, newest()).settle().stands(Rest::Failover);
    assert_eq!(world.known().right.epoch.counter, 3);
}

#[test]
fn what_a_session_opens_must_fit() {
    let change = |change: fn(&mut Command)| {
        let mut command = open("p2");
        change(&mut command);
        command
    };
    let other_disks = change(|command| {
        if let Command::OpenPoint { disks, .. } = command {
            disks.pop();
        }
    });
    let other_host = change(|command| {
        if let Command::OpenPoint { host, .. } = command {
            *host = name("other");
        }
    });
    let other_vm = change(|command| {
        if let Command::OpenPoint { origin, .. } = command {
            origin.vm = vm("db");
        }
    });
    let ready = || World::ready(&[("p1", 1)]);
    ready().refused(SESSION, other_disks, "FS-REPLICA-DISKS");
    ready().refused(SESSION, other_host, "FS-REPLICA-HOST");
    ready().refused(SESSION, other_vm, "FS-REPLICA-VM");
    ready().refused(SESSION, open("p1"), "FS-REPLICA-POINT-EXISTS");
    let bare = Command::SealPoint { point: point("p2"), taken: Timestamp(1), disks: vec![], keep: 1 };
    ready().tell(SESSION, open("p2")).refused(SESSION, bare, "FS-REPLICA-NO-PROOF");
}

/// Each step of each transition fails in turn: it lands in a named state with the reason, and can be taken up again.
#[test]
fn every_step_that_fails_lands_where_it_can_be_taken_up_again() {
    let ways: [(&str, fn() -> World, Command, Rest); 6] = [
        ("failover", || World::ready(&[("p1", 1)]).forget_sent(), newest(), Rest::Failover),
        ("undo", failed_over, Command::UndoFailover, Rest::Ready),
        ("failback", failed_over, Command::Failback, Rest::ReadyToSwitch),
        ("switch", ready_to_switch, Command::Switch, Rest::Failback),
        ("commit", failed_back, Command::CommitFailback, Rest::Ready),
        ("undo failback", failed_back, Command::UndoFailback, Rest::Failover),
    ];
    for (way, begin, command, end) in ways {
        for how in [How::Badly, How::Refuse] {
            for nth in 0.. {
                let world = begin().tell(PLAN, command.clone()).settle_but(nth, how);
                let (rest, why) = world.rests();
                if why.is_none() {
                    assert_eq!(rest, end, "{way}: after the last step");
                    assert!(nth > 0);
                    break;
                }
                let again =
                    if rest == Rest::Ready || rest == end { world } else { world.tell(PLAN, command.clone()).settle() };
                assert_eq!(again.rests().0, end, "{way}, step {nth} {how:?}, from {rest:?}");
            }
        }
    }
}

/// Who may run the VM, asked in every place.
#[test]
fn who_runs_is_answered_everywhere() {
    let failed = || World::ready(&[("p1", 1)]).forget_sent().tell(OPS, newest()).forget_sent().wake();
    let places: [(&str, World, bool, bool); 9] = [
        ("ready", World::ready(&[("p1", 1)]), true, false),
        ("processing", World::ready(&[("p1", 1)]).tell(SESSION, open("p2")), true, false),
        ("releasing", World::ready(&[("p1", 1)]).tell(OPS, newest()), false, false),
        ("failover", failed_over(), false, true),
        ("failed failover", failed(), false, false),
        ("failing back", failed_over().tell(OPS, Command::Failback), false, true),
        ("ready to switch", ready_to_switch(), false, true),
        ("switching", ready_to_switch().tell(OPS, Command::Switch), false, false),
        ("failed back", failed_back(), true, false),
    ];
    for (place, world, source, here) in places {
        let (world, _, source_may) = yours(world, SOURCE);
        let (world, _, here_may) = yours(world, HERE);
        let (_, _, other) = yours(world, "hq:host/other");
        assert_eq!((source_may, here_may, other), (source, here, false), "{place}");
    }
    World::new().refused(SOURCE, Command::WhoRuns { vm: vm("web"), host: address(SOURCE) }, "FS-REPLICA-UNKNOWN");
}

#[test]
fn every_pair_of_state_and_input() {
    let worlds: [(&str, fn() -> World); 11] = [
        ("new", World::new),
        ("ready", || World::ready(&[("p1", 1)])),
        ("receiving", || World::ready(&[("p1", 1)]).tell(SESSION, open("p2"))),
        ("sealing", || World::ready(&[("p1", 1)]).tell(SESSION, open("p2")).tell(SESSION, seal("p2", 2, 7))),
        ("releasing", || World::ready(&[("p1", 1)]).tell(OPS, newest())),
        ("failover", failed_over),
        ("failed failover", || World::ready(&[("p1", 1)]).forget_sent().tell(OPS, newest()).forget_sent().wake()),
        ("ready to switch", ready_to_switch),
        ("failback", failed_back),
        ("permanent", || failed_over().tell(OPS, Command::MakePermanent).settle()),
        ("removed", || World::ready(&[("p1", 1)]).tell(OPS, Command::Remove).settle()),
    ];
    let stale = crate::testing::given::<crate::replica::ReplicaActor>(ME, []).context.task(99);
    let far =
        farshore_schemas::messages::Epoch { counter: 77, site: crate::testing::site("dr"), frame: Default::default() };
    let inputs: Vec<(&str, Command)> = vec![
        ("open", open("p2")),
        ("seal", seal("p2", 2, 7)),
        ("abandon", Command::AbandonPoint { point: point("p2") }),
        ("failover", newest()),
        ("undo", Command::UndoFailover),
        ("failback", Command::Failback),
        ("switch", Command::Switch),
        ("commit", Command::CommitFailback),
        ("undo failback", Command::UndoFailback),
        ("permanent", Command::MakePermanent),
        ("remove", Command::Remove),
        ("who runs", Command::WhoRuns { vm: vm("web"), host: address(SOURCE) }),
        ("released", Command::Released { epoch: far.clone(), failure: None }),
        ("on", Command::PoweredOn { host: address(HERE), epoch: far.clone(), failure: None }),
        ("off", Command::PoweredOff { host: address(HERE), mover: name("m"), epoch: far, failure: None }),
        (
            "slot",
            Command::SlotGranted {
                slot: name("x"),
                mover: name("m"),
                endpoint: crate::testing::endpoint("hq/m"),
                reasons: vec![],
            },
        ),
        ("prepared", Command::ReadPrepared { vm: vm("r1"), snapshot: name("s"), disks: facts(), taken: Timestamp(1) }),
        ("host failed", Command::HostFailed { vm: vm("web"), failure: failure("FS-X") }),
        ("created", Command::VmCreated { vm: vm("web") }),
        ("task", Command::TaskEnded { task: stale, outcome: Outcome::Done }),
    ];
    // open seal abandon failover undo failback switch commit undo-failback permanent remove who-runs; the answers below.
    let table: [[&str; 12]; 11] = [
        [
            "ok", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN",
            "UNKNOWN", "UNKNOWN",
        ],
        [
            "ok",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "ok",
            "ALREADY",
            "STATE",
            "STATE",
            "ALREADY",
            "STATE",
            "STATE",
            "ok",
            "ok",
        ],
        ["BUSY", "ok", "ok", "ok", "BUSY", "BUSY", "BUSY", "BUSY", "BUSY", "BUSY", "BUSY", "ok"],
        ["BUSY", "SEALING", "SEALING", "ok", "BUSY", "BUSY", "BUSY", "BUSY", "BUSY", "BUSY", "BUSY", "ok"],
        [
            "BUSY",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "BUSY",
            "BUSY",
            "BUSY",
            "BUSY",
            "BUSY",
            "BUSY",
            "BUSY",
            "BUSY",
            "ok",
        ],
        [
            "BUSY",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "ALREADY",
            "ok",
            "ok",
            "STATE",
            "STATE",
            "ALREADY",
            "ok",
            "STATE",
            "ok",
        ],
        [
            "BUSY",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "ok",
            "ok",
            "STATE",
            "STATE",
            "STATE",
            "STATE",
            "STATE",
            "STATE",
            "ok",
        ],
        [
            "BUSY",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "ALREADY",
            "STATE",
            "ALREADY",
            "ok",
            "STATE",
            "ok",
            "STATE",
            "STATE",
            "ok",
        ],
        [
            "BUSY",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "ALREADY",
            "STATE",
            "ALREADY",
            "ALREADY",
            "ok",
            "ok",
            "STATE",
            "STATE",
            "ok",
        ],
        [
            "PERMANENT",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "ALREADY",
            "STATE",
            "STATE",
            "STATE",
            "STATE",
            "STATE",
            "ALREADY",
            "ok",
            "ok",
        ],
        [
            "ok",
            "NOT-ITS-POINT",
            "NOT-ITS-POINT",
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
            "ok",
        ],
    ];
    for ((place, world), row) in worlds.iter().zip(table) {
        for (at, (input, command)) in inputs.iter().enumerate() {
            let from = if at < 3 { SESSION } else { OPS };
            let got = world().given.from(from).when(command.clone()).outcome().replace("FS-REPLICA-", "");
            // Answers that nobody waits for, under an epoch and by parties that were not asked.
            let answers = if *place == "new" {
                "UNKNOWN"
            } else if *input == "task" {
                "NO-TASK"
            } else {
                "STALE"
            };
            let want = row.get(at).copied().unwrap_or(answers);
            assert_eq!(got, want, "{place} x {input}");
        }
        let outcome = world().given.from(ME).when_input(Input::Wake).outcome();
        assert_eq!(outcome, "ok", "{place} x wake");
        let refused = farshore_schemas::messages::Refused {
            by: address(SOURCE),
            message: Message::Host(host::Command::Unprotect { vm: vm("web") }),
            refusal: farshore_schemas::messages::Refusal {
                code: "FS-X".into(),
                message: "m".into(),
                advice: "a".into(),
            },
        };
        let outcome = world().given.from(SOURCE).when_input(Input::Refused(refused)).outcome();
        assert_eq!(outcome, "FS-REPLICA-STALE", "{place} x refused");
    }
}
