//! Holds: an operator keeps a point from retention, until a date or until it is released.

use super::points::usable;
use super::{Defined, Point, Rejection};
use crate::decider::{Context, Decision};
use farshore_schemas::ids::PointId;
use farshore_schemas::messages::repository::{Event, Hold};
use farshore_schemas::units::Timestamp;

impl Point {
    /// Whether it is held at this time.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.held.as_ref().is_some_and(|hold| hold.until.is_none_or(|until| until > now))
    }
}

pub(super) fn hold(
    repository: &Defined,
    point: &PointId,
    (until, reason): (Option<Timestamp>, &str),
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let before = usable(repository, point)?.held.as_ref();
    if reason.trim().is_empty() {
        return Err(Rejection::HoldReason { point: point.clone() });
    }
    if until.is_some_and(|until| until <= context.now) {
        return Err(Rejection::HoldPast { point: point.clone() });
    }
    if before.is_some_and(|before| (before.until, before.reason.as_str()) == (until, reason)) {
        return Err(Rejection::HoldUnchanged { point: point.clone(), held: true });
    }
    let hold = Hold { by: context.principal.clone(), reason: reason.to_owned(), since: context.now, until };
    Ok(Decision::event(Event::HoldSet { point: point.clone(), hold }))
}

pub(super) fn release(repository: &Defined, point: &PointId, context: &Context) -> Result<Decision<Event>, Rejection> {
    if usable(repository, point)?.held.is_none() {
        return Err(Rejection::HoldUnchanged { point: point.clone(), held: false });
    }
    let (by, at) = (context.principal.clone(), context.now);
    Ok(Decision::event(Event::HoldReleased { point: point.clone(), by, at }))
}
