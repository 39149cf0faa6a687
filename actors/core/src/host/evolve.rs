use super::inventory::listing;
use super::{Defined, Holder, KeptDown, ListingFailed, Question, Read, ReadStatus, Right, State, Why};
use crate::orders::{Link, Orders};
use farshore_schemas::ids::{Address, VmName, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::host::{Event, HostSpec, VmFacts, Work};
use farshore_schemas::units::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn evolve(state: &mut State, event: &Event) {
    match state {
        State::Undefined { next_order, rights } => {
            if let Event::Defined { spec } = event {
                let defined = fresh(spec, *next_order, std::mem::take(rights));
                *state = State::Defined(Box::new(defined));
            }
        }
        State::Defined(host) => {
            if *event == Event::Removed {
                let rights = std::mem::take(&mut host.rights);
                *state = State::Undefined { next_order: host.orders.next, rights };
            } else {
                fold_defined(host, event);
            }
        }
    }
}

fn fresh(spec: &HostSpec, next_order: u64, rights: BTreeMap<VmRef, Right>) -> Defined {
    Defined {
        spec: spec.clone(),
        link: Link::default(),
        orders: Orders::from_ordinal(next_order),
        inventory: BTreeMap::new(),
        revision: 0,
        listed: None,
        listing_failed: None,
        pages: BTreeMap::new(),
        overtaken: BTreeSet::new(),
        discovery_due: None,
        returning: false,
        reads: BTreeMap::new(),
        protected: BTreeMap::new(),
        asked: BTreeMap::new(),
        kept_down: BTreeMap::new(),
        rights,
    }
}

fn fold_defined(host: &mut Defined, event: &Event) {
    match event {
        Event::Removed => {}
        Event::Defined { spec } => {
            if host.spec.mover != spec.mover {
                host.link = Link::default();
            }
            if (&host.spec.mover, &host.spec.driver) != (&spec.mover, &spec.driver) {
                host.listing_failed = None; // What failed was another folder.
            }
            host.spec = spec.clone();
        }
        Event::RegisterRefused { code: _, again } => host.link.refused(*again),
        Event::RegisteredAgain => host.link.again = None,
        Event::AgentSeen { incarnation, endpoint } => {
            if host.link.seen(*incarnation, endpoint) {
                host.pages.clear(); // A listing of the one before is not gone on with.
            }
        }
        Event::ReturnBegan => host.returning = true,
        Event::Ordered { order, work } => {
            host.orders.ordered(order, work);
            ordered(host, work);
        }
        Event::OrderEnded { ordinal, failure: _ } => {
            host.orders.ended(*ordinal);
        }
        Event::DiscoveryDue { .. }
        | Event::PageListed { .. }
        | Event::InventoryChanged { .. }
        | Event::InventoryConfirmed { .. }
        | Event::ListingFailed { .. }
        | Event::VmMade { .. } => fold_inventory(host, event),
        Event::ReadBegan { .. }
        | Event::ReadReady { .. }
        | Event::ReadEnding { .. }
        | Event::ReadEndDelayed { .. }
        | Event::ReadEnded { .. } => fold_reads(host, event),
        Event::Protected { .. }
        | Event::Unprotected { .. }
        | Event::RightGranted { .. }
        | Event::RightGivenUp { .. }
        | Event::EpochConflict { .. }
        | Event::EpochLearned { .. }
        | Event::EpochsRecalled { .. }
        | Event::RightForced { .. } => fold_rights(host, event),
        Event::GuestStarted { .. } | Event::GuestStopped { .. } | Event::GuestObserved { .. } => {
            fold_guests(host, event)
        }
        Event::GuestFoundDown { .. }
        | Event::StartAsked { .. }
        | Event::QuestionRepeated { .. }
        | Event::QuestionDropped { .. }
        | Event::KeptDown { .. }
        | Event::QuestionRefused { .. } => fold_questions(host, event),
    }
}

/// What an order means for what it is about.
fn ordered(host: &mut Defined, work: &Work) {
    match work {
        Work::Discover => {
            host.pages.clear();
            host.overtaken.clear();
        }
        Work::EndRead { vm, reader } => set_read(host, vm, reader, |_| ReadStatus::Ending),
        Work::BeginRead { .. } | Work::Create { .. } | Work::Start { .. } | Work::Stop { .. } | Work::Write { .. } => {}
    }
}

fn fold_inventory(host: &mut Defined, event: &Event) {
    if let Event::DiscoveryDue { next } = event {
        host.discovery_due = Some(*next);
    }
    if let Event::PageListed { ordinal: _, vms } = event {
        host.pages.extend(vms.iter().map(|facts| (facts.vm.clone(), facts.clone())));
    }
    if let Event::InventoryChanged { revision, changed, gone, at } = event {
        let pages = std::mem::take(&mut host.pages);
        host.inventory.extend(pages);
        host.inventory.extend(changed.iter().map(|facts| (facts.vm.clone(), facts.clone())));
        for vm in gone {
            host.inventory.remove(vm);
            host.asked.remove(vm);
            host.kept_down.remove(vm);
        }
        host.revision = *revision;
        complete(host, *at);
    }
    if let Event::InventoryConfirmed { revision: _, at } = event {
        host.pages.clear();
        complete(host, *at);
    }
    if let Event::ListingFailed { failure, at } = event {
        host.listing_failed = Some(ListingFailed { failure: failure.clone(), at: *at });
    }
    if let Event::VmMade { facts } = event {
        host.inventory.insert(facts.vm.clone(), facts.clone());
        overtake(host, &facts.vm);
    }
}

/// What was heard of this VM is newer than what a listing that is under way may say.
fn overtake(host: &mut Defined, vm: &VmName) {
    if listing(host) {
        host.overtaken.insert(vm.clone());
    }
}

/// A listing was complete.
fn complete(host: &mut Defined, at: Timestamp) {
    host.overtaken.clear();
    host.returning = false;
    host.listed = Some(at);
    host.listing_failed = None;
}

fn set_read(host: &mut Defined, vm: &VmName, reader: &Address, to: impl FnOnce(&ReadStatus) -> ReadStatus) {
    if let Some(read) = host.reads.get_mut(vm).and_then(|readers| readers.0.get_mut(reader)) {
        read.status = to(&read.status);
    }
}

fn fold_reads(host: &mut Defined, event: &Event) {
    if let Event::ReadBegan { vm, reader, snapshot } = event {
        let read = Read { snapshot: snapshot.clone(), status: ReadStatus::Preparing };
        host.reads.entry(vm.clone()).or_default().0.insert(reader.clone(), read);
    }
    if let Event::ReadReady { vm, reader, taken } = event {
        let taken = *taken;
        set_read(host, vm, reader, |_| ReadStatus::Ready { taken });
    }
    if let Event::ReadEnding { vm, reader } = event {
        set_read(host, vm, reader, |status| match status {
            ReadStatus::Preparing | ReadStatus::Abandoned => ReadStatus::Abandoned,
            ReadStatus::Ready { .. } | ReadStatus::Ending | ReadStatus::EndDelayed { .. } => ReadStatus::Ending,
        });
    }
    if let Event::ReadEndDelayed { vm, reader, again } = event {
        let again = *again;
        set_read(host, vm, reader, |_| ReadStatus::EndDelayed { again });
    }
    if let Event::ReadEnded { vm, reader } = event
        && let Some(readers) = host.reads.get_mut(vm)
    {
        readers.0.remove(reader);
        if readers.0.is_empty() {
            host.reads.remove(vm);
        }
    }
}

/// Takes an epoch unless a higher one is known, whatever an event of the past says.
fn raise(host: &mut Defined, origin: &VmRef, epoch: &Epoch, holder: Holder) {
    if host.rights.get(origin).is_none_or(|known| known.epoch.counter <= epoch.counter) {
        host.rights.insert(origin.clone(), Right { epoch: epoch.clone(), holder });
    }
}

fn fold_rights(host: &mut Defined, event: &Event) {
    if let Event::Protected { vm, replica } = event {
        host.protected.entry(vm.clone()).or_default().insert(replica.clone());
    }
    if let Event::Unprotected { vm, replica } = event {
        if let Some(replicas) = host.protected.get_mut(vm) {
            replicas.remove(replica);
            if replicas.is_empty() {
                host.protected.remove(vm);
            }
        }
        answered(host, vm, replica);
    }
    if let Event::RightGranted { vm, origin, epoch, by } = event {
        raise(host, origin, epoch, Holder::Here { vm: vm.clone() });
        host.kept_down.remove(vm);
        match host.asked.get(vm).map(|question| question.why) {
            Some(Why::Wanted) => answered(host, vm, by),
            // Its replica decides whether it runs, not what was before the host's return.
            Some(Why::FoundDown) => drop(host.asked.remove(vm)),
            None => {}
        }
    }
    if let Event::RightForced { vm, origin, epoch, forced: _ } = event {
        raise(host, origin, epoch, Holder::Here { vm: vm.clone() });
        host.kept_down.remove(vm);
        host.asked.remove(vm);
    }
    if let Event::RightGivenUp { vm, origin, epoch, by } = event {
        raise(host, origin, epoch, Holder::Elsewhere);
        keep_down(host, vm, by, epoch);
    }
    if let Event::EpochsRecalled { epochs } = event {
        epochs.iter().for_each(|(origin, epoch)| raise(host, origin, epoch, Holder::Elsewhere));
    }
    if let Event::EpochLearned { vm, origin, epoch, yours, by } = event {
        let holder = if *yours { Holder::Here { vm: vm.clone() } } else { Holder::Elsewhere };
        raise(host, origin, epoch, holder);
        if *yours {
            answered(host, vm, by);
        } else {
            keep_down(host, vm, by, epoch);
        }
    }
}

/// A replica's answer is no longer awaited.
fn answered(host: &mut Defined, vm: &VmName, by: &Address) {
    if let Some(question) = host.asked.get_mut(vm) {
        question.awaited.remove(by);
        question.refused.remove(by);
        if question.awaited.is_empty() {
            host.asked.remove(vm);
        }
    }
}

/// The question about a VM, if there is one, has ended with no.
fn keep_down(host: &mut Defined, vm: &VmName, by: &Address, epoch: &Epoch) {
    if host.asked.remove(vm).is_some() {
        host.kept_down.insert(vm.clone(), KeptDown { by: by.clone(), epoch: epoch.clone() });
    }
}

fn ask(host: &mut Defined, vm: &VmName, asked: &[Address], (why, again): (Why, Timestamp)) {
    let awaited = asked.iter().cloned().collect();
    host.kept_down.remove(vm);
    host.asked.insert(vm.clone(), Question { why, awaited, refused: BTreeMap::new(), repeated: 0, again });
}

fn fold_questions(host: &mut Defined, event: &Event) {
    if let Event::GuestFoundDown { vm, asked, again } = event {
        set_running(host, vm, false);
        ask(host, vm, asked, (Why::FoundDown, *again));
    }
    if let Event::StartAsked { vm, asked, again } = event {
        ask(host, vm, asked, (Why::Wanted, *again));
    }
    if let Event::QuestionRepeated { vm, asked, again } = event
        && let Some(question) = host.asked.get_mut(vm)
    {
        asked.iter().for_each(|replica| drop(question.refused.remove(replica)));
        question.awaited.extend(asked.iter().cloned());
        question.repeated = question.repeated.saturating_add(1);
        question.again = *again;
    }
    if let Event::QuestionDropped { vm } = event {
        host.asked.remove(vm);
    }
    if let Event::KeptDown { vm, by, epoch } = event {
        keep_down(host, vm, by, epoch);
    }
    if let Event::QuestionRefused { vm, replica, code } = event
        && let Some(question) = host.asked.get_mut(vm)
    {
        question.refused.insert(replica.clone(), code.clone());
    }
}

fn set_running(host: &mut Defined, vm: &VmName, running: bool) {
    if let Some(facts) = host.inventory.get_mut(vm) {
        facts.running = running;
    }
}

fn fold_guests(host: &mut Defined, event: &Event) {
    if let Event::GuestStarted { vm, .. } | Event::GuestStopped { vm } | Event::GuestObserved { vm, .. } = event {
        overtake(host, vm);
    }
    if let Event::GuestStarted { vm, origin, epoch: _ } = event {
        // One that no listing has shown: its disks are not known until one does.
        let unseen = || VmFacts { vm: vm.clone(), disks: Vec::new(), running: true, origin: Some(origin.clone()) };
        host.inventory.entry(vm.clone()).or_insert_with(unseen).running = true;
        host.kept_down.remove(vm);
    }
    if let Event::GuestStopped { vm } = event {
        set_running(host, vm, false);
    }
    if let Event::GuestObserved { vm, running, .. } = event {
        set_running(host, vm, *running);
    }
}
