//! A job: what is protected, when, how often retried, how many points are kept. It starts sessions and learns their ends.

use super::SessionResult;
use super::keep::Keep;
use crate::ids::{Name, PointId, SiteName, VmName, VmRef};
use crate::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Restore points into a repository of the same site. The job lives at the source site.
    Backup {
        /// The host of the VMs, at this site.
        host: Name,
        /// The VMs; empty for all of the host.
        vms: Vec<VmName>,
        /// The repository, at this site.
        repository: Name,
    },
    /// Replicas on a host of this site. The job lives at the target site.
    Replication {
        /// The site of the VMs.
        source_site: SiteName,
        /// Their host there.
        source_host: Name,
        /// The VMs; empty for all of the host.
        vms: Vec<VmName>,
        /// The repository near the source that keeps the digests, at the source site.
        digests: Name,
        /// The host of the replicas, at this site.
        target_host: Name,
    },
    /// One restore, started by an operator: such a job is made, runs once and stays as its record.
    Restore {
        /// The repository, at this site.
        repository: Name,
        /// The point.
        point: PointId,
        /// The VM that it stands for.
        origin: VmRef,
        /// Where to, at this site.
        host: Name,
        /// The VM to make.
        vm: VmName,
    },
}

/// When a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Only by hand.
    Manual,
    /// Every so often, counted from local midnight.
    Periodic {
        /// The interval: at least a minute, at most a day.
        every: Millis,
        /// The IANA time zone whose midnight counts.
        zone: String,
    },
    /// Once a day.
    Daily {
        /// Minutes after local midnight, 0 to 1439.
        minute: u16,
        /// The IANA time zone.
        zone: String,
    },
}

/// Retry of failed VMs inside the same session. The field's defaults: 3 attempts, 10 minutes apart, never for a run started by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first.
    pub attempts: u32,
    /// Wait before each.
    pub wait: Millis,
}

/// A job, as an operator defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What it does.
    pub work: Work,
    /// When.
    pub schedule: Schedule,
    /// Retry.
    pub retry: Retry,
    /// Which points stay of each VM; the field's default is the newest 7. A replication counts points and nothing else.
    pub keep: Keep,
}

/// What a job accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From the operator.
    Define(JobSpec),
    /// From the operator: forget it; its points stay. Refused while it runs.
    Remove,
    /// From the operator: run now.
    Run,
    /// From the operator: stop the run.
    Stop,
    /// From the operator: keep the definition, start nothing.
    Enable {
        /// Whether the schedule counts.
        enabled: bool,
    },
    /// From its session: it has ended.
    SessionEnded {
        /// The session.
        session: Name,
        /// Its result.
        result: SessionResult,
        /// VMs whose newest point is from this run.
        protected: Vec<VmRef>,
        /// When it ended.
        ended: Timestamp,
    },
}

/// A place in a schedule: the local date and which slot of that day, from 0 (field.md P16).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotId {
    /// The local date, `YYYY-MM-DD`.
    pub date: String,
    /// Which of that day.
    pub ordinal: u32,
}

/// Why a run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// An operator asked for it.
    Manual,
    /// The definition itself: a restore.
    Once,
    /// The schedule.
    Slot {
        /// The newest slot that was due.
        slot: SlotId,
        /// When it was due.
        due: Timestamp,
        /// How many slots before it were due and did not run: they are coalesced into this run.
        missed: u64,
    },
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// It is (re)defined; slots up to `at` do not count.
    Defined {
        /// As this.
        spec: JobSpec,
        /// When.
        at: Timestamp,
    },
    /// It is forgotten.
    Removed,
    /// The schedule counts, or does not; slots up to `at` do not count.
    Enabled {
        /// Whether.
        enabled: bool,
        /// When.
        at: Timestamp,
    },
    /// A session was told to begin.
    RunStarted {
        /// The session.
        session: Name,
        /// The run's number.
        run: u64,
        /// Why.
        trigger: Trigger,
        /// On whose behalf.
        principal: String,
        /// When.
        at: Timestamp,
    },
    /// The session was told to stop.
    StopRequested {
        /// The session.
        session: Name,
        /// On whose behalf.
        principal: String,
        /// When.
        at: Timestamp,
    },
    /// The session has ended.
    RunEnded {
        /// The session.
        session: Name,
        /// Its result.
        result: SessionResult,
        /// VMs whose newest point is from this run.
        protected: Vec<VmRef>,
        /// Why it did not begin, if so.
        refusal: Option<super::Refusal>,
        /// When it ended.
        at: Timestamp,
    },
}
