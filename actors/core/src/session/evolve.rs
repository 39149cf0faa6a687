//! What each event of a session changes.

use super::{Access, Frozen, HostIs, Phase, Run, Slot, State, Step, Vm};
use crate::transfer::{self, OpenTask, Transfer};
use farshore_schemas::ids::VmName;
use farshore_schemas::messages::session::{Event, PlannedVm};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn evolve(state: &mut State, event: &Event) {
    match state {
        State::New => begin(state, event),
        State::Begun(run) => fold(run, event),
    }
}

fn begin(state: &mut State, event: &Event) {
    // A log that begins otherwise is not one of ours and changes nothing.
    if let Event::Begun { job, spec, retry, at, until } = event {
        *state = State::Begun(Box::new(Run {
            job: job.clone(),
            spec: spec.as_ref().clone(),
            retry: *retry,
            begun: *at,
            phase: Phase::Starting { until: *until },
            attempt: 1,
            next_task: 0,
            hosts: BTreeMap::new(),
            access: Access::None,
            brokers: BTreeSet::new(),
            vms: BTreeMap::new(),
            moved: Default::default(),
            failure: None,
        }));
    }
}

/// Events of the session as a whole; those of one VM are passed on.
fn fold(run: &mut Run, event: &Event) {
    match event {
        Event::Begun { .. } => {}
        Event::HostListed { host, mover, vms } => {
            run.hosts.insert(host.clone(), HostIs { mover: mover.clone(), vms: vms.clone() });
        }
        Event::ListingFailed { failure } => run.failure = Some(failure.clone()),
        Event::Planned { vms } => {
            run.phase = Phase::Working;
            run.hosts.values_mut().for_each(|host| host.vms.clear());
            run.vms.extend(vms.iter().map(|vm| (vm.vm.vm.clone(), planned(vm))));
        }
        Event::AccessRequested { repository, until } => {
            run.access = Access::Asked { repository: repository.clone(), until: *until };
        }
        Event::AccessOpened { endpoint, access, points, .. } => match &run.access {
            Access::Asked { repository, .. } => {
                run.access = Access::Open {
                    repository: repository.clone(),
                    endpoint: endpoint.clone(),
                    access: access.clone(),
                    points: points.clone(),
                };
            }
            Access::None | Access::Open { .. } | Access::Failed { .. } => {}
        },
        Event::AccessFailed { failure } => run.access = Access::Failed { failure: failure.clone() },
        Event::RetryScheduled { when, .. } => run.phase = Phase::RetryWait { until: *when },
        Event::RetryStarted { attempt, until } => {
            run.attempt = *attempt;
            run.phase = Phase::Starting { until: *until };
            run.hosts.clear();
            run.failure = None;
            match &run.access {
                Access::Failed { .. } => run.access = Access::None,
                Access::None | Access::Asked { .. } | Access::Open { .. } => {}
            }
        }
        Event::StopRequested { failure, .. } => {
            run.phase = Phase::Stopping;
            run.failure = Some(failure.clone());
        }
        Event::Ended { result, failure, at, .. } => {
            run.phase = Phase::Stopped { result: *result, at: *at };
            run.access = Access::None;
            run.brokers.clear();
            run.failure = failure.clone();
        }
        Event::SlotRequested { broker, .. } => {
            run.brokers.insert(broker.clone());
            fold_vm(run, event);
        }
        Event::TaskOrdered { task, .. } => {
            run.next_task = run.next_task.max(task.ordinal.saturating_add(1));
            fold_vm(run, event);
        }
        Event::TaskDone { moved, .. } => {
            run.moved = transfer::add(run.moved, *moved);
            fold_vm(run, event);
        }
        Event::SlotGranted { .. }
        | Event::AccessAwaited { .. }
        | Event::ReadRequested { .. }
        | Event::ReadPrepared { .. }
        | Event::CreateRequested { .. }
        | Event::VmCreated { .. }
        | Event::PointRequested { .. }
        | Event::PointOpened { .. }
        | Event::MoveStarted { .. }
        | Event::TaskLost { .. }
        | Event::CommitRequested { .. }
        | Event::WindingDown { .. }
        | Event::VmEnded { .. } => fold_vm(run, event),
    }
}

