//! Disk tasks: which are ordered of which mover, and what their ends mean.

use super::decide::{Decided, SessionTurn};
use super::steps::{self, slot_in, vm};
use super::{Access, Rejection, Run, Step, Vm, finish};
use crate::limits;
use farshore_schemas::ids::{Address, DiskName, Kind, TaskId, VmName};
use farshore_schemas::messages::agent::{
    DigestStore, DiskFacts, DiskPoint, DiskRef, DiskSink, Failure, Moved, Outcome, TaskSpec,
};
use farshore_schemas::messages::job::Work;
use farshore_schemas::messages::mover::{self, Role};
use farshore_schemas::messages::session::{End, Event};
use farshore_schemas::messages::{Message, agent};
use farshore_schemas::units::ByteCount;

/// A task to be ordered.
struct Order {
    disk: DiskName,
    end: End,
    mover: Address,
    task: TaskId,
    spec: TaskSpec,
}

/// Orders the tasks of all of a VM's disks.
pub(super) fn start(turn: &mut SessionTurn<'_>, name: &VmName) {
    let disks = disks_of(turn.run(), vm(turn, name));
    let until = limits::move_until(turn.now(), &disks);
    turn.log(Event::MoveStarted { vm: name.clone(), until });
    for disk in &disks {
        let Some(orders) = orders(turn, name, disk) else {
            return finish::fail(turn, name, lost_hold(name));
        };
        for Order { disk, end, mover, task, spec } in orders {
            let assign = mover::Command::Assign { task: task.clone(), fence: None, spec: Box::new(spec) };
            turn.send(&mover, Message::Mover(assign));
            turn.log(Event::TaskOrdered { vm: name.clone(), disk, end, task, mover });
        }
    }
}

fn lost_hold(vm: &VmName) -> Failure {
    Failure {
        code: "FS-SESSION-HOLD".to_owned(),
        message: format!("VM {vm}: its slot or its access was gone before its disks could move"),
        advice: "run the job again and report this: it is a defect".to_owned(),
        transient: true,
    }
}

fn disks_of(run: &Run, vm: &Vm) -> Vec<DiskFacts> {
    match &vm.frozen {
        Some(frozen) => frozen.disks.clone(),
        None => steps::restored_point(run).map_or_else(Vec::new, |point| {
            point.disks.iter().map(|disk| DiskFacts { name: disk.name.clone(), size: disk.size }).collect()
        }),
    }
}

/// The orders for one disk.
fn orders(turn: &SessionTurn<'_>, name: &VmName, disk: &DiskFacts) -> Option<Vec<Order>> {
    let run = turn.run();
    match &run.spec.work {
        Work::Backup { .. } => backup(turn, name, disk).map(|order| vec![order]),
        Work::Restore { .. } => restore(turn, name, disk).map(|order| vec![order]),
        Work::Replication { .. } => replication(turn, name, disk),
    }
}

fn mover_at(broker: &Address, mover: &farshore_schemas::ids::Name) -> Address {
    Address::new(&broker.site, Kind::Mover, mover)
}

fn open_access(run: &Run) -> Option<(&agent::Endpoint, &TaskId)> {
    match &run.access {
        Access::Open { endpoint, access, .. } => Some((endpoint, access)),
        Access::None | Access::Asked { .. } | Access::Failed { .. } => None,
    }
}

fn backup(turn: &SessionTurn<'_>, name: &VmName, disk: &DiskFacts) -> Option<Order> {
    let run = turn.run();
    let one = vm(turn, name);
    let (broker, mover, _) = slot_in(one, Role::Source)?;
    let (target, access) = open_access(run)?;
    let frozen = one.frozen.as_ref()?;
    let spec = TaskSpec::BackupDisk {
        source: DiskRef { host: one.vm.host.clone(), vm: name.clone(), disk: disk.name.clone() },
        snapshot: frozen.snapshot.clone(),
        target: target.clone(),
        repository: run.repository(&turn.context.me).entity.name,
        access: access.clone(),
        point: one.point.clone(),
        parent: parent(run, one),
    };
    let task = turn.context.task(run.next_task);
    Some(Order { disk: disk.name.clone(), end: End::Read, mover: mover_at(broker, mover), task, spec })
}

