//! What a run over seeds says.

use crate::checkers::Violation;
use crate::faults::Fault;
use crate::run::Outcome;
use farshore_schemas::ids::Digest;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Said on every page of every answer.
pub const SIMULATED: &str = "SIMULATED";
/// More violations than this are counted, not listed.
const LISTED: usize = 50;

/// Counts of one run, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Things that happened.
    pub steps: u64,
    /// Frames appended.
    pub decisions: u64,
    /// Messages and acks put on the bus.
    pub messages: u64,
    /// Virtual time, in milliseconds.
    pub simulated_ms: u64,
    /// Faults injected, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Goals that operators gave up under faults: not a fault of the program's.
    pub goals_given_up: u64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.steps += other.steps;
        self.decisions += other.decisions;
        self.messages += other.messages;
        self.simulated_ms += other.simulated_ms;
        self.goals_given_up += other.goals_given_up;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

/// What is kept of a seed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) trace: Digest,
    pub(crate) violations: Vec<Violation>,
    pub(crate) totals: Totals,
    pub(crate) twice: bool,
}

impl From<Outcome> for Found {
    fn from(outcome: Outcome) -> Self {
        Found { trace: outcome.trace, violations: outcome.violations, totals: outcome.totals, twice: false }
    }
}

/// A violation with its seed: with the program's commit it is all that is needed to see it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeedViolation {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    #[serde(flatten)]
    pub violation: Violation,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`SIMULATED`].
    pub mark: &'static str,
    /// The scenario.
    pub scenario: String,
    /// Seeds that ran.
    pub seeds: u64,
    /// Seeds that ran twice, to compare trace hashes.
    pub seeds_twice: u64,
    /// Seeds that broke a promise.
    pub seeds_broken: u64,
    /// Counts over all seeds (second runs left out).
    pub totals: Totals,
    /// Faults injected in all.
    pub faults_injected: u64,
    /// Real time, in milliseconds.
    pub real_ms: u64,
    /// Virtual over real time.
    pub simulated_over_real: f64,
    /// Frames appended per real second.
    pub decisions_per_second: f64,
    /// Violations in all.
    pub violations: u64,
    /// The first of them.
    pub first_violations: Vec<SeedViolation>,
    /// Trace hash of the first seed.
    pub first_trace: Digest,
}

impl Report {
    pub(crate) fn of(scenario: &str, found: BTreeMap<u64, Found>, real: Duration) -> Report {
        let mut totals = Totals::default();
        found.values().for_each(|found| totals.add(&found.totals));
        let seconds = real.as_secs_f64().max(0.001);
        let all = found.iter().flat_map(|(seed, found)| {
            found.violations.iter().map(|violation| SeedViolation { seed: *seed, violation: violation.clone() })
        });
        let all: Vec<SeedViolation> = all.collect();
        Report {
            mark: SIMULATED,
            scenario: scenario.to_owned(),
            seeds: found.len() as u64,
            seeds_twice: found.values().filter(|found| found.twice).count() as u64,
            seeds_broken: found.values().filter(|found| !found.violations.is_empty()).count() as u64,
            faults_injected: totals.faults.values().sum(),
            real_ms: u64::try_from(real.as_millis()).unwrap_or(u64::MAX),
            simulated_over_real: totals.simulated_ms as f64 / 1_000.0 / seconds,
            decisions_per_second: totals.decisions as f64 / seconds,
            violations: all.len() as u64,
            first_violations: all.into_iter().take(LISTED).collect(),
            first_trace: found.values().next().map(|found| found.trace).unwrap_or_default(),
            totals,
        }
    }
}
