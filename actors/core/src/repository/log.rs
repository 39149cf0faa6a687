//! The log goes with the data: the agent keeps a copy of the site's log beside the points, so that who has the folder has the
//! site's configuration and history too. Each point that is made orders one more shipment; one is under way at a time, and what
//! was committed meanwhile is owed. A shipment that fails costs no point: it is told, and tried again.

use super::decide::{RepositoryDraft, draft, me};
use super::{Defined, RETRY_AFTER, Rejection};
use crate::decider::{Context, Decision};
use crate::refusal::unexpected_outcome;
use farshore_schemas::ids::{Digest, Kind, Lineage, Seq};
use farshore_schemas::messages::Override;
use farshore_schemas::messages::agent::{
    self, Endpoint, Failure, FolderOwner, MissingFrames, Order, Outcome, TaskSpec,
};
use farshore_schemas::messages::repository::{Event, RepositorySpec, Work};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};

/// Lineages that are remembered, the newest last.
const LINEAGES: usize = 64;

/// What a repository knows of the log's copy in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LogCopy {
    /// Where the control serves the log; none until it has said so.
    pub source: Option<Endpoint>,
    /// Lineages under which it was served, the newest last: a folder that bears one of them is this repository's own.
    pub lineages: Vec<Lineage>,
    /// The owner from whom an operator took the folder over last.
    pub adopted: Option<FolderOwner>,
    /// How far it is kept, durable.
    pub kept: Option<LogKept>,
    /// Why the last attempt failed, until one does not.
    pub failed: Option<LogNotKept>,
    /// The frame up to which it is to be kept once the order under way has ended.
    pub owed: Option<Seq>,
}

/// How far the log is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogKept {
    /// The lineage of the last frame.
    pub lineage: Lineage,
    /// The last frame.
    pub seq: Seq,
    /// Its hash.
    pub hash: Digest,
    /// Frames before it that are not there, and that the log has no more.
    pub missing: MissingFrames,
    /// When that was known.
    pub at: Timestamp,
}

/// Why the log could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogNotKept {
    /// Why.
    pub failure: Failure,
    /// When that was known.
    pub at: Timestamp,
    /// When it is tried again; none while it is.
    pub again: Option<Timestamp>,
}

impl LogCopy {
    /// Lineages before this one.
    pub(super) fn formerly(&self, now: Lineage) -> Vec<Lineage> {
        self.lineages.iter().copied().filter(|lineage| *lineage != now).collect()
    }

    /// Folds what is said of it.
    pub(super) fn fold(&mut self, event: &Event) {
        match event {
            Event::LogServed { source, lineage } => {
                self.source = Some(source.clone());
                self.lineages.retain(|known| known != lineage);
                self.lineages.push(*lineage);
                let spare = self.lineages.len().saturating_sub(LINEAGES);
                self.lineages.drain(..spare);
            }
            Event::OwnedBefore { lineage } => {
                // Before the one that it is served under.
                let at = self.lineages.len().saturating_sub(1);
                self.lineages.insert(at, *lineage);
            }
            Event::Adopted { owner, why: _ } => self.adopted = Some(*owner),
            Event::LogOwed { least } => self.owed = self.owed.max(Some(*least)),
            Event::LogKept { lineage, seq, hash, missing, at } => {
                let (lineage, seq, hash, missing, at) = (*lineage, *seq, *hash, missing.clone(), *at);
                // What came to be owed meanwhile may be there already.
                let there = self.lineages.last() == Some(&lineage);
                self.owed = self.owed.filter(|least| !there || *least > seq);
                self.kept = Some(LogKept { lineage, seq, hash, missing, at });
                self.failed = None;
            }
            Event::LogNotKept { failure, at, again } => {
                self.failed = Some(LogNotKept { failure: failure.clone(), at: *at, again: Some(*again) });
            }
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
            | Event::HoldReleased { .. }
            | Event::HoldSet { .. } => {}
        }
    }

    /// Folds that it was ordered.
    pub(super) fn ordered(&mut self) {
        self.owed = None;
        if let Some(failed) = &mut self.failed {
            failed.again = None;
        }
    }

    /// When it is tried again.
    pub(super) fn again(&self) -> Option<Timestamp> {
        self.failed.as_ref().and_then(|failed| failed.again)
    }
}

/// Shipments that are under way.
fn shipments(repository: &Defined) -> impl Iterator<Item = (&u64, &Order)> {
    let open = repository.orders.open.iter().filter(|(_, open)| matches!(open.work, Work::KeepLog { .. }));
    open.map(|(ordinal, open)| (ordinal, &open.order))
}

/// Whether a shipment is under way, `but` for an order that ends in this decision.
fn under_way(repository: &Defined, but: Option<u64>) -> bool {
    shipments(repository).any(|(ordinal, _)| Some(*ordinal) != but)
}

