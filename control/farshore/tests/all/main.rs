//! The program as its users meet it: real processes, real disks, exit codes and messages.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod altered_rules;
mod api_errors;
mod bad_input;
mod baselines;
mod from_images;
mod garbage;
mod hosts;
mod immutable;
mod kept_demo;
mod lost_frames;
mod over_nats;
mod power;
mod recover;
mod recover_again;
mod replication;
mod repo;
mod repo_full;
mod repo_images;
mod repo_mount;
mod repo_others;
mod repo_repair;
mod site;
mod site_repository;
mod support;
mod telemetry;
