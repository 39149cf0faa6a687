//! Tests with real guest processes. This file is a test program of its own kind (no libtest), because the guest is this
//! program started again with `guest` as its first argument, as the farshore binary does it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test runner reports on its output")]

#[path = "processes/harness.rs"]
mod harness;
#[path = "processes/power.rs"]
mod power;
#[path = "processes/rig.rs"]
mod rig;
#[path = "processes/snapshots.rs"]
mod snapshots;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "guest") {
        return farshore_hosts::guest_main(&args[1..]);
    }
    if args.first().is_some_and(|first| first == rig::AGENT) {
        return power::agent_that_dies(&args[1..]);
    }
    harness::run(&args, &[power::TESTS, snapshots::TESTS].concat())
}
