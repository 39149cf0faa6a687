//! The project's own checks and rigs: `cargo xtask tidy` and, beside it, the crash rig and the benchmarks. Run by
//! `ops/test.sh`, and so by CI.

mod tidy;

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Tidy { bless } => tidy::run(bless),
    }
}
