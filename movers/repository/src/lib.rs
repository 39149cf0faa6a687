//! Where bytes are kept: the repository (packs, index, restore points, digests of replicas) and the replica store
//! (the newest state of each disk raw, and reverse deltas back to older points). Called by the task runners of
//! `farshore-agent`, on threads that may block: everything here is synchronous. What is not here: who may come in, what
//! is kept for how long, and the network; those are decided by the owner's log and done by the agent.
//!
//! Both stores are opened once by a process, hold an exclusive lock and are shared as `Arc`. Nothing is announced before
//! it is durable (P6). After a failed sync a store refuses everything until it is opened again, because what the disk
//! holds is then unknown.

mod advice;
pub mod allocation;
mod attribute;
mod direct;
mod error;
mod io;
mod replica;
mod repository;
pub mod sparse;

pub use attribute::Attribute;
pub use error::{Error, Store};
pub use io::{Faults, Op};
pub use replica::{BlockContent, DiskWriter, FinishedDisk, ReplicaStore};
pub use repository::{
    BackedUp, BackupOptions, Changes, Clock, Create, Damage, DeviceTarget, DiskView, HurtPoint, Immutability, KeptLog,
    LogGap, LogKeeper, Marks, Monotonic, Owner, OwnerFile, ProvenPoint, Pruned, RawSource, RawTarget, Repaired,
    Repository, Restored, Sample, SentRecord, SharedDomain, Shipped, SiteLog, Source, Spares, Stages, Target, Unlock,
    Verified, WriteSession, within,
};

/// What either store answers.
pub type Result<T> = std::result::Result<T, Error>;
