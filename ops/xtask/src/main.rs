//! The project's own checks and rigs: `cargo xtask tidy` and, beside it, the crash rig and the benchmarks. Run by
//! `ops/test.sh`, and so by CI.

mod bench_decide;
mod bench_log;
mod crash;
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
        /// Which choices are made.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The binary to run; built when not named.
        #[arg(long)]
        program: Option<PathBuf>,
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
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Tidy { bless } => tidy::run(bless),
        Verb::Bench(Bench::Log { folder }) => print(bench(&folder)),
        Verb::Crash { kills, nats, seed, program } => crash(&crash::Plan { kills, nats, seed, program }),
    }
}

fn bench(folder: &Path) -> Result<String, Box<dyn Error>> {
    let log = bench_log::run(&bench_log::Plan::full(folder))?;
    let decide = bench_decide::run(&bench_decide::Plan::full(folder))?;
    Ok(serde_json::to_string_pretty(&serde_json::json!({ "log": log, "decide": decide }))?)
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

fn print(outcome: Result<String, Box<dyn Error>>) -> ExitCode {
    let told = match &outcome {
        Ok(text) => writeln!(std::io::stdout(), "{text}"),
        Err(error) => writeln!(std::io::stderr(), "{error}"),
    };
    if outcome.is_ok() && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
