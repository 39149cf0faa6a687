//! What the two stores promise, one module per promise.

#[cfg(test)]
mod allocation;
#[cfg(test)]
mod common;
#[cfg(test)]
mod replica;
#[cfg(test)]
mod replica_crash;
#[cfg(test)]
mod replica_history;
#[cfg(test)]
mod repository;
#[cfg(test)]
mod repository_faults;
#[cfg(test)]
mod repository_prune;
#[cfg(test)]
mod sparse;
#[cfg(test)]
mod v1;
#[cfg(test)]
mod v1_damage;
#[cfg(test)]
mod v1_faults;
#[cfg(test)]
mod v1_mend;
#[cfg(test)]
mod v1_python;
