//! The HTTP API of one site (`/api/v1`, loopback, token), its probes and metrics, and the resources that operators write.

pub mod guard;
pub mod json;
pub mod metrics;
pub mod operator;
pub mod resources;
pub mod server;
