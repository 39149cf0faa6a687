//! `farshore sim`: the simulator. Everything it prints is about a simulated world.

use crate::cli::{Output, SimVerb};
use crate::failure::{Exit, Failure};

/// Runs one of the verbs.
pub(crate) fn run(verb: SimVerb, output: Output, quiet: bool) -> Result<(), Failure> {
    let SimVerb::Run { scenario, seeds } = verb;
    let range = parse_seeds(&seeds)?;
    let _ = (scenario, range, output, quiet);
    Err(Failure::new("FS-SIM", "not wired", "wait").with(Exit::Failed))
}

/// `7`, or `1..2000` with both ends.
fn parse_seeds(text: &str) -> Result<std::ops::RangeInclusive<u64>, Failure> {
    let wrong = || Failure::new("FS-SIM-SEEDS", format!("{text:?} is no seed and no range"), "write one seed, or a range like 1..2000");
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last): (u64, u64) = (first.parse().map_err(|_| wrong())?, last.trim_start_matches('=').parse().map_err(|_| wrong())?);
    if first > last { Err(wrong()) } else { Ok(first..=last) }
}
