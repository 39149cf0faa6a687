//! `world` answers what a session sends, well or badly; `rules` are sentences, `random` throws anything at it.

mod random;
mod rules;
mod world;
