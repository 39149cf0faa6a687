//! Deliberate bugs, one per run, to show that the checkers find what they must. They can only be chosen with the cargo
//! feature `deliberate-bugs`, which this crate's tests turn on and no binary does; without it every question here is a
//! constant no.

use serde::{Deserialize, Serialize};

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bug {
    /// Agents obey whatever epoch an order names.
    EpochCheckSkipped,
    /// Acks and messages leave before their frame is durable.
    AckBeforeSync,
    /// What was accepted once is accepted again when it comes twice.
    WatermarkNotKept,
    /// A repository's agent announces points whose chunks are not durable yet.
    PointAnnouncedBeforeChunks,
    /// The order of a decision's sends follows a hash map.
    HashMapOrder,
    /// A log restored from a copy goes on under its old lineage.
    LineageNotRenewed,
    /// A host takes what it knows itself for its replicas' answer, when an operator starts a VM that they protect.
    StartedWithoutAsking,
    /// A receiver waits for numbers that its sender has no more.
    FloorIgnored,
    /// A sweep does not wait for the accesses that stood at its mark.
    SweepDoesNotWait,
    /// Who stores something is told that it is there although it lies in a marked pack.
    MarkedHitCounts,
    /// The commit of a point does not look whether its chunks are there.
    CommitUnchecked,
    /// The hold of the trash is counted by the machine's clock.
    HoldByWallClock,
    /// An agent goes on with a folder that has passed to another.
    OwnerNotChecked,
    /// A sweep takes what only manifests name that the log does not know.
    UnknownManifestNotHeld,
    /// An agent drops what must stay, when it is told to.
    ImmutableDropped,
}

impl Bug {
    /// The scenario that must find it.
    pub fn scenario(self) -> &'static str {
        match self {
            Bug::EpochCheckSkipped
            | Bug::AckBeforeSync
            | Bug::WatermarkNotKept
            | Bug::PointAnnouncedBeforeChunks
            | Bug::HashMapOrder
            | Bug::LineageNotRenewed
            | Bug::StartedWithoutAsking
            | Bug::FloorIgnored => "demo",
            Bug::SweepDoesNotWait
            | Bug::MarkedHitCounts
            | Bug::CommitUnchecked
            | Bug::HoldByWallClock
            | Bug::OwnerNotChecked
            | Bug::UnknownManifestNotHeld
            | Bug::ImmutableDropped => "repository",
        }
    }
}

/// All of them.
pub const BUGS: [Bug; 15] = [
    Bug::EpochCheckSkipped,
    Bug::AckBeforeSync,
    Bug::WatermarkNotKept,
    Bug::PointAnnouncedBeforeChunks,
    Bug::HashMapOrder,
    Bug::LineageNotRenewed,
    Bug::StartedWithoutAsking,
    Bug::FloorIgnored,
    Bug::SweepDoesNotWait,
    Bug::MarkedHitCounts,
    Bug::CommitUnchecked,
    Bug::HoldByWallClock,
    Bug::OwnerNotChecked,
    Bug::UnknownManifestNotHeld,
    Bug::ImmutableDropped,
];

/// The bug of a run, if it has one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chosen {
    #[cfg(feature = "deliberate-bugs")]
    bug: Option<Bug>,
}

impl Chosen {
    #[cfg(feature = "deliberate-bugs")]
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Chosen { bug }
    }

    #[cfg(feature = "deliberate-bugs")]
    pub(crate) fn is(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "deliberate-bugs"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    pub(crate) const fn is(self, _bug: Bug) -> bool {
        false
    }
}
