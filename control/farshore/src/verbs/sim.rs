//! `farshore sim`: the simulator. Everything it prints is about a simulated world, and says so.

use crate::cli::{Output, SimVerb};
use crate::failure::{Exit, Failure};
use crate::output::{say, structured};
use farshore_simulations::{Options, Progress, Report};
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::RangeInclusive;

/// Runs one of the verbs.
pub(crate) fn run(verb: SimVerb, output: Output, quiet: bool) -> Result<(), Failure> {
    let SimVerb::Run { scenario, seeds, story } = verb;
    let range = parse_seeds(&seeds)?;
    if story {
        return tell(&scenario, &range);
    }
    let options =
        Options { threads: std::thread::available_parallelism().map_or(1, usize::from), ..Options::default() };
    let bar = bar(range.end() - range.start() + 1, quiet);
    let show = |progress: Progress| {
        bar.set_position(progress.done);
        let broken = progress.broken;
        bar.set_message(if broken == 0 { String::new() } else { format!("{broken} seeds broke a promise") });
    };
    let report = farshore_simulations::run(&scenario, range, &options, &show);
    bar.finish_and_clear();
    let report =
        report.map_err(|error| Failure::coded(&error.to_string(), "name a scenario that there is").not_found())?;
    if !structured(output, &report)? {
        table(&report);
    }
    if report.violations > 0 {
        let text = format!("{} violations in {} of {} seeds", report.violations, report.seeds_broken, report.seeds);
        return Err(Failure::new(
            "FS-SIM-VIOLATION",
            text,
            "run one of the seeds with --story: the same seed gives the same run, told step by step",
        )
        .with(Exit::Mismatch));
    }
    Ok(())
}

/// Tells what happens in the run of one seed, step by step.
fn tell(scenario: &str, seeds: &RangeInclusive<u64>) -> Result<(), Failure> {
    if seeds.start() != seeds.end() {
        let advice = "name one seed: --story --seeds 7";
        return Err(Failure::new("FS-SIM-SEEDS", "a story is of one seed", advice));
    }
    let outcome = farshore_simulations::run_seed(scenario, *seeds.start(), &Options::default(), true)
        .map_err(|error| Failure::coded(&error.to_string(), "name a scenario that there is").not_found())?;
    say(&format!("{} scenario {scenario} seed {}", farshore_simulations::SIMULATED, outcome.seed));
    outcome.words.iter().for_each(|line| say(line));
    for violation in &outcome.violations {
        say(&format!("{} broken at step {}: {}", violation.promise, violation.step, violation.text));
    }
    if outcome.violations.is_empty() {
        return Ok(());
    }
    let text = format!("{} violations in seed {}", outcome.violations.len(), outcome.seed);
    let advice = "read the story before the step that is named";
    Err(Failure::new("FS-SIM-VIOLATION", text, advice).with(Exit::Mismatch))
}

fn bar(seeds: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(seeds);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {eta} left {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn table(report: &Report) {
    say(&format!("{} scenario {}", report.mark, report.scenario));
    let faults: Vec<String> = report.totals.faults.iter().map(|(fault, count)| format!("{count} {fault:?}")).collect();
    let lines = [
        ("seeds", format!("{} ({} of them twice: equal trace hashes)", report.seeds, report.seeds_twice)),
        ("steps", report.totals.steps.to_string()),
        ("faults injected", format!("{}: {}", report.faults_injected, faults.join(", "))),
        ("simulated time", format!("{:.0} times real time", report.simulated_over_real)),
        ("decisions", format!("{}, {:.0} per second", report.totals.decisions, report.decisions_per_second)),
        ("first trace hash", report.first_trace.to_string()),
        ("violations", report.violations.to_string()),
    ];
    for (what, value) in lines {
        say(&format!("{what:<17} {value}"));
    }
    for one in &report.first_violations {
        let violation = &one.violation;
        say(&format!(
            "  seed {} step {} ({} ms) {}: {}",
            one.seed, violation.step, violation.at_ms, violation.promise, violation.text
        ));
    }
}

/// `7`, or `1..2000` with both ends.
fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>, Failure> {
    let wrong = || {
        let advice = "write one seed, or a range like 1..2000";
        Failure::new("FS-SIM-SEEDS", format!("{text:?} is no seed and no range"), advice)
    };
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let first: u64 = first.parse().map_err(|_| wrong())?;
    let last: u64 = last.trim_start_matches('=').parse().map_err(|_| wrong())?;
    if first > last { Err(wrong()) } else { Ok(first..=last) }
}
