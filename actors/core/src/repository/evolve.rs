use super::{Access, AccessStatus, Calendar, Defined, LogCopy, Marked, Point, State, Trash, Verified};
use crate::orders::{Link, Open, Orders};
use farshore_schemas::ids::{Address, PointId, TaskId};
use farshore_schemas::messages::repository::{Event, Hold, RepositorySpec, RestorePoint, Work};
use farshore_schemas::units::{Millis, Timestamp};
use std::collections::BTreeMap;

pub(super) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::Defined { spec } => define(state, spec),
        Event::Removed => match state {
            State::Undefined { .. } => {}
            State::Defined(repository) => *state = State::Undefined { next_order: repository.orders.next },
        },
        Event::RegisterRefused { .. }
        | Event::RegisteredAgain
        | Event::AgentSeen { .. }
        | Event::Ordered { .. }
        | Event::OrderEnded { .. }
        | Event::AccessAsked { .. }
        | Event::AccessOpened { .. }
        | Event::AccessFailed { .. }
        | Event::AccessClosing { .. }
        | Event::CloseFailed { .. }
        | Event::AccessClosed { .. }
        | Event::PointAdded { .. }
        | Event::CalendarRead { .. }
        | Event::PointRefused { .. }
        | Event::PointForgotten { .. }
        | Event::PointsMarked { .. }
        | Event::PointsPruned { .. }
        | Event::TrashKept { .. }
        | Event::TrashHeld { .. }
        | Event::TrashEmptied { .. }
        | Event::PruneDelayed { .. }
        | Event::PointsLost { .. }
        | Event::PointVerified { .. }
        | Event::LogServed { .. }
        | Event::OwnedBefore { .. }
        | Event::Adopted { .. }
        | Event::LogOwed { .. }
        | Event::LogKept { .. }
        | Event::LogNotKept { .. }
        | Event::HoldReleased { .. }
        | Event::HoldSet { .. } => match state {
            State::Undefined { .. } => {}
            State::Defined(repository) => fold_defined(repository, event),
        },
    }
}

fn define(state: &mut State, spec: &RepositorySpec) {
    match state {
        State::Undefined { next_order } => {
            *state = State::Defined(Box::new(Defined {
                spec: spec.clone(),
                link: Link::default(),
                orders: Orders::from_ordinal(*next_order),
                points: BTreeMap::new(),
                made: 0,
                rules: BTreeMap::new(),
                calendar: None,
                forgotten: BTreeMap::new(),
                accesses: BTreeMap::new(),
                marked: None,
                prune_again: None,
                log: LogCopy::default(),
                trash: BTreeMap::new(),
            }));
        }
        State::Defined(repository) => {
            if repository.spec.mover != spec.mover {
                repository.link = Link::default();
            }
            for trash in repository.trash.values_mut() {
                trash.hold = trash.hold.max(spec.trash_hold);
                trash.due = trash.due.max(trash.since.after(trash.hold));
            }
            repository.spec = spec.clone();
        }
    }
}

fn fold_defined(repository: &mut Defined, event: &Event) {
    match event {
        Event::Defined { .. } | Event::Removed => {}
        Event::RegisterRefused { code: _, again } => repository.link.refused(*again),
        Event::RegisteredAgain => repository.link.again = None,
        Event::AgentSeen { incarnation, endpoint } => {
            repository.link.seen(*incarnation, endpoint);
        }
        Event::Ordered { order, work } => {
            repository.orders.ordered(order, work);
            ordered(repository, &order.task, work);
        }
        Event::OrderEnded { ordinal, failure: _ } => {
            repository.orders.ended(*ordinal);
            for trash in repository.trash.values_mut() {
                trash.checks.remove(ordinal);
            }
        }
        Event::AccessAsked { .. }
        | Event::AccessOpened { .. }
        | Event::AccessFailed { .. }
        | Event::AccessClosing { .. }
        | Event::CloseFailed { .. }
        | Event::AccessClosed { .. } => {
            fold_access(&mut repository.accesses, event);
            if let Event::AccessClosed { holder } = event {
                nobody_waits_for(repository, holder);
            }
        }
        Event::PointAdded { .. }
        | Event::CalendarRead { .. }
        | Event::PointRefused { .. }
        | Event::PointForgotten { .. }
        | Event::PointsMarked { .. }
        | Event::PointsPruned { .. }
        | Event::TrashKept { .. }
        | Event::TrashHeld { .. }
        | Event::TrashEmptied { .. }
        | Event::PruneDelayed { .. }
        | Event::PointsLost { .. }
        | Event::PointVerified { .. }
        | Event::HoldReleased { .. }
        | Event::HoldSet { .. } => fold_points(repository, event),
        Event::LogServed { .. }
        | Event::OwnedBefore { .. }
        | Event::Adopted { .. }
        | Event::LogOwed { .. }
        | Event::LogKept { .. }
        | Event::LogNotKept { .. } => {
            repository.log.fold(event);
        }
    }
}

