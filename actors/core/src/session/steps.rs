//! How a VM goes forward: slots, access, snapshot (or new VM), replica, disks, point.

use super::decide::SessionTurn;
use super::{Access, Run, Slot, Vm, finish, tasks};
use crate::limits;
use crate::naming::{replica_name, session_slot};
use crate::transfer::Transfer;
use farshore_schemas::ids::{Address, DiskName, Kind, Name, VmName, VmRef};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint, Failure};
use farshore_schemas::messages::broker::{self, Priority};
use farshore_schemas::messages::job::Work;
use farshore_schemas::messages::mover::Role;
use farshore_schemas::messages::repository::{self, Purpose, RestorePoint};
use farshore_schemas::messages::session::Event;
use farshore_schemas::messages::{Message, host, replica};

/// The broker of a site.
pub(crate) fn broker_of(site: &farshore_schemas::ids::SiteName) -> Address {
    Address::new(site, Kind::Broker, &Name::parse("broker").expect("a token"))
}

pub(super) fn vm<'t>(turn: &'t SessionTurn<'_>, name: &VmName) -> &'t Vm {
    turn.run().vms.get(name).expect("callers name a VM of this session, and none is ever taken out")
}

/// The slots that a VM needs: where, which role, which mover, which priority.
fn needed(run: &Run, me: &Address) -> Vec<(Address, Role, Name, Priority)> {
    let mover_of = |host: &Address| run.hosts.get(host).map(|host| host.mover.clone());
    let source = run.source_host(me);
    let (Some(source_mover), own) = (mover_of(&source), broker_of(&me.site)) else { return Vec::new() };
    match &run.spec.work {
        Work::Backup { .. } => vec![(own, Role::Source, source_mover, Priority::Normal)],
        Work::Restore { .. } => vec![(own, Role::Target, source_mover, Priority::Restore)],
        Work::Replication { target_host, .. } => {
            let target = Address::new(&me.site, Kind::Host, target_host);
            let Some(target_mover) = mover_of(&target) else { return Vec::new() };
            vec![
                (broker_of(&source.site), Role::Source, source_mover, Priority::Normal),
                (own, Role::Target, target_mover, Priority::Normal),
            ]
        }
    }
}

pub(super) fn ask_slots(turn: &mut SessionTurn<'_>, name: &VmName) {
    let until = turn.now().after(limits::SLOT);
    let attempt = turn.run().attempt;
    for (broker, role, mover, priority) in needed(turn.run(), &turn.context.me) {
        let slot = session_slot(role_word(role), name, attempt);
        let ask = broker::Command::RequestSlot { slot: slot.clone(), role, must: Some(mover), priority };
        turn.send(&broker, Message::Broker(ask));
        turn.log(Event::SlotRequested { vm: name.clone(), broker, slot, role, until });
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Target => "target",
        Role::Repository => "repository",
    }
}

/// The slot that a VM holds in a role.
pub(super) fn slot_in(vm: &Vm, role: Role) -> Option<(&Address, &Name, &farshore_schemas::messages::agent::Endpoint)> {
    let held = |slot: &Slot| slot.role == role && slot.granted.is_some();
    let slot = vm.slots.values().find(|slot| held(slot))?;
    slot.granted.as_ref().map(|(mover, endpoint)| (&slot.broker, mover, endpoint))
}

/// Every slot is held: on to the repository.
pub(super) fn slots_held(turn: &mut SessionTurn<'_>, name: &VmName) {
    let until = turn.now().after(limits::ANSWER);
    match turn.run().access.clone() {
        Access::Open { .. } => access_held(turn, name),
        Access::Failed { failure } => finish::fail(turn, name, failure),
        Access::Asked { until, .. } => turn.log(Event::AccessAwaited { vm: name.clone(), until }),
        Access::None => {
            ask_access(turn, name);
            turn.log(Event::AccessAwaited { vm: name.clone(), until });
        }
    }
}

