//! Prunes: what retention forgot goes in three steps, each an order of its own, named by the log position of the first.
//!
//! The mark lets the agent write down what would go, and may run beside everything else. The sweep moves it into the trash,
//! once every access that stood when the mark was confirmed has ended; what opens later counts on nothing that is marked,
//! and delays nothing. The trash is emptied when its hold has passed here and at the agent, and what stood at the sweep
//! has ended. One step is under way at a time, so that the folder sees log positions grow.

use super::decide::{RepositoryDraft, me};
use super::{Defined, RETRY_AFTER, Trash};
use crate::decider::Context;
use crate::refusal::{failure_of, unexpected_outcome};
use farshore_schemas::ids::{Address, PointId};
use farshore_schemas::messages::agent::{Failure, Outcome, PruneStep, TaskSpec};
use farshore_schemas::messages::repository::{Event, Work};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};
use std::collections::BTreeSet;

/// The agent is asked again no sooner than this, however little is left of a hold.
const SHORTEST_WAIT: Millis = Millis::from_mins(1);

/// What ends, or is forgotten, in the decision at hand: the state does not show it yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ending<'a> {
    /// An order that has ended.
    pub(super) order: Option<u64>,
    /// The holder of an access that is shut.
    pub(super) holder: Option<&'a Address>,
}

/// What kind of step a work is, if it is one.
fn is_step(work: &Work) -> bool {
    match work {
        Work::Mark { .. } | Work::Sweep { .. } | Work::Empty { .. } => true,
        Work::Open { .. } | Work::Close { .. } | Work::Commit { .. } | Work::Verify { .. } | Work::KeepLog { .. } => {
            false
        }
    }
}

impl Defined {
    /// Whether a step of a prune is under way, `but` for an order that ends in this decision.
    pub(super) fn stepping(&self, but: Option<u64>) -> bool {
        self.orders.open.iter().any(|(ordinal, open)| Some(*ordinal) != but && is_step(&open.work))
    }

    /// The prune whose trash is to be emptied next, when nothing is in the way of it.
    pub(super) fn next_emptying(&self) -> Option<(u64, &Trash)> {
        let free = |(_, trash): &(&u64, &Trash)| trash.accesses.is_empty() && trash.checks.is_empty();
        let next = self.trash.iter().filter(free).min_by_key(|(mark, trash)| (trash.due, **mark));
        next.filter(|_| !self.stepping(None)).map(|(mark, trash)| (*mark, trash))
    }

    /// Forgotten points that may go: what is immutable is refused by the agent, with all else that is ordered beside it. By the
    /// time that retention counts with now, or counted with last.
    fn may_go(&self, counts: Option<Timestamp>) -> impl Iterator<Item = &PointId> {
        let counts = counts.or(self.calendar.map(|calendar| calendar.counts)).unwrap_or(Timestamp(i64::MIN));
        self.forgotten.iter().filter(move |(_, point)| !point.is_immutable(counts)).map(|(id, _)| id)
    }

    /// Whether there is something to mark as soon as `prune_again` has passed.
    pub(super) fn marks_later(&self) -> bool {
        self.marked.is_none() && self.may_go(None).next().is_some() && !self.stepping(None)
    }
}

