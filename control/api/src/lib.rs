//! The HTTP API of one site (`/api/v1`, loopback, token), its probes and metrics, and the resources that operators write.

mod answers;
pub mod condition;
pub mod folders;
pub mod guard;
pub mod json;
mod keep_yaml;
pub mod metrics;
pub mod operator;
mod progress;
mod repository_yaml;
pub mod resources;
pub mod server;
mod yaml_error;