/// One access per session: every VM of it goes through the same mover.
fn ask_access(turn: &mut SessionTurn<'_>, name: &VmName) {
    let run = turn.run();
    let repository = run.repository(&turn.context.me);
    let holder = vm(turn, name);
    let all = || run.vms.values().map(|vm| vm.vm.clone()).collect::<Vec<VmRef>>();
    let (purpose, role, vms, point) = match &run.spec.work {
        Work::Backup { .. } | Work::Replication { .. } => (Purpose::Write, Role::Source, all(), None),
        Work::Restore { point, origin, .. } => (Purpose::Read, Role::Target, vec![origin.clone()], Some(point.clone())),
    };
    let peers = slot_in(holder, role).map(|(_, _, endpoint)| endpoint.fingerprint).into_iter().collect();
    let until = turn.now().after(limits::ANSWER);
    let ask = repository::Command::OpenAccess { purpose, peers, vms, point };
    turn.send(&repository, Message::Repository(ask));
    turn.log(Event::AccessRequested { repository, until });
}

/// The repository lets us in: freeze the VM, or make it.
pub(super) fn access_held(turn: &mut SessionTurn<'_>, name: &VmName) {
    let until = turn.now().after(limits::ANSWER);
    let host = turn.run().source_host(&turn.context.me);
    match turn.run().spec.work.clone() {
        Work::Backup { .. } | Work::Replication { .. } => {
            turn.send(&host, Message::Host(host::Command::PrepareRead { vm: name.clone() }));
            turn.log(Event::ReadRequested { vm: name.clone(), host, until });
        }
        Work::Restore { origin, .. } => match restored_point(turn.run()) {
            Some(point) if !point.disks.is_empty() => {
                let disks = facts(&point.disks);
                turn.send(&host, Message::Host(host::Command::CreateVm { vm: name.clone(), disks, origin }));
                turn.log(Event::CreateRequested { vm: name.clone(), until });
            }
            Some(_) | None => {
                let failure = no_point(&vm(turn, name).point.to_string());
                finish::fail(turn, name, failure);
            }
        },
    }
}

fn facts(disks: &[DiskPoint]) -> Vec<DiskFacts> {
    disks.iter().map(|disk| DiskFacts { name: disk.name.clone(), size: disk.size }).collect()
}

fn no_point(point: &str) -> Failure {
    Failure {
        code: "FS-SESSION-NO-POINT".to_owned(),
        message: format!("the repository let us in but did not name restore point {point} with its disks"),
        advice: "list the repository's points and choose one of them".to_owned(),
        transient: false,
    }
}

/// The point that a restore reads, as the repository told.
pub(super) fn restored_point(run: &Run) -> Option<&RestorePoint> {
    let wanted = match &run.spec.work {
        Work::Restore { point, .. } => point,
        Work::Backup { .. } | Work::Replication { .. } => return None,
    };
    match &run.access {
        Access::Open { points, .. } => points.iter().find(|point| point.point == *wanted),
        Access::None | Access::Asked { .. } | Access::Failed { .. } => None,
    }
}

/// The VM is frozen: on to its disks, for a replication by way of the replica.
pub(super) fn frozen(turn: &mut SessionTurn<'_>, name: &VmName, disks: &[DiskFacts]) {
    if disks.is_empty() {
        return finish::fail(turn, name, no_disks(name));
    }
    match turn.run().spec.work.clone() {
        Work::Backup { .. } | Work::Restore { .. } => tasks::start(turn, name),
        Work::Replication { target_host, .. } => open_point(turn, name, &target_host, disks),
    }
}

fn no_disks(vm: &VmName) -> Failure {
    Failure {
        code: "FS-SESSION-NO-DISKS".to_owned(),
        message: format!("VM {vm} has no disk, so there is nothing that a point could prove"),
        advice: "take it out of the job, or see why its host lists no disk".to_owned(),
        transient: false,
    }
}

