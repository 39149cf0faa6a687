//! The HTTP API of one site.

pub mod resources;
