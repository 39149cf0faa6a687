//! A small slice of `cargo xtask crash`, in both forms: the full run is made by hand and nightly.

use std::path::Path;
use std::process::Command;

/// What a run of sites must have seen some of.
const SITES: [&str; 8] =
    ["kills", "restarts", "frames", "acknowledged", "tasks", "jobs", "restores_byte_equal", "guests"];

fn crash(arguments: &[&str], counts: &[&str]) {
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let mut command = Command::new(xtask);
    command.arg("crash").args(arguments);
    // A run of the whole workspace has built the program beside us. Building it again meanwhile would change the file
    // under the feet of other tests that run it.
    let program = xtask.with_file_name("farshore");
    if program.exists() {
        command.arg("--program").arg(program);
    }
    let output = command.output().expect("it was built");
    let (told, how) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{how}");
    let report: serde_json::Value = serde_json::from_str(&told).expect("one line of JSON");
    let counted = |field: &str| report[field].as_u64().expect("a count");
    assert_eq!(counted("violations"), 0, "{told}\n{how}");
    for field in counts {
        assert!(counted(field) > 0, "{field} is 0: {told}");
    }
}

#[test]
fn a_site_in_one_process_survives_being_killed() {
    crash(&["--kills", "6"], &SITES);
}

#[test]
fn controls_and_agents_apart_survive_being_killed() {
    crash(&["--kills", "4", "--nats", "--seed", "7"], &SITES);
}

#[test]
fn a_repository_survives_killed_writers_and_a_full_disk() {
    crash(&["--repository", "--kills", "12"], &["kills", "restores_byte_equal", "looks", "full_disk_stops"]);
}
