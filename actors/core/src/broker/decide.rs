use super::{Lease, Rejection, State, Wait, choose};
use crate::decider::{Context, Decision, Input, Send};
use farshore_schemas::ids::{Address, Kind, Name};
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::messages::broker::{Command, Event};
use farshore_schemas::messages::mover::MoverSpec;
use farshore_schemas::messages::{Message, Refused, replica, session};
use std::cmp::Reverse;

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
    let events = match input {
        Input::Command(Command::MoverIs { mover, spec, endpoint }) => {
            mover_is(state, mover, (spec.as_ref(), endpoint.as_ref()), context)?
        }
        Input::Command(Command::RequestSlot { slot, role, must, priority }) => {
            let wait = Wait { role: *role, must: must.clone(), priority: *priority, arrival: state.arrivals };
            request(state, slot, wait, context)?
        }
        Input::Command(Command::ReleaseSlot { slot }) => release(state, &(context.from.clone(), slot.clone())),
        Input::Command(Command::ReleaseAll { holder }) => release_all(state, holder),
        Input::Refused(refused) => grant_refused(state, refused)?,
        Input::Wake => return Err(Rejection::NotDue),
    };
    Ok(with_grants(state, events))
}

fn mover_is(
    state: &State,
    mover: &Name,
    (spec, endpoint): (Option<&MoverSpec>, Option<&Endpoint>),
    context: &Context,
) -> Result<Vec<Event>, Rejection> {
    if context.from != context.here(Kind::Mover, mover) {
        return Err(Rejection::NotTheMover { mover: mover.clone(), from: context.from.clone() });
    }
    let ended =
        || {
            state.leases.iter().filter(|(_, lease)| lease.mover == *mover).map(|((holder, slot), _)| {
                Event::LeaseEnded { holder: holder.clone(), slot: slot.clone(), mover: mover.clone() }
            })
        };
    match spec {
        None if !state.movers.contains_key(mover) => Err(Rejection::MoverUnknown { mover: mover.clone() }),
        None => Ok(ended().chain([Event::MoverGone { mover: mover.clone() }]).collect()),
        Some(spec) => {
            let known = Event::MoverKnown { mover: mover.clone(), spec: spec.clone(), endpoint: endpoint.cloned() };
            // Out of reach: what was leased there cannot be used, and its holders learn of it from their tasks.
            Ok(if endpoint.is_none() { ended().chain([known]).collect() } else { vec![known] })
        }
    }
}

fn request(state: &State, slot: &Name, wait: Wait, context: &Context) -> Result<Vec<Event>, Rejection> {
    let holder = context.from.clone();
    is_holder(&holder)?;
    let key = (holder.clone(), slot.clone());
    if state.leases.contains_key(&key) {
        return Ok(vec![Event::SlotToldAgain { holder, slot: slot.clone() }]);
    }
    let known = wait.must.as_ref().and_then(|must| state.movers.get_key_value(must));
    if let Some((mover, _)) = known.filter(|(_, mover)| !mover.spec.roles.contains(&wait.role)) {
        return Err(Rejection::RoleMissing { mover: mover.clone(), role: wait.role });
    }
    let arrival = state.waiting.get(&key).map_or(wait.arrival, |before| before.arrival);
    let Wait { role, must, priority, arrival: _ } = wait;
    Ok(vec![Event::SlotAsked { holder, slot: slot.clone(), role, must, priority, arrival }])
}

/// Who may hold a slot: exactly those that can be told of a grant.
fn is_holder(holder: &Address) -> Result<(), Rejection> {
    match holder.entity.kind {
        Kind::Session | Kind::Replica => Ok(()),
        Kind::Site
        | Kind::Host
        | Kind::Mover
        | Kind::Repository
        | Kind::Broker
        | Kind::Job
        | Kind::Plan
        | Kind::Agent
        | Kind::Api => Err(Rejection::HolderKind { holder: holder.clone() }),
    }
}

/// Never refused: what is not held is not missed.
fn release(state: &State, key: &(Address, Name)) -> Vec<Event> {
    let (holder, slot) = key.clone();
    if state.leases.contains_key(key) {
        return vec![Event::SlotFreed { holder, slot }];
    }
    if state.waiting.contains_key(key) {
        return vec![Event::SlotWithdrawn { holder, slot }];
    }
    Vec::new()
}

fn release_all(state: &State, holder: &Address) -> Vec<Event> {
    let of_holder = |key: &&(Address, Name)| key.0 == *holder;
    state
        .leases
        .keys()
        .filter(of_holder)
        .chain(state.waiting.keys().filter(of_holder))
        .flat_map(|key| release(state, key))
        .collect()
}

/// A holder that is gone, or wants nothing more, refuses the grant: the slot must not stay with it.
fn grant_refused(state: &State, refused: &Refused) -> Result<Vec<Event>, Rejection> {
    let (Message::Session(session::Command::SlotGranted { slot, .. })
    | Message::Replica(replica::Command::SlotGranted { slot, .. })) = &refused.message
    else {
        return Err(unexpected(refused));
    };
    let (holder, slot) = (refused.by.clone(), slot.clone());
    if !state.leases.contains_key(&(holder.clone(), slot.clone())) {
        return Err(unexpected(refused));
    }
    Ok(vec![Event::GrantRefused { holder, slot, code: refused.refusal.code.clone() }])
}

fn unexpected(refused: &Refused) -> Rejection {
    Rejection::RefusalUnexpected { by: refused.by.clone(), code: refused.refusal.code.clone() }
}

/// Adds what can be granted after `events`, and tells every holder.
fn with_grants(state: &State, mut events: Vec<Event>) -> Decision<Event> {
    let mut after = state.clone();
    events.iter().for_each(|event| super::evolve::evolve(&mut after, event));
    let mut queue: Vec<((Address, Name), Wait)> =
        after.waiting.iter().map(|(key, wait)| (key.clone(), wait.clone())).collect();
    queue.sort_by_key(|(_, wait)| (Reverse(wait.priority), wait.arrival));
    for ((holder, slot), wait) in queue {
        let Some(choice) = choose::choose(&after, &wait) else { continue };
        let grant = Event::SlotGranted { holder, slot, mover: choice.mover, reasons: choice.reasons };
        super::evolve::evolve(&mut after, &grant);
        events.push(grant);
    }
    let sends = events.iter().filter_map(|event| tell(&after, event)).collect();
    Decision { events, sends }
}

fn tell(after: &State, event: &Event) -> Option<Send> {
    match event {
        Event::SlotGranted { holder, slot, .. } | Event::SlotToldAgain { holder, slot } => {
            let lease = after.leases.get(&(holder.clone(), slot.clone()))?;
            let endpoint = after.movers.get(&lease.mover)?.endpoint.clone()?;
            Some(Send::new(holder.clone(), granted(holder, slot, lease, endpoint)))
        }
        Event::MoverKnown { .. }
        | Event::MoverGone { .. }
        | Event::SlotAsked { .. }
        | Event::GrantRefused { .. }
        | Event::SlotFreed { .. }
        | Event::SlotWithdrawn { .. }
        | Event::LeaseEnded { .. } => None,
    }
}

fn granted(holder: &Address, slot: &Name, lease: &Lease, endpoint: Endpoint) -> Message {
    let (slot, mover, reasons) = (slot.clone(), lease.mover.clone(), lease.reasons.clone());
    if holder.entity.kind == Kind::Replica {
        Message::Replica(replica::Command::SlotGranted { slot, mover, endpoint, reasons })
    } else {
        Message::Session(session::Command::SlotGranted { slot, mover, endpoint, reasons })
    }
}