/// The newest usable point of the VM: its chunk ids are compared with.
fn parent(run: &Run, one: &Vm) -> Option<farshore_schemas::ids::PointId> {
    match &run.access {
        Access::Open { points, .. } => {
            let mine = points.iter().filter(|point| point.vm == one.vm);
            mine.max_by_key(|point| (point.taken, point.usable)).map(|point| point.point.clone())
        }
        Access::None | Access::Asked { .. } | Access::Failed { .. } => None,
    }
}

fn restore(turn: &SessionTurn<'_>, name: &VmName, disk: &DiskFacts) -> Option<Order> {
    let run = turn.run();
    let one = vm(turn, name);
    let (broker, mover, _) = slot_in(one, Role::Target)?;
    let (source, access) = open_access(run)?;
    let spec = TaskSpec::RestoreDisk {
        source: source.clone(),
        repository: run.repository(&turn.context.me).entity.name,
        access: access.clone(),
        point: one.point.clone(),
        disk: disk.name.clone(),
        target: DiskRef { host: one.vm.host.clone(), vm: name.clone(), disk: disk.name.clone() },
    };
    let task = turn.context.task(run.next_task);
    Some(Order { disk: disk.name.clone(), end: End::Write, mover: mover_at(broker, mover), task, spec })
}

/// The receiving end first: the sender names its task.
fn replication(turn: &SessionTurn<'_>, name: &VmName, disk: &DiskFacts) -> Option<Vec<Order>> {
    let run = turn.run();
    let one = vm(turn, name);
    let target_host = match &run.spec.work {
        Work::Replication { target_host, .. } => target_host.clone(),
        Work::Backup { .. } | Work::Restore { .. } => return None,
    };
    let (source_broker, source_mover, source) = slot_in(one, Role::Source)?;
    let (target_broker, target_mover, target) = slot_in(one, Role::Target)?;
    let (digests, access) = open_access(run)?;
    let replica = one.replica.as_ref()?.entity.name.clone();
    let receive = turn.context.task(run.next_task);
    let sink = DiskSink::ReplicaStore {
        host: target_host,
        replica: replica.clone(),
        point: one.point.clone(),
        disk: disk.clone(),
    };
    let store = DigestStore {
        agent: digests.clone(),
        repository: run.repository(&turn.context.me).entity.name,
        access: access.clone(),
        replica,
        base: one.base.clone(),
        point: one.point.clone(),
    };
    let send = TaskSpec::SendDisk {
        source: DiskRef { host: one.vm.host.clone(), vm: name.clone(), disk: disk.name.clone() },
        snapshot: Some(one.frozen.as_ref()?.snapshot.clone()),
        peer: target.clone(),
        receive: receive.clone(),
        digests: Some(store),
    };
    Some(vec![
        Order {
            disk: disk.name.clone(),
            end: End::Write,
            mover: mover_at(target_broker, target_mover),
            task: receive,
            spec: TaskSpec::ReceiveDisk { peer: source.fingerprint, sink },
        },
        Order {
            disk: disk.name.clone(),
            end: End::Read,
            mover: mover_at(source_broker, source_mover),
            task: turn.context.task(run.next_task.saturating_add(1)),
            spec: send,
        },
    ])
}

/// A task has ended: of a VM that moves, or of one that winds down.
pub(super) fn ended(mut turn: SessionTurn<'_>, task: &TaskId, outcome: &Outcome) -> Decided {
    let from = turn.context.from.clone();
    let owner = turn.run().vms.iter().find_map(|(name, vm)| Some((name.clone(), vm.transfer.open.get(task)?.clone())));
    let Some((name, open)) = owner.filter(|(_, open)| open.mover == from) else {
        let session = turn.context.me.entity.name.clone();
        return Err(Rejection::NoSuchTask { session, task: task.to_string(), from });
    };
    let vm = name.clone();
    let lost = match proof(&turn.run().spec.work, open.end, &open.disk, outcome) {
        Ok((disk, moved, full_because)) => {
            turn.log(Event::TaskDone { vm, task: task.clone(), disk, moved, full_because });
            None
        }
        Err(failure) => {
            turn.log(Event::TaskLost { vm, task: task.clone(), failure: failure.clone() });
            Some(failure.unwrap_or_else(|| cancelled(&name, &open.disk)))
        }
    };
    after_task(&mut turn, &name, lost);
    Ok(turn.done())
}

