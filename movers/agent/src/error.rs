//! Why an agent could not start or go on. What goes wrong inside a task is a `Failure` in its outcome instead.

use crate::record_log::RecordLogError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why an agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Somebody else listens there.
    #[error(
        "FS-AGENT-PORT-IN-USE: the data channel cannot listen on {address}: another program does. Stop it, or give the \
         agent another port"
    )]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("FS-AGENT-LISTEN: the data channel cannot listen on {address}: {source}. Correct the address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process uses the data folder.
    #[error("FS-AGENT-LOCKED: another process uses {}. Stop it, or give this agent another data folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The data folder cannot be used.
    #[error("FS-AGENT-FOLDER: {} cannot be used: {source}. Check that it exists and that this user may write there", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Certificate or key cannot be read or made.
    #[error(
        "FS-AGENT-SECRETS: the agent's certificate {} cannot be used: {why}. Correct the file's rights; if it is \
         damaged, remove it: a new one is made and control is told",
        path.display()
    )]
    Secrets {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// TLS could not be set up.
    #[error(
        "FS-AGENT-TLS: the data channel's TLS could not be set up: {why}. Remove the agent's certificate file to have a new one made"
    )]
    Tls {
        /// Why not.
        why: String,
    },
    /// The record log is damaged or cannot be written.
    #[error(
        "FS-AGENT-LOG: the agent's record log: {0}. If it is damaged, keep a copy and move it away: the agent then begins a \
         new incarnation and control tells it what it must know"
    )]
    Log(#[from] RecordLogError),
    /// The records do not belong here.
    #[error("FS-AGENT-MEMORY: the agent's memory in {}: {source}. Give each agent a data folder of its own", path.display())]
    Memory {
        /// The log's folder.
        path: PathBuf,
        /// Why not.
        source: farshore_tasks::RebuildError,
    },
    /// The bus refused the subscriptions.
    #[error(transparent)]
    Bus(#[from] farshore_bus::BusError),
    /// A part of the agent stopped without being told to.
    #[error("FS-AGENT-STOPPED: {what} stopped: {why}. Start the agent again; it goes on where it was")]
    Stopped {
        /// Which part.
        what: &'static str,
        /// Why.
        why: String,
    },
}