fn open_point(turn: &mut SessionTurn<'_>, name: &VmName, target_host: &Name, disks: &[DiskFacts]) {
    let me = turn.context.me.clone();
    let until = turn.now().after(limits::ANSWER);
    let run = turn.run();
    let (origin, point) = (vm(turn, name).vm.clone(), vm(turn, name).point.clone());
    let target = Address::new(&me.site, Kind::Host, target_host);
    let Some(mover) = run.hosts.get(&target).map(|host| host.mover.clone()) else {
        return finish::fail(turn, name, limits::timeout("FS-SESSION-TIMEOUT", "the target host's mover", name));
    };
    let replica = turn.context.here(Kind::Replica, &replica_name(&run.job, &origin));
    let open = replica::Command::OpenPoint {
        origin,
        host: target_host.clone(),
        mover,
        source_host: run.source_host(&me),
        digests: run.repository(&me),
        point: point.clone(),
        disks: disks.to_vec(),
    };
    turn.send(&replica, Message::Replica(open));
    turn.log(Event::PointRequested { vm: name.clone(), replica, point, until });
}

/// Every disk task is done: the proof is checked, then the point is made.
pub(super) fn moved(turn: &mut SessionTurn<'_>, name: &VmName) {
    match turn.run().spec.work.clone() {
        Work::Backup { .. } => commit(turn, name),
        Work::Replication { .. } => match disagreement(vm(turn, name)) {
            Some(failure) => finish::fail(turn, name, failure),
            None => seal(turn, name),
        },
        Work::Restore { .. } => finish::restored(turn, name),
    }
}

/// The proofs of the reading ends, in the order of the disks.
fn proofs(vm: &Vm) -> Vec<DiskPoint> {
    let frozen = vm.frozen.iter().flat_map(|frozen| &frozen.disks);
    frozen.filter_map(|disk| vm.transfer.read.get(&disk.name).cloned()).collect()
}

fn disagreement(vm: &Vm) -> Option<Failure> {
    let disks: Vec<DiskName> =
        vm.frozen.iter().flat_map(|frozen| &frozen.disks).map(|disk| disk.name.clone()).collect();
    differs(&vm.vm.vm, &vm.transfer, &disks)
}

/// A failure when the two ends of some disk do not agree.
pub(crate) fn differs(vm: &VmName, transfer: &Transfer, disks: &[DiskName]) -> Option<Failure> {
    let (disk, read, written) = transfer.mismatch(disks)?;
    let say = |digest: Option<farshore_schemas::ids::Digest>| digest.map_or("nothing".to_owned(), |d| d.to_string());
    Some(Failure {
        code: "FS-SESSION-CHECKSUM".to_owned(),
        message: format!(
            "VM {vm}, disk {disk}: the source read {}, the target holds {}; the point is not used",
            say(read),
            say(written)
        ),
        advice: "run the job again; if it comes back, check the target's storage and memory".to_owned(),
        transient: true,
    })
}

fn commit(turn: &mut SessionTurn<'_>, name: &VmName) {
    let run = turn.run();
    let one = vm(turn, name);
    let repository = run.repository(&turn.context.me);
    let point = one.point.clone();
    let taken = one.frozen.as_ref().map(|frozen| frozen.taken).unwrap_or_default();
    let commit = repository::Command::CommitPoint {
        point: point.clone(),
        vm: one.vm.clone(),
        job: run.job.clone(),
        taken,
        keep: run.spec.keep.clone(),
        disks: proofs(one),
    };
    let until = turn.now().after(limits::ANSWER);
    turn.send(&repository, Message::Repository(commit));
    turn.log(Event::CommitRequested { vm: name.clone(), point, until });
}

fn seal(turn: &mut SessionTurn<'_>, name: &VmName) {
    let one = vm(turn, name);
    let Some(replica) = one.replica.clone() else { return };
    let point = one.point.clone();
    let taken = one.frozen.as_ref().map(|frozen| frozen.taken).unwrap_or_default();
    // A replication has no other rule.
    let keep = turn.run().spec.keep.points.unwrap_or(1);
    let seal = replica::Command::SealPoint { point: point.clone(), taken, disks: proofs(one), keep };
    let until = turn.now().after(limits::ANSWER);
    turn.send(&replica, Message::Replica(seal));
    turn.log(Event::CommitRequested { vm: name.clone(), point, until });
}
