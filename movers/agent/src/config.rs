//! What an agent is started with.

use farshore_schemas::ids::{Name, SiteName};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What an agent is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Its site.
    pub site: SiteName,
    /// Its name, which is also its mover's.
    pub name: Name,
    /// The site's data folder. The agent uses `agents/NAME` and `secrets` in it.
    pub data: PathBuf,
    /// Where its data channel listens; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// `host:port` under which other agents reach it; port 0 stands for the one that it listens on.
    pub advertise: String,
    /// The program whose first argument `guest` leads to `farshore_hosts::guest_main`.
    pub guest_program: PathBuf,
    /// Tasks at once that move or read whole disks; at most 2 per core is the field's rule (field.md 1.4).
    pub slots: usize,
}
