//! How a session begins, and begins again: it asks the hosts what there is and plans what is worked on.

use super::decide::{Decided, SessionTurn};
use super::{Rejection, Run, finish, steps};
use crate::decider::{Context, Decision};
use crate::limits;
use crate::naming::point_id;
use farshore_schemas::ids::{Name, VmName, VmRef};
use farshore_schemas::messages::agent::Failure;
use farshore_schemas::messages::host::{self, VmFacts};
use farshore_schemas::messages::job::{JobSpec, Retry, Work};
use farshore_schemas::messages::session::{Event, PlannedVm};
use farshore_schemas::messages::{Message, SessionResult};
use std::collections::BTreeSet;

pub(super) fn begin(mut turn: SessionTurn<'_>, job: &Name, spec: &JobSpec, retry: Option<Retry>) -> Decision<Event> {
    let now = turn.now();
    let until = now.after(limits::ANSWER);
    turn.log(Event::Begun { job: job.clone(), spec: Box::new(spec.clone()), retry, at: now, until });
    ask(&mut turn);
    turn.done()
}

/// The next attempt: what failed is asked for again.
pub(super) fn retry(mut turn: SessionTurn<'_>) -> Decision<Event> {
    let attempt = turn.run().attempt.saturating_add(1);
    let until = turn.now().after(limits::ANSWER);
    turn.log(Event::RetryStarted { attempt, until });
    ask(&mut turn);
    turn.done()
}

/// VMs by name that this attempt is about; empty for all of the host.
fn wanted(run: &Run) -> BTreeSet<VmName> {
    if !run.vms.is_empty() {
        return run.vms.iter().filter(|(_, vm)| finish::failed(vm)).map(|(name, _)| name.clone()).collect();
    }
    match &run.spec.work {
        Work::Backup { vms, .. } | Work::Replication { vms, .. } => vms.iter().cloned().collect(),
        Work::Restore { vm, .. } => BTreeSet::from([vm.clone()]),
    }
}

fn ask(turn: &mut SessionTurn<'_>) {
    let me = turn.context.me.clone();
    let vms: Vec<VmName> = wanted(turn.run()).into_iter().collect();
    let source = turn.run().source_host(&me);
    for host in turn.run().asked_hosts(&me) {
        // Of a replication's target only its mover is wanted: asking for one name keeps the answer short.
        let vms = if host == source { vms.clone() } else { vec![crate::naming::working_vm(&turn.run().job)] };
        turn.send_within(&host, Message::Host(host::Command::ListVms { vms }), limits::ANSWER);
    }
}

pub(super) fn vms_listed(mut turn: SessionTurn<'_>, mover: &Name, vms: &[VmFacts]) -> Decided {
    let me = turn.context.me.clone();
    let host = turn.context.from.clone();
    let asked = turn.run().asked_hosts(&me);
    if !asked.contains(&host) || turn.run().hosts.contains_key(&host) {
        let session = me.entity.name.clone();
        return Err(Rejection::Stale { session, what: "a list of this host", from: host });
    }
    turn.log(Event::HostListed { host, mover: mover.clone(), vms: vms.to_vec() });
    if asked.iter().all(|host| turn.run().hosts.contains_key(host)) {
        plan(&mut turn);
    }
    Ok(turn.done())
}

/// Hosts did not answer in time.
pub(super) fn not_listed(mut turn: SessionTurn<'_>) -> Decision<Event> {
    let me = turn.context.me.clone();
    let missing = turn.run().asked_hosts(&me).into_iter().find(|host| !turn.run().hosts.contains_key(host));
    let host = missing.map_or_else(String::new, |host| host.to_string());
    listing_failed(
        &mut turn,
        Failure {
            code: "FS-SESSION-TIMEOUT".to_owned(),
            message: format!("host {host} did not say in time which VMs it has"),
            advice: "see whether its site and its agent are up, then run the job again".to_owned(),
            transient: true,
        },
    );
    turn.done()
}

pub(super) fn listing_failed(turn: &mut SessionTurn<'_>, failure: Failure) {
    turn.log(Event::ListingFailed { failure });
    finish::settle(turn);
}

/// All hosts have answered: what is there is begun, what is not there has failed.
fn plan(turn: &mut SessionTurn<'_>) {
    let me = turn.context.me.clone();
    let source = turn.run().source_host(&me);
    let listed: Vec<VmFacts> = turn.run().hosts.get(&source).map(|host| host.vms.clone()).unwrap_or_default();
    let mut names = wanted(turn.run());
    if names.is_empty() {
        names = listed.iter().map(|facts| facts.vm.clone()).collect();
    }
    let facts_of = |name: &VmName| listed.iter().find(|facts| facts.vm == *name);
    let planned: Vec<PlannedVm> =
        names.iter().map(|name| planned(turn.run(), turn.context, name, facts_of(name))).collect();
    let restore = is_restore(turn.run());
    turn.log(Event::Planned { vms: planned });
    for name in names {
        match (restore, facts_of(&name).is_some()) {
            (false, true) | (true, false) => steps::ask_slots(turn, &name),
            (false, false) => finish::end_failed(turn, &name, missing(&source.to_string(), &name)),
            (true, true) => finish::end_failed(turn, &name, exists(&source.to_string(), &name)),
        }
    }
    finish::settle(turn);
}

fn is_restore(run: &Run) -> bool {
    match &run.spec.work {
        Work::Backup { .. } | Work::Replication { .. } => false,
        Work::Restore { .. } => true,
    }
}

fn planned(run: &Run, context: &Context, name: &VmName, facts: Option<&VmFacts>) -> PlannedVm {
    let host = run.source_host(&context.me);
    let vm = VmRef { site: host.site, host: host.entity.name, vm: name.clone() };
    let point = match &run.spec.work {
        Work::Backup { .. } | Work::Replication { .. } => {
            point_id(&context.me.entity.name, &vm, (context.lineage, run.attempt))
        }
        Work::Restore { point, .. } => point.clone(),
    };
    PlannedVm { vm, point, disks: facts.map(|facts| facts.disks.clone()).unwrap_or_default() }
}

fn missing(host: &str, vm: &VmName) -> Failure {
    Failure {
        code: "FS-SESSION-NO-VM".to_owned(),
        message: format!("VM {vm} is not on host {host}"),
        advice: "correct the job's list of VMs, or bring the VM back".to_owned(),
        transient: true,
    }
}

fn exists(host: &str, vm: &VmName) -> Failure {
    Failure {
        code: "FS-SESSION-VM-EXISTS".to_owned(),
        message: format!("host {host} has a VM {vm} already; a restore never writes over one"),
        advice: "restore under another name".to_owned(),
        transient: false,
    }
}

/// The result of a run that found nothing to protect.
pub(super) fn nothing_found(run: &Run) -> (SessionResult, Failure) {
    let failure = Failure {
        code: "FS-SESSION-NO-VMS".to_owned(),
        message: format!("job {} found no VM on its host", run.job),
        advice: "see whether the host's folder is the right one".to_owned(),
        transient: true,
    };
    (SessionResult::Warning, failure)
}
