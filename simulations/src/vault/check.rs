//! P6 as it must hold at every step, by the truth of the folder and not by what anybody believes.

use super::Vault;
use crate::bug::Bug;
use crate::layout;
use crate::world::content::Stamp;
use farshore_core::decider::Decider;
use farshore_core::repository::{AccessStatus, Repository, State};
use farshore_schemas::ids::{Address, Lineage, PointId};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::messages::repository::Event;
use std::collections::BTreeSet;

/// What only the story knows.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Points that the owner's log lists and that had gone when the folder came to it: the log was put back from before.
    excused: BTreeSet<PointId>,
}

impl Vault {
    /// The control plane that the folder belongs to.
    fn folders_control(&mut self) -> Option<usize> {
        let owner = self.folder().owner?;
        self.controls.iter().position(|control| control.lineage == owner)
    }

    /// Whether this session's access is open in the log that the folder belongs to.
    pub(super) fn stands(&self, control: usize, holder: &Address) -> bool {
        let owner = self.world.repositories.get(&layout::vault()).and_then(|folder| folder.owner);
        let State::Defined(known) = &self.controls[control].state else { return false };
        let open = known.accesses.get(holder).is_some_and(|access| match &access.status {
            AccessStatus::Open { .. } | AccessStatus::Reopening { .. } => true,
            AccessStatus::Waiting
            | AccessStatus::Opening { .. }
            | AccessStatus::Failed { .. }
            | AccessStatus::Closing { .. }
            | AccessStatus::CloseFailed { .. } => false,
        });
        open && owner == Some(self.controls[control].lineage)
    }

    pub(super) fn known_points(&self, control: usize) -> BTreeSet<PointId> {
        match &self.controls[control].state {
            State::Defined(known) => known.points.keys().chain(known.forgotten.keys()).cloned().collect(),
            State::Undefined { .. } => BTreeSet::new(),
        }
    }

    /// The folder has come to a log that may be older than what was done to it.
    pub(super) fn folder_has_passed(&mut self, to: Lineage) {
        let Some(control) = self.controls.iter().position(|control| control.lineage == to) else { return };
        let there = self.folder().manifests.keys().cloned().collect();
        self.truth.excused = self.known_points(control).difference(&there).cloned().collect();
    }

    /// A log is older now than what it had said: nothing is known of it yet.
    pub(super) fn log_was_put_back(&mut self, control: usize) {
        let now = self.now();
        self.trace.say(now, || format!("control {control} goes on from an old copy of the log"));
    }

    /// After a decision: what the owner of the folder announces is there.
    pub(super) fn decided(&mut self, control: usize, events: &[Event]) {
        let ended = |event: &&Event| matches!(event, Event::PointsPruned { .. });
        self.sweeps += events.iter().filter(ended).count() as u64;
        for event in events {
            if let Event::PointForgotten { point } = event {
                self.retention_leaves_enough(control, point);
            } else if let Event::PointAdded { point, .. } = event
                && self.folders_control() == Some(control)
            {
                self.announced_are_there(control, |id| *id == point.point);
            }
        }
    }

    /// Whatever the clock says, a newer point of the VM stays, and by days three of them.
    fn retention_leaves_enough(&mut self, control: usize, forgotten: &PointId) {
        let State::Defined(after) = &self.controls[control].state else { return };
        let Some(gone) = after.forgotten.get(forgotten) else { return };
        let (vm, job) = (&gone.facts.vm, &gone.facts.job);
        let ours = after.points.values().filter(|point| point.facts.vm == *vm && point.facts.job == *job);
        let newer = ours.filter(|point| point.made > gone.made).count();
        let by_days = after.rules.get(&(vm.clone(), job.clone())).is_some_and(|keep| keep.days.is_some());
        if newer < if by_days { 3 } else { 1 } {
            self.checks.violate("retention", format!("{forgotten} is forgotten, and {newer} newer points stay"));
        }
    }

    fn announced_are_there(&mut self, control: usize, which: impl Fn(&PointId) -> bool) {
        let State::Defined(known) = &self.controls[control].state else { return };
        let Some(folder) = self.world.repositories.get(&layout::vault()) else { return };
        for (point, facts) in known.points.iter().filter(|(point, _)| which(point)) {
            let Some(manifest) = folder.manifests.get(point) else {
                if !self.truth.excused.contains(point) {
                    self.checks.violate("P6", format!("point {point} is announced and its manifest is gone"));
                }
                continue;
            };
            let same = |disk: &DiskPoint| manifest.checksums().get(&disk.name) == Some(&disk.checksum);
            if !facts.facts.disks.iter().all(same) {
                self.checks.violate("P6", format!("point {point} is not what was read"));
            }
        }
    }

    /// Every manifest in the folder, whether a log knows it or not, has all its chunks.
    pub(super) fn folder_is_whole(&mut self) {
        let Some(folder) = self.world.repositories.get(&layout::vault()) else { return };
        let damaged: Vec<String> = folder.manifests.keys().filter_map(|point| folder.damage(point)).collect();
        damaged.into_iter().for_each(|damage| self.checks.violate("P6", damage));
        if let Some(control) = self.folders_control() {
            self.announced_are_there(control, |_| true);
        }
    }

    /// What a sweep has taken is nothing that an open session was told is stored.
    pub(super) fn nobody_counts_on(&mut self, taken: &BTreeSet<Stamp>) {
        if taken.is_empty() {
            return;
        }
        for n in 0..self.writers.len() {
            let writer = &self.writers[n];
            let (holder, control) = (writer.address(), writer.control);
            if writer.is_idle() || !self.stands(control, &holder) {
                continue;
            }
            let counted: Vec<Stamp> = writer.told.intersection(taken).copied().collect();
            let gone = counted.into_iter().find(|stamp| !self.folder().is_durable(stamp));
            if let Some(stamp) = gone {
                self.checks.violate("P6", format!("a sweep took {stamp:?}, which {holder} was told is stored"));
            }
        }
    }

    /// At the end: each state is the fold of its log.
    pub(super) fn look_back(&mut self) {
        for control in 0..self.controls.len() {
            let mut folded = State::default();
            self.controls[control].log().for_each(|event| Repository::evolve(&mut folded, event));
            if folded != self.controls[control].state && !self.bug.is(Bug::SweepDoesNotWait) {
                self.checks.violate("P2", format!("the state of control {control} is not the fold of its log"));
            }
        }
    }
}
