//! What each event of a job changes.

use super::{Job, LastRun, Running, State};
use farshore_schemas::messages::SessionResult;
use farshore_schemas::messages::job::{Event, JobSpec, Trigger};
use farshore_schemas::units::Timestamp;
use std::collections::BTreeMap;

pub(super) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::Defined { spec, at } => defined(state, spec, *at),
        Event::Removed => {
            let runs = runs(state);
            *state = State::Removed { runs };
        }
        Event::Enabled { enabled, at } => with(state, |job| {
            job.enabled = *enabled;
            job.cursor = *at;
        }),
        Event::RunStarted { session, run, trigger, at, .. } => with(state, |job| {
            job.runs = *run;
            job.running = Some(Running { session: session.clone(), started: *at, stopping: false });
            match trigger {
                Trigger::Slot { due, .. } => job.cursor = *due,
                Trigger::Manual | Trigger::Once => {}
            }
        }),
        Event::StopRequested { .. } => with(state, |job| {
            if let Some(running) = &mut job.running {
                running.stopping = true;
            }
        }),
        Event::RunEnded { session, result, protected, at, .. } => with(state, |job| {
            job.running = None;
            job.last = Some(LastRun { session: session.clone(), result: *result, ended: *at });
            if *result != SessionResult::None {
                job.last_success.extend(protected.iter().map(|vm| (vm.clone(), *at)));
            }
        }),
    }
}

fn defined(state: &mut State, spec: &JobSpec, at: Timestamp) {
    match state {
        State::New | State::Removed { .. } => {
            let job = Job {
                spec: spec.clone(),
                enabled: true,
                cursor: at,
                runs: runs(state),
                running: None,
                last: None,
                last_success: BTreeMap::new(),
            };
            *state = State::Defined(Box::new(job));
        }
        State::Defined(job) => {
            if job.spec.schedule != spec.schedule {
                job.cursor = at;
            }
            job.spec = spec.clone();
        }
    }
}

fn runs(state: &State) -> u64 {
    match state {
        State::New => 0,
        State::Defined(job) => job.runs,
        State::Removed { runs } => *runs,
    }
}

fn with(state: &mut State, change: impl FnOnce(&mut Job)) {
    match state {
        State::Defined(job) => change(job),
        State::New | State::Removed { .. } => {}
    }
}