/// What an order means for what it is about.
fn ordered(repository: &mut Defined, task: &TaskId, work: &Work) {
    match work {
        Work::Open { holder } => {
            let access = task.clone();
            set_status(&mut repository.accesses, holder, |status| match status {
                AccessStatus::Open { .. } | AccessStatus::Reopening { .. } => AccessStatus::Reopening { access },
                AccessStatus::Waiting | AccessStatus::Opening { .. } | AccessStatus::Failed { .. } => {
                    AccessStatus::Opening { access }
                }
                AccessStatus::Closing { .. } | AccessStatus::CloseFailed { .. } => AccessStatus::Closing { access },
            });
        }
        Work::Close { holder } => {
            set_status(&mut repository.accesses, holder, |status| closing(status, task));
        }
        Work::Mark { .. } => repository.prune_again = None,
        Work::KeepLog { .. } => repository.log.ordered(),
        Work::Commit { .. } | Work::Verify { .. } | Work::Sweep { .. } | Work::Empty { .. } => {}
    }
}

fn set_status(
    accesses: &mut BTreeMap<Address, Access>,
    holder: &Address,
    change: impl FnOnce(AccessStatus) -> AccessStatus,
) {
    if let Some(access) = accesses.get_mut(holder) {
        access.status = change(access.status.clone());
    }
}

/// The same access, being shut. One that was never ordered has only the task at hand to be named by.
fn closing(status: AccessStatus, task: &TaskId) -> AccessStatus {
    AccessStatus::Closing { access: status.access().cloned().unwrap_or_else(|| task.clone()) }
}

fn fold_access(accesses: &mut BTreeMap<Address, Access>, event: &Event) {
    match event {
        Event::AccessAsked { holder, purpose, peers, vms, point } => {
            let access = Access {
                purpose: *purpose,
                peers: peers.clone(),
                vms: vms.clone(),
                point: point.clone(),
                status: AccessStatus::Waiting,
            };
            accesses.insert(holder.clone(), access);
        }
        Event::AccessOpened { holder } => renamed(accesses, holder, |access| AccessStatus::Open { access }),
        Event::AccessFailed { holder } => renamed(accesses, holder, |access| AccessStatus::Failed { access }),
        Event::AccessClosing { holder, broken_by: _ } => {
            renamed(accesses, holder, |access| AccessStatus::Closing { access });
        }
        Event::CloseFailed { holder, again } => {
            let again = *again;
            renamed(accesses, holder, |access| AccessStatus::CloseFailed { access, again });
        }
        Event::AccessClosed { holder } => {
            accesses.remove(holder);
        }
        Event::Defined { .. }
        | Event::Removed
        | Event::RegisterRefused { .. }
        | Event::RegisteredAgain
        | Event::AgentSeen { .. }
        | Event::Ordered { .. }
        | Event::OrderEnded { .. }
        | Event::PointAdded { .. }
        | Event::CalendarRead { .. }
        | Event::PointRefused { .. }
        | Event::PointForgotten { .. }
        | Event::PointsMarked { .. }
        | Event::PointsPruned { .. }
        | Event::TrashKept { .. }
        | Event::TrashHeld { .. }
        | Event::TrashEmptied { .. }
        | Event::PruneDelayed { .. }
        | Event::PointsLost { .. }
        | Event::PointVerified { .. }
        | Event::LogServed { .. }
        | Event::OwnedBefore { .. }
        | Event::Adopted { .. }
        | Event::LogOwed { .. }
        | Event::LogKept { .. }
        | Event::LogNotKept { .. }
        | Event::HoldReleased { .. }
        | Event::HoldSet { .. } => {}
    }
}

/// Another status for the same access; one that waits has none yet, and stays.
fn renamed(accesses: &mut BTreeMap<Address, Access>, holder: &Address, to: impl FnOnce(TaskId) -> AccessStatus) {
    set_status(accesses, holder, |status| status.access().cloned().map_or(AccessStatus::Waiting, to));
}

