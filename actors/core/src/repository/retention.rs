//! Retention: which points are forgotten, and when that is looked at. With each point its VM and job are, and once a day all,
//! by the rule that their last point came with, where any has a rule of dates, a hold that ends or what is immutable.
//!
//! The clock may be wrong. A rule that counts points does not ask it. What dates decide is decided by a time that follows the
//! clock back at once, and ahead over more than two days only when the clock has said so for a day: until then nothing becomes
//! old. A site that was off is believed a day after its start.

use super::decide::RepositoryDraft;
use super::keep::{Rule, kept};
use super::points::verifying;
use super::{Defined, Point, prune};
use crate::decider::Context;
use farshore_schemas::ids::{Name, PointId, VmRef};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::{Event, RestorePoint};
use farshore_schemas::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How often dates are looked at.
const DAY: Millis = Millis::from_mins(24 * 60);
/// A clock that is further ahead of its last reading than this has jumped, or the site was off.
const JUMP: Millis = Millis::from_mins(2 * 24 * 60);

/// What retention knows of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// When it last looked, by the clock.
    pub read: Timestamp,
    /// What it counts with.
    pub counts: Timestamp,
    /// Since when the clock is too far ahead to be believed, if it is.
    pub doubt: Option<Timestamp>,
}

impl Calendar {
    /// The calendar after it was read.
    pub(super) fn after(before: Option<Calendar>, (read, counts): (Timestamp, Timestamp)) -> Calendar {
        let since = before.and_then(|before| before.doubt).unwrap_or(read);
        Calendar { read, counts, doubt: (counts != read).then_some(since) }
    }
}

impl Defined {
    /// Whether dates decide about any point.
    fn is_dated(&self) -> bool {
        let looked = self.calendar.map(|calendar| calendar.counts);
        let to_come = |until: Timestamp| looked.is_none_or(|looked| until > looked);
        let ends = |point: &Point| {
            let held = point.held.as_ref().and_then(|hold| hold.until);
            held.into_iter().chain(point.immutable).any(to_come)
        };
        self.rules.values().any(Keep::is_dated) || self.points.values().chain(self.forgotten.values()).any(ends)
    }

    /// When dates are to be looked at next.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        let next = self.calendar.map_or(Timestamp::default(), |calendar| calendar.read.after(DAY));
        self.is_dated().then_some(next)
    }

    /// The time by which a point is old.
    fn counts_with(&self, now: Timestamp) -> Timestamp {
        let jumped = |calendar: &Calendar| now > calendar.counts.after(JUMP);
        self.calendar.filter(jumped).map_or(now, |calendar| calendar.counts)
    }

    /// The same when a look has come: a clock that was doubted for a day is believed.
    fn believes(&self, now: Timestamp) -> Timestamp {
        let doubted = self.calendar.and_then(|calendar| calendar.doubt);
        if doubted.is_some_and(|since| now >= since.after(DAY)) { now } else { self.counts_with(now) }
    }

    /// The points of a VM and job, in the order in which they were made.
    fn chain(&self, (vm, job): (&VmRef, &Name)) -> Vec<&Point> {
        let ours = |point: &&Point| point.facts.vm == *vm && point.facts.job == *job;
        let mut chain: Vec<&Point> = self.points.values().filter(ours).collect();
        chain.sort_by_key(|point| point.made);
        chain
    }
}

impl Point {
    /// Whether it must stay at this time.
    pub fn is_immutable(&self, now: Timestamp) -> bool {
        self.immutable.is_some_and(|until| until > now)
    }
}

/// What is forgotten once `added` is there.
pub(super) fn beyond(repository: &Defined, (added, keep): (&RestorePoint, &Keep), now: Timestamp) -> Vec<PointId> {
    let mut chain: Vec<&RestorePoint> =
        repository.chain((&added.vm, &added.job)).into_iter().map(|point| &point.facts).collect();
    chain.push(added);
    forgotten(repository, &chain, (keep, repository.counts_with(now)))
}

/// Points that no rule keeps, but for those held by an operator, immutable, read by an open access or being checked.
fn forgotten(repository: &Defined, chain: &[&RestorePoint], (keep, now): (&Keep, Timestamp)) -> Vec<PointId> {
    let taken: Vec<Timestamp> = chain.iter().map(|facts| facts.taken).collect();
    let read = repository.accesses.values().filter_map(|access| access.point.as_ref());
    let stay =
        repository.points.iter().filter(|(_, point)| point.is_held(now) || point.is_immutable(now)).map(|(id, _)| id);
    let needed: BTreeSet<&PointId> = read.chain(stay).collect();
    let goes = |(facts, rule): (&&RestorePoint, Option<Rule>)| {
        let goes = rule.is_none() && !needed.contains(&facts.point) && !verifying(repository, &facts.point);
        goes.then(|| facts.point.clone())
    };
    chain.iter().zip(kept(&taken, keep, now)).filter_map(goes).collect()
}

/// A clock that was set back to before the last look: looks would wait until it comes there again.
pub(super) fn set_back(repository: &Defined, draft: &mut RepositoryDraft<'_>, context: &Context) {
    if repository.calendar.is_some_and(|calendar| calendar.read > context.now) {
        draft.event(Event::CalendarRead { at: context.now, counts: context.now });
    }
}

/// Looks at all dates when it is time to, has what is old marked, and goes on with prunes.
pub(super) fn wake(repository: &Defined, draft: &mut RepositoryDraft<'_>, context: &Context) {
    if repository.next_look().is_none_or(|due| due > context.now) {
        prune::wake(repository, (&[], None), draft, context);
        return;
    }
    let counts = repository.believes(context.now);
    draft.event(Event::CalendarRead { at: context.now, counts });
    let mut gone = Vec::new();
    for ((vm, job), keep) in &repository.rules {
        let chain: Vec<&RestorePoint> = repository.chain((vm, job)).into_iter().map(|point| &point.facts).collect();
        gone.extend(forgotten(repository, &chain, (keep, counts)));
    }
    gone.iter().for_each(|point| draft.event(Event::PointForgotten { point: point.clone() }));
    prune::wake(repository, (&gone, Some(counts)), draft, context);
}
