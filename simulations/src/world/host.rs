//! A simulated host: VMs as sets of disks, snapshots, and guests that outlive the agent.

use super::content::{Content, Disks, Stamp, disk_tag, facts};
use super::store::StoreWorld;
use super::{Place, Start, World, failed, no_vm};
use crate::choices::{Choices, Draw};
use farshore_schemas::ids::{DiskName, Name, TaskId, VmName, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::agent::{DiskFacts, Outcome};
use farshore_schemas::messages::host::VmFacts;
use farshore_schemas::units::Timestamp;
use std::collections::BTreeMap;

/// VMs on one page of an inventory.
const PAGE: usize = 2;

/// A host's durable content.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostWorld {
    /// Its VMs.
    pub(crate) vms: BTreeMap<VmName, VmWorld>,
    /// Replica stores in its folder.
    pub(crate) stores: BTreeMap<Name, StoreWorld>,
}

/// A VM.
#[derive(Debug, Clone)]
pub(crate) struct VmWorld {
    /// Its disks.
    pub(crate) disks: Disks,
    /// The VM that it stands for.
    pub(crate) origin: VmRef,
    /// Frozen states that are being read.
    pub(crate) snapshots: BTreeMap<Name, (Timestamp, Disks)>,
    /// Its guest, when it runs.
    pub(crate) guest: Option<Guest>,
    /// The task that made it; none for those that were there before.
    pub(crate) made_by: Option<TaskId>,
}

/// A guest that runs.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// The epoch that it runs under; 0 without one.
    pub(crate) epoch: u64,
    /// Which start of a guest this is.
    pub(crate) run: u64,
    /// Its count of writes.
    pub(crate) writes: u64,
}

impl VmWorld {
    /// A VM with empty disks.
    pub(crate) fn new(origin: VmRef, disks: impl IntoIterator<Item = DiskName>, made_by: Option<TaskId>) -> Self {
        let disks = disks.into_iter().map(|disk| (disk, Content::default())).collect();
        VmWorld { disks, origin, snapshots: BTreeMap::new(), guest: None, made_by }
    }

    fn write(&mut self, tag_of: &VmRef, epoch: u64, counter: u64, block: usize) {
        let at = counter as usize % self.disks.len().max(1);
        if let Some((disk, content)) = self.disks.iter_mut().nth(at) {
            content.0[block] = Stamp { disk: disk_tag(tag_of, disk), epoch, counter };
        }
    }
}

impl World {
    fn vm_mut(&mut self, at: &Place, vm: &VmName) -> Option<&mut VmWorld> {
        self.hosts.get_mut(at)?.vms.get_mut(vm)
    }

    /// Lists a host's VMs in pages.
    pub(crate) fn discover(&self, at: &Place) -> Vec<Outcome> {
        let Some(host) = self.hosts.get(at) else { return failed("FS-HOST-NO-FOLDER", "no such host".into(), false) };
        let vms: Vec<VmFacts> = host
            .vms
            .iter()
            .map(|(name, vm)| {
                let me = VmRef { site: at.0.clone(), host: at.1.clone(), vm: name.clone() };
                let origin = (vm.origin != me).then(|| vm.origin.clone());
                VmFacts { vm: name.clone(), disks: facts(&vm.disks), running: vm.guest.is_some(), origin }
            })
            .collect();
        if vms.is_empty() {
            return vec![Outcome::Inventory { vms, last: true }];
        }
        let pages = vms.len().div_ceil(PAGE);
        let page = |(n, vms): (usize, &[VmFacts])| Outcome::Inventory { vms: vms.to_vec(), last: n + 1 == pages };
        vms.chunks(PAGE).enumerate().map(page).collect()
    }

    /// Freezes a VM's disks; the same snapshot again is the same answer.
    pub(crate) fn snapshot_begin(
        &mut self,
        at: &Place,
        (vm, snapshot): (&VmName, &Name),
        now: Timestamp,
    ) -> Vec<Outcome> {
        let Some(state) = self.vm_mut(at, vm) else { return no_vm(vm) };
        let (taken, disks) =
            state.snapshots.entry(snapshot.clone()).or_insert_with(|| (now, state.disks.clone())).clone();
        let me = VmRef { site: at.0.clone(), host: at.1.clone(), vm: vm.clone() };
        let origin = state.origin.clone();
        self.remember_frozen(&me, taken, &disks);
        if origin != me {
            self.remember_frozen(&origin, taken, &disks);
        }
        vec![Outcome::Snapshot { disks: facts(&disks), taken }]
    }

    /// Lets go of a snapshot.
    pub(crate) fn snapshot_end(&mut self, at: &Place, vm: &VmName, snapshot: &Name) -> Vec<Outcome> {
        if let Some(state) = self.vm_mut(at, vm) {
            state.snapshots.remove(snapshot);
        }
        vec![Outcome::Done]
    }

