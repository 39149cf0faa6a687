//! What moves bytes: an agent process. It obeys its own site's control (by the task table of `farshore-tasks`), carries
//! tasks out on threads, and moves data to other agents over its data channel. It decides nothing.
//!
//! - `engine` drives the task table: durable first, then everything else.
//! - `record_log` is the agent's memory on disk (`docs/formats/agent-log.md`).
//! - `runners` has one runner per kind of task.
//! - `tls`, `link`, `proto`, `listener` are the data channel: TCP, TLS 1.3, both ends proven by the certificates that
//!   orders name, nothing parsed before that.
//!
//! Where things lie: the agent's memory in `agents/NAME/log` of the site's data folder, its certificate and key in
//! `secrets/agent-NAME.pem`, a host's VMs and replica stores in the host's own folder (`.farshore-replicas/REPLICA`, so that
//! working disks can be reflinks and no listing takes a store for a VM), a repository in its own folder.

mod agent;
mod config;
mod engine;
mod error;
#[doc(hidden)]
pub mod hostile;
mod link;
mod listener;
mod log_source;
mod metrics;
mod pool;
mod proto;
mod received;
mod record_log;
mod repository_client;
mod repository_service;
mod runners;
mod shared;
mod stop;
mod task;
mod tls;

pub use agent::{Agent, run};
pub use config::AgentConfig;
pub use error::AgentError;
pub use log_source::{LogFacts, LogSource, LogSourceConfig, NextFrames, ServedLog};
pub use metrics::{Counts, Metrics};
pub use record_log::{Opened, RecordLog, RecordLogError};
