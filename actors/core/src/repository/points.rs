//! Points: how one comes to be, how and how it is checked.

use super::decide::{RepositoryDraft, draft, failed, me};
use super::prune::Ending;
use super::{AccessStatus, Defined, Point, Rejection, log, prune, retention};
use crate::decider::{Context, Decision};
use crate::refusal::unexpected_outcome;
use farshore_schemas::ids::{Address, Digest, DiskName, PointId};
use farshore_schemas::messages::agent::{DiskPoint, Failure, Outcome, TaskSpec};
use farshore_schemas::messages::repository::{Event, Purpose, RestorePoint, Wanted, Work};
use farshore_schemas::messages::{Message, session};
use farshore_schemas::units::{ByteCount, Timestamp};
use std::collections::BTreeMap;

/// A point that can be used.
pub(super) fn usable<'a>(repository: &'a Defined, point: &PointId) -> Result<&'a Point, Rejection> {
    if repository.forgotten.contains_key(point) {
        return Err(Rejection::PointForgotten { point: point.clone() });
    }
    repository.points.get(point).ok_or_else(|| Rejection::PointUnknown { point: point.clone() })
}

pub(super) fn commit(repository: &Defined, wanted: Wanted, context: &Context) -> Result<Decision<Event>, Rejection> {
    let (session, point) = (context.from.clone(), wanted.point.clone());
    may_write(repository, &session)?;
    if wanted.disks.is_empty() {
        return Err(Rejection::NoDisks { point });
    }
    if repository.forgotten.contains_key(&point) {
        return Err(Rejection::PointForgotten { point });
    }
    if let Some(there) = repository.points.get(&point) {
        if there.facts.vm != wanted.vm || proofs(&there.facts.disks) != proofs(&wanted.disks) {
            return Err(Rejection::PointExists { point });
        }
        // Asked again for what is done: the same answer.
        let told = session::Command::PointCommitted { point, stored: there.facts.stored };
        return Ok(Decision::none().and_send(crate::decider::Send::new(session, Message::Session(told))));
    }
    if under_way(repository, |work| matches!(work, Work::Commit { wanted, .. } if wanted.point == point)) {
        return Err(Rejection::Committing { point });
    }
    let spec = TaskSpec::CommitPoint {
        repository: me(context).clone(),
        point,
        vm: wanted.vm.clone(),
        taken: wanted.taken,
        disks: wanted.disks.clone(),
        immutable: repository.spec.immutable,
    };
    let mut draft = draft(repository, context);
    draft.order(spec, None, Work::Commit { session, wanted: Box::new(wanted) });
    Ok(draft.done())
}

fn may_write(repository: &Defined, session: &Address) -> Result<(), Rejection> {
    let no_access = || Rejection::NoAccess { holder: session.clone() };
    let access = repository.accesses.get(session).ok_or_else(no_access)?;
    match (&access.status, access.purpose) {
        (AccessStatus::Open { .. } | AccessStatus::Reopening { .. }, Purpose::Write) => Ok(()),
        (AccessStatus::Open { .. } | AccessStatus::Reopening { .. }, Purpose::Read)
        | (
            AccessStatus::Waiting
            | AccessStatus::Opening { .. }
            | AccessStatus::Failed { .. }
            | AccessStatus::Closing { .. }
            | AccessStatus::CloseFailed { .. },
            Purpose::Write | Purpose::Read,
        ) => Err(no_access()),
    }
}

fn under_way(repository: &Defined, what: impl Fn(&Work) -> bool) -> bool {
    repository.orders.open.values().any(|open| what(&open.work))
}

/// What proves each disk of a point; a disk named twice proves nothing and is kept apart by its place.
fn proofs(disks: &[DiskPoint]) -> (usize, BTreeMap<&DiskName, (ByteCount, Digest)>) {
    (disks.len(), disks.iter().map(|disk| (&disk.name, (disk.size, disk.checksum))).collect())
}

/// What the commit of a point came to.
pub(super) enum Made {
    /// The agent made durable what the session proved: what it added, and until when it keeps the point whoever says otherwise.
    Point(ByteCount, Option<Timestamp>),
    /// It made something else durable: its manifest is in the folder.
    Differs(Failure),
    /// Nothing is known to be there.
    Nothing(Failure),
}

impl Made {
    /// Why the point does not count.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self {
            Made::Point(..) => None,
            Made::Differs(failure) | Made::Nothing(failure) => Some(failure),
        }
    }
}