/// An access has ended: neither the sweep nor the trash waits for it.
fn nobody_waits_for(repository: &mut Defined, holder: &Address) {
    if let Some(marked) = &mut repository.marked {
        marked.waits.remove(holder);
    }
    for trash in repository.trash.values_mut() {
        trash.accesses.remove(holder);
    }
}

fn fold_points(repository: &mut Defined, event: &Event) {
    match event {
        Event::PointAdded { point, keep, immutable } => {
            let added = made(repository, (point, *immutable));
            repository.points.insert(point.point.clone(), added);
            repository.rules.insert((point.vm.clone(), point.job.clone()), keep.clone());
        }
        Event::CalendarRead { at, counts } => {
            repository.calendar = Some(Calendar::after(repository.calendar, (*at, *counts)));
        }
        Event::PointForgotten { point } => {
            if let Some(forgotten) = repository.points.remove(point) {
                repository.forgotten.insert(point.clone(), forgotten);
            }
        }
        Event::PointRefused { point, immutable } => {
            let refused = made(repository, (point, *immutable));
            repository.forgotten.insert(point.point.clone(), refused);
        }
        Event::PointsMarked { points, mark } => {
            let waits = repository.accesses.keys().cloned().collect();
            repository.marked = Some(Marked { mark: *mark, points: points.clone(), waits });
        }
        Event::PointsPruned { points, trashed: _ } => {
            points.iter().for_each(|point| drop(repository.forgotten.remove(point)));
        }
        Event::PruneDelayed { again } => repository.prune_again = Some(*again),
        Event::TrashKept { mark, since, hold } => keep_trash(repository, *mark, (*since, *hold)),
        Event::TrashHeld { mark, again } => {
            if let Some(trash) = repository.trash.get_mut(mark) {
                trash.due = *again;
            }
        }
        Event::TrashEmptied { mark, freed: _ } => drop(repository.trash.remove(mark)),
        Event::PointVerified { point, at, chunks, damage, damaged } => {
            if let Some(checked) = repository.points.get_mut(point) {
                let (at, chunks, damage, damaged) = (*at, *chunks, damage.clone(), *damaged);
                checked.verified = Some(Verified { at, chunks, damage, damaged });
            }
        }
        Event::HoldSet { point, hold } => set_hold(repository, point, Some(hold)),
        Event::HoldReleased { point, by: _, at: _ } => set_hold(repository, point, None),
        // Reported, and left as it is: what the folder really holds is for an operator to find out.
        Event::PointsLost { points: _ } => {}
        Event::Defined { .. }
        | Event::Removed
        | Event::RegisterRefused { .. }
        | Event::RegisteredAgain
        | Event::AgentSeen { .. }
        | Event::Ordered { .. }
        | Event::OrderEnded { .. }
        | Event::AccessAsked { .. }
        | Event::AccessOpened { .. }
        | Event::AccessFailed { .. }
        | Event::AccessClosing { .. }
        | Event::CloseFailed { .. }
        | Event::LogServed { .. }
        | Event::OwnedBefore { .. }
        | Event::Adopted { .. }
        | Event::LogOwed { .. }
        | Event::LogKept { .. }
        | Event::LogNotKept { .. }
        | Event::AccessClosed { .. } => {}
    }
}

fn set_hold(repository: &mut Defined, point: &PointId, hold: Option<&Hold>) {
    if let Some(point) = repository.points.get_mut(point) {
        point.held = hold.cloned();
    }
}

/// A point that has come to be, after all others.
fn made(repository: &mut Defined, (facts, immutable): (&RestorePoint, Option<Timestamp>)) -> Point {
    let made = repository.made;
    repository.made = made.saturating_add(1);
    Point { facts: facts.clone(), made, held: None, immutable, verified: None }
}

/// A sweep has ended: its prune is over, and what it moved is held by time and by all that stands now.
fn keep_trash(repository: &mut Defined, mark: u64, (since, hold): (Timestamp, Millis)) {
    repository.marked = None;
    let checking = |open: &Open<Work>| matches!(open.work, Work::Verify { .. });
    let checks = repository.orders.open.iter().filter(|(_, open)| checking(open)).map(|(ordinal, _)| *ordinal);
    let trash = Trash {
        since,
        hold,
        due: since.after(hold),
        accesses: repository.accesses.keys().cloned().collect(),
        checks: checks.collect(),
    };
    repository.trash.insert(mark, trash);
}
