use super::{Lease, MoverState, State, Wait};
use farshore_schemas::messages::broker::Event;

pub(super) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::MoverKnown { mover, spec, endpoint } => {
            state.movers.insert(mover.clone(), MoverState { spec: spec.clone(), endpoint: endpoint.clone() });
        }
        Event::MoverGone { mover } => {
            state.movers.remove(mover);
        }
        Event::SlotAsked { holder, slot, role, must, priority, arrival } => {
            let wait = Wait { role: *role, must: must.clone(), priority: *priority, arrival: *arrival };
            state.waiting.insert((holder.clone(), slot.clone()), wait);
            state.arrivals = state.arrivals.max(arrival.saturating_add(1));
        }
        Event::SlotGranted { holder, slot, mover, reasons } => {
            let key = (holder.clone(), slot.clone());
            state.waiting.remove(&key);
            state.leases.insert(key, Lease { mover: mover.clone(), reasons: reasons.clone(), told: 1 });
        }
        Event::SlotToldAgain { holder, slot } => {
            if let Some(lease) = state.leases.get_mut(&(holder.clone(), slot.clone())) {
                lease.told = lease.told.saturating_add(1);
            }
        }
        Event::GrantRefused { holder, slot, code: _ } => {
            let key = (holder.clone(), slot.clone());
            match state.leases.get_mut(&key) {
                Some(lease) if lease.told > 1 => lease.told -= 1,
                Some(_) => {
                    state.leases.remove(&key);
                }
                None => {}
            }
        }
        Event::SlotFreed { holder, slot } | Event::LeaseEnded { holder, slot, mover: _ } => {
            state.leases.remove(&(holder.clone(), slot.clone()));
        }
        Event::SlotWithdrawn { holder, slot } => {
            state.waiting.remove(&(holder.clone(), slot.clone()));
        }
    }
}
