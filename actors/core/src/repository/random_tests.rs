//! Random histories: P6 holds at every step.

use super::tests::*;
use super::{Access, AccessStatus, Defined, Marked, Point, Repository, State};
use crate::testing::*;
use farshore_schemas::ids::Address;
use farshore_schemas::messages::agent::{MissingFrames, Outcome, PruneStep, TaskSpec};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::{Command, Event, Purpose, Work};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

/// How the agent ends one of the open orders: well in most cases, badly in some.
fn end_one(given: &Given<Repository>, which: u8, how: u8) -> Option<Command> {
    let open: Vec<_> = match &given.state {
        State::Defined(repository) => repository.orders.open.values().collect(),
        State::Undefined { .. } => return None,
    };
    let order = &open.get(usize::from(which) % open.len().max(1))?.order;
    let outcome = match (&order.spec, how) {
        (_, 0) => failed("FS-AGENT-X"),
        (_, 1) => Outcome::Cancelled,
        (TaskSpec::CommitPoint { disks, .. }, _) => {
            Outcome::PointDurable { stored: ByteCount(1), disks: disks.clone(), immutable: None }
        }
        (TaskSpec::PrunePoints { step: PruneStep::Mark, .. }, _) => Outcome::Done,
        (TaskSpec::PrunePoints { points, .. }, _) => Outcome::Pruned { points: points.clone(), bytes: ByteCount(1) },
        (TaskSpec::VerifyPoint { .. }, _) => Outcome::Verified { chunks: 1, damage: Vec::new(), damaged: 0 },
        (TaskSpec::KeepLog { least, .. }, _) => {
            let (lineage, hash) = (order.task.lineage, digest(9));
            Outcome::LogKept { lineage, seq: *least, hash, fetched: ByteCount(1), missing: MissingFrames::default() }
        }
        _ => Outcome::Done,
    };
    Some(Command::TaskEnded { task: order.task.clone(), outcome })
}

fn step(given: &Given<Repository>, (op, a, b): (u8, u8, u8)) -> Option<(&'static str, Command)> {
    let session = if a % 2 == 0 { S1 } else { S2 };
    let id = format!("p{}", b % 6);
    Some(match op {
        0 => (MOVER, ready(a % 3)),
        1 => (session, open(Purpose::Write, None)),
        2 => (session, open(Purpose::Read, Some(&id))),
        3 | 4 => (session, Command::CloseAccess),
        5 => (session, commit(&id, i64::from(b), 1 + u32::from(a % 3))),
        6 => {
            let keep = Keep { days: Some(1), weekly: Some(u32::from(b)), ..Keep::newest(1) };
            (session, commit_by(&id, given.context.now.0, keep))
        }
        7 if a % 2 == 0 => {
            let until = (a > 0).then(|| given.context.now.after(Millis::from_mins(u64::from(a) * 24 * 60)));
            (OPS, Command::Hold { point: point(&id), until, reason: "audit".to_owned() })
        }
        7 => (OPS, Command::Release { point: point(&id) }),
        8 => (OPS, Command::Verify { point: point(&id) }),
        9 => (OPS, Command::BreakAccess { holder: address(session) }),
        10 if b % 4 == 1 => (OPS, adopt("it is gone")),
        10 if b % 2 == 0 => (OPS, Command::LogServed { source: endpoint("hq/c1") }),
        10 => (OPS, define("/r")),
        _ => (AGENT, end_one(given, a, b)?),
    })
}

/// Accesses by who holds them and how often that party had one before: what stands is told from what came later.
type Stands = BTreeMap<Address, u32>;

