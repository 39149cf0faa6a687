//! What the two stores promise, one module per promise.

mod common;
mod replica;
mod replica_crash;
mod replica_history;
mod repository;
mod repository_faults;
mod repository_prune;
mod sparse;
