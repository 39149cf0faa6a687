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
mod repository_damage;
#[cfg(test)]
mod repository_faults;
#[cfg(test)]
mod repository_immutable;
#[cfg(test)]
mod repository_immutable_harm;
#[cfg(test)]
mod repository_log;
#[cfg(test)]
mod repository_log_gaps;
#[cfg(test)]
mod repository_mend;
#[cfg(test)]
mod repository_no_files;
#[cfg(test)]
mod repository_prune;
#[cfg(test)]
mod repository_python;
#[cfg(test)]
mod repository_regions;
#[cfg(test)]
mod repository_relied;
#[cfg(test)]
mod repository_remote;
#[cfg(test)]
mod repository_repair;
#[cfg(test)]
mod repository_repair_killed;
#[cfg(test)]
mod repository_roster;
#[cfg(test)]
mod repository_sample;
#[cfg(test)]
mod repository_stories;
#[cfg(test)]
mod sparse;
