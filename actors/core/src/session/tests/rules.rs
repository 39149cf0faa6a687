use super::world::*;
use crate::decider::{Input, Send};
use crate::naming::{point_id, replica_name};
use crate::testing::{address, digest, name, point, vm, vm_ref};
use SessionResult::{Failed, Success, Warning};
use farshore_schemas::messages::agent::{DiskSink, Failure, Outcome, TaskSpec};
use farshore_schemas::messages::session::{Command, Event, SessionState};
use farshore_schemas::messages::{Message, Refusal, Refused, SessionResult, broker, host, mover, replica, repository};
use farshore_schemas::units::{ByteCount, Timestamp};

fn code(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn is_commit(send: &Send) -> bool {
    matches!(&send.body, Message::Repository(repository::Command::CommitPoint { .. }))
}

fn is_assign(send: &Send) -> bool {
    matches!(&send.body, Message::Mover(mover::Command::Assign { .. }))
}

#[test]
fn a_backup_of_a_host_protects_every_vm() {
    let world = World::begun(backup(&[]), None).well();
    let vms: Vec<String> = ["db", "mail", "web"].iter().map(|vm| format!("dr/drx/{vm}")).collect();
    assert_eq!(world.ended(), (Success, vms, None));
    assert_eq!(world.run().shown(), SessionState::Stopped);
    assert_eq!(world.run().stored(), ByteCount(120));
    assert_eq!(world.run().moved.read, ByteCount(6 * 9));
    let opened = |send: &&Send| matches!(&send.body, Message::Repository(repository::Command::OpenAccess { .. }));
    assert_eq!(world.all.iter().filter(opened).count(), 1, "one access per session");
}

#[test]
fn an_incremental_takes_the_newest_usable_point_as_parent() {
    let world = World::begun(backup(&["web"]), None).well();
    let parents: Vec<_> = world
        .specs()
        .into_iter()
        .map(|spec| match spec {
            TaskSpec::BackupDisk { parent, point, .. } => (parent.clone(), point.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let made = point_id(&name("nightly-1"), &vm_ref("dr/drx/web"), (crate::testing::lineage(1), 1));
    assert_eq!(parents, [(Some(point("newer")), made.clone()), (Some(point("newer")), made)]);
}

#[test]
fn a_replication_names_three_movers_and_proves_each_disk() {
    let world = World::begun(replication(&["web"]), None).well();
    assert_eq!(world.ended(), (Success, vec!["hq/esx/web".into()], None));
    let replica = replica_name(&name("nightly"), &vm_ref("hq/esx/web"));
    let receives = world.specs().into_iter().filter(|spec| {
        matches!(spec, TaskSpec::ReceiveDisk { sink: DiskSink::ReplicaStore { replica: of, .. }, .. } if *of == replica)
    });
    assert_eq!(receives.count(), 2);
    let sends = world.specs().into_iter().filter(|spec| {
        matches!(spec, TaskSpec::SendDisk { digests: Some(store), .. } if store.base == Some(point("base")) && store.replica == replica)
    });
    assert_eq!(sends.count(), 2);
    let movers: Vec<String> = world.all.iter().filter(|send| is_assign(send)).map(|send| send.to.to_string()).collect();
    assert_eq!(movers, ["dr:mover/dr-m", "hq:mover/hq-m", "dr:mover/dr-m", "hq:mover/hq-m"]);
    let moved = world.run().moved;
    assert_eq!((moved.read, moved.written), (ByteCount(18), ByteCount(12)), "each byte is counted at one end");
}

#[test]
fn a_restore_makes_a_new_vm_and_compares_it_with_the_point() {
    let world = World::begun(restore(), None).well();
    assert_eq!(world.ended(), (Success, vec![], None), "a restore protects nothing");
    let order: Vec<&str> = world
        .all
        .iter()
        .filter_map(|send| match &send.body {
            Message::Host(host::Command::ListVms { .. }) => Some("list"),
            Message::Broker(broker::Command::RequestSlot { .. }) => Some("slot"),
            Message::Repository(repository::Command::OpenAccess { .. }) => Some("access"),
            Message::Host(host::Command::CreateVm { .. }) => Some("create"),
            Message::Mover(_) => Some("restore"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["list", "slot", "access", "create", "restore", "restore"]);
}

/// Answers everything well, but changes the outcome of some tasks.
fn with_outcomes(mut world: World, change: impl Fn(&mut Outcome)) -> World {
    while !world.sent.is_empty() {
        let send = world.sent.remove(0);
        if !unreleased(&send) || matches!(&send.body, Message::Mover(mover::Command::Cancel { .. })) {
            continue;
        }
        let Some((from, mut input)) = answer(&send, How::Well) else { continue };
        if let Input::Command(Command::TaskEnded { outcome, .. }) = &mut input {
            change(outcome);
        }
        world = world.input(&from.to_string(), input);
    }
    world
}

#[test]
fn a_restored_disk_that_differs_is_not_a_success() {
    let world = with_outcomes(World::begun(restore(), None), |outcome| {
        if let Outcome::DiskRestored { disk, .. } = outcome {
            disk.checksum = digest(77);
        }
    });
    assert_eq!(world.ended(), (Failed, vec![], code("FS-SESSION-CHECKSUM")));
}

#[test]
fn a_replica_disk_that_differs_is_not_sealed() {
    let world = with_outcomes(World::begun(replication(&["web"]), None), |outcome| {
        if let Outcome::DiskReceived { disk, .. } = outcome {
            disk.checksum = digest(77);
        }
    });
    assert_eq!(world.ended(), (Failed, vec![], code("FS-SESSION-CHECKSUM")));
    let given_up = |send: &&Send| matches!(&send.body, Message::Replica(replica::Command::AbandonPoint { .. }));
    let sealed = |send: &&Send| matches!(&send.body, Message::Replica(replica::Command::SealPoint { .. }));
    assert_eq!((world.all.iter().filter(given_up).count(), world.all.iter().filter(sealed).count()), (1, 0));
}

#[test]
fn a_task_without_its_proof_is_a_failure() {
    let world = with_outcomes(World::begun(backup(&["web"]), None), |outcome| *outcome = Outcome::Done);
    assert_eq!(world.ended(), (Failed, vec![], code("FS-SESSION-NO-PROOF")));
}

#[test]
fn a_vm_that_is_not_there_fails_and_the_others_are_protected() {
    let world = World::begun(backup(&["web", "ghost"]), None).well();
    assert_eq!(world.ended(), (Failed, vec!["dr/drx/web".into()], code("FS-SESSION-NO-VM")));
    assert_eq!(world.vm("web").0, Success);
}

#[test]
fn a_busy_replica_is_skipped_with_a_warning_and_not_retried() {
    let busy = |send: &Send| match &send.body {
        Message::Replica(replica::Command::OpenPoint { origin, .. }) if origin.vm == vm("db") => None,
        _ => unreleased(send).then_some(How::Well),
    };
    let world = World::begun(replication(&["web", "db"]), Some(3)).settle(busy);
    let open = world.all.iter().find(|send| {
        matches!(&send.body, Message::Replica(replica::Command::OpenPoint { origin, .. }) if origin.vm == vm("db"))
    });
    let send = open.unwrap().clone();
    let refusal = Refusal { code: "FS-REPLICA-BUSY".into(), message: "busy".into(), advice: "wait".into() };
    let refused = Refused { by: send.to.clone(), message: send.body, refusal };
    let world = world.input(&send.to.to_string(), Input::Refused(refused));
    assert_eq!(world.ended(), (Warning, vec!["hq/esx/web".into()], code("FS-REPLICA-BUSY")));
}

#[test]
fn failed_vms_are_tried_again_in_the_same_session() {
    let mut spoilt = 0;
    let world = World::begun(backup(&["web", "db"]), Some(2)).settle(|send| {
        let web = matches!(&send.body, Message::Repository(repository::Command::CommitPoint { vm, .. }) if vm.vm == crate::testing::vm("web"));
        spoilt += usize::from(web);
        Some(if web { How::Badly } else { How::Well }).filter(|_| unreleased(send))
    });
    assert_eq!(spoilt, 1);
    assert_eq!(world.run().shown(), SessionState::RetryWait);
    let world = world.wake().well();
    assert_eq!(world.ended(), (Success, vec!["dr/drx/db".into(), "dr/drx/web".into()], None));
    let asked = |send: &&Send| is_commit(send);
    assert_eq!(world.all.iter().filter(asked).count(), 3, "only the one that failed was tried again");
}

#[test]
fn retries_come_to_an_end_and_a_run_by_hand_has_none() {
    let never = |send: &Send| unreleased(send).then_some(if is_commit(send) { How::Refuse } else { How::Well });
    let mut world = World::begun(backup(&["web"]), Some(2)).settle(never);
    for _ in 0..2 {
        world = world.wake().settle(never);
    }
    assert_eq!(world.ended(), (Failed, vec![], code("FS-TEST-NO")));
    assert_eq!(World::begun(backup(&["web"]), None).settle(never).ended().0, Failed);
}

#[test]
fn hosts_that_do_not_answer_are_asked_again_then_given_up() {
    let silent = |_: &Send| None;
    let world = World::begun(replication(&["web"]), Some(1)).settle(silent).wake();
    assert_eq!(world.run().shown(), SessionState::RetryWait);
    let world = world.wake().settle(silent).wake();
    assert_eq!(world.ended(), (Failed, vec![], code("FS-SESSION-TIMEOUT")));
    let world = World::begun(replication(&["web"]), Some(1)).settle(silent).wake().wake().well();
    assert_eq!(world.ended().0, Success);
}

#[test]
fn a_host_without_vms_is_a_warning() {
    let world = World::begun(backup(&[]), None);
    let world = world.input("dr:host/drx", Input::Command(Command::VmsListed { mover: name("m"), vms: vec![] }));
    assert_eq!(world.ended(), (Warning, vec![], code("FS-SESSION-NO-VMS")));
}

#[test]
fn a_restore_never_writes_over_a_vm() {
    let work = match restore() {
        farshore_schemas::messages::job::Work::Restore { repository, point, origin, host, .. } => {
            farshore_schemas::messages::job::Work::Restore { repository, point, origin, host, vm: vm("web") }
        }
        other => other,
    };
    assert_eq!(World::begun(work, None).well().ended(), (Failed, vec![], code("FS-SESSION-VM-EXISTS")));
}

#[test]
fn silence_anywhere_comes_to_an_end() {
    for work in [backup(&["web", "db"]), replication(&["web", "db"]), restore()] {
        for silent_from in 0..30 {
            let mut count = 0;
            let mut world = World::begun(work.clone(), None).settle(|send| {
                count += 1;
                (count <= silent_from && unreleased(send)).then_some(How::Well)
            });
            let mut wakes = 0;
            while world.run().result() == SessionResult::None {
                world = world.wake();
                wakes += 1;
                assert!(wakes < 20, "it hangs");
            }
            world.ended();
        }
    }
}

#[test]
fn every_answer_that_is_bad_ends_its_vm_and_lets_go() {
    for work in [backup(&["web", "db"]), replication(&["web", "db"]), restore()] {
        for how in [How::Badly, How::Refuse] {
            for nth in 0.. {
                let mut count = 0;
                let world = World::begun(work.clone(), None).settle(|send| {
                    unreleased(send).then(|| {
                        count += 1;
                        if count == nth + 1 { how } else { How::Well }
                    })
                });
                let (result, _, failure) = world.ended();
                if result == Success {
                    assert!(count <= nth && nth > 5);
                    break;
                }
                assert!(failure.is_some(), "{nth} {how:?}");
            }
        }
    }
}

#[test]
fn a_stop_cancels_what_moves_waits_for_it_and_lets_go() {
    let world = World::begun(backup(&["web"]), Some(3)).settle(|send| (!is_assign(send)).then_some(How::Well));
    let tasks: Vec<Send> = world.all.iter().filter(|send| is_assign(send)).cloned().collect();
    assert_eq!(tasks.len(), 2);
    let world = world.input(JOB, Input::Command(Command::Stop));
    assert_eq!(world.run().shown(), SessionState::Stopping);
    let released = |world: &World| {
        world.all.iter().any(|send| matches!(&send.body, Message::Broker(broker::Command::ReleaseSlot { .. })))
    };
    assert!(!released(&world), "the slot is held until the tasks have ended");
    let world = world.refused(JOB, Command::Stop, "FS-SESSION-STOPPING").well();
    assert_eq!(world.ended(), (Failed, vec![], code("FS-SESSION-STOPPED")));
}

#[test]
fn a_stop_waits_for_a_point_that_is_about_to_be_proven() {
    let world = World::begun(backup(&["web"]), None).settle(|send| (!is_commit(send)).then_some(How::Well));
    assert_eq!(world.run().shown(), SessionState::Postprocessing);
    let world = world.input(JOB, Input::Command(Command::Stop));
    let point = world.run().vms[&vm("web")].point.clone();
    let world =
        world.input("dr:repository/repo", Input::Command(Command::PointCommitted { point, stored: ByteCount(1) }));
    assert_eq!(world.ended(), (Failed, vec!["dr/drx/web".into()], code("FS-SESSION-STOPPED")));
}

#[test]
fn cancelled_tasks_that_never_end_are_left_behind() {
    let world = World::begun(backup(&["web"]), None).settle(|send| (!is_assign(send)).then_some(How::Well));
    let world = world.input(JOB, Input::Command(Command::Stop)).settle(|_| None).wake();
    assert_eq!(world.ended().0, Failed);
    let Message::Mover(mover::Command::Assign { task, .. }) =
        &world.all.iter().find(|send| is_assign(send)).unwrap().body
    else {
        unreachable!()
    };
    let late = Command::TaskEnded { task: task.clone(), outcome: Outcome::Cancelled };
    world.refused("dr:mover/dr-m", late, "FS-SESSION-ENDED");
}

#[test]
fn a_point_that_the_replica_takes_back_is_given_up() {
    let world = World::begun(replication(&["web"]), None).settle(|send| (!is_assign(send)).then_some(How::Well));
    let replica = world.run().vms[&vm("web")].replica.clone().unwrap();
    let failure =
        Failure { code: "FS-REPLICA-REVOKED".into(), message: "m".into(), advice: "a".into(), transient: false };
    let sealed = Command::PointSealed { replica: replica.clone(), sealed: Err(failure) };
    let world = world.input(&replica.to_string(), Input::Command(sealed)).well();
    assert_eq!(world.ended(), (Failed, vec![], code("FS-REPLICA-REVOKED")));
    let abandoned =
        world.all.iter().filter(|send| matches!(&send.body, Message::Replica(replica::Command::AbandonPoint { .. })));
    assert_eq!(abandoned.count(), 1);
}

#[test]
fn a_session_waits_for_slots_and_says_so() {
    let world = World::begun(backup(&["web"]), None)
        .settle(|send| (!matches!(&send.body, Message::Broker(_))).then_some(How::Well));
    assert_eq!(world.run().shown(), SessionState::WaitingSlot);
}

#[test]
fn answers_count_only_from_whom_was_asked() {
    let task = crate::testing::given::<crate::session::SessionActor>(ME, []).context.task(0);
    let done = Command::TaskEnded { task, outcome: Outcome::Cancelled };
    let world = World::begun(backup(&["web"]), None).settle(|send| (!is_assign(send)).then_some(How::Well));
    world.refused("dr:mover/other", done, "FS-SESSION-NO-TASK");
    let listed = Command::VmsListed { mover: name("m"), vms: vec![] };
    World::begun(backup(&["web"]), None).refused("hq:host/other", listed, "FS-SESSION-STALE");
}

#[test]
fn every_pair_of_state_and_input() {
    let task = crate::testing::given::<crate::session::SessionActor>("dr:session/other", []).context.task(9);
    let endpoint = crate::testing::endpoint("dr/m");
    let replica = address("dr:replica/other");
    let failure = Failure { code: "FS-X".into(), message: "m".into(), advice: "a".into(), transient: true };
    // Of each answer one that nothing waits for: what is waited for is in the sentences above.
    let inputs: Vec<(&str, Input<Command>)> = vec![
        ("begin", Input::Command(begin(backup(&["web"]), None))),
        ("stop", Input::Command(Command::Stop)),
        ("listed", Input::Command(Command::VmsListed { mover: name("m"), vms: vec![] })),
        (
            "slot",
            Input::Command(Command::SlotGranted {
                slot: name("x"),
                mover: name("m"),
                endpoint: endpoint.clone(),
                reasons: vec![],
            }),
        ),
        (
            "opened",
            Input::Command(Command::AccessOpened { mover: name("m"), endpoint, access: task.clone(), points: vec![] }),
        ),
        (
            "prepared",
            Input::Command(Command::ReadPrepared {
                vm: vm("x"),
                snapshot: name("s"),
                disks: vec![],
                taken: Timestamp(1),
            }),
        ),
        ("host failed", Input::Command(Command::HostFailed { vm: vm("x"), failure: failure.clone() })),
        ("created", Input::Command(Command::VmCreated { vm: vm("x") })),
        ("committed", Input::Command(Command::PointCommitted { point: point("x"), stored: ByteCount(1) })),
        ("repository failed", Input::Command(Command::RepositoryFailed { vm: None, failure: failure.clone() })),
        ("point opened", Input::Command(Command::PointOpened { replica: replica.clone(), base: None })),
        ("point sealed", Input::Command(Command::PointSealed { replica, sealed: Err(failure) })),
        ("task", Input::Command(Command::TaskEnded { task, outcome: Outcome::Done })),
        (
            "refused",
            Input::Refused(Refused {
                by: address("dr:broker/broker"),
                message: Message::Broker(broker::Command::ReleaseSlot { slot: name("x") }),
                refusal: Refusal { code: "FS-X".into(), message: "m".into(), advice: "a".into() },
            }),
        ),
        ("wake", Input::Wake),
    ];
    let moving = || World::begun(backup(&["web"]), Some(1)).settle(|send| (!is_assign(send)).then_some(How::Well));
    let fails = |send: &Send| unreleased(send).then_some(if is_commit(send) { How::Badly } else { How::Well });
    let worlds: Vec<(&str, World, [&str; 2], &str)> = vec![
        ("new", World::new(), ["ok", "UNKNOWN"], "UNKNOWN"),
        ("starting", World::begun(backup(&["web"]), None), ["BEGUN", "ok"], "STALE"),
        ("working", moving(), ["BEGUN", "ok"], "STALE"),
        ("retry wait", World::begun(backup(&["web"]), Some(1)).settle(fails), ["BEGUN", "ok"], "STALE"),
        ("stopping", moving().input(JOB, Input::Command(Command::Stop)), ["BEGUN", "STOPPING"], "STALE"),
        ("stopped", World::begun(backup(&["web"]), None).well(), ["BEGUN", "ENDED"], "ENDED"),
    ];
    for (state, world, first, answers) in worlds {
        for (at, (input, body)) in inputs.iter().enumerate() {
            let works = ["working", "stopping"].contains(&state);
            let want = match *input {
                "wake" => "ok",
                "task" if works => "NO-TASK",
                _ => first.get(at).copied().unwrap_or(answers),
            };
            let mut given =
                crate::testing::given::<crate::session::SessionActor>(ME, world.events.clone()).from("dr:api/operator");
            given.context.now = world.given.context.now;
            let got = given.when_input(body.clone()).outcome().replace("FS-SESSION-", "");
            assert_eq!(got, want, "{state} x {input}");
        }
    }
}

#[test]
fn a_session_runs_once_and_tells_what_it_did() {
    let world = World::begun(backup(&["web"]), None).well();
    let moved = world.events.iter().find_map(|event| match event {
        Event::Ended { moved, stored, .. } => Some((moved.sent, *stored)),
        _ => None,
    });
    assert_eq!(moved, Some((ByteCount(14), ByteCount(40))));
    world.refused(JOB, begin(backup(&["web"]), None), "FS-SESSION-BEGUN");
}
