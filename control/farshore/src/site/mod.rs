//! One site on this machine: its data folder, its log and view opened and folded, its control, API and agent started.

pub(crate) mod baseline;
pub(crate) mod data;
pub(crate) mod log_source;
pub(crate) mod open;
pub(crate) mod recovered;
pub(crate) mod run;
