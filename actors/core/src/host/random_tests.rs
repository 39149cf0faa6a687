//! Random histories: P5 holds at every step.

use super::tests::*;
use super::{Host, State};
use crate::testing::*;
use farshore_schemas::ids::{Address, VmRef};
use farshore_schemas::messages::agent::{Outcome, TaskSpec};
use farshore_schemas::messages::host::{Command, Event};
use farshore_schemas::units::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};

/// How the agent ends one of the open orders.
fn end_one(given: &Given<Host>, which: u8, how: u8) -> Option<Command> {
    let open: Vec<_> = match &given.state {
        State::Defined(host) => host.orders.open.values().collect(),
        State::Undefined { .. } => return None,
    };
    let order = &open.get(usize::from(which) % open.len().max(1))?.order;
    let outcome = match (&order.spec, how) {
        (_, 0) => failed(),
        (_, 1) => Outcome::Cancelled,
        (TaskSpec::Discover { .. }, 2) => inventory(&[facts("db", false)], false),
        (TaskSpec::Discover { .. }, _) => inventory(&[facts("web", how.is_multiple_of(2)), facts("db", false)], true),
        (TaskSpec::SnapshotBegin { .. }, _) => Outcome::Snapshot { disks: disks(), taken: Timestamp(1) },
        _ => Outcome::Done,
    };
    Some(Command::TaskEnded { task: order.task.clone(), outcome })
}

fn step(given: &Given<Host>, (op, a, b): (u8, u8, u8)) -> Option<(&'static str, Command)> {
    let replica = if a % 2 == 0 { R1 } else { "xx:replica/r2" };
    let site = if a % 2 == 0 { "dr" } else { "xx" };
    let epoch = super::tests::epoch(u64::from(b), site);
    let web_vm = || vm("web");
    let protector: Address = address(replica);
    Some(match op {
        0 => (MOVER, ready(a % 3)),
        1 => (OPS, Command::Discover),
        2 => (S1, Command::PrepareRead { vm: web_vm() }),
        3 => (S1, Command::EndRead { vm: web_vm() }),
        4 => (replica, Command::Protect { vm: web_vm(), replica: protector }),
        5 => (replica, Command::Unprotect { vm: web_vm() }),
        6 => (replica, Command::Release { vm: web_vm(), epoch }),
        7 => (replica, Command::Grant { vm: web_vm(), origin: web(), epoch, power_on: a > 2 }),
        8 => (replica, Command::StopGuest { vm: web_vm(), origin: web(), epoch }),
        9 if b == 0 => (replica, Command::EpochIs { vm: web_vm(), epoch: super::tests::epoch(0, "hq"), yours: a > 2 }),
        9 => (replica, Command::EpochIs { vm: web_vm(), epoch, yours: a > 2 }),
        10 => (OPS, Command::PowerOn { vm: web_vm(), forced: if a > 2 { forced() } else { None } }),
        11 => (OPS, Command::PowerOff { vm: web_vm() }),
        12 => (AGENT, Command::Observed { vm: web_vm(), running: a > 2, at: Timestamp(1) }),
        13 => (OPS, Command::Remove),
        14 if a > 2 => (AGENT, Command::AgentEpochs { epochs: vec![(web(), epoch)] }),
        14 => (OPS, Command::Define(spec("/vms"))),
        _ => (AGENT, end_one(given, a, b)?),
    })
}

fn counters(state: &State) -> BTreeMap<VmRef, u64> {
    let rights = match state {
        State::Undefined { rights, .. } => rights,
        State::Defined(host) => &host.rights,
    };
    rights.iter().map(|(origin, right)| (origin.clone(), right.epoch.counter)).collect()
}

/// What histories must reach for their checks to mean something.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Started,
    StartedAfterAnswer,
    FoundDown,
    StartAsked,
    KeptDown,
    Forced,
    Conflict,
    LowerRefused,
}

/// Plays a history and holds P5 at each step: a known epoch never falls, and a guest is started only under the newest epoch,
/// with the right here, and never while a replica's answer is awaited.
fn play(ops: Vec<(u8, u8, u8)>, reached: &mut BTreeSet<Reached>) -> Result<(), TestCaseError> {
    let mut now = listed();
    for op in ops {
        if op == (1, 0, 0) {
            now = wake_when_due(now);
            continue;
        }
        let Some((from, command)) = step(&now, op) else { continue };
        let before = counters(&now.state);
        let then = now.from(from).when(command);
        if then.outcome() == "FS-HOST-EPOCH-OLD" {
            reached.insert(Reached::LowerRefused);
        }
        let events: Vec<Event> = then.decided.iter().flat_map(|decision| decision.events.clone()).collect();
        now = then.whatever();
        let after = counters(&now.state);
        for (origin, counter) in &before {
            prop_assert!(after.get(origin) >= Some(counter), "{} fell from {}", origin, counter);
        }
        let answered = events.iter().any(|event| matches!(event, Event::EpochLearned { .. }));
        let leave = events.iter().any(gives_leave);
        for event in &events {
            started_by_right(&now, event, leave)?;
            note(event, answered, reached);
        }
    }
    Ok(())
}

/// What a protected VM may be started after: a replica's word, or an override.
fn gives_leave(event: &Event) -> bool {
    matches!(
        event,
        Event::EpochLearned { .. } | Event::RightGranted { .. } | Event::RightForced { .. } | Event::Unprotected { .. }
    )
}

fn started_by_right(now: &Given<Host>, event: &Event, leave: bool) -> Result<(), TestCaseError> {
    let Event::Ordered { order, .. } = event else { return Ok(()) };
    let TaskSpec::PowerOn { vm, .. } = &order.spec else { return Ok(()) };
    let host = state(now);
    let (origin, epoch) = order.fence.clone().expect("a start is fenced");
    prop_assert_eq!(epoch.counter, host.right(&origin, &now.context).epoch.counter);
    prop_assert!(host.may_run(vm, &now.context));
    prop_assert!(!host.asked.contains_key(vm));
    prop_assert!(leave || !host.protected.contains_key(vm), "{} was started and nobody was asked", vm);
    Ok(())
}

fn note(event: &Event, answered: bool, reached: &mut BTreeSet<Reached>) {
    if matches!(event, Event::Ordered { order, .. } if matches!(order.spec, TaskSpec::PowerOn { .. })) {
        reached.insert(if answered { Reached::StartedAfterAnswer } else { Reached::Started });
    }
    if matches!(event, Event::GuestFoundDown { .. }) {
        reached.insert(Reached::FoundDown);
    }
    if matches!(event, Event::StartAsked { .. }) {
        reached.insert(Reached::StartAsked);
    }
    if matches!(event, Event::KeptDown { .. }) {
        reached.insert(Reached::KeptDown);
    }
    if matches!(event, Event::RightForced { .. }) {
        reached.insert(Reached::Forced);
    }
    if matches!(event, Event::EpochConflict { .. }) {
        reached.insert(Reached::Conflict);
    }
}

fn histories() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    proptest::collection::vec((0u8..22, 0u8..6, 0u8..6), 0..120)
}

proptest! {
    /// Whatever comes in whatever order: no panic, the fold holds, and P5.
    #[test]
    fn random_commands(ops in histories()) {
        play(ops, &mut BTreeSet::new())?;
    }
}

/// The histories reach what they are to hold.
#[test]
fn random_commands_reach_every_guard() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..1024 {
        play(histories().new_tree(&mut runner).unwrap().current(), &mut reached).unwrap();
    }
    assert_eq!(reached.len(), 8, "only {reached:?}");
}
