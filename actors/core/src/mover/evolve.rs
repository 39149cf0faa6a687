use super::{Agent, Defined, State, Task};
use farshore_schemas::messages::mover::Event;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::Defined { spec } => match state {
            State::Undefined { agent } => {
                let agent = agent.take();
                *state = State::Defined(Box::new(Defined {
                    spec: spec.clone(),
                    agent,
                    registered: BTreeSet::new(),
                    tasks: BTreeMap::new(),
                }));
            }
            State::Defined(mover) => mover.spec = spec.clone(),
        },
        Event::Removed => match state {
            State::Undefined { .. } => {}
            State::Defined(mover) => *state = State::Undefined { agent: mover.agent.take() },
        },
        Event::AgentSeen { incarnation, endpoint, version, cores, under, at } => {
            let seen = Agent {
                incarnation: *incarnation,
                endpoint: endpoint.clone(),
                version: version.clone(),
                cores: *cores,
                under: *under,
                seen: *at,
            };
            match state {
                State::Undefined { agent } => *agent = Some(seen),
                State::Defined(mover) => mover.agent = Some(seen),
            }
        }
        Event::AgentAwaited => match state {
            State::Undefined { agent } => *agent = None,
            State::Defined(mover) => mover.agent = None,
        },
        Event::Registered { .. }
        | Event::Unregistered { .. }
        | Event::Assigned { .. }
        | Event::CancelAsked { .. }
        | Event::TaskEnded { .. }
        | Event::OutcomeUnwanted { .. } => match state {
            State::Undefined { .. } => {}
            State::Defined(mover) => fold_defined(mover, event),
        },
    }
}

fn fold_defined(mover: &mut Defined, event: &Event) {
    match event {
        Event::Defined { .. }
        | Event::Removed
        | Event::AgentSeen { .. }
        | Event::AgentAwaited
        | Event::OutcomeUnwanted { .. } => {}
        Event::Registered { who } => {
            mover.registered.insert(who.clone());
        }
        Event::Unregistered { who } => {
            mover.registered.remove(who);
        }
        Event::Assigned { order } => {
            let task = Task { order: order.as_ref().clone(), cancelling: false };
            mover.tasks.insert(order.task.clone(), task);
        }
        Event::CancelAsked { task } => {
            if let Some(open) = mover.tasks.get_mut(task) {
                open.cancelling = true;
            }
        }
        Event::TaskEnded { task, failure: _ } => {
            mover.tasks.remove(task);
        }
    }
}
