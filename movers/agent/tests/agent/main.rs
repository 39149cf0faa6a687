//! Whole agents in one process, over the in-process bus and real sockets.

mod data;
mod memory;
mod support;
