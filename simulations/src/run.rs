//! Runs of a scenario: one seed on one thread, seeds on several threads.

#[cfg(feature = "deliberate-bugs")]
use crate::bug::Bug;
use crate::bug::Chosen;
use crate::checkers::Violation;
use crate::choices::{Choice, Choices};
use crate::demo;
use crate::layout::BEGIN;
use crate::report::{Found, Report, Totals};
use crate::scenario;
use crate::sim::Sim;
use crate::story::Story;
use crate::vault;
use farshore_schemas::ids::Digest;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A run that takes more steps than this does not come to an end.
const MOST_STEPS: u64 = 400_000;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads; each seed runs on one.
    pub threads: usize,
    /// Every so-manieth seed runs twice and must give the same hash; 1 for each, 0 for none.
    pub twice_every: u64,
    /// A deliberate bug.
    #[cfg(feature = "deliberate-bugs")]
    pub bug: Option<Bug>,
    /// Stop at the first seed that breaks a promise.
    pub stop_at_first: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            threads: 2,
            twice_every: 16,
            #[cfg(feature = "deliberate-bugs")]
            bug: None,
            stop_at_first: false,
        }
    }
}

impl Options {
    fn chosen(&self) -> Chosen {
        #[cfg(feature = "deliberate-bugs")]
        return Chosen::new(self.bug);
        #[cfg(not(feature = "deliberate-bugs"))]
        Chosen::default()
    }
}

/// Why nothing ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("FS-SIM-SCENARIO: there is no scenario {name:?}: use one of {}", scenario::SCENARIOS.join(", "))]
pub struct UnknownScenario {
    /// What was asked for.
    pub name: String,
}

/// How far a run over seeds is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Seeds done.
    pub done: u64,
    /// Seeds in all.
    pub total: u64,
    /// Seeds that broke a promise.
    pub broken: u64,
}

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash over steps, frames and choices.
    pub trace: Digest,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Everything drawn.
    pub choices: Vec<Choice>,
    /// What was counted.
    pub totals: Totals,
    /// Goals that operators gave up, in words.
    pub given_up: Vec<String>,
    /// The story in words, if it was asked for.
    pub words: Vec<String>,
}

/// Where a run's chance comes from.
pub(crate) enum Source<'a> {
    Seed,
    Recording(&'a [Choice]),
}

/// Runs a scenario once.
///
/// # Errors
/// [`UnknownScenario`].
pub fn run_seed(scenario: &str, seed: u64, options: &Options, words: bool) -> Result<Outcome, UnknownScenario> {
    run_from(scenario, (seed, Source::Seed), options.chosen(), words)
}

/// Runs a scenario on recorded choices; where they end, nothing goes wrong any more.
///
/// # Errors
/// [`UnknownScenario`].
pub fn replay(scenario: &str, seed: u64, choices: &[Choice], options: &Options) -> Result<Outcome, UnknownScenario> {
    run_from(scenario, (seed, Source::Recording(choices)), options.chosen(), false)
}

fn run_from(
    scenario: &str,
    (seed, source): (u64, Source<'_>),
    bug: Chosen,
    words: bool,
) -> Result<Outcome, UnknownScenario> {
    let choices = match source {
        Source::Seed => Choices::from_seed(seed),
        Source::Recording(recording) => Choices::from_recording(recording),
    };
    if scenario == scenario::REPOSITORY {
        return Ok(play_repository(seed, choices, (bug, words)));
    }
    let mut sim = Sim::new(seed, choices, bug, words);
    let unknown = || UnknownScenario { name: scenario.to_owned() };
    let goals = scenario::goals(scenario, &mut sim).ok_or_else(unknown)?;
    sim.story = Some(Story::new(goals, true));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&mut sim)));
    if let Err(panic) = panicked {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        sim.checks.violate("P3", format!("a panic: {}", text.unwrap_or("without words")));
    }
    Ok(outcome(seed, sim))
}

/// The repository's story, which has a world of its own.
fn play_repository(seed: u64, choices: Choices, (bug, words): (Chosen, bool)) -> Outcome {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| vault::play(seed, choices, (bug, words))));
    match panicked {
        Ok(ended) => Outcome {
            seed,
            trace: ended.trace,
            violations: ended.violations,
            choices: ended.choices,
            totals: ended.totals,
            given_up: Vec::new(),
            words: ended.words,
        },
        Err(panic) => {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            let text = format!("a panic: {}", text.unwrap_or("without words"));
            let violation = Violation { step: 0, at_ms: 0, promise: "P3", text };
            let (choices, words, given_up) = (Vec::new(), Vec::new(), Vec::new());
            let trace = Digest::default();
            Outcome { seed, trace, violations: vec![violation], choices, totals: Totals::default(), given_up, words }
        }
    }
}