/// Orders the step of a prune that has become possible, if any: a sweep whose accesses have ended, or a mark of all that is
/// forgotten, with `more` that is forgotten in this decision.
pub(super) fn go_on(
    repository: &Defined,
    (ending, more): (Ending<'_>, &[PointId]),
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    if repository.stepping(ending.order) {
        return;
    }
    match &repository.marked {
        Some(marked) => {
            if marked.waits.iter().all(|holder| Some(holder) == ending.holder) {
                order_sweep(repository, (&marked.points, marked.mark), draft, context);
            }
        }
        None => {
            let waits = repository.prune_again.is_some_and(|again| again > context.now);
            if !waits {
                order_mark(repository, (more, None), draft, context);
            }
        }
    }
}

fn order_mark(
    repository: &Defined,
    (more, counts): (&[PointId], Option<Timestamp>),
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    let points: BTreeSet<PointId> = repository.may_go(counts).chain(more).cloned().collect();
    if points.is_empty() {
        return;
    }
    let (points, mark): (Vec<PointId>, u64) = (points.into_iter().collect(), context.frame.0);
    let spec = step_of((&points, mark), PruneStep::Mark, context);
    draft.order(spec, None, Work::Mark { points, mark });
}

fn order_sweep(
    repository: &Defined,
    (points, mark): (&[PointId], u64),
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    let spec = step_of((points, mark), PruneStep::Sweep { hold: repository.spec.trash_hold }, context);
    draft.order(spec, None, Work::Sweep { points: points.to_vec(), mark });
}

fn step_of((points, mark): (&[PointId], u64), step: PruneStep, context: &Context) -> TaskSpec {
    let (repository, points, position) = (me(context).clone(), points.to_vec(), context.frame.0);
    TaskSpec::PrunePoints { repository, points, mark, position, step }
}

/// Marks what is forgotten in this decision (`gone`) or when a prune that had failed may begin anew, or empties the trash whose
/// time has come.
pub(super) fn wake(
    repository: &Defined,
    (gone, counts): (&[PointId], Option<Timestamp>),
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    if repository.stepping(None) {
        return;
    }
    let something = repository.may_go(counts).next().is_some() || !gone.is_empty();
    let waits = repository.marked.is_some() || repository.prune_again.is_some_and(|again| again > context.now);
    if something && !waits {
        order_mark(repository, (gone, counts), draft, context);
    } else if let Some((mark, trash)) = repository.next_emptying()
        && trash.due <= context.now
    {
        let spec = step_of((&[], mark), PruneStep::Empty { hold: trash.hold }, context);
        draft.order(spec, None, Work::Empty { mark });
    }
}

/// A mark has ended; the failure when it did not end well.
pub(super) fn marked(
    repository: &Defined,
    (points, mark, ordinal): (&[PointId], u64, u64),
    outcome: &Outcome,
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    let failure = if let Outcome::Done = outcome { None } else { Some(why(outcome, "a mark")) };
    let well = failure.is_none();
    draft.event(Event::OrderEnded { ordinal, failure });
    if !well {
        draft.event(Event::PruneDelayed { again: context.now.after(RETRY_AFTER) });
        return;
    }
    draft.event(Event::PointsMarked { points: points.to_vec(), mark });
    if repository.accesses.is_empty() {
        order_sweep(repository, (points, mark), draft, context);
    }
}

/// A sweep has ended: what is gone is gone, and what is left is marked anew later.
pub(super) fn swept(
    repository: &Defined,
    (points, mark, ordinal): (&[PointId], u64, u64),
    outcome: &Outcome,
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    let (failure, reported, trashed) = if let Outcome::Pruned { points, bytes } = outcome {
        (None, points.as_slice(), *bytes)
    } else {
        (Some(why(outcome, "a sweep")), &[][..], ByteCount(0))
    };
    draft.event(Event::OrderEnded { ordinal, failure });
    // One that failed half-way has moved some of it.
    draft.event(Event::TrashKept { mark, since: context.now, hold: repository.spec.trash_hold });
    let (done, lost): (Vec<PointId>, Vec<PointId>) = reported.iter().cloned().partition(|point| points.contains(point));
    let all = points.iter().all(|point| done.contains(point));
    let left = repository.may_go(None).any(|point| !done.contains(point));
    if !done.is_empty() {
        draft.event(Event::PointsPruned { points: done, trashed });
    }
    if !lost.is_empty() {
        draft.event(Event::PointsLost { points: lost });
    }
    if !all {
        draft.event(Event::PruneDelayed { again: context.now.after(RETRY_AFTER) });
    } else if left {
        // Forgotten since the mark: the next prune begins at once.
        let points = repository.may_go(None).filter(|point| !points.contains(point)).cloned().collect::<Vec<_>>();
        let spec = step_of((&points, context.frame.0), PruneStep::Mark, context);
        draft.order(spec, None, Work::Mark { points, mark: context.frame.0 });
    }
}

/// An emptying has ended, or came too early.
pub(super) fn emptied(
    repository: &Defined,
    (mark, ordinal): (u64, u64),
    outcome: &Outcome,
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    let (failure, event) = match outcome {
        Outcome::Pruned { points: _, bytes } => (None, Event::TrashEmptied { mark, freed: *bytes }),
        Outcome::TooEarly { failure, left } => {
            let again = context.now.after((*left).max(SHORTEST_WAIT));
            (Some(failure.clone()), Event::TrashHeld { mark, again })
        }
        Outcome::Done
        | Outcome::Inventory { .. }
        | Outcome::Snapshot { .. }
        | Outcome::DiskStored { .. }
        | Outcome::PointDurable { .. }
        | Outcome::Verified { .. }
        | Outcome::LogKept { .. }
        | Outcome::DiskRestored { .. }
        | Outcome::DiskSent { .. }
        | Outcome::DiskReceived { .. }
        | Outcome::Failed(_)
        | Outcome::Cancelled => {
            let again = context.now.after(RETRY_AFTER);
            (Some(why(outcome, "the emptying of the trash")), Event::TrashHeld { mark, again })
        }
    };
    draft.event(Event::OrderEnded { ordinal, failure });
    draft.event(event);
    go_on(repository, (Ending { order: Some(ordinal), holder: None }, &[]), draft, context);
}

fn why(outcome: &Outcome, what: &str) -> Failure {
    failure_of(outcome).unwrap_or_else(|| unexpected_outcome(what))
}
