//! A simulated replica store: sealed points, and the one that is being made.

use super::content::{Content, Disks, facts};
use super::host::VmWorld;
use super::{Place, World, failed, no_vm};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId, TaskId, VmName, VmRef};
use farshore_schemas::messages::agent::{DiskPoint, Outcome};
use farshore_schemas::units::{ByteCount, Timestamp};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreWorld {
    /// Sealed points, oldest first.
    pub(crate) points: Vec<(PointId, Timestamp, Disks)>,
    /// The point being made, with the disks received for it.
    pub(crate) open: Option<(PointId, Disks)>,
}

impl StoreWorld {
    fn sealed(&self, point: &PointId) -> Option<&(PointId, Timestamp, Disks)> {
        self.points.iter().find(|(id, _, _)| id == point)
    }

    /// The newest state of a disk: what the next point's changes apply to.
    pub(crate) fn newest(&self, disk: &DiskName) -> Content {
        let open = self.open.as_ref().and_then(|(_, disks)| disks.get(disk));
        let sealed = self.points.last().and_then(|(_, _, disks)| disks.get(disk));
        open.or(sealed).copied().unwrap_or_default()
    }

    fn seal(&mut self, point: &PointId, taken: Timestamp, disks: Disks) {
        self.points.push((point.clone(), taken, disks));
        self.open = None;
    }

    fn forget(&mut self, points: &[PointId]) {
        self.points.retain(|(id, _, _)| !points.contains(id));
    }
}

fn durable(disks: &Disks) -> Vec<Outcome> {
    let disks = disks.iter().map(|(name, content)| content.proof(name, Digest::default())).collect();
    vec![Outcome::PointDurable { stored: ByteCount(super::content::BLOCK_BYTES), disks, immutable: None }]
}

impl World {
    fn store(&mut self, at: &Place, replica: &Name) -> &mut StoreWorld {
        self.hosts.entry(at.clone()).or_default().stores.entry(replica.clone()).or_default()
    }

    /// Changed blocks of a disk have come for a point.
    pub(crate) fn store_receives(
        &mut self,
        at: &Place,
        replica: &Name,
        (point, disk): (&PointId, &DiskName),
        with: Content,
    ) {
        let store = self.store(at, replica);
        if store.open.as_ref().is_none_or(|(open, _)| open != point) {
            // What a run before left behind is taken back first: its before-images are durable.
            store.open = Some((point.clone(), Disks::new()));
        }
        if let Some((_, disks)) = &mut store.open {
            disks.insert(disk.clone(), with);
        }
    }

    /// Seals a point whose disks are all there and hold what the source held.
    pub(crate) fn seal_point(
        &mut self,
        at: &Place,
        (replica, point): (&Name, &PointId),
        (taken, disks): (Timestamp, &[DiskPoint]),
        forget: &[PointId],
    ) -> Vec<Outcome> {
        let store = self.store(at, replica);
        if let Some((_, _, held)) = store.sealed(point) {
            return durable(held);
        }
        let Some((_, held)) = store.open.clone().filter(|(open, _)| open == point) else {
            return failed("FS-REPLICA-NOT-RECEIVED", format!("no disk of point {point} was received"), true);
        };
        let complete = disks.iter().all(|disk| held.get(&disk.name).is_some_and(|c| c.checksum() == disk.checksum));
        if !complete || held.len() != disks.len() {
            return failed("FS-REPLICA-CHECKSUM", format!("point {point} is not what the source held"), true);
        }
        store.seal(point, taken, held.clone());
        store.forget(forget);
        durable(&held)
    }

    /// Takes back what was written since the last sealed point.
    pub(crate) fn roll_back(&mut self, at: &Place, replica: &Name) -> Vec<Outcome> {
        self.store(at, replica).open = None;
        vec![Outcome::Done]
    }

    /// Makes a VM from a point.
    pub(crate) fn make_working(
        &mut self,
        at: &Place,
        (replica, point): (&Name, &PointId),
        (vm, origin): (&VmName, &VmRef),
        task: &TaskId,
    ) -> Vec<Outcome> {
        let Some((_, taken, disks)) = self.store(at, replica).sealed(point).cloned() else {
            return failed("FS-REPLICA-NO-POINT", format!("replica {replica} has no point {point}"), false);
        };
        let host = self.hosts.entry(at.clone()).or_default();
        match host.vms.get(vm) {
            Some(there) if there.guest.is_some() => {
                return failed("FS-HOST-RUNS", format!("working VM {vm} runs already"), false);
            }
            Some(there) if there.origin != *origin => {
                return failed("FS-HOST-VM-EXISTS", format!("a VM {vm} of another origin exists"), false);
            }
            Some(_) | None => {}
        }
        let mut made = VmWorld::new(origin.clone(), [], Some(task.clone()));
        made.disks.clone_from(&disks);
        host.vms.insert(vm.clone(), made);
        vec![Outcome::Snapshot { disks: facts(&disks), taken }]
    }

    /// Deletes a working VM that is off.
    pub(crate) fn drop_working(&mut self, at: &Place, vm: &VmName) -> Vec<Outcome> {
        let host = self.hosts.entry(at.clone()).or_default();
        if host.vms.get(vm).is_some_and(|vm| vm.guest.is_some()) {
            return failed("FS-HOST-RUNS", format!("working VM {vm} runs"), true);
        }
        host.vms.remove(vm);
        vec![Outcome::Done]
    }

    /// Makes a working VM's content the newest point, then deletes the VM.
    pub(crate) fn absorb_working(
        &mut self,
        at: &Place,
        (replica, vm): (&Name, &VmName),
        (point, taken): (&PointId, Timestamp),
        forget: &[PointId],
    ) -> Vec<Outcome> {
        if let Some((_, _, held)) = self.store(at, replica).sealed(point).cloned() {
            self.hosts.entry(at.clone()).or_default().vms.remove(vm);
            return durable(&held);
        }
        let Some(working) = self.hosts.get(at).and_then(|host| host.vms.get(vm)) else { return no_vm(vm) };
        if working.guest.is_some() {
            return failed("FS-HOST-RUNS", format!("working VM {vm} runs"), true);
        }
        let (disks, origin) = (working.disks.clone(), working.origin.clone());
        self.remember_frozen(&origin, taken, &disks);
        let store = self.store(at, replica);
        store.seal(point, taken, disks.clone());
        store.forget(forget);
        self.hosts.entry(at.clone()).or_default().vms.remove(vm);
        durable(&disks)
    }

    /// Deletes a store.
    pub(crate) fn drop_replica(&mut self, at: &Place, replica: &Name) -> Vec<Outcome> {
        self.hosts.entry(at.clone()).or_default().stores.remove(replica);
        vec![Outcome::Done]
    }
}
