//! Whole agents in one process, over the in-process bus and real sockets.

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod data;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod space;
#[cfg(test)]
mod support;