fn order(repository: &Defined, source: &Endpoint, least: Seq, (draft, context): (&mut RepositoryDraft<'_>, &Context)) {
    debug_assert!(repository.log.source.is_some() || repository.log.kept.is_none(), "what was kept was served");
    let spec = TaskSpec::KeepLog { repository: me(context).clone(), source: source.clone(), least };
    draft.order(spec, None, Work::KeepLog { least });
}

/// The control says where it serves its log: at each of its starts, and to a repository that it finds without.
pub(super) fn served(repository: &Defined, source: &Endpoint, context: &Context) -> Result<Decision<Event>, Rejection> {
    from_my_control(context)?;
    let log = &repository.log;
    if log.source.as_ref() == Some(source) && log.lineages.last() == Some(&context.lineage) {
        return Ok(Decision::none());
    }
    let mut draft = draft(repository, context);
    draft.event(Event::LogServed { source: source.clone(), lineage: context.lineage });
    // Points that were made while nothing was served, or by a log that was put back since, are without their log.
    let behind = log.kept.as_ref().is_none_or(|kept| kept.lineage != context.lineage);
    let mut due = behind || log.owed.is_some() || log.failed.is_some();
    let mut busy = false;
    for (ordinal, old) in shipments(repository) {
        // Where an earlier start of the control served it nobody is any more: the agent must not go on asking there.
        if matches!(&old.spec, TaskSpec::KeepLog { source: asked, .. } if asked == source) {
            busy = true;
            continue;
        }
        draft.event(Event::OrderEnded { ordinal: *ordinal, failure: Some(moved()) });
        if repository.link.agent.is_some() {
            draft.tell(agent::Command::Cancel { task: old.task.clone() });
        }
        due = true;
    }
    if due && !repository.points.is_empty() && !busy {
        order(repository, source, context.frame, (&mut draft, context));
    }
    Ok(draft.done())
}

fn moved() -> Failure {
    Failure {
        code: "FS-REPOSITORY-LOG-MOVED".to_owned(),
        message: "the site's control was started anew and serves its log elsewhere".to_owned(),
        advice: "nothing needs to be done: the log is kept by a new order".to_owned(),
        transient: true,
    }
}

/// The folder that the site was recovered from bears a lineage of which no frame was kept: it is this repository's own.
pub(super) fn owned_before(
    repository: &Defined,
    lineage: Lineage,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    from_my_control(context)?;
    if lineage == context.lineage || repository.log.lineages.contains(&lineage) {
        return Ok(Decision::none());
    }
    Ok(taken_over(repository, Event::OwnedBefore { lineage }, context).done())
}

/// An operator takes the folder over from its owner. The log is kept there at once, which shows whether it can be had.
pub(super) fn adopt(
    repository: &Defined,
    (owner, why): (FolderOwner, &Override),
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    if why.by.trim().is_empty() || why.reason.trim().is_empty() {
        return Err(Rejection::BareOverride { repository: me(context).clone() });
    }
    let mut draft = taken_over(repository, Event::Adopted { owner, why: why.clone() }, context);
    owe(repository, &mut draft, context);
    Ok(draft.done())
}

/// What is known of the folder's owner changes, and the agent is told.
fn taken_over<'a>(repository: &Defined, event: Event, context: &'a Context) -> RepositoryDraft<'a> {
    let mut draft = draft(repository, context);
    let mut log = repository.log.clone();
    log.fold(&event);
    draft.event(event);
    if repository.link.agent.is_some() {
        draft.tell(serve(&repository.spec, &log, context));
    }
    draft
}

/// What the agent is told of the folder.
pub(super) fn serve(spec: &RepositorySpec, log: &LogCopy, context: &Context) -> agent::Command {
    agent::Command::ServeRepository {
        repository: me(context).clone(),
        path: spec.path.clone(),
        passphrase_file: spec.passphrase_file.clone(),
        lineage: context.lineage,
        formerly: log.formerly(context.lineage),
        adopted: log.adopted,
    }
}

fn from_my_control(context: &Context) -> Result<(), Rejection> {
    let from = &context.from;
    if from.site != context.me.site || from.entity.kind != Kind::Api {
        return Err(Rejection::NotMyControl { from: from.clone() });
    }
    Ok(())
}

/// A point was made: the log up to it is to be kept. Nothing where no control serves its log.
pub(super) fn owe(repository: &Defined, draft: &mut RepositoryDraft<'_>, context: &Context) {
    let Some(source) = &repository.log.source else { return };
    if under_way(repository, None) {
        draft.event(Event::LogOwed { least: context.frame });
    } else {
        order(repository, source, context.frame, (draft, context));
    }
}

/// Orders what is owed when its time has come.
pub(super) fn wake(repository: &Defined, draft: &mut RepositoryDraft<'_>, context: &Context) {
    let Some(source) = &repository.log.source else { return };
    if repository.log.again().is_some_and(|again| again <= context.now) && !under_way(repository, None) {
        order(repository, source, context.frame, (draft, context));
    }
}

/// What the outcome of a shipment says; the failure when the log is not kept.
pub(super) fn ended(outcome: &Outcome, failure: Option<Failure>, at: Timestamp) -> Result<LogKept, Failure> {
    if let Outcome::LogKept { lineage, seq, hash, fetched: _, missing } = outcome {
        return Ok(LogKept { lineage: *lineage, seq: *seq, hash: *hash, missing: missing.clone(), at });
    }
    Err(failure.unwrap_or_else(|| unexpected_outcome("the keeping of the log")))
}

/// A shipment has ended. What came to be owed meanwhile is ordered at once.
pub(super) fn kept(
    repository: &Defined,
    ordinal: u64,
    ended: Result<LogKept, Failure>,
    (draft, context): (&mut RepositoryDraft<'_>, &Context),
) {
    let at = context.now;
    let reached = match ended {
        Ok(LogKept { lineage, seq, hash, missing, at }) => {
            draft.event(Event::LogKept { lineage, seq, hash, missing, at });
            Some((lineage, seq))
        }
        Err(failure) => {
            draft.event(Event::LogNotKept { failure, at, again: at.after(RETRY_AFTER) });
            None
        }
    };
    let Some(source) = &repository.log.source else { return };
    let reaches = |least: Seq| reached.is_some_and(|(lineage, seq)| lineage == context.lineage && seq >= least);
    let owed = repository.log.owed.filter(|least| !reaches(*least));
    let older = reached.is_some_and(|(lineage, _)| lineage != context.lineage);
    if (older || owed.is_some()) && !under_way(repository, Some(ordinal)) {
        order(repository, source, context.frame, (draft, context));
    }
}
