//! Random histories: P6 holds at every step.

use super::tests::*;
use super::{AccessStatus, Repository, State};
use crate::testing::*;
use farshore_schemas::messages::agent::{Outcome, TaskSpec};
use farshore_schemas::messages::repository::{Command, Event, Purpose, Work};
use farshore_schemas::units::ByteCount;
use proptest::prelude::*;

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
            Outcome::PointDurable { stored: ByteCount(1), disks: disks.clone() }
        }
        (TaskSpec::PrunePoints { points, .. }, _) => Outcome::Pruned { points: points.clone(), freed: ByteCount(1) },
        (TaskSpec::VerifyPoint { .. }, _) => Outcome::Verified { chunks: 1, damage: Vec::new(), damaged: 0 },
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
        5 | 6 => (session, commit(&id, i64::from(b), 1 + u32::from(a % 3))),
        7 => (OPS, Command::Hold { point: point(&id), hold: a % 2 == 0 }),
        8 => (OPS, Command::Verify { point: point(&id) }),
        9 => (OPS, Command::BreakAccess { holder: address(session) }),
        10 => (OPS, define("/r")),
        _ => (AGENT, end_one(given, a, b)?),
    })
}

proptest! {
    /// Whatever comes in whatever order: no panic, the fold holds, and a prune is ordered only while no access stands, naming
    /// only points that retention forgot and nobody holds; a point is never added without its agent's proof.
    #[test]
    fn random_commands(ops in proptest::collection::vec((0u8..18, 0u8..6, 0u8..12), 0..120)) {
        let mut now = served();
        for op in ops {
            if op.0 == 10 && op.1 == 0 {
                now = wake_when_due(now);
                continue;
            }
            let Some((from, command)) = step(&now, op) else { continue };
            let proven = matches!(&command, Command::TaskEnded { outcome: Outcome::PointDurable { .. }, .. });
            let before = state(&now).clone();
            let then = now.from(from).when(command);
            let ordered = then.decided.as_ref().ok().and_then(pruned);
            let added = then.decided.iter().flat_map(|d| &d.events).any(|e| matches!(e, Event::PointAdded { .. }));
            prop_assert!(proven || !added);
            now = then.whatever();
            let after = state(&now);
            if let Some(points) = ordered {
                prop_assert!(after.accesses.is_empty(), "{:?}", after.accesses);
                for point in &points {
                    prop_assert!(before.forgotten.contains_key(point) && !before.forgotten[point].held);
                }
            }
            if after.pruning(None) {
                let waits = |access: &super::Access| access.status == AccessStatus::Waiting;
                prop_assert!(after.accesses.values().all(waits), "{:?}", after.accesses);
                let others = after.orders.open.values().filter(|open| !matches!(open.work, Work::Prune { .. } | Work::Verify { .. }));
                prop_assert_eq!(others.count(), 0);
            }
            for access in after.accesses.values() {
                if let Some(point) = &access.point {
                    prop_assert!(after.points.contains_key(point), "{point} is read and forgotten");
                }
            }
            for (id, point) in &before.points {
                prop_assert!(!(point.held && after.forgotten.contains_key(id)), "{id} is held and forgotten");
            }
        }
    }
}
