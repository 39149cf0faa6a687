//! Which mover gets a request, and the lines that say why.

use super::{MoverState, State, Wait};
use farshore_schemas::ids::Name;
use std::cmp::Ordering;

/// A grant that can be made now.
pub(super) struct Choice {
    pub(super) mover: Name,
    pub(super) reasons: Vec<String>,
}

/// The most lines of reasons; a redecide gives the rest.
const MAX_REASONS: usize = 5;

struct Candidate<'a> {
    name: &'a Name,
    mover: &'a MoverState,
    used: u32,
}

impl Candidate<'_> {
    fn free(&self) -> bool {
        self.mover.endpoint.is_some() && self.used < self.mover.spec.slots
    }

    /// Free ones first, then the smaller load, then the name. Load is used/slots, compared without division.
    fn rank(&self, other: &Self) -> Ordering {
        let load = |a: &Self, b: &Self| u64::from(a.used) * u64::from(b.mover.spec.slots);
        other
            .free()
            .cmp(&self.free())
            .then_with(|| load(self, other).cmp(&load(other, self)))
            .then_with(|| self.name.cmp(other.name))
    }

    fn reason(&self, chosen: bool) -> String {
        let why = if chosen {
            "chosen"
        } else if self.mover.endpoint.is_none() {
            "out of reach"
        } else if self.free() {
            "free, but more loaded or later by name"
        } else {
            "full"
        };
        format!("{}: direct, {}/{} slots, {why}", self.name, self.used, self.mover.spec.slots)
    }
}

/// The mover for a request, when one is free.
pub(super) fn choose(state: &State, wait: &Wait) -> Option<Choice> {
    let fits = |name: &Name, mover: &MoverState| {
        mover.spec.roles.contains(&wait.role) && wait.must.as_ref().is_none_or(|must| must == name)
    };
    let mut candidates: Vec<Candidate<'_>> = state
        .movers
        .iter()
        .filter(|(name, mover)| fits(name, mover))
        .map(|(name, mover)| Candidate { name, mover, used: state.used(name) })
        .collect();
    candidates.sort_by(Candidate::rank);
    let best = candidates.first().filter(|candidate| candidate.free())?;
    Some(Choice { mover: best.name.clone(), reasons: reasons(&candidates) })
}

/// One line per candidate, the chosen one first; the last line counts those left out.
fn reasons(candidates: &[Candidate<'_>]) -> Vec<String> {
    let shown = if candidates.len() > MAX_REASONS { MAX_REASONS - 1 } else { candidates.len() };
    let mut lines: Vec<String> =
        candidates.iter().take(shown).enumerate().map(|(at, candidate)| candidate.reason(at == 0)).collect();
    if candidates.len() > shown {
        lines.push(format!("and {} more", candidates.len() - shown));
    }
    lines
}
