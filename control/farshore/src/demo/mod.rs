//! `farshore demo`: two sites and their VMs; discovery, backup, change, replication, the loss of a site, failover by plan,
//! failback, restore. Real processes, real disks, every step proven by SHA-256; then both logs are verified, folded and
//! decided again.
//!
//! `rig` runs and kills the sites' processes, `vms` makes the VMs and hashes their disks, `story` is the sequence of steps,
//! `watch` waits for things of a site, `logs` checks the logs at the end, `report` is the table.

mod logs;
mod report;
mod rig;
mod story;
mod vms;
mod watch;

use crate::cli::{DemoArgs, Output};
use crate::failure::{Exit, Failure};
use crate::output::{hint, say, structured, table};
use report::{Report, Row};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs the demo.
pub(crate) fn run(args: &DemoArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let begun = Instant::now();
    if let Some(from) = args.from.as_ref().filter(|from| !from.is_dir()) {
        let text = format!("{} is no folder", from.display());
        return Err(Failure::new("FS-DEMO-FROM", text, "name a folder with raw images").not_found());
    }
    let (folder, temporary) = folder(args)?;
    hint(quiet, &format!("farshore demo in {}", folder.display()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::defect(&error))?;
    runtime.spawn(interrupts());
    let mut report = Report::new(quiet);
    let told = story::tell(args, &folder, runtime.handle(), &mut report);
    if told.is_err() && temporary.is_some() {
        keep_evidence(temporary, quiet);
        told?;
        return Ok(());
    }
    told?;
    let rows = report.into_rows();
    let took = begun.elapsed();
    if !structured(output, &rows)? {
        table(&["step", "took", "moved", "outcome", "proof"], rows.iter().map(Row::cells).collect());
        say(&format!("{} steps in {:.1} s, every one proven", rows.len(), took.as_secs_f64()));
        let next = if args.keep.is_some() {
            format!("look next: {} log ls --data {}", program(), folder.join("dr").display())
        } else {
            format!("look next: {0} demo --keep DIR, then {0} log ls --data DIR/dr", program())
        };
        say(&next);
    }
    Ok(())
}

/// The program as the user started it.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "farshore".to_owned())
}

/// Ends the demo in order when the user asks, so that no guest is left running.
async fn interrupts() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    watch::INTERRUPTED.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Where the sites live: kept where the user says, else in a temporary folder.
fn folder(args: &DemoArgs) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    let Some(keep) = &args.keep else {
        let temporary = tempfile::Builder::new()
            .prefix("farshore-demo-")
            .tempdir()
            .map_err(|error| Failure::io("make", &std::env::temp_dir(), &error))?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    for site in ["hq", "dr"] {
        if keep.join(site).exists() {
            let text = format!("{} exists already", keep.join(site).display());
            return Err(Failure::new(
                "FS-DEMO-FOLDER",
                text,
                "give --keep a new folder; nothing of yours is overwritten",
            )
            .with(Exit::Refused));
        }
    }
    std::fs::create_dir_all(keep).map_err(|error| Failure::io("make", keep, &error))?;
    let whole = std::fs::canonicalize(keep).map_err(|error| Failure::io("find", keep, &error))?;
    Ok((whole, None))
}

/// A demo that failed leaves what is needed to see why.
fn keep_evidence(temporary: Option<tempfile::TempDir>, quiet: bool) {
    if let Some(temporary) = temporary {
        let path: PathBuf = temporary.keep();
        hint(quiet, &format!("what it left is in {}", show(&path)));
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
