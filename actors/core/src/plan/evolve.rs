//! What each event of a plan changes.

use super::{Report, Run, State};
use farshore_schemas::messages::plan::{Event, PlanSpec};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::Defined { spec } => defined(state, spec),
        Event::Removed => *state = State::New,
        Event::RunStarted { action, point, forced, order, at, .. } => {
            let run = Run {
                action: *action,
                point: point.clone(),
                forced: forced.clone(),
                started: *at,
                left: order.clone(),
                next: *at,
                under_way: BTreeSet::new(),
                ended: BTreeMap::new(),
            };
            match state {
                State::New => {}
                State::Idle { spec, .. } | State::Running { spec, .. } => {
                    *state = State::Running { spec: spec.clone(), run: Box::new(run) };
                }
            }
        }
        Event::StepStarted { replica, next, .. } => with(state, |run| {
            run.left.retain(|step| step.replica != *replica);
            run.under_way.insert(replica.clone());
            run.next = *next;
        }),
        Event::StepEnded { replica, failure, .. } => with(state, |run| {
            run.under_way.remove(replica);
            run.ended.insert(replica.clone(), failure.clone());
        }),
        Event::RunEnded { action, result, at, .. } => match state {
            State::New | State::Idle { .. } => {}
            State::Running { spec, run } => {
                let last = Report { action: *action, result: *result, steps: run.ended.clone(), ended: *at };
                *state = State::Idle { spec: spec.clone(), last: Some(last) };
            }
        },
    }
}

fn defined(state: &mut State, spec: &PlanSpec) {
    let last = match state {
        State::New | State::Running { .. } => None,
        State::Idle { last, .. } => last.take(),
    };
    *state = State::Idle { spec: spec.clone(), last };
}

fn with(state: &mut State, change: impl FnOnce(&mut Run)) {
    match state {
        State::New | State::Idle { .. } => {}
        State::Running { run, .. } => change(run),
    }
}
