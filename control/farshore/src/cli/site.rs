//! The verbs of `farshore site`.

use super::UnlockArgs;
use clap::{Args, Subcommand};
use farshore_schemas::ids::Lineage;
use std::path::PathBuf;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SiteVerb {
    /// Make a site's data folder anew from the copy of its log that a repository keeps.
    Recover(RecoverArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RecoverArgs {
    /// The repository's folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from_repository: PathBuf,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
    /// The data folder to make; it must not be there, or be empty.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Which lineage to recover, when the repository keeps more than one that goes on by itself; the newest without.
    #[arg(long)]
    pub(crate) lineage: Option<Lineage>,
    /// Recover up to this frame only.
    #[arg(long, value_name = "FRAME")]
    pub(crate) until: Option<u64>,
}
