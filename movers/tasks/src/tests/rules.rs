use super::*;
use crate::Refusal;
use farshore_schemas::messages::agent::{Failure, FolderOwner};
use farshore_schemas::messages::host;
use farshore_schemas::units::Millis;

#[test]
fn nothing_is_obeyed_or_acked_before_the_welcome_which_tells_where_the_channel_stands() {
    let mut agent = Agent::new();
    let early = agent.take(said(CONTROL, 57, serve()));
    assert_eq!(early, [Action::Refuse(Refusal::BeforeWelcome { number: 57 })]);
    assert_eq!(acks(&agent.take(said(CONTROL, 58, welcome()))), [58]);
    assert_eq!(acks(&agent.take(said(CONTROL, 59, serve()))), [59]);
    assert_eq!(starts(&agent.take(said(CONTROL, 60, power_on(1, None)))), [1]);
}

#[test]
fn a_full_window_before_the_welcome_is_passed_over() {
    let mut agent = Agent::new();
    for number in 10..73 {
        assert_eq!(acks(&agent.take(said(CONTROL, number, power_on(number, None)))), [0u64; 0]);
    }
    assert_eq!(acks(&agent.take(said(CONTROL, 73, power_on(73, None)))), [73]);
    assert_eq!(acks(&agent.take(said(CONTROL, 74, welcome()))), [74]);
}

#[test]
fn a_welcome_to_another_incarnation_welcomes_nobody() {
    let mut agent = Agent::new();
    let other = Command::Welcome { incarnation: Lineage([8; 16]) };
    assert_eq!(acks(&agent.take(said(CONTROL, 1, other))), [0u64; 0]);
}

#[test]
fn gaps_are_asked_for_and_duplicates_acked_again() {
    let mut agent = Agent::serving();
    assert_eq!(acks(&agent.take(said(CONTROL, 5, power_on(1, None)))), [2]);
    assert_eq!(acks(&agent.take(said(CONTROL, 1, welcome()))), [2]);
    assert_eq!(acks(&agent.take(said(CONTROL, 2, serve()))), [2]);
}

#[test]
fn one_number_with_two_contents_is_a_fork() {
    let mut agent = Agent::serving();
    agent.take(said(CONTROL, 3, power_on(1, None)));
    assert!(is_fork(&agent.take(said(CONTROL, 3, power_on(2, None)))));
}

#[test]
fn control_that_was_put_back_gets_a_new_incarnation_and_its_old_lineage_is_refused() {
    let newer = Lineage([3; 16]);
    let mut agent = Agent::serving();
    agent.hear(power_on(1, None));
    agent.end(1, Outcome::Done);
    agent.ack_all(&owner());
    let actions = agent.take(said(newer, 1, power_on(1, None)));
    assert_eq!(actions.last(), Some(&Action::Renew));
    assert_eq!(starts(&actions), [0u64; 0], "it has ended");
    assert_eq!(outcomes(&actions), ["Done"], "the new control lost the answer");
    assert!(is_fork(&agent.take(said(CONTROL, 4, power_on(2, None)))));
    let renewed = agent.table.renew(Lineage([4; 16]), NOW);
    let sent = |action: &Action| {
        if let Action::Send(envelope) = action { Some((envelope.number, envelope.channel.lineage)) } else { None }
    };
    let said: Vec<(u64, Lineage)> = renewed.iter().filter_map(sent).collect();
    assert_eq!(said, [(1, Lineage([4; 16])), (1, Lineage([4; 16]))], "hello and the answer, numbered anew");
    let mut record = agent.records.clone();
    record.extend(persisted(&renewed));
    assert_eq!(TaskTable::rebuild(&identity(), &record).unwrap().state(), agent.table.state());
}

#[test]
fn only_the_control_of_its_own_site_is_obeyed() {
    let mut agent = Agent::serving();
    let mut other = said(CONTROL, 3, power_on(1, None));
    other.channel.site = site("dr");
    assert_eq!(agent.take(other), [Action::Refuse(Refusal::NotOurControl { from: owner() })]);
    let mut posing = said(CONTROL, 3, power_on(1, None));
    posing.channel.sender = Sender::Agent(name("a"));
    assert_eq!(agent.take(posing), [Action::Refuse(Refusal::NotOurControl { from: owner() })]);
    let mut elsewhere = said(CONTROL, 3, power_on(1, None));
    elsewhere.to = owner();
    assert_eq!(agent.take(elsewhere), [Action::Refuse(Refusal::NotForUs { to: owner() })]);
}

