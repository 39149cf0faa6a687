//! The program as its users meet it: real processes, real disks, exit codes and messages.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a failed test")]

mod kept_demo;
mod site;
mod support;