fn planned(vm: &PlannedVm) -> Vm {
    Vm {
        vm: vm.vm.clone(),
        point: vm.point.clone(),
        slots: BTreeMap::new(),
        reading: None,
        replica: None,
        base: None,
        frozen: None,
        transfer: Transfer::default(),
        step: Step::Planned,
    }
}

/// The VM that an event is of.
fn vm_of(event: &Event) -> Option<&VmName> {
    match event {
        Event::SlotRequested { vm, .. }
        | Event::SlotGranted { vm, .. }
        | Event::AccessAwaited { vm, .. }
        | Event::ReadRequested { vm, .. }
        | Event::ReadPrepared { vm, .. }
        | Event::CreateRequested { vm, .. }
        | Event::VmCreated { vm }
        | Event::PointRequested { vm, .. }
        | Event::PointOpened { vm, .. }
        | Event::MoveStarted { vm, .. }
        | Event::TaskOrdered { vm, .. }
        | Event::TaskDone { vm, .. }
        | Event::TaskLost { vm, .. }
        | Event::CommitRequested { vm, .. }
        | Event::WindingDown { vm, .. }
        | Event::VmEnded { vm, .. } => Some(vm),
        Event::Begun { .. }
        | Event::HostListed { .. }
        | Event::ListingFailed { .. }
        | Event::Planned { .. }
        | Event::AccessRequested { .. }
        | Event::AccessOpened { .. }
        | Event::AccessFailed { .. }
        | Event::RetryScheduled { .. }
        | Event::RetryStarted { .. }
        | Event::StopRequested { .. }
        | Event::Ended { .. } => None,
    }
}

fn fold_vm(run: &mut Run, event: &Event) {
    let Some(vm) = vm_of(event).and_then(|name| run.vms.get_mut(name)) else { return };
    match event {
        Event::SlotRequested { broker, slot, role, until, .. } => {
            vm.slots.insert(slot.clone(), Slot { broker: broker.clone(), role: *role, granted: None });
            vm.step = Step::Slots { until: *until };
        }
        Event::SlotGranted { slot, mover, endpoint, .. } => {
            if let Some(slot) = vm.slots.get_mut(slot) {
                slot.granted = Some((mover.clone(), endpoint.clone()));
            }
        }
        Event::AccessAwaited { until, .. } => vm.step = Step::Access { until: *until },
        Event::ReadRequested { host, until, .. } => {
            vm.reading = Some(host.clone());
            vm.step = Step::Read { until: *until };
        }
        Event::ReadPrepared { snapshot, disks, taken, .. } => {
            vm.frozen = Some(Frozen { snapshot: snapshot.clone(), disks: disks.clone(), taken: *taken });
        }
        Event::CreateRequested { until, .. } => vm.step = Step::Create { until: *until },
        Event::VmCreated { .. } => {}
        Event::PointRequested { replica, until, .. } => {
            vm.replica = Some(replica.clone());
            vm.step = Step::Point { until: *until };
        }
        Event::PointOpened { base, .. } => vm.base = base.clone(),
        Event::MoveStarted { until, .. } => vm.step = Step::Moving { until: *until },
        Event::TaskOrdered { disk, end, task, mover, .. } => {
            vm.transfer.ordered(task, OpenTask { disk: disk.clone(), end: *end, mover: mover.clone() });
        }
        Event::TaskDone { task, disk, .. } => vm.transfer.done(task, disk),
        Event::TaskLost { task, .. } => vm.transfer.lost(task),
        Event::CommitRequested { until, .. } => vm.step = Step::Committing { until: *until },
        Event::WindingDown { failure, until, .. } => {
            vm.step = Step::Winding { failure: failure.clone(), until: *until };
        }
        Event::VmEnded { end, .. } => {
            vm.step = Step::Ended(end.clone());
            vm.slots.clear();
            vm.reading = None;
            vm.replica = None;
            vm.base = None;
            vm.frozen = None;
            vm.transfer = Transfer::default();
        }
        Event::Begun { .. }
        | Event::HostListed { .. }
        | Event::ListingFailed { .. }
        | Event::Planned { .. }
        | Event::AccessRequested { .. }
        | Event::AccessOpened { .. }
        | Event::AccessFailed { .. }
        | Event::RetryScheduled { .. }
        | Event::RetryStarted { .. }
        | Event::StopRequested { .. }
        | Event::Ended { .. } => {}
    }
}
