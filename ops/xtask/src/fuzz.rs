//! `cargo xtask fuzz`: builds the targets of `ops/fuzz` with coverage and libFuzzer inside, by the stable toolchain, runs each
//! so many times, and prints JSON. What is found is kept in `target/fuzz/found/` and shown; it belongs into `ops/fuzz/found/`.

use farshore_fuzz::{TARGETS, Target, target};
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What sancov puts into every edge, so that libFuzzer sees where an input leads; checks that a release build leaves out.
const FLAGS: &str = "--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 \
                     -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
                     -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1 -C debug-assertions \
                     -C overflow-checks";
/// Longest input; every limit that decoders have on counts and depth is met below it.
const MAX_INPUT: usize = 16 * 1024;
/// A decoder that takes so many seconds for one input hangs.
const HANGS_AFTER_S: u32 = 10;

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Executions of each target.
    pub(crate) executions: u64,
    /// Only these targets; all when empty.
    pub(crate) targets: Vec<String>,
    /// Which choices are made.
    pub(crate) seed: u32,
}

/// How a target went.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    target: &'static str,
    executions: u64,
    seconds: f64,
    /// Edges that were reached.
    edges: u64,
    /// The input that broke a promise, and the last words on it.
    found: Option<String>,
}

impl Outcome {
    /// Whether no promise was broken.
    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_none()
    }
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FuzzError {
    /// The system said no.
    #[error("FS-FUZZ-IO: fuzzing stopped: {0}")]
    Io(#[from] io::Error),
    /// There is no such target.
    #[error("FS-FUZZ-TARGET: there is no target {name}; there are {known}")]
    Target {
        /// The one asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// The compiler said no.
    #[error("FS-FUZZ-BUILD: the targets could not be built; libFuzzer is C++ and needs g++ (Debian: build-essential)")]
    Build,
}

/// Builds, then runs each target.
pub(crate) fn run(plan: &Plan) -> Result<Vec<Outcome>, FuzzError> {
    let targets = chosen(&plan.targets)?;
    let folder = Path::new("target/fuzz");
    let program = build(folder)?;
    targets.iter().map(|target| fuzz(*target, &program, plan)).collect()
}

fn chosen(names: &[String]) -> Result<Vec<Target>, FuzzError> {
    if names.is_empty() {
        return Ok(TARGETS.to_vec());
    }
    let known = || TARGETS.map(|target| target.name).join(", ");
    let find = |name: &String| target(name).ok_or_else(|| FuzzError::Target { name: name.clone(), known: known() });
    names.iter().map(find).collect()
}

fn build(folder: &Path) -> Result<PathBuf, FuzzError> {
    let host = Command::new("rustc").arg("-vV").output()?;
    let host =
        String::from_utf8_lossy(&host.stdout).lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned));
    let host = host.ok_or(FuzzError::Build)?;
    // With a target named, the flags are not for build scripts, which have no engine to link with.
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "-p",
            "farshore-fuzz",
            "--bin",
            "farshore-fuzz",
            "--target",
            &host,
            "--target-dir",
        ])
        .arg(folder)
        .env("RUSTFLAGS", FLAGS)
        .status()?;
    let program = folder.join(host).join("release/farshore-fuzz");
    if built.success() { Ok(program.canonicalize()?) } else { Err(FuzzError::Build) }
}

fn fuzz(target: Target, program: &Path, plan: &Plan) -> Result<Outcome, FuzzError> {
    let corpus = tempfile::tempdir()?;
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        fs::write(corpus.path().join(format!("seed-{number}")), seed)?;
    }
    let found = Path::new("target/fuzz/found").join(target.name);
    fs::create_dir_all(&found)?;
    let begun = Instant::now();
    let ran = Command::new(program)
        .env("FARSHORE_FUZZ_TARGET", target.name)
        .arg(format!("-runs={}", plan.executions))
        .arg(format!("-seed={}", plan.seed))
        .arg(format!("-max_len={MAX_INPUT}"))
        .arg(format!("-timeout={HANGS_AFTER_S}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-print_final_stats=1", "-use_value_profile=0"])
        .arg(corpus.path())
        .output()?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let number = |name: &str| {
        said.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).next_back().unwrap_or(0)
    };
    let edges = said.lines().filter_map(|line| line.split(" cov: ").nth(1)?.split(' ').next()?.parse().ok()).max();
    let words =
        |line: &&str| line.contains("panicked at") || line.contains("ERROR: libFuzzer") || line.contains("Test unit");
    let last = || {
        let lines: Vec<&str> = said.lines().collect();
        let told = lines.iter().enumerate().filter(|(_, line)| words(line));
        // What a panic says stands in the line after its place.
        told.map(|(at, line)| format!("{line} {}", lines.get(at + 1).unwrap_or(&""))).collect::<Vec<_>>().join("; ")
    };
    let outcome = Outcome {
        target: target.name,
        executions: number("stat::number_of_executed_units:"),
        seconds: begun.elapsed().as_secs_f64(),
        edges: edges.unwrap_or(0),
        found: (!ran.status.success()).then(last),
    };
    eprintln!("{outcome:?}");
    Ok(outcome)
}