/// The story under faults, then healed: everything must come to rest, and work.
fn play(sim: &mut Sim) {
    let calm = !sim.faults.any();
    let given_up = until_over(sim);
    if calm {
        for goal in &given_up {
            sim.checks.violate("liveness", format!("without any fault operators gave up: {goal}"));
        }
    }
    let abandoned = given_up.clone();
    sim.heal();
    sim.story = Some(Story::new(demo::epilogue(sim), false));
    let given_up = until_over(sim);
    for goal in &given_up {
        let why = demo::restless(sim).join("; ");
        sim.checks.violate("liveness", format!("after everything was healed operators gave up: {goal}: {why}"));
    }
    sim.given_up = abandoned;
    for site in 0..sim.controls.len() {
        if let Some(live) = &sim.controls[site].live {
            sim.checks.decide_again(&sim.controls[site], &live.kernel);
            sim.checks.all_points(site, &live.kernel, &sim.world);
        }
    }
}

fn until_over(sim: &mut Sim) -> Vec<String> {
    while !sim.story.as_ref().is_none_or(Story::is_over) {
        if !sim.step() || sim.checks.enough() {
            break;
        }
        if sim.steps > MOST_STEPS {
            sim.checks.violate("liveness", format!("the run has not ended after {MOST_STEPS} steps"));
            break;
        }
    }
    sim.story.take().map(|story| story.given_up).unwrap_or_default()
}

fn outcome(seed: u64, mut sim: Sim) -> Outcome {
    let totals = Totals {
        steps: sim.steps,
        decisions: sim.decisions,
        messages: sim.sent,
        simulated_ms: u64::try_from(sim.schedule.now() - BEGIN).unwrap_or(0),
        faults: sim.faults.injected.clone(),
        goals_given_up: sim.given_up.len() as u64,
    };
    Outcome {
        seed,
        trace: sim.trace.finish(sim.choices.recorded()),
        violations: std::mem::take(&mut sim.checks.violations),
        choices: sim.choices.recorded().to_vec(),
        totals,
        given_up: std::mem::take(&mut sim.given_up),
        words: sim.trace.take_lines(),
    }
}

/// Runs a scenario over seeds. `progress` is called after every seed, on the thread that ran it.
///
/// # Errors
/// [`UnknownScenario`].
pub fn run(
    scenario: &str,
    seeds: RangeInclusive<u64>,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, UnknownScenario> {
    if !scenario::SCENARIOS.contains(&scenario) {
        return Err(UnknownScenario { name: scenario.to_owned() });
    }
    let began = Instant::now();
    let (first, last) = (*seeds.start(), *seeds.end());
    let total = last.saturating_sub(first).saturating_add(1);
    let next = AtomicU64::new(first);
    let broken_seeds = AtomicU64::new(0);
    let gathered: Mutex<BTreeMap<u64, Found>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    let found = look_at(scenario, seed, options);
                    let broken = !found.violations.is_empty();
                    let broken_seeds = broken_seeds.fetch_add(broken.into(), Ordering::Relaxed) + u64::from(broken);
                    let mut gathered = gathered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    gathered.insert(seed, found);
                    progress(Progress { done: gathered.len() as u64, total, broken: broken_seeds });
                    if broken && options.stop_at_first {
                        next.store(last.saturating_add(1), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let gathered = gathered.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Report::of(scenario, gathered, began.elapsed()))
}

fn look_at(scenario: &str, seed: u64, options: &Options) -> Found {
    let mut found = match run_seed(scenario, seed, options, false) {
        Ok(outcome) => Found::from(outcome),
        Err(_) => return Found::default(),
    };
    if options.twice_every > 0 && seed.is_multiple_of(options.twice_every) {
        found.twice = true;
        if run_seed(scenario, seed, options, false).is_ok_and(|again| again.trace != found.trace) {
            found.violations.push(Violation {
                step: 0,
                at_ms: 0,
                promise: "P3",
                text: "the same seed gave another trace hash when it ran again".to_owned(),
            });
        }
    }
    found
}
