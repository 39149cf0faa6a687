//! Whether an order may be carried out at all: the epoch it acts under, and whether this agent has been told of the host
//! or repository that it names. Everything here only reads; the table records and answers.

use crate::state::State;
use farshore_schemas::ids::{Name, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::agent::{DiskSink, Failure, Order, TaskSpec};
use farshore_schemas::units::Timestamp;

/// How an epoch stands to the highest one seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The same right.
    Held,
    /// A newer right.
    Higher,
    /// Overtaken.
    Stale,
    /// The same counter granted by two sites.
    Conflict,
}

pub(crate) fn standing(state: &State, origin: &VmRef, epoch: &Epoch) -> Standing {
    let Some(highest) = state.epochs.get(origin) else { return Standing::Higher };
    match epoch.counter.cmp(&highest.counter) {
        std::cmp::Ordering::Less => Standing::Stale,
        std::cmp::Ordering::Greater => Standing::Higher,
        std::cmp::Ordering::Equal if epoch.site == highest.site => Standing::Held,
        std::cmp::Ordering::Equal => Standing::Conflict,
    }
}

fn failure(code: &str, message: String, advice: &str, transient: bool) -> Failure {
    Failure { code: code.to_owned(), message, advice: advice.to_owned(), transient }
}

/// The host or repository that a task needs on this agent.
enum Needs<'a> {
    Host(&'a Name),
    Repository(&'a Name),
}

fn needs(spec: &TaskSpec) -> Needs<'_> {
    match spec {
        TaskSpec::Discover { host }
        | TaskSpec::SnapshotBegin { host, .. }
        | TaskSpec::SnapshotEnd { host, .. }
        | TaskSpec::PowerOn { host, .. }
        | TaskSpec::PowerOff { host, .. }
        | TaskSpec::CreateVm { host, .. }
        | TaskSpec::GuestWrite { host, .. }
        | TaskSpec::SealReplicaPoint { host, .. }
        | TaskSpec::RollBackReplica { host, .. }
        | TaskSpec::MakeWorking { host, .. }
        | TaskSpec::DropWorking { host, .. }
        | TaskSpec::AbsorbWorking { host, .. }
        | TaskSpec::DropReplica { host, .. } => Needs::Host(host),
        TaskSpec::BackupDisk { source, .. } | TaskSpec::SendDisk { source, .. } => Needs::Host(&source.host),
        TaskSpec::RestoreDisk { target, .. } => Needs::Host(&target.host),
        TaskSpec::ReceiveDisk { sink, .. } => match sink {
            DiskSink::ReplicaStore { host, .. } => Needs::Host(host),
            DiskSink::VmDisk(disk, _) => Needs::Host(&disk.host),
        },
        TaskSpec::OpenAccess { repository, .. }
        | TaskSpec::CloseAccess { repository, .. }
        | TaskSpec::CommitPoint { repository, .. }
        | TaskSpec::PrunePoints { repository, .. }
        | TaskSpec::KeepLog { repository, .. }
        | TaskSpec::VerifyPoint { repository, .. } => Needs::Repository(repository),
    }
}

/// Why the epoch of this order forbids it now. Asked when it comes, and again before it is started after a crash.
pub(crate) fn fenced_off(state: &State, order: &Order) -> Option<Failure> {
    let Some((origin, epoch)) = &order.fence else { return unfenced_power_on(state, order) };
    let highest = state.epochs.get(origin)?;
    match standing(state, origin, epoch) {
        Standing::Held | Standing::Higher => None,
        Standing::Stale => Some(failure(
            "FS-AGENT-STALE-EPOCH",
            format!(
                "{origin}: the order acts under epoch {} of {}, but epoch {} of {} is known here",
                epoch.counter, epoch.site, highest.counter, highest.site
            ),
            "the right to run this VM has passed on: ask the replica that protects it who holds it",
            false,
        )),
        Standing::Conflict => Some(failure(
            "FS-AGENT-EPOCH-CONFLICT",
            format!("{origin}: epoch {} was granted by {} and by {}", epoch.counter, highest.site, epoch.site),
            "two sites granted the right to run this VM: decide which copy lives, then grant a higher epoch there",
            false,
        )),
    }
}

/// A VM that has been fenced is not started by an order that names no epoch.
fn unfenced_power_on(state: &State, order: &Order) -> Option<Failure> {
    let TaskSpec::PowerOn { host, vm } = &order.spec else { return None };
    let origin = VmRef { site: state.site.clone(), host: host.clone(), vm: vm.clone() };
    let highest = state.epochs.get(&origin).filter(|epoch| epoch.counter > 0)?;
    Some(failure(
        "FS-AGENT-STALE-EPOCH",
        format!("{origin}: the order names no epoch, but epoch {} of {} is known here", highest.counter, highest.site),
        "order it under the epoch that the VM's replica has granted",
        false,
    ))
}

/// Why it is too late for this order. Asked when it comes, and again before it is started after a crash.
pub(crate) fn overdue(order: &Order, now: Timestamp) -> Option<Failure> {
    let expires = order.expires.filter(|expires| now > *expires)?;
    Some(failure(
        "FS-AGENT-EXPIRED",
        format!("task {} was to be begun {} ms ago at the latest", order.task, now.since(expires).0),
        "order it again if it is still wanted",
        true,
    ))
}

/// Why this order is not carried out, if so.
pub(crate) fn refused(state: &State, order: &Order, now: Timestamp) -> Option<Failure> {
    if let Some(failure) = overdue(order, now).or_else(|| fenced_off(state, order)) {
        return Some(failure);
    }
    match needs(&order.spec) {
        Needs::Host(host) if !state.hosts.contains_key(host) => Some(failure(
            "FS-AGENT-NOT-WELCOME",
            format!("this agent has not been told the folder and the epochs of host {host} since it began"),
            "the host's control sends ServeHost when the agent says hello: order the task again after that",
            true,
        )),
        Needs::Repository(repository) if !state.repositories.contains_key(repository) => Some(failure(
            "FS-AGENT-NO-REPOSITORY",
            format!("this agent has not been told the folder of repository {repository} since it began"),
            "the repository's control sends ServeRepository when the agent says hello: order the task again after that",
            true,
        )),
        Needs::Host(_) | Needs::Repository(_) if state.open.len() >= crate::MAX_OPEN => Some(failure(
            "FS-AGENT-BUSY",
            format!("{} tasks are open on this agent, which is as many as it takes", crate::MAX_OPEN),
            "order it again when some have ended",
            true,
        )),
        Needs::Host(_) | Needs::Repository(_) => None,
    }
}
