//! Freezing VMs for reading: each reader has a snapshot of its own, made once and let go once.

use super::decide::{HostDraft, draft, host_failed, known, me};
use super::{Defined, RETRY_AFTER, Read, ReadStatus, Rejection, power};
use crate::decider::{Context, Decision};
use crate::refusal::{failure_of, unexpected_outcome};
use farshore_schemas::ids::{Address, Kind, Name, VmName};
use farshore_schemas::messages::agent::{DiskFacts, Failure, Outcome, TaskSpec};
use farshore_schemas::messages::host::{Event, Work};
use farshore_schemas::messages::{Message, replica, session};
use farshore_schemas::units::Timestamp;

fn find<'a>(host: &'a Defined, (vm, reader): (&VmName, &Address)) -> Option<&'a Read> {
    host.reads.get(vm)?.0.get(reader)
}

pub(super) fn prepare(host: &Defined, vm: &VmName, context: &Context) -> Result<Decision<Event>, Rejection> {
    let reader = context.from.clone();
    if !matches!(reader.entity.kind, Kind::Session | Kind::Replica) {
        return Err(Rejection::AskerKind { from: reader });
    }
    known(host, vm)?;
    if find(host, (vm, &reader)).is_some() {
        return Err(Rejection::Reading { vm: vm.clone(), reader });
    }
    let mut draft = draft(host, context);
    let snapshot = Name::parse(&format!("snap-{}", draft.next())).expect("letters, a dash and digits");
    draft.event(Event::ReadBegan { vm: vm.clone(), reader: reader.clone(), snapshot: snapshot.clone() });
    let spec = TaskSpec::SnapshotBegin { host: me(context).clone(), vm: vm.clone(), snapshot };
    draft.order(spec, Some(power::fence(host, vm, context)), Work::BeginRead { vm: vm.clone(), reader });
    Ok(draft.done())
}

/// Whether this party has a snapshot of the VM that it has not given back.
pub(super) fn standing(host: &Defined, read: (&VmName, &Address)) -> bool {
    find(host, read).is_some_and(|read| match read.status {
        ReadStatus::Preparing | ReadStatus::Ready { .. } => true,
        ReadStatus::Abandoned | ReadStatus::Ending | ReadStatus::EndDelayed { .. } => false,
    })
}

/// Never refused: what is not read needs no end.
pub(super) fn end(host: &Defined, (vm, reader): (&VmName, &Address), context: &Context) -> Decision<Event> {
    let mut draft = draft(host, context);
    if let Some(read) = find(host, (vm, reader)) {
        let ending = Event::ReadEnding { vm: vm.clone(), reader: reader.clone() };
        match &read.status {
            // The agent may run both orders at once: the ending one is given when the beginning one has ended.
            ReadStatus::Preparing => draft.event(ending),
            ReadStatus::Ready { taken: _ } => {
                draft.event(ending);
                order_end(host, (vm, reader, &read.snapshot), &mut draft, context);
            }
            ReadStatus::Abandoned | ReadStatus::Ending | ReadStatus::EndDelayed { .. } => {}
        }
    }
    draft.done()
}

fn order_end(
    host: &Defined,
    (vm, reader, snapshot): (&VmName, &Address, &Name),
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    let spec = TaskSpec::SnapshotEnd { host: me(context).clone(), vm: vm.clone(), snapshot: snapshot.clone() };
    let work = Work::EndRead { vm: vm.clone(), reader: reader.clone() };
    draft.order(spec, Some(power::fence(host, vm, context)), work);
}

/// The order that ends with a snapshot, or without one.
pub(super) struct Begun<'a> {
    pub(super) ordinal: u64,
    pub(super) vm: &'a VmName,
    pub(super) reader: &'a Address,
}

pub(super) fn begun(host: &Defined, of: &Begun<'_>, outcome: &Outcome, draft: &mut HostDraft<'_>, context: &Context) {
    let made = match (outcome, failure_of(outcome)) {
        (_, Some(failure)) => Err(failure),
        (Outcome::Snapshot { disks, taken }, None) => Ok((disks.clone(), *taken)),
        (_, None) => Err(unexpected_outcome("a snapshot")),
    };
    draft.event(Event::OrderEnded { ordinal: of.ordinal, failure: made.as_ref().err().cloned() });
    let Some(read) = find(host, (of.vm, of.reader)) else { return };
    let wanted = read.status == ReadStatus::Preparing;
    let (vm, reader) = (of.vm.clone(), of.reader.clone());
    match made {
        Ok((disks, taken)) if wanted => {
            draft.event(Event::ReadReady { vm, reader, taken });
            let (to, body) = prepared(of, &read.snapshot, disks, taken);
            draft.send(to, body);
        }
        Ok(_) => order_end(host, (of.vm, of.reader, &read.snapshot), draft, context),
        Err(failure) => {
            draft.event(Event::ReadEnded { vm, reader });
            if wanted {
                host_failed(draft, of.reader, of.vm, failure);
            }
        }
    }
}

fn prepared(of: &Begun<'_>, snapshot: &Name, disks: Vec<DiskFacts>, taken: Timestamp) -> (Address, Message) {
    let (vm, snapshot) = (of.vm.clone(), snapshot.clone());
    let body = if of.reader.entity.kind == Kind::Replica {
        Message::Replica(replica::Command::ReadPrepared { vm, snapshot, disks, taken })
    } else {
        Message::Session(session::Command::ReadPrepared { vm, snapshot, disks, taken })
    };
    (of.reader.clone(), body)
}

/// The agent has let a snapshot go, or has not. What may pass is tried again; what will not is given up, and stays in the
/// log as the order's failure.
pub(super) fn ended(
    (vm, reader): (&VmName, &Address),
    failure: Option<Failure>,
    draft: &mut HostDraft<'_>,
    context: &Context,
) {
    let (vm, reader) = (vm.clone(), reader.clone());
    if failure.is_some_and(|failure| failure.transient) {
        draft.event(Event::ReadEndDelayed { vm, reader, again: context.now.after(RETRY_AFTER) });
    } else {
        draft.event(Event::ReadEnded { vm, reader });
    }
}

/// Lets go again what could not be let go before, when its time has come.
pub(super) fn end_due(host: &Defined, draft: &mut HostDraft<'_>, context: &Context) {
    for (vm, readers) in &host.reads {
        for (reader, read) in &readers.0 {
            if matches!(read.status, ReadStatus::EndDelayed { again } if again <= context.now) {
                order_end(host, (vm, reader, &read.snapshot), draft, context);
            }
        }
    }
}