/// Whether the agent made durable what the session proved.
pub(super) fn made(wanted: &Wanted, outcome: &Outcome, failure: Option<Failure>) -> Made {
    if let Some(failure) = failure {
        return Made::Nothing(failure);
    }
    let Outcome::PointDurable { stored, disks, immutable } = outcome else {
        return Made::Nothing(unexpected_outcome("the commit of a point"));
    };
    if proofs(disks) == proofs(&wanted.disks) {
        return Made::Point(*stored, *immutable);
    }
    Made::Differs(Failure {
        code: "FS-REPOSITORY-CHECKSUM".to_owned(),
        message: format!(
            "the point {} of {} is not what was read: the repository's proof of its disks differs from the source's",
            wanted.point, wanted.vm
        ),
        advice: "run the job again; if it happens again, verify the repository and check the machines' memory"
            .to_owned(),
        transient: true,
    })
}

pub(super) fn committed(
    repository: &Defined,
    (session, wanted, ordinal): (&Address, &Wanted, u64),
    made: Made,
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    let described = |stored| RestorePoint {
        point: wanted.point.clone(),
        vm: wanted.vm.clone(),
        taken: wanted.taken,
        usable: context.now,
        job: wanted.job.clone(),
        disks: wanted.disks.clone(),
        stored,
    };
    let immutable = immutable_until(repository, ordinal, context);
    let gone = match made {
        Made::Nothing(failure) => {
            failed(draft, session, Some(wanted.vm.clone()), failure);
            Vec::new()
        }
        Made::Differs(failure) => {
            failed(draft, session, Some(wanted.vm.clone()), failure);
            draft.event(Event::PointRefused { point: described(ByteCount(0)), immutable });
            if immutable.is_some() { Vec::new() } else { vec![wanted.point.clone()] }
        }
        Made::Point(stored, until) => {
            let (point, immutable) = (described(stored), immutable.max(until));
            retention::set_back(repository, draft, context);
            let forgotten = retention::beyond(repository, (&point, &wanted.keep), context.now);
            draft.event(Event::PointAdded { point, keep: wanted.keep.clone(), immutable });
            forgotten.iter().for_each(|point| draft.event(Event::PointForgotten { point: point.clone() }));
            let told = session::Command::PointCommitted { point: wanted.point.clone(), stored };
            draft.send(session.clone(), Message::Session(told));
            log::owe(repository, draft, context);
            forgotten
        }
    };
    prune::go_on(repository, (Ending { order: Some(ordinal), holder: None }, &gone), draft, context);
}

/// Until when the point of this order must stay: as long as the agent was told, from now, which is later than it was made. Its
/// agent's clock may be ahead of this one: what it says counts when that is later still.
fn immutable_until(repository: &Defined, ordinal: u64, context: &Context) -> Option<Timestamp> {
    let order = &repository.orders.open.get(&ordinal)?.order;
    let TaskSpec::CommitPoint { immutable, .. } = &order.spec else { return None };
    immutable.map(|period| context.now.after(period))
}

pub(super) fn verifying(repository: &Defined, point: &PointId) -> bool {
    under_way(repository, |work| matches!(work, Work::Verify { point: checked } if checked == point))
}

pub(super) fn verify(repository: &Defined, point: &PointId, context: &Context) -> Result<Decision<Event>, Rejection> {
    usable(repository, point)?;
    if verifying(repository, point) {
        return Err(Rejection::Verifying { point: point.clone() });
    }
    let mut draft = draft(repository, context);
    let spec = TaskSpec::VerifyPoint { repository: me(context).clone(), point: point.clone() };
    draft.order(spec, None, Work::Verify { point: point.clone() });
    Ok(draft.done())
}

/// Records what a check found; the failure when it found nothing out.
pub(super) fn verified(
    point: &PointId,
    outcome: &Outcome,
    failure: Option<Failure>,
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) -> Option<Failure> {
    let Outcome::Verified { chunks, damage, damaged } = outcome else {
        return Some(failure.unwrap_or_else(|| unexpected_outcome("the check of a point")));
    };
    let damage = damage.iter().take(5).cloned().collect();
    let (point, at, chunks, damaged) = (point.clone(), context.now, *chunks, *damaged);
    draft.event(Event::PointVerified { point, at, chunks, damage, damaged });
    None
}
