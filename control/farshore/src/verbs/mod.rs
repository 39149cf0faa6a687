//! The command line's verbs.

pub(crate) mod baseline;
pub(crate) mod doctor;
pub(crate) mod drive;
mod elsewhere;
pub(crate) mod get;
pub(crate) mod hosts;
pub(crate) mod log;
pub(crate) mod recover;
pub(crate) mod repo;
pub(crate) mod run;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod vms;
