//! What a host does: listing, snapshots, power, new VMs, drills.

use crate::task::{Task, TaskResult, failure};
use farshore_hosts::{LEFT_OUT, NewVm, PowerOn};
use farshore_schemas::ids::{Name, Seq, VmName, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::agent::{DiskFacts, Outcome};
use std::sync::PoisonError;

/// VMs in one page of an inventory.
const PAGE: usize = 200;

type Vm<'a> = (&'a Name, &'a VmName);

pub(super) fn discover(task: &Task, host: &Name) -> TaskResult<Vec<Outcome>> {
    let listing = task.shared.host(host)?.list()?;
    let mut pages: Vec<Outcome> =
        listing.vms.chunks(PAGE).map(|vms| Outcome::Inventory { vms: vms.to_vec(), last: false }).collect();
    for problem in &listing.problems {
        tracing::warn!(host = %host, subject = problem.subject, code = problem.code, "{}", problem.message);
    }
    // What could not be listed is not absent: then no page may be the last one, which is what absence counts from.
    if let Some(problem) = listing.problems.iter().find(|problem| hides_a_vm(problem.code)) {
        let message = format!("host {host} could not be listed in full: {}: {}", problem.subject, problem.message);
        pages.push(Outcome::Failed(failure(problem.code, message, &problem.advice, true)));
        return Ok(pages);
    }
    match pages.last_mut() {
        Some(Outcome::Inventory { last, .. }) => *last = true,
        Some(_) | None => pages.push(Outcome::Inventory { vms: Vec::new(), last: true }),
    }
    Ok(pages)
}

/// Whether this problem means that a VM, or disks of one, may be missing from the list: every one but what is no VM, or no
/// disk of one, by the host's own rules. A mistake in a `vm.yaml` must not take its VM out of protection.
fn hides_a_vm(code: &str) -> bool {
    code != LEFT_OUT
}

pub(super) fn snapshot_begin(task: &Task, (host, vm): Vm<'_>, snapshot: &Name) -> TaskResult<Outcome> {
    let facts = task.shared.host(host)?.snapshot_begin(vm, snapshot)?;
    Ok(Outcome::Snapshot { disks: facts.disks, taken: facts.taken })
}

pub(super) fn snapshot_end(task: &Task, (host, vm): Vm<'_>, snapshot: &Name) -> TaskResult<Outcome> {
    task.shared.host(host)?.snapshot_end(vm, snapshot)?;
    Ok(Outcome::Done)
}

pub(super) fn power_on(task: &Task, host: &Name, vm: &VmName) -> TaskResult<Outcome> {
    let lock = task.shared.power_lock(host, vm);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    // Again under the lock: an order with a higher epoch may have passed while this one waited.
    task.shared.check_fence(&task.order)?;
    task.go_on()?;
    let folder = task.shared.host(host)?;
    let itself = VmRef { site: task.shared.site.clone(), host: host.clone(), vm: vm.clone() };
    let (origin, epoch) = match &task.order.fence {
        Some((origin, epoch)) => (origin.clone(), epoch.clone()),
        // A VM that nothing protects runs under the right that it always had.
        None => {
            let origin = folder.origin(vm)?.unwrap_or(itself);
            (origin, Epoch { counter: 0, site: task.shared.site.clone(), frame: Seq(0) })
        }
    };
    folder.power_on(vm, &PowerOn { origin: &origin, epoch: &epoch, program: &task.shared.guest_program })?;
    Ok(Outcome::Done)
}

pub(super) fn power_off(task: &Task, host: &Name, vm: &VmName) -> TaskResult<Outcome> {
    let lock = task.shared.power_lock(host, vm);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = task.shared.host(host)?;
    // A VM that is gone is said to be gone (FS-HOST-VM-MISSING): a failback then makes it again.
    folder.power_off(vm)?;
    Ok(Outcome::Done)
}

pub(super) fn create_vm(task: &Task, (host, vm): Vm<'_>, disks: &[DiskFacts], origin: &VmRef) -> TaskResult<Outcome> {
    let lock = task.shared.power_lock(host, vm);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let made_by = format!("task {} {}", task.order.task, task.order.task.lineage);
    let new = NewVm { vm, disks, origin, stamps: None, made_by: &made_by };
    task.shared.host(host)?.create_vm(&new)?;
    Ok(Outcome::Done)
}

pub(super) fn guest_write(task: &Task, (host, vm): Vm<'_>, seed: u64) -> TaskResult<Outcome> {
    task.shared.host(host)?.guest_write(vm, seed)?;
    Ok(Outcome::Done)
}
