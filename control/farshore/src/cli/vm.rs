//! The words of `farshore vm`.

use super::At;
use clap::{Args, Subcommand};
use farshore_schemas::ids::{Name, VmName};

#[derive(Debug, Subcommand)]
pub(crate) enum VmVerb {
    /// Start a VM. One that replicas protect is started once each of them has said that it may run here.
    PowerOn {
        /// The VM.
        vm: VmName,
        #[command(flatten)]
        power: PowerArgs,
        /// Do not wait for its replicas, and start it although the right to run it is elsewhere: your name ($USER) and reason go
        /// into the log. Two copies may run if another runs it.
        #[arg(long = "override", requires = "reason")]
        force: bool,
        /// Why, for the log.
        #[arg(long, requires = "force", value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Stop a VM, or no longer wait for leave to start it.
    PowerOff {
        /// The VM.
        vm: VmName,
        #[command(flatten)]
        power: PowerArgs,
    },
}

/// Which of them, and how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct PowerArgs {
    /// Its host, when several have a VM of that name.
    #[arg(long)]
    pub(crate) host: Option<Name>,
    /// Come back once it is ordered instead of once it is done.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) at: At,
}
