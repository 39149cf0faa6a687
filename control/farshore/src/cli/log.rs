//! The verbs of `farshore log`.

use super::At;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LogVerb {
    /// List decisions.
    Ls {
        #[command(flatten)]
        at: At,
        /// From this seq; without, the last ones.
        #[arg(long)]
        from: Option<u64>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u64,
        /// Only this actor, like `job/nightly`.
        #[arg(long)]
        actor: Option<farshore_schemas::ids::EntityId>,
    },
    /// Show one decision: its input, events, sends and cause.
    Show {
        /// Its seq.
        seq: u64,
        #[command(flatten)]
        at: At,
    },
    /// Check every byte of every segment (crc, order, chain) and every baseline (hash, signature, place).
    Verify {
        #[command(flatten)]
        at: At,
    },
    /// Make the view anew from the log, comparing with every baseline on the way. The site must not run.
    Rebuild {
        #[command(flatten)]
        at: At,
    },
    /// Write a baseline at the log's end: a place where a fold may begin. The site must not run (while it does, it writes
    /// them itself).
    Baseline {
        #[command(flatten)]
        at: At,
        /// Write none; list those that are there, and whether each can be used.
        #[arg(long)]
        list: bool,
    },
    /// Move old sealed segments to another folder, once a baseline stands for them. The site must not run.
    Archive {
        #[command(flatten)]
        at: At,
        /// The folder to move them to.
        #[arg(long)]
        to: PathBuf,
    },
    /// Print the hash over the canonical state of every actor, folded from the log; the view, if it stands at the same
    /// frame, must agree.
    Hash {
        #[command(flatten)]
        at: At,
    },
    /// Write a range of the log as one file of the same format.
    Export {
        #[command(flatten)]
        at: At,
        /// First seq.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last seq; the tail without.
        #[arg(long)]
        to: Option<u64>,
        /// The file to write; must not exist.
        #[arg(long)]
        file: PathBuf,
    },
    /// Replay the log: the state at a point, or every decision decided again.
    Replay {
        #[command(flatten)]
        at: At,
        /// Decide every frame again and compare.
        #[arg(long)]
        check: bool,
        /// Stop after this seq.
        #[arg(long)]
        until: Option<u64>,
    },
}
