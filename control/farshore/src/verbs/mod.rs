//! The command line's verbs.

pub(crate) mod baseline;
pub(crate) mod doctor;
pub(crate) mod drive;
pub(crate) mod get;
pub(crate) mod log;
pub(crate) mod repo;
pub(crate) mod run;
pub(crate) mod sim;
pub(crate) mod vms;
