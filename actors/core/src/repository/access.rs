//! Accesses: what one finds stays from the moment it is asked for until the agent has shut it.

use super::decide::{RepositoryDraft, draft, failed, me, open_order};
use super::prune::Ending;
use super::{AccessStatus, Defined, RETRY_AFTER, Rejection, points, prune};
use crate::decider::{Context, Decision};
use farshore_schemas::ids::{Address, Digest, Kind, PointId, TaskId};
use farshore_schemas::messages::agent::{Failure, TaskSpec};
use farshore_schemas::messages::repository::{Event, Purpose, RestorePoint, Work};
use farshore_schemas::messages::{Message, session};

pub(super) fn open(repository: &Defined, asked: Event, context: &Context) -> Result<Decision<Event>, Rejection> {
    let holder = context.from.clone();
    if holder.entity.kind != Kind::Session {
        return Err(Rejection::HolderKind { holder });
    }
    if repository.accesses.contains_key(&holder) {
        return Err(Rejection::AccessOpen { holder });
    }
    let mut draft = draft(repository, context);
    if let Event::AccessAsked { purpose, point, peers, .. } = &asked {
        readable(repository, (*purpose, point.as_ref()), &holder)?;
        let peers = peers.clone();
        draft.event(asked);
        order_open(&holder, peers, &mut draft, context);
    }
    Ok(draft.done())
}

/// A point that is to be read must be there, and not be forgotten.
fn readable(
    repository: &Defined,
    (purpose, point): (Purpose, Option<&PointId>),
    holder: &Address,
) -> Result<(), Rejection> {
    match (purpose, point) {
        (Purpose::Read, None) => Err(Rejection::PointNotNamed { holder: holder.clone() }),
        (Purpose::Read | Purpose::Write, Some(point)) => points::usable(repository, point).map(|_| ()),
        (Purpose::Write, None) => Ok(()),
    }
}

fn order_open(holder: &Address, peers: Vec<Digest>, draft: &mut RepositoryDraft<'_>, context: &Context) {
    let spec = TaskSpec::OpenAccess { repository: me(context).clone(), peers };
    draft.order(spec, None, Work::Open { holder: holder.clone() });
}

/// Opens again what was open at an agent that has lost its memory, under the id that the movers know.
pub(super) fn reopen(repository: &Defined, draft: &mut RepositoryDraft<'_>, context: &Context) {
    for (holder, open) in &repository.accesses {
        if let AccessStatus::Open { access } = &open.status {
            let order = open_order(&open.peers, access, context);
            draft.order_as(order, Work::Open { holder: holder.clone() });
        }
    }
}

/// The agent has let the movers in, or has not.
pub(super) fn opened(
    repository: &Defined,
    holder: &Address,
    failure: Option<Failure>,
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    let Some(open) = repository.accesses.get(holder) else { return };
    match &open.status {
        AccessStatus::Opening { access } | AccessStatus::Reopening { access } => {
            let again = matches!(open.status, AccessStatus::Reopening { .. });
            match (failure, repository.link.agent.as_ref()) {
                (Some(failure), _) => {
                    draft.event(Event::AccessFailed { holder: holder.clone() });
                    failed(draft, holder, None, failure);
                }
                (None, Some(agent)) => {
                    draft.event(Event::AccessOpened { holder: holder.clone() });
                    if !again {
                        let (mover, endpoint) = (repository.spec.mover.clone(), agent.endpoint.clone());
                        let points = points_for(repository, holder);
                        let access = access.clone();
                        let told = session::Command::AccessOpened { mover, endpoint, access, points };
                        draft.send(holder.clone(), Message::Session(told));
                    }
                }
                // The mover was changed meanwhile: the new agent is told again when it comes.
                (None, None) => draft.event(Event::AccessOpened { holder: holder.clone() }),
            }
        }
        // It was to be shut while it was being opened: only now can it be.
        AccessStatus::Closing { access } => order_close(holder, access, draft, context),
        AccessStatus::Waiting
        | AccessStatus::Open { .. }
        | AccessStatus::Failed { .. }
        | AccessStatus::CloseFailed { .. } => {}
    }
}

