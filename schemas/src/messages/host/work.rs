//! For what a host gives orders to its agent.

use crate::ids::{Address, VmName, VmRef};
use crate::messages::agent::DiskFacts;
use serde::{Deserialize, Serialize};

/// What a host has ordered from its agent, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Work {
    /// List the VMs.
    Discover,
    /// Freeze a VM for a reader.
    BeginRead {
        /// The VM.
        vm: VmName,
        /// The session or replica that reads.
        reader: Address,
    },
    /// Let go of a reader's snapshot.
    EndRead {
        /// The VM.
        vm: VmName,
        /// The session or replica that read.
        reader: Address,
    },
    /// Make a VM.
    Create {
        /// The VM.
        vm: VmName,
        /// Its disks.
        disks: Vec<DiskFacts>,
        /// The VM that it stands for.
        origin: VmRef,
        /// Who asked.
        asker: Address,
    },
    /// Start a guest under the order's fence.
    Start {
        /// The VM.
        vm: VmName,
        /// The replica that waits for `PoweredOn`, if one does.
        asker: Option<Address>,
    },
    /// Stop a guest and raise the fence to the order's.
    Stop {
        /// The VM.
        vm: VmName,
        /// Who waits for it.
        asker: StopAsker,
    },
    /// Write inside the guest, for drills.
    Write {
        /// The VM.
        vm: VmName,
    },
}

/// Who waits for a guest to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StopAsker {
    /// An operator, or this host itself, which keeps a VM down whose right is elsewhere.
    Nobody,
    /// A replica, by `Released`.
    Release(Address),
    /// A replica, by `PoweredOff`.
    StopGuest(Address),
}
