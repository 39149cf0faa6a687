//! The project's own checks and rigs: `cargo xtask tidy` and, beside it, the crash rig and the benchmarks. Run by
//! `ops/test.sh`, and so by CI.

mod bench_data;
mod bench_decide;
mod bench_log;
mod crash;
mod crash_repository;
mod fuzz;
mod tidy;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own checks, crash rig and benchmarks")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Checks what compiler and clippy do not: layout, sizes, arrows, licences, links, words.
    Tidy {
        /// Writes the present sizes into ops/xtask/ratchet.toml instead of comparing with it.
        #[arg(long)]
        bless: bool,
    },
    /// Measures, and prints one JSON document.
    #[command(subcommand)]
    Bench(Bench),
    /// Kills processes of two working sites at random moments, and checks that nothing was lost or done twice.
    Crash {
        /// How many processes are killed.
        #[arg(long, default_value_t = 200)]
        kills: u64,
        /// Control and agents run apart, over a nats-server.
        #[arg(long)]
        nats: bool,
        /// Not sites, but backups, prunes and restores of a repository's folder are killed, and stopped by a full disk.
        #[arg(long, conflicts_with = "nats")]
        repository: bool,
        /// Which choices are made.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The binary to run; built when not named.
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// Feeds every decoder what nobody would write, and checks that none panics, hangs or takes too much memory.
    Fuzz {
        /// How often each target is run.
        #[arg(long, default_value_t = 1_000_000)]
        executions: u64,
        /// Only these targets.
        #[arg(long, value_delimiter = ',')]
        targets: Vec<String>,
        /// Which choices are made.
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The event log beside the raw limit of its disk, deciding end to end, and folding and deciding again.
    Log {
        /// A folder on the disk to be measured.
        #[arg(long, default_value = "target")]
        folder: PathBuf,
    },
    /// Backup, restore and verification beside other tools, on a made set of disks.
    Data {
        /// Size of each of the three disks.
        #[arg(long, default_value_t = 2048)]
        size_mib: u64,
        /// A folder on the disk to be measured.
        #[arg(long, default_value = "target")]
        folder: PathBuf,
        /// How often everything is run; medians are told.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// Beside which tools, of those that are installed.
        #[arg(long, value_delimiter = ',', default_value = "restic,rustic,borg,casync,qemu-img,cp")]
        peers: Vec<String>,
        /// The binary to measure; a release build is made when not named.
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// Backup of a large disk by a list of what changed, and without one, beside one pass of reading and hashing.
    Changed {
        /// Size of the disk.
        #[arg(long, default_value_t = 16_384)]
        size_mib: u64,
        /// How much of it is data.
        #[arg(long, default_value_t = 10_240)]
        data_mib: u64,
        /// A folder on the disk to be measured; it must have room for twice the data.
        #[arg(long, default_value = "target")]
        folder: PathBuf,
        /// The binary to measure; a release build is made when not named.
        #[arg(long)]
        program: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Tidy { bless } => tidy::run(bless),
        Verb::Bench(Bench::Log { folder }) => print(bench(&folder)),
        Verb::Bench(Bench::Data { size_mib, folder, runs, peers, program }) => {
            print(data(&bench_data::Plan { size_mib, folder, runs, peers, program }))
        }
        Verb::Bench(Bench::Changed { size_mib, data_mib, folder, program }) => {
            print(changed(&bench_data::changed::Plan { size_mib, data_mib, folder, program }))
        }
        Verb::Crash { kills, repository: true, seed, program, .. } => {
            crash_repository(&crash_repository::Plan { kills, seed, program })
        }
        Verb::Crash { kills, nats, seed, program, .. } => crash(&crash::Plan { kills, nats, seed, program }),
        Verb::Fuzz { executions, targets, seed } => fuzz(&fuzz::Plan { executions, targets, seed }),
    }
}

fn bench(folder: &Path) -> Result<String, Box<dyn Error>> {
    let log = bench_log::run(&bench_log::Plan::full(folder))?;
    let decide = bench_decide::run(&bench_decide::Plan::full(folder))?;
    Ok(serde_json::to_string_pretty(&serde_json::json!({ "log": log, "decide": decide }))?)
}

fn data(plan: &bench_data::Plan) -> Result<String, Box<dyn Error>> {
    Ok(serde_json::to_string_pretty(&bench_data::run(plan)?)?)
}

fn changed(plan: &bench_data::changed::Plan) -> Result<String, Box<dyn Error>> {
    Ok(serde_json::to_string_pretty(&bench_data::changed::run(plan)?)?)
}

fn crash(plan: &crash::Plan) -> ExitCode {
    match crash::run(plan) {
        Ok(report) => {
            let told = print(serde_json::to_string(&report).map_err(Into::into));
            if report.violations == 0 { told } else { ExitCode::FAILURE }
        }
        Err(wrong) => print(Err(wrong)),
    }
}

fn crash_repository(plan: &crash_repository::Plan) -> ExitCode {
    match crash_repository::run(plan) {
        Ok(report) => {
            let told = print(serde_json::to_string(&report).map_err(Into::into));
            if report.is_clean() { told } else { ExitCode::FAILURE }
        }
        Err(wrong) => print(Err(wrong)),
    }
}

fn fuzz(plan: &fuzz::Plan) -> ExitCode {
    match fuzz::run(plan) {
        Ok(outcomes) => {
            let told = print(serde_json::to_string_pretty(&outcomes).map_err(Into::into));
            if outcomes.iter().all(fuzz::Outcome::is_clean) { told } else { ExitCode::FAILURE }
        }
        Err(wrong) => print(Err(wrong.into())),
    }
}

fn print(outcome: Result<String, Box<dyn Error>>) -> ExitCode {
    let told = match &outcome {
        Ok(text) => writeln!(std::io::stdout(), "{text}"),
        Err(error) => writeln!(std::io::stderr(), "{error}"),
    };
    if outcome.is_ok() && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