#[test]
fn epochs_rule() {
    // (epochs of orders in turn, what becomes of the last one)
    let cases: [(&[(u64, &str)], &str); 6] = [
        (&[(1, "hq")], "start"),
        (&[(2, "hq"), (2, "hq")], "start"),
        (&[(2, "hq"), (3, "dr")], "start"),
        (&[(2, "hq"), (1, "hq")], "FS-AGENT-STALE-EPOCH"),
        (&[(2, "hq"), (1, "dr")], "FS-AGENT-STALE-EPOCH"),
        (&[(2, "hq"), (2, "dr")], "FS-AGENT-EPOCH-CONFLICT"),
    ];
    for (epochs, expected) in cases {
        let mut agent = Agent::serving();
        let mut last = Vec::new();
        for (ordinal, fence) in (1..).zip(epochs) {
            last = agent.hear(power_on(ordinal, Some(*fence)));
        }
        let found = if starts(&last).is_empty() { outcomes(&last).join(" ") } else { "start".to_owned() };
        assert_eq!(found, expected, "{epochs:?}");
    }
}

#[test]
fn a_raised_epoch_is_durable_before_it_is_enforced_and_stops_what_it_overtakes() {
    let mut agent = Agent::serving();
    agent.hear(power_on(1, Some((1, "hq"))));
    let actions = agent.table.receive(Wire::Deliver(Box::new(said(CONTROL, 4, power_on(2, Some((2, "dr")))))), NOW);
    let what = |action: &Action| match action {
        Action::Persist(_) => "persist",
        Action::Ack(_) => "ack",
        Action::Fence { .. } => "fence",
        Action::Stop(_) => "stop",
        Action::Start(_) => "start",
        Action::Send(_)
        | Action::ServeHost { .. }
        | Action::ServeRepository { .. }
        | Action::Refuse(_)
        | Action::Renew => "other",
    };
    let order: Vec<&str> = actions.iter().map(what).collect();
    assert_eq!(order, ["persist", "ack", "fence", "stop", "start"]);
}

#[test]
fn a_fenced_vm_is_not_started_by_an_order_without_an_epoch() {
    let mut agent = Agent::serving();
    agent.hear(power_on(1, Some((1, "hq"))));
    assert_eq!(outcomes(&agent.hear(power_on(2, None))), ["FS-AGENT-STALE-EPOCH"]);
}

#[test]
fn epochs_told_with_the_host_count_and_never_fall() {
    let mut agent = Agent::serving();
    let serve = |counter, at: &str| Command::ServeHost {
        host: name("lab"),
        driver: Driver::Folder { path: "/vms".into() },
        epochs: vec![(origin(), epoch(counter, at))],
    };
    agent.hear(serve(4, "dr"));
    agent.hear(serve(2, "hq"));
    assert_eq!(agent.table.epochs()[&origin()], epoch(4, "dr"));
    let conflict = agent.hear(serve(4, "hq"));
    assert!(conflict.iter().any(|action| matches!(action, Action::Refuse(Refusal::EpochConflict { .. }))));
    assert_eq!(outcomes(&agent.hear(power_on(1, Some((3, "dr"))))), ["FS-AGENT-STALE-EPOCH"]);
}

#[test]
fn no_guest_before_the_host_was_told() {
    let mut agent = Agent::new();
    agent.hear(welcome());
    assert_eq!(outcomes(&agent.hear(power_on(1, Some((1, "hq"))))), ["FS-AGENT-NOT-WELCOME"]);
    assert_eq!(agent.table.epochs()[&origin()], epoch(1, "hq"), "the epoch is known all the same");
}

#[test]
fn an_order_that_came_too_late_is_answered() {
    let mut agent = Agent::serving();
    let mut late = said(CONTROL, 3, power_on(1, None));
    late.expires = Some(Timestamp(NOW.0 - 1));
    let actions = agent.take(late);
    assert_eq!((outcomes(&actions), acks(&actions)), (vec!["FS-AGENT-EXPIRED".to_owned()], vec![3]));
}

#[test]
fn after_a_restart_open_tasks_go_on_in_their_order_and_ended_ones_do_not() {
    let mut agent = Agent::serving();
    for ordinal in [7, 3, 5] {
        agent.hear(power_on(ordinal, Some((1, "hq"))));
    }
    agent.end(3, Outcome::Done);
    let actions = agent.restart();
    assert_eq!(starts(&actions), [7, 5]);
    assert_eq!(outcomes(&actions), ["Done"], "said again, since no one has acked it");
    assert!(actions.iter().any(|action| matches!(action, Action::ServeHost { .. })));
}

#[test]
fn each_restart_is_told_though_the_same_hello_still_waits_for_its_ack() {
    let mut agent = Agent::new();
    let hellos = |actions: &[Action]| {
        let sent = actions.iter().filter_map(|action| if let Action::Send(sent) = action { Some(sent) } else { None });
        sent.map(|envelope| envelope.number).collect::<Vec<_>>()
    };
    assert_eq!(hellos(&agent.restart()).last(), Some(&2), "the first may have been heard");
    assert_eq!(hellos(&agent.restart()).last(), Some(&3));
}