/// What an access was asked about: the one point to be read, or the newest usable one of each VM.
fn points_for(repository: &Defined, holder: &Address) -> Vec<RestorePoint> {
    let Some(access) = repository.accesses.get(holder) else { return Vec::new() };
    if let Some(point) = &access.point {
        return repository.points.get(point).map(|point| point.facts.clone()).into_iter().collect();
    }
    access.vms.iter().filter_map(|vm| repository.newest(vm).cloned()).collect()
}

/// Whether this party has an access that is not being shut.
pub(super) fn standing(repository: &Defined, holder: &Address) -> bool {
    repository.accesses.get(holder).is_some_and(|access| match &access.status {
        AccessStatus::Waiting
        | AccessStatus::Opening { .. }
        | AccessStatus::Open { .. }
        | AccessStatus::Reopening { .. }
        | AccessStatus::Failed { .. } => true,
        AccessStatus::Closing { .. } | AccessStatus::CloseFailed { .. } => false,
    })
}

/// Never refused: what is not open needs no closing.
pub(super) fn close(repository: &Defined, context: &Context) -> Decision<Event> {
    if standing(repository, &context.from) {
        close_for(repository, &context.from, None, context)
    } else {
        Decision::none()
    }
}

pub(super) fn broken(repository: &Defined, holder: &Address, context: &Context) -> Result<Decision<Event>, Rejection> {
    if !repository.accesses.contains_key(holder) {
        return Err(Rejection::AccessUnknown { holder: holder.clone() });
    }
    if !standing(repository, holder) {
        return Err(Rejection::AccessClosing { holder: holder.clone() });
    }
    Ok(close_for(repository, holder, Some(context.principal.clone()), context))
}

/// Shuts an access that stands. It holds until the agent has confirmed: movers may still be writing.
pub(super) fn close_for(
    repository: &Defined,
    holder: &Address,
    broken_by: Option<String>,
    context: &Context,
) -> Decision<Event> {
    let mut draft = draft(repository, context);
    let Some(open) = repository.accesses.get(holder) else { return draft.done() };
    draft.event(Event::AccessClosing { holder: holder.clone(), broken_by });
    match &open.status {
        AccessStatus::Waiting => draft.event(Event::AccessClosed { holder: holder.clone() }),
        AccessStatus::Open { access } | AccessStatus::Failed { access } => {
            order_close(holder, access, &mut draft, context);
        }
        // The agent may run both orders at once: the closing one is given when the opening one has ended.
        AccessStatus::Opening { .. } | AccessStatus::Reopening { .. } => {}
        AccessStatus::Closing { .. } | AccessStatus::CloseFailed { .. } => {}
    }
    draft.done()
}

pub(super) fn order_close(holder: &Address, access: &TaskId, draft: &mut RepositoryDraft<'_>, context: &Context) {
    let spec = TaskSpec::CloseAccess { repository: me(context).clone(), access: access.clone() };
    draft.order(spec, None, Work::Close { holder: holder.clone() });
}

/// The agent has shut an access, or has not: then it still holds, and is told again.
pub(super) fn closed(
    repository: &Defined,
    (holder, ordinal): (&Address, u64),
    failure: Option<Failure>,
    draft: &mut RepositoryDraft<'_>,
    context: &Context,
) {
    if failure.is_some() {
        draft.event(Event::CloseFailed { holder: holder.clone(), again: context.now.after(RETRY_AFTER) });
        return;
    }
    draft.event(Event::AccessClosed { holder: holder.clone() });
    let ending = Ending { order: Some(ordinal), holder: Some(holder) };
    prune::go_on(repository, (ending, &[]), draft, context);
}