/// What follows from the end of a task.
pub(super) fn after_task(turn: &mut SessionTurn<'_>, name: &VmName, lost: Option<Failure>) {
    let one = vm(turn, name);
    let last = one.transfer.open.is_empty();
    match &one.step {
        Step::Winding { failure, .. } => {
            let failure = failure.clone();
            if last {
                finish::end_failed(turn, name, failure);
                finish::settle(turn);
            }
        }
        Step::Planned
        | Step::Slots { .. }
        | Step::Access { .. }
        | Step::Read { .. }
        | Step::Create { .. }
        | Step::Point { .. }
        | Step::Moving { .. }
        | Step::Committing { .. }
        | Step::Ended(_) => match lost {
            Some(failure) => finish::fail(turn, name, failure),
            None if last => steps::moved(turn, name),
            None => {}
        },
    }
}

fn cancelled(vm: &VmName, disk: &DiskName) -> Failure {
    Failure {
        code: "FS-SESSION-CANCELLED".to_owned(),
        message: format!("VM {vm}, disk {disk}: the task was cancelled at its agent"),
        advice: "run the job again".to_owned(),
        transient: true,
    }
}

type Proof = (DiskPoint, Moved, Option<String>);

/// The proof that a task of this kind must bring; otherwise why it failed (none when it was cancelled).
fn proof(work: &Work, end: End, disk: &DiskName, outcome: &Outcome) -> Result<Proof, Option<Failure>> {
    let found = match outcome {
        Outcome::Failed(failure) => return Err(Some(failure.clone())),
        Outcome::Cancelled => return Err(None),
        Outcome::DiskStored { disk, moved, full_because } => match work {
            Work::Backup { .. } => Some((disk.clone(), *moved, full_because.clone())),
            Work::Replication { .. } | Work::Restore { .. } => None,
        },
        Outcome::DiskRestored { disk, moved } => match work {
            Work::Restore { .. } => Some((disk.clone(), *moved, None)),
            Work::Backup { .. } | Work::Replication { .. } => None,
        },
        Outcome::DiskSent { disk, moved, full_because } => match (work, end) {
            (Work::Replication { .. }, End::Read) => Some((disk.clone(), *moved, full_because.clone())),
            (Work::Replication { .. }, End::Write) | (Work::Backup { .. } | Work::Restore { .. }, _) => None,
        },
        // Both ends count the same bytes: what was read, found changed and sent is the sender's to say.
        Outcome::DiskReceived { disk, moved } => match (work, end) {
            (Work::Replication { .. }, End::Write) => {
                let written = Moved { written: moved.written, ..Moved::default() };
                Some((disk.clone(), written, None))
            }
            (Work::Replication { .. }, End::Read) | (Work::Backup { .. } | Work::Restore { .. }, _) => None,
        },
        Outcome::Done
        | Outcome::Inventory { .. }
        | Outcome::Snapshot { .. }
        | Outcome::PointDurable { .. }
        | Outcome::Pruned { .. }
        | Outcome::TooEarly { .. }
        | Outcome::Verified { .. }
        | Outcome::LogKept { .. } => None,
    };
    match found {
        Some((proof, moved, full)) if proof.name == *disk => Ok((proof, written_once(work, end, moved), full)),
        Some(_) | None => Err(Some(Failure {
            code: "FS-SESSION-NO-PROOF".to_owned(),
            message: format!("disk {disk}: its task ended without the proof that such a task brings"),
            advice: "see whether the agent runs a version that fits this control".to_owned(),
            transient: false,
        })),
    }
}

/// A sender's `written` is not its own: the receiver counts it.
fn written_once(work: &Work, end: End, moved: Moved) -> Moved {
    match (work, end) {
        (Work::Replication { .. }, End::Read) => Moved { written: ByteCount(0), ..moved },
        (Work::Replication { .. }, End::Write) | (Work::Backup { .. } | Work::Restore { .. }, _) => moved,
    }
}
