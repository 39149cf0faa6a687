//! `world` answers what a replica sends, well or badly; `rules` are sentences, `random` throws anything at it.

mod random;
mod rules;
mod who_runs;
mod world;
