//! As much of a test runner as `cargo test` and `cargo nextest` need: list, filter, run, report.

use std::ffi::OsString;
use std::panic::catch_unwind;
use std::process::ExitCode;

/// A test: its name, and what it does; it fails by panicking.
pub(crate) type Test = (&'static str, fn());

/// Lists or runs the tests whose names fit the arguments.
pub(crate) fn run(args: &[OsString], tests: &[Test]) -> ExitCode {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        // None of these tests is ever ignored.
        tests.iter().filter(|_| !has("--ignored")).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut filters = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            // The value is not a filter.
            "--format" | "--color" | "--test-threads" | "--logfile" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let fits = |name: &str| {
        filters.is_empty() || filters.iter().any(|f| if has("--exact") { name == f } else { name.contains(f.as_str()) })
    };
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| fits(name)) {
        let outcome = if catch_unwind(test).is_ok() { "ok" } else { "FAILED" };
        failed += u32::from(outcome != "ok");
        println!("test {name} ... {outcome}");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
