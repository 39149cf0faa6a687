//! Listing VMs: by difference, absence only once a listing is complete, and what a listing after a return shows.

use super::decide::{HostDraft, draft, me};
use super::{Defined, RETRY_AFTER, Rejection, power, question};
use crate::decider::{Context, Decision, Send};
use crate::refusal::{failure_of, unexpected_outcome};
use farshore_schemas::ids::{Address, Kind, VmName};
use farshore_schemas::messages::agent::{Outcome, TaskSpec};
use farshore_schemas::messages::host::{Event, VmFacts, Work};
use farshore_schemas::messages::{Message, session};
use farshore_schemas::units::Timestamp;
use std::collections::BTreeMap;

/// Whether a listing is under way.
pub(super) fn listing(host: &Defined) -> bool {
    host.orders.open.values().any(|open| open.work == Work::Discover)
}

/// By the operator.
pub(super) fn discover(host: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    if listing(host) {
        return Err(Rejection::Discovering { host: me(context).clone() });
    }
    let mut draft = draft(host, context);
    order(host, &mut draft, context);
    Ok(draft.done())
}

pub(super) fn order(host: &Defined, draft: &mut HostDraft<'_>, context: &Context) {
    draft.order(TaskSpec::Discover { host: me(context).clone() }, None, Work::Discover);
    draft.event(Event::DiscoveryDue { next: context.now.after(host.discovery_every()) });
}

/// At its time: a listing that is still under way stands for the one that is due.
pub(super) fn due(host: &Defined, draft: &mut HostDraft<'_>, context: &Context) {
    if listing(host) {
        draft.event(Event::DiscoveryDue { next: context.now.after(host.discovery_every()) });
    } else {
        order(host, draft, context);
    }
}

/// After a restart of this site's control: guests may have gone down meanwhile.
pub(super) fn returned(host: &Defined, context: &Context) -> Decision<Event> {
    if host.link.agent.is_none() {
        return Decision::none(); // Its coming begins the listing.
    }
    let mut draft = draft(host, context);
    draft.event(Event::ReturnBegan);
    if !listing(host) {
        order(host, &mut draft, context);
    }
    draft.done()
}

pub(super) fn list(host: &Defined, vms: &[VmName], context: &Context) -> Result<Decision<Event>, Rejection> {
    let asker = context.from.clone();
    if asker.entity.kind != Kind::Session {
        return Err(Rejection::AskerKind { from: asker });
    }
    if host.revision == 0 {
        return Err(Rejection::NotDiscovered { host: me(context).clone() });
    }
    let wanted = |facts: &&VmFacts| vms.is_empty() || vms.contains(&facts.vm);
    let vms = host.inventory.values().filter(wanted).cloned().collect();
    let told = session::Command::VmsListed { mover: host.spec.mover.clone(), vms };
    Ok(Decision::none().and_send(Send::new(asker, Message::Session(told))))
}

/// A page of a listing, or its failure.
pub(super) fn page(host: &Defined, ordinal: u64, outcome: &Outcome, draft: &mut HostDraft<'_>, context: &Context) {
    let Outcome::Inventory { vms, last } = outcome else {
        let failure = failure_of(outcome).unwrap_or_else(|| unexpected_outcome("a listing of VMs"));
        draft.event(Event::OrderEnded { ordinal, failure: Some(failure.clone()) });
        draft.event(Event::ListingFailed { failure, at: context.now });
        let soon = RETRY_AFTER.min(host.discovery_every());
        draft.event(Event::DiscoveryDue { next: context.now.after(soon) });
        return;
    };
    if !last {
        draft.event(Event::PageListed { ordinal, vms: vms.clone() });
        return;
    }
    let all = host.pages.values().chain(vms);
    let listed: BTreeMap<VmName, VmFacts> = all.map(|facts| (facts.vm.clone(), newest(host, facts))).collect();
    let found_down = found_down(host, &listed);
    draft.event(Event::OrderEnded { ordinal, failure: None });
    draft.event(difference(host, &listed, vms, context.now));
    for (vm, asked) in found_down {
        question::found_down(&vm, asked, draft, context);
    }
    if host.overtaken.iter().any(|vm| !listed.contains_key(vm)) {
        order(host, draft, context); // Its disks are not known yet, or it is gone by now.
    }
}

/// A listed VM, but running or not as was heard since the listing was ordered.
fn newest(host: &Defined, listed: &VmFacts) -> VmFacts {
    let known = host.inventory.get(&listed.vm).filter(|_| host.overtaken.contains(&listed.vm));
    VmFacts { running: known.map_or(listed.running, |known| known.running), ..listed.clone() }
}

/// What a complete listing changes. Pages before the last are in the state, so the event repeats none of them but where
/// something newer was heard.
fn difference(host: &Defined, listed: &BTreeMap<VmName, VmFacts>, last: &[VmFacts], at: Timestamp) -> Event {
    let differs = |facts: &&VmFacts| host.inventory.get(&facts.vm) != Some(*facts);
    let unheard = |vm: &&VmName| !listed.contains_key(*vm) && !host.overtaken.contains(*vm);
    let gone: Vec<VmName> = host.inventory.keys().filter(unheard).cloned().collect();
    let changed = listed.values().any(|facts| differs(&facts)) || !gone.is_empty();
    if !changed && host.revision > 0 {
        return Event::InventoryConfirmed { revision: host.revision, at };
    }
    let of_last = last.iter().filter_map(|facts| listed.get(&facts.vm)).filter(differs);
    let corrected = host.pages.keys().filter(|vm| host.overtaken.contains(*vm)).filter_map(|vm| listed.get(vm));
    let changed = of_last.chain(corrected).cloned().collect();
    Event::InventoryChanged { revision: host.revision + 1, changed, gone, at }
}

/// Protected guests that ran, and that the first listing after a return shows as down although nobody stops them.
fn found_down(host: &Defined, listed: &BTreeMap<VmName, VmFacts>) -> Vec<(VmName, Vec<Address>)> {
    if !host.returning {
        return Vec::new();
    }
    let ran = host.inventory.values().filter(|facts| facts.running);
    ran.filter(|facts| listed.get(&facts.vm).is_some_and(|now| !now.running))
        .filter(|facts| !power::under_way(host, &facts.vm))
        .filter_map(|facts| Some((facts.vm.clone(), question::replicas(host, &facts.vm)?)))
        .collect()
}
