//! The disks of one VM on their way: which tasks are open, what each end has proven. Used by sessions and, for a
//! failback, by replicas.

use farshore_schemas::ids::{Address, Digest, DiskName, TaskId};
use farshore_schemas::messages::agent::{DiskPoint, Moved};
use farshore_schemas::messages::session::End;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A task that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTask {
    /// Its disk.
    pub disk: DiskName,
    /// Which end.
    pub end: End,
    /// The mover actor that has it.
    pub mover: Address,
}

/// A VM's disks on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Tasks that have not ended.
    #[serde(with = "crate::pairs")]
    pub open: BTreeMap<TaskId, OpenTask>,
    /// What the reading ends have proven.
    pub read: BTreeMap<DiskName, DiskPoint>,
    /// What the writing ends have proven.
    pub written: BTreeMap<DiskName, DiskPoint>,
}

impl Transfer {
    /// A task was ordered.
    pub(crate) fn ordered(&mut self, task: &TaskId, open: OpenTask) {
        self.open.insert(task.clone(), open);
    }

    /// A task is done.
    pub(crate) fn done(&mut self, task: &TaskId, disk: &DiskPoint) {
        let Some(open) = self.open.remove(task) else { return };
        let proofs = match open.end {
            End::Read => &mut self.read,
            End::Write => &mut self.written,
        };
        proofs.insert(open.disk, disk.clone());
    }

    /// A task has failed or was cancelled.
    pub(crate) fn lost(&mut self, task: &TaskId) {
        self.open.remove(task);
    }

    /// The first disk whose two ends do not agree, with what each says; a missing proof does not agree with anything.
    pub(crate) fn mismatch(&self, disks: &[DiskName]) -> Option<(DiskName, Option<Digest>, Option<Digest>)> {
        disks.iter().find_map(|disk| {
            let read = self.read.get(disk).map(|proof| proof.checksum);
            let written = self.written.get(disk).map(|proof| proof.checksum);
            (read.is_none() || read != written).then(|| (disk.clone(), read, written))
        })
    }
}

/// Two counters added, held at the end of the range.
pub(crate) fn add(a: Moved, b: Moved) -> Moved {
    Moved {
        read: a.read + b.read,
        changed: a.changed + b.changed,
        sent: a.sent + b.sent,
        written: a.written + b.written,
    }
}