#[test]
fn after_a_restart_a_task_that_is_too_late_is_not_begun() {
    let mut agent = Agent::serving();
    let Command::Run(order) = power_on(1, Some((1, "hq"))) else { panic!("an order") };
    agent.hear(Command::Run(Box::new(Order { expires: Some(NOW), ..*order })));
    let actions = agent.table.restart(about(), NOW.after(Millis(1)));
    assert_eq!((starts(&actions), outcomes(&actions)), (vec![], vec!["FS-AGENT-EXPIRED".to_owned()]));
}

#[test]
fn after_a_restart_an_overtaken_task_is_not_gone_on_with() {
    let mut agent = Agent::serving();
    agent.hear(power_on(1, Some((1, "hq"))));
    agent.hear(power_on(2, Some((2, "dr"))));
    let actions = agent.restart();
    assert_eq!((starts(&actions), outcomes(&actions)), (vec![2], vec!["FS-AGENT-STALE-EPOCH".to_owned()]));
}

#[test]
fn a_cancelled_task_ends_as_cancelled_also_over_a_restart_and_when_it_never_came() {
    let mut agent = Agent::serving();
    agent.hear(power_on(1, None));
    assert_eq!(agent.hear(Command::Cancel { task: task(1) }).last(), Some(&Action::Stop(task(1))));
    let actions = agent.restart();
    assert_eq!((starts(&actions), outcomes(&actions)), (vec![], vec!["Cancelled".to_owned()]));
    assert_eq!(outcomes(&agent.hear(Command::Cancel { task: task(2) })), ["Cancelled"]);
    assert_eq!(starts(&agent.hear(power_on(2, None))), [0u64; 0]);
}

#[test]
fn an_access_is_open_from_its_end_to_its_closing_also_over_a_restart() {
    let mut agent = Agent::serving();
    let repository = name("main");
    let serve = Command::ServeRepository {
        repository: repository.clone(),
        path: "/repo".into(),
        passphrase_file: None,
        lineage: CONTROL,
        formerly: Vec::new(),
        adopted: None,
    };
    agent.hear(serve);
    let run = |ordinal, spec| Command::Run(Box::new(Order { task: task(ordinal), fence: None, expires: None, spec }));
    let peers = vec![Digest([5; 32])];
    agent.hear(run(1, TaskSpec::OpenAccess { repository: repository.clone(), peers: peers.clone() }));
    assert!(agent.table.accesses().is_empty(), "not before it is open");
    agent.end(1, Outcome::Done);
    agent.restart();
    assert_eq!(agent.table.accesses()[&task(1)], (repository.clone(), peers));
    agent.hear(run(2, TaskSpec::CloseAccess { repository, access: task(1) }));
    assert!(agent.table.accesses().is_empty());
}

#[test]
fn what_is_not_acked_is_said_again_ever_more_slowly() {
    let mut agent = Agent::new();
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let due = agent.table.next_tick().unwrap();
        waits.push(due.since(now).0);
        assert!(agent.table.tick(Timestamp(due.0 - 1)).is_empty());
        assert_eq!(agent.table.tick(due).len(), 1);
        now = due;
    }
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
}

#[test]
fn a_receiver_that_falls_behind_again_and_again_has_lost_its_memory() {
    let mut agent = Agent::serving();
    for ordinal in 1..=3 {
        agent.hear(power_on(ordinal, None));
        agent.end(ordinal, Outcome::Done);
    }
    let channel = agent.table.state.channel();
    let ack = |number| Wire::Ack { channel: channel.clone(), receiver: owner(), number };
    assert!(agent.wire(ack(2)).is_empty());
    for _ in 0..20 {
        assert_eq!(agent.wire(ack(1)), [], "doubled acks to one repetition");
    }
    for _ in 0..7 {
        let due = agent.table.next_tick().unwrap();
        agent.table.tick(due);
        let answered = agent.wire(ack(1));
        if answered == [Action::Renew] {
            return;
        }
    }
    panic!("it was not noticed");
}

#[test]
fn an_ack_of_what_was_never_said_is_garbage() {
    let mut agent = Agent::serving();
    agent.hear(power_on(1, None));
    agent.end(1, Outcome::Done);
    let channel = agent.table.state.channel();
    let unacked = agent.table.unacked();
    let garbage = Wire::Ack { channel, receiver: owner(), number: 99 };
    assert!(agent.wire(garbage).is_empty());
    assert_eq!(agent.table.unacked(), unacked);
}

