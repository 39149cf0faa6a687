//! `cargo xtask bench data`: backs up, restores and verifies a made set of disks with this program and with the tools that
//! people use in its place, in turn, on the same disk, and says which aims are met. Sources are in the page cache, so that
//! tools are compared and not disks. Prints a table to standard error and JSON to standard output.

pub(crate) mod changed;
mod report;
mod scratch;
mod tools;

use scratch::Scratch;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tools::{Step, Tool};

/// The disks, as `ops/bench/make_vm_image.py` names them.
pub(crate) const IMAGES: [&str; 3] = ["vm1-day1.raw", "vm1-day2.raw", "vm2.raw"];

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Size of each disk.
    pub(crate) size_mib: u64,
    /// A folder on the disk to be measured; the images stay in it for the next time.
    pub(crate) folder: PathBuf,
    /// How often; medians are told.
    pub(crate) runs: usize,
    /// Which peers; those that are not installed are left out.
    pub(crate) peers: Vec<String>,
    /// The binary; built when not named.
    pub(crate) program: Option<PathBuf>,
}

/// What a step took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figure {
    /// With making it durable.
    pub(crate) wall_s: f64,
    /// User and system time of the tool and all that it started.
    pub(crate) cpu_s: f64,
    /// The most memory that one process held.
    pub(crate) peak_mib: f64,
    /// What the repository takes on its disk afterwards.
    pub(crate) stored_bytes: u64,
}

/// What a tool took: each step's figures, a figure for each run.
pub(crate) type Taken = BTreeMap<Step, Vec<Figure>>;

/// A tool and how it went.
pub(crate) struct Measured {
    pub(crate) tool: Tool,
    pub(crate) taken: Taken,
    /// Why it did not go to the end.
    pub(crate) failed: Option<String>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The system said no.
    #[error("FS-BENCH-IO: the measurement stopped: {0}; /usr/bin/time, python3 and sync must be installed")]
    Io(#[from] std::io::Error),
    /// A tool said no.
    #[error("FS-BENCH-TOOL: `{command}` ended with {status}: {last}")]
    Tool {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// Its last words.
        last: String,
    },
    /// What was restored is not what was backed up.
    #[error("FS-BENCH-DIFFERS: {0}")]
    Differs(String),
    /// Not what `/usr/bin/time` says.
    #[error("FS-BENCH-TIME: {0:?} is not what /usr/bin/time should have said")]
    Time(String),
    /// There is no such peer.
    #[error("FS-BENCH-PEER: no peer is called {0:?}: use some of {peers:?}", peers = tools::PEERS)]
    Peer(String),
    /// The program cannot be built.
    #[error("FS-BENCH-BUILD: the program could not be built: {0}; build it, or name one with --program")]
    Build(String),
}

/// Runs all of it.
///
/// # Errors
/// [`BenchError`]; a peer that fails is told of in the answer.
pub(crate) fn run(plan: &Plan) -> Result<Value, BenchError> {
    let mut tools = Vec::new();
    for name in &plan.peers {
        let known = tools::PEERS.into_iter().find(|peer| peer == name).ok_or_else(|| BenchError::Peer(name.clone()))?;
        tools.extend(tools::peer(known));
    }
    let (program, build_s) = program(plan.program.as_deref())?;
    std::fs::create_dir_all(&plan.folder)?;
    let images = images(plan)?;
    let floor = floor(&images)?;
    tools.splice(0..0, tools::ours(&program));
    let mut measured: Vec<Measured> =
        tools.into_iter().map(|tool| Measured { tool, taken: Taken::new(), failed: None }).collect();
    for _ in 0..plan.runs.max(1) {
        for one in &mut measured {
            let folder = tempfile::tempdir_in(&plan.folder)?;
            measure(&Scratch::new(folder.path(), (&images, &IMAGES), &program)?, one)?;
        }
    }
    let report = report::make(plan, &measured, floor);
    report::table(&measured, &report)?;
    let mut report = serde_json::to_value(report).map_err(std::io::Error::other)?;
    report["build_s"] = build_s.into();
    Ok(report)
}

/// One run of a tool. Ours must succeed.
fn measure(scratch: &Scratch, one: &mut Measured) -> Result<(), BenchError> {
    if one.failed.is_some() {
        return Ok(());
    }
    match scratch.run(&one.tool) {
        Ok(figures) => figures.into_iter().for_each(|(step, figure)| one.taken.entry(step).or_default().push(figure)),
        Err(error) if tools::PEERS.contains(&one.tool.name) => one.failed = Some(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn script(name: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench").join(name));
    command
}

fn output(mut command: Command) -> Result<String, BenchError> {
    let said = command.output()?;
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    let last = String::from_utf8_lossy(&said.stderr).into_owned();
    Err(BenchError::Tool { command: format!("{command:?}"), status: said.status.to_string(), last })
}

/// The images, made if they are not there; their hashes are in `made` beside them, written last.
fn images(plan: &Plan) -> Result<PathBuf, BenchError> {
    let folder = plan.folder.join(format!("bench-images-{}", plan.size_mib));
    if !folder.join("made").exists() {
        let mut make = script("make_vm_image.py");
        make.arg(&folder).args(["--size-mib", &plan.size_mib.to_string()]);
        let said = output(make)?;
        std::fs::write(folder.join("made"), said)?;
    }
    Ok(folder)
}

/// The least that the images can take: distinct blocks, compressed as one stream. None without the zstd program.
fn floor(images: &Path) -> Result<Option<u64>, BenchError> {
    if Command::new("zstd").arg("--version").output().is_err() {
        return Ok(None);
    }
    let known = images.join("floor");
    if !known.exists() {
        let mut count = script("dedup_floor.py");
        count.args(IMAGES.map(|image| images.join(image)));
        std::fs::write(&known, output(count)?)?;
    }
    let said = std::fs::read_to_string(known)?;
    let megabytes = |line: &str| line.strip_suffix(" MB")?.rsplit(' ').next()?.parse::<u64>().ok();
    Ok(said.lines().map(megabytes).sum::<Option<u64>>().map(|sum| sum * 1_000_000))
}

/// The program that was named, or else a release build and the seconds that it took.
fn program(named: Option<&Path>) -> Result<(PathBuf, Option<f64>), BenchError> {
    match named {
        Some(program) => Ok((program.to_owned(), None)),
        None => build().map(|(program, seconds)| (program, Some(seconds))),
    }
}

/// Builds the program as it is shipped; says where it is and how long that took.
fn build() -> Result<(PathBuf, f64), BenchError> {
    let begun = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let built = Command::new(&cargo)
        .args(["build", "-q", "--release", "-p", "farshore", "--bin", "farshore", "--manifest-path"])
        .arg(&manifest)
        .status()?;
    if !built.success() {
        return Err(BenchError::Build(built.to_string()));
    }
    let metadata = cargo_metadata::MetadataCommand::new().manifest_path(&manifest).no_deps().exec();
    let metadata = metadata.map_err(|error| BenchError::Build(error.to_string()))?;
    Ok((metadata.target_directory.join("release/farshore").into(), begun.elapsed().as_secs_f64()))
}
