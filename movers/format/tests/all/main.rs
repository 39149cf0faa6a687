//! Formats: round trips, hostile bytes, and files that earlier versions wrote.

#[cfg(test)]
mod allocation;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod maths;
#[cfg(test)]
mod samples;
