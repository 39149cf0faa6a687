//! The actix shell around the kernel, and the port that a log implements.

pub mod log_port;
