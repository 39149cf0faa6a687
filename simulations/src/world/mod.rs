//! The fake world that agents act on: hosts with VMs and guests, repositories with chunks, replica stores. It enforces
//! nothing that an agent's own code would not, keeps what is durable over every crash, and remembers the truth for the
//! checkers: what disks held when they were frozen, and what ran when.

pub(crate) mod content;
pub(crate) mod host;
pub(crate) mod repository;
pub(crate) mod store;

use content::Disks;
use farshore_schemas::ids::{Name, SiteName, TaskId, VmName, VmRef};
use farshore_schemas::messages::agent::{Failure, Outcome};
use farshore_schemas::units::Timestamp;
use host::HostWorld;
use repository::RepositoryWorld;
use std::collections::BTreeMap;

/// A host or a repository: its site and its name.
pub(crate) type Place = (SiteName, Name);

/// Everything outside the processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// Hosts.
    pub(crate) hosts: BTreeMap<Place, HostWorld>,
    /// Repositories.
    pub(crate) repositories: BTreeMap<Place, RepositoryWorld>,
    /// Every state in which a VM's disks were ever frozen.
    pub(crate) frozen: BTreeMap<VmRef, Vec<(Timestamp, Disks)>>,
    /// Starts of guests, newest last.
    pub(crate) starts: Vec<Start>,
    /// What was done that must never be done, for the checkers.
    pub(crate) wrongs: Vec<String>,
    /// Guests ever started.
    pub(crate) runs: u64,
}

/// A guest was started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// Where.
    pub(crate) place: VmRef,
    /// The VM that it stands for.
    pub(crate) origin: VmRef,
    /// The task that did it.
    pub(crate) task: TaskId,
    /// Its run.
    pub(crate) run: u64,
    /// Others of the same origin that ran then.
    pub(crate) beside: Vec<VmRef>,
}

impl World {
    /// Guests that stand for a VM, and run.
    pub(crate) fn running(&self, origin: &VmRef) -> Vec<VmRef> {
        let mut running = Vec::new();
        for ((site, host), world) in &self.hosts {
            for (vm, facts) in world.vms.iter().filter(|(_, vm)| vm.guest.is_some() && vm.origin == *origin) {
                debug_assert!(facts.guest.is_some());
                running.push(VmRef { site: site.clone(), host: host.clone(), vm: vm.clone() });
            }
        }
        running
    }

    /// Remembers what a VM's disks held.
    pub(crate) fn remember_frozen(&mut self, vm: &VmRef, taken: Timestamp, disks: &Disks) {
        self.frozen.entry(vm.clone()).or_default().push((taken, disks.clone()));
    }

    /// Whether a VM's disks ever held this at that moment.
    pub(crate) fn held(&self, vm: &VmRef, taken: Timestamp, disks: &Disks) -> bool {
        self.frozen.get(vm).is_some_and(|states| states.iter().any(|(at, held)| *at == taken && held == disks))
    }
}

/// A task that could not be done.
pub(crate) fn failed(code: &str, message: String, transient: bool) -> Vec<Outcome> {
    let failure = Failure { code: code.to_owned(), message, advice: "order it again".to_owned(), transient };
    vec![Outcome::Failed(failure)]
}

/// A VM that is not there.
pub(crate) fn no_vm(vm: &VmName) -> Vec<Outcome> {
    failed("FS-HOST-VM-MISSING", format!("there is no VM {vm} on this host"), false)
}