    /// Starts a guest; one that runs goes on.
    pub(crate) fn power_on(&mut self, at: &Place, vm: &VmName, epoch: Option<&Epoch>, task: &TaskId) -> Vec<Outcome> {
        let run = self.runs + 1;
        let epoch = epoch.map_or(0, |epoch| epoch.counter);
        let Some(state) = self.vm_mut(at, vm) else { return no_vm(vm) };
        if let Some(guest) = &mut state.guest {
            guest.epoch = guest.epoch.max(epoch);
            return vec![Outcome::Done];
        }
        let origin = state.origin.clone();
        let beside = self.running(&origin);
        if let Some(state) = self.vm_mut(at, vm) {
            state.guest = Some(Guest { epoch, run, writes: 0 });
        }
        self.runs = run;
        let place = VmRef { site: at.0.clone(), host: at.1.clone(), vm: vm.clone() };
        self.starts.push(Start { place, origin, task: task.clone(), run, beside });
        vec![Outcome::Done]
    }

    /// Stops a guest.
    pub(crate) fn power_off(&mut self, at: &Place, vm: &VmName) -> Vec<Outcome> {
        let Some(state) = self.vm_mut(at, vm) else { return no_vm(vm) };
        state.guest = None;
        vec![Outcome::Done]
    }

    /// Makes a VM with empty disks.
    pub(crate) fn create_vm(
        &mut self,
        at: &Place,
        (vm, disks): (&VmName, &[DiskFacts]),
        origin: &VmRef,
        task: &TaskId,
    ) -> Vec<Outcome> {
        let Some(host) = self.hosts.get_mut(at) else { return no_vm(vm) };
        match host.vms.get(vm) {
            Some(there) if there.made_by.as_ref() == Some(task) => vec![Outcome::Done],
            Some(_) => failed("FS-HOST-VM-EXISTS", format!("a VM {vm} exists already"), false),
            None => {
                let names = disks.iter().map(|disk| disk.name.clone());
                host.vms.insert(vm.clone(), VmWorld::new(origin.clone(), names, Some(task.clone())));
                vec![Outcome::Done]
            }
        }
    }

    /// A drill: changes the guest's content by a seed.
    pub(crate) fn drill(&mut self, at: &Place, vm: &VmName, seed: u64) -> Vec<Outcome> {
        let Some(state) = self.vm_mut(at, vm) else { return no_vm(vm) };
        let (origin, epoch) = (state.origin.clone(), state.guest.as_ref().map_or(0, |guest| guest.epoch));
        state.write(&origin, epoch, seed | 1 << 40, 0);
        vec![Outcome::Done]
    }

    /// A running guest writes a block. Says whether that run still goes on.
    pub(crate) fn guest_writes(&mut self, at: &Place, vm: &VmName, run: u64, choices: &mut Choices) -> bool {
        let Some(state) = self.vm_mut(at, vm) else { return false };
        let Some(guest) = state.guest.as_mut().filter(|guest| guest.run == run) else { return false };
        guest.writes += 1;
        let (epoch, counter) = (guest.epoch, (guest.run << 20) + guest.writes);
        let origin = state.origin.clone();
        let block = 1 + usize::try_from(choices.below(Draw::Guest, (super::content::BLOCKS - 1) as u64)).expect("few");
        state.write(&origin, epoch, counter, block);
        true
    }

    /// A site is lost: all guests there stop.
    pub(crate) fn guests_die(&mut self, site: &farshore_schemas::ids::SiteName) {
        for (_, host) in self.hosts.iter_mut().filter(|((of, _), _)| of == site) {
            host.vms.values_mut().for_each(|vm| vm.guest = None);
        }
    }

    /// What a disk holds: of a snapshot, or of the VM itself when it is off.
    ///
    /// # Errors
    /// The outcome that tells why it cannot be read.
    pub(crate) fn read_disk(
        &self,
        at: &Place,
        (vm, disk): (&VmName, &DiskName),
        snapshot: Option<&Name>,
    ) -> Result<Content, Vec<Outcome>> {
        let Some(state) = self.hosts.get(at).and_then(|host| host.vms.get(vm)) else { return Err(no_vm(vm)) };
        let no_disk = || failed("FS-HOST-NO-DISK", format!("VM {vm} has no disk {disk}"), false);
        match snapshot {
            Some(name) => {
                let gone = || failed("FS-HOST-NO-SNAPSHOT", format!("VM {vm} has no snapshot {name}"), true);
                let (_, disks) = state.snapshots.get(name).ok_or_else(gone)?;
                disks.get(disk).copied().ok_or_else(no_disk)
            }
            None if state.guest.is_some() => {
                Err(failed("FS-HOST-RUNS", format!("VM {vm} runs: its disks cannot be read at rest"), true))
            }
            None => state.disks.get(disk).copied().ok_or_else(no_disk),
        }
    }

    /// Changes a disk of a VM that is off.
    pub(crate) fn write_disk(
        &mut self,
        at: &Place,
        (vm, disk): (&VmName, &DiskName),
        content: Content,
    ) -> Vec<Outcome> {
        let Some(state) = self.vm_mut(at, vm) else { return no_vm(vm) };
        if state.guest.is_some() {
            return failed("FS-HOST-RUNS", format!("VM {vm} runs: its disk {disk} cannot be changed"), true);
        }
        match state.disks.get_mut(disk) {
            Some(held) => {
                *held = content;
                vec![Outcome::Done]
            }
            None => failed("FS-HOST-NO-DISK", format!("VM {vm} has no disk {disk}"), false),
        }
    }
}
