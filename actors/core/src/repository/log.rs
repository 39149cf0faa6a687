//! The log goes with the data: the agent keeps a copy of the site's log beside the points, so that who has the folder has the
//! site's configuration and history too. Each point that is made orders one more shipment; one is under way at a time, and what
//! was committed meanwhile is owed. A shipment that fails costs no point: it is told, and tried again.

use super::decide::{RepositoryDraft, draft, me};
use super::{Defined, RETRY_AFTER, Rejection};
use crate::decider::{Context, Decision};
use crate::refusal::unexpected_outcome;
use farshore_schemas::ids::{Digest, Kind, Lineage, Seq};
use farshore_schemas::messages::agent::{Endpoint, Failure, Outcome, TaskSpec};
use farshore_schemas::messages::repository::{Event, Work};
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
            Event::LogOwed { least } => self.owed = self.owed.max(Some(*least)),
            Event::LogKept { lineage, seq, hash, at } => {
                self.kept = Some(LogKept { lineage: *lineage, seq: *seq, hash: *hash, at: *at });
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

/// Whether a shipment is under way, `but` for an order that ends in this decision.
fn under_way(repository: &Defined, but: Option<u64>) -> bool {
    let other = |ordinal: &u64| Some(*ordinal) != but;
    repository.orders.open.iter().any(|(ordinal, open)| other(ordinal) && matches!(open.work, Work::KeepLog { .. }))
}

fn order(repository: &Defined, source: &Endpoint, least: Seq, (draft, context): (&mut RepositoryDraft<'_>, &Context)) {
    debug_assert!(repository.log.source.is_some() || repository.log.kept.is_none(), "what was kept was served");
    let spec = TaskSpec::KeepLog { repository: me(context).clone(), source: source.clone(), least };
    draft.order(spec, None, Work::KeepLog { least });
}

/// The control says where it serves its log: at each of its starts, and to a repository that it finds without.
pub(super) fn served(repository: &Defined, source: &Endpoint, context: &Context) -> Result<Decision<Event>, Rejection> {
    let from = &context.from;
    if from.site != context.me.site || from.entity.kind != Kind::Api {
        return Err(Rejection::NotMyControl { from: from.clone() });
    }
    let log = &repository.log;
    if log.source.as_ref() == Some(source) && log.lineages.last() == Some(&context.lineage) {
        return Ok(Decision::none());
    }
    let mut draft = draft(repository, context);
    draft.event(Event::LogServed { source: source.clone(), lineage: context.lineage });
    // Points that were made while nothing was served, or by a log that was put back since, are without their log.
    let behind = log.kept.as_ref().is_none_or(|kept| kept.lineage != context.lineage);
    let due = behind || log.owed.is_some() || log.failed.is_some();
    if due && !repository.points.is_empty() && !under_way(repository, None) {
        order(repository, source, context.frame, (&mut draft, context));
    }
    Ok(draft.done())
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
pub(super) fn ended(outcome: &Outcome, failure: Option<Failure>) -> Result<(Lineage, Seq, Digest), Failure> {
    if let Outcome::LogKept { lineage, seq, hash, fetched: _ } = outcome {
        return Ok((*lineage, *seq, *hash));
    }
    Err(failure.unwrap_or_else(|| unexpected_outcome("the keeping of the log")))
}

/// A shipment has ended. What came to be owed meanwhile is ordered at once, as is one that failed because the control has moved.
pub(super) fn kept(
    repository: &Defined,
    (ordinal, told): (u64, &TaskSpec),
    ended: Result<(Lineage, Seq, Digest), Failure>,
    (draft, context): (&mut RepositoryDraft<'_>, &Context),
) {
    let at = context.now;
    let (failed, reached) = match ended {
        Ok((lineage, seq, hash)) => {
            draft.event(Event::LogKept { lineage, seq, hash, at });
            (false, Some((lineage, seq)))
        }
        Err(failure) => {
            draft.event(Event::LogNotKept { failure, at, again: at.after(RETRY_AFTER) });
            (true, None)
        }
    };
    let Some(source) = &repository.log.source else { return };
    let moved = failed && !matches!(told, TaskSpec::KeepLog { source: asked, .. } if asked == source);
    let reaches = |least: Seq| reached.is_some_and(|(lineage, seq)| lineage == context.lineage && seq >= least);
    let owed = repository.log.owed.filter(|least| !reaches(*least) && !failed);
    let older = reached.is_some_and(|(lineage, _)| lineage != context.lineage);
    if (moved || older || owed.is_some()) && !under_way(repository, Some(ordinal)) {
        order(repository, source, context.frame, (draft, context));
    }
}