#[test]
fn a_snapshot_stands_for_everything_and_forgets_only_what_is_old_and_acked() {
    let mut agent = Agent::serving();
    let many = crate::REMEMBER_COUNT as u64 + 5;
    let failed =
        |code: &str| Failure { code: code.into(), message: String::new(), advice: String::new(), transient: true };
    for ordinal in 1..=many {
        agent.hear(power_on(ordinal, None));
        let actions =
            agent.table.ended(&task(ordinal), vec![Outcome::Failed(failed("X"))], Timestamp(NOW.0 + ordinal as i64));
        agent.keep(actions);
        agent.ack_all(&owner());
    }
    agent.hear(power_on(many + 1, None));
    let young = agent.table.snapshot(NOW);
    assert_eq!(TaskTable::rebuild(&identity(), [&young]).unwrap().state(), agent.table.state());
    assert!(agent.table.outcomes(&task(1)).is_some(), "it is young");
    let later = NOW.after(crate::REMEMBER_FOR).after(Millis::from_mins(1));
    agent.records = vec![agent.table.snapshot(later)];
    assert_eq!(agent.table.outcomes(&task(1)), None);
    assert_eq!(agent.table.outcomes(&task(many - crate::REMEMBER_OUTCOMES as u64)), Some(&[][..]));
    assert_eq!(agent.table.outcomes(&task(many)).map(<[Outcome]>::len), Some(1));
    assert_eq!(starts(&agent.restart()), [many + 1]);
}

#[test]
fn records_without_a_head_or_of_another_agent_are_refused() {
    use crate::RebuildError;
    let agent = Agent::serving();
    assert_eq!(TaskTable::rebuild(&identity(), []).unwrap_err(), RebuildError::Empty);
    assert_eq!(TaskTable::rebuild(&identity(), &agent.records[1..]).unwrap_err(), RebuildError::NoHead);
    let other = Identity { site: site("hq"), name: name("b") };
    let refused = TaskTable::rebuild(&other, &agent.records).unwrap_err();
    assert_eq!(refused, RebuildError::AnotherAgent { site: site("hq"), name: name("a") });
}

/// The epochs that an agent tells its host.
fn told_epochs(actions: &[Action]) -> Vec<(VmRef, Epoch)> {
    let told = |action: &Action| {
        let Action::Send(envelope) = action else { return None };
        let Some(Message::Host(host::Command::AgentEpochs { epochs })) = &envelope.body else { return None };
        assert_eq!(envelope.to, Address::new(&site("hq"), Kind::Host, &name("lab")));
        Some(epochs.clone())
    };
    actions.iter().filter_map(told).flatten().collect()
}

#[test]
fn control_that_was_put_back_is_told_the_epochs_that_it_has_forgotten() {
    let mut agent = Agent::serving();
    let serve = |epochs: &[(VmRef, Epoch)]| Command::ServeHost {
        host: name("lab"),
        driver: Driver::Folder { path: "/vms".into() },
        epochs: epochs.to_vec(),
    };
    let known = (origin(), epoch(4, "dr"));
    assert_eq!(told_epochs(&agent.hear(serve(std::slice::from_ref(&known)))), [], "it was told just that");
    assert_eq!(told_epochs(&agent.hear(serve(&[(origin(), epoch(2, "hq"))]))), std::slice::from_ref(&known));
    assert_eq!(told_epochs(&agent.hear(serve(&[]))), [known]);
}

/// What control speaks under once its log was put back.
const RENEWED: Lineage = Lineage([3; 16]);

#[test]
fn a_repository_is_served_with_the_lineages_that_its_owner_had() {
    const TOLD: Lineage = Lineage([0x70; 16]);
    const ADOPTED: FolderOwner = FolderOwner { lineage: Lineage([0x71; 16]), epoch: 4 };
    let mut agent = Agent::serving();
    let serve = || Command::ServeRepository {
        repository: name("main"),
        path: "/repo".into(),
        passphrase_file: None,
        lineage: RENEWED,
        formerly: vec![TOLD],
        adopted: Some(ADOPTED),
    };
    let formerly = |actions: Vec<Action>| {
        let served = |action| if let Action::ServeRepository { place, .. } = action { Some(place) } else { None };
        let place = actions.into_iter().find_map(served).unwrap();
        assert_eq!(place.adopted, Some(ADOPTED), "what an operator decided");
        place.formerly
    };
    assert_eq!(formerly(agent.hear(serve())), [TOLD], "what the owner's log knows of");
    agent.take(said(RENEWED, 1, welcome()));
    assert_eq!(formerly(agent.take(said(RENEWED, 2, serve()))), [CONTROL, TOLD]);
    assert_eq!(formerly(agent.restart()), [CONTROL, TOLD]);
}