/// Plays a history and holds P6 at each step: a sweep is ordered only when every access has ended that stood when its mark was
/// confirmed, naming only points that retention forgot and nobody holds; a point is never added without its agent's proof.
/// Gives the number of sweeps ordered.
fn play(ops: Vec<(u8, u8, u8)>) -> Result<usize, TestCaseError> {
    let mut now = served();
    let mut sweeps = 0;
    let (mut asked, mut stood) = (Stands::new(), Stands::new());
    for op in ops {
        if op.0 == 10 && op.1 == 0 {
            now = wake_when_due(now);
            continue;
        }
        let Some((from, command)) = step(&now, op) else { continue };
        let proven = matches!(&command, Command::TaskEnded { outcome: Outcome::PointDurable { .. }, .. });
        let before = state(&now).clone();
        let then = now.from(from).when(command);
        let events: Vec<Event> = then.decided.iter().flat_map(|d| d.events.clone()).collect();
        let ordered = then.decided.as_ref().ok().and_then(swept);
        let added = events.iter().any(|e| matches!(e, Event::PointAdded { .. }));
        prop_assert!(proven || !added);
        now = then.whatever();
        let after = state(&now);
        for event in &events {
            if let Event::AccessAsked { holder, .. } = event {
                *asked.entry(holder.clone()).or_default() += 1;
            } else if let Event::PointsMarked { .. } = event {
                stood = asked.clone();
                stood.retain(|holder, _| after.accesses.contains_key(holder));
            }
        }
        for point in ordered.iter().flatten() {
            prop_assert!(
                before.forgotten.contains_key(point)
                    && before.forgotten[point].held.as_ref().is_none_or(|hold| hold.until.is_some())
            );
        }
        if ordered.is_some() {
            sweeps += 1;
            let still =
                |(holder, nth): &(&Address, &u32)| after.accesses.contains_key(*holder) && asked[*holder] == **nth;
            prop_assert_eq!(stood.iter().find(still), None, "an access of the mark stands: {:?}", after.accesses);
        }
        check(&before, after)?;
    }
    Ok(sweeps)
}

fn check(before: &Defined, after: &Defined) -> Result<(), TestCaseError> {
    let steps = |work: &Work| matches!(work, Work::Mark { .. } | Work::Sweep { .. } | Work::Empty { .. });
    prop_assert!(after.orders.open.values().filter(|open| steps(&open.work)).count() <= 1, "two steps at once");
    let waits = |access: &Access| access.status == AccessStatus::Waiting;
    prop_assert!(!after.accesses.values().any(waits), "an access waits: {:?}", after.accesses);
    // What is forgotten goes in the end: something is under way, or the actor wakes.
    let idle = after.marked.is_none() && !after.stepping(None) && after.prune_again.is_none();
    let counts = after.calendar.map_or(Timestamp(i64::MIN), |calendar| calendar.counts);
    let goes = after.forgotten.values().any(|point| !point.is_immutable(counts));
    prop_assert!(!goes || !idle, "nothing will prune {:?}", after.forgotten);
    let waits = |marked: &Marked| !marked.waits.is_empty();
    prop_assert!(after.stepping(None) || after.marked.as_ref().is_none_or(waits), "nothing will sweep");
    for access in after.accesses.values() {
        if let Some(point) = &access.point {
            prop_assert!(after.points.contains_key(point), "{} is read and forgotten", point);
        }
    }
    // Time passes only by wakes, and a wake reads the calendar.
    let now = after.calendar.map_or(Timestamp(0), |calendar| calendar.counts);
    let held = |point: &Point| point.held.as_ref().is_some_and(|hold| hold.until.is_none_or(|until| until > now));
    for (id, point) in &before.points {
        prop_assert!(!(held(point) && after.forgotten.contains_key(id)), "{} is held and forgotten", id);
    }
    for (mark, trash) in &before.trash {
        let kept = after.trash.get(mark);
        prop_assert!(kept.is_none_or(|kept| kept.hold >= trash.hold), "the hold of {} is shorter", mark);
    }
    Ok(())
}

fn histories() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    proptest::collection::vec((0u8..18, 0u8..6, 0u8..12), 0..120)
}

proptest! {
    /// Whatever comes in whatever order: no panic, the fold holds, and P6.
    #[test]
    fn random_commands(ops in histories()) {
        play(ops)?;
    }
}

/// The histories reach what they are to hold.
#[test]
fn random_commands_sweep() {
    let mut runner = TestRunner::deterministic();
    let histories = (0..256).map(|_| histories().new_tree(&mut runner).unwrap().current());
    assert!(histories.map(|ops| play(ops).unwrap()).sum::<usize>() > 0);
}
