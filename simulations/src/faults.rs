//! What may go wrong in a run, and how often. Each seed turns most of the faults off and gives the rest a rate of its own
//! (swarm testing): faults that hide each other meet alone in some seeds.

use crate::choices::{Choices, Draw, Ppm};
use serde::Serialize;
use std::collections::BTreeMap;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A message is lost.
    Drop,
    /// A message comes twice.
    Double,
    /// A message is late, by up to minutes.
    Delay,
    /// The link between the sites goes down for seconds to minutes.
    LinkDown,
    /// A control loses power: what was not synced is gone.
    ControlCrash,
    /// An agent loses power; guests go on.
    AgentCrash,
    /// An agent comes back without its memory.
    MemoryLoss,
    /// A control comes back from its snapshot instead of from genesis.
    FromView,
    /// A power cut leaves part of a frame.
    TornFrame,
    /// A log is restored from an older copy.
    OldCopy,
    /// A sync takes long.
    SlowDisk,
    /// A task fails.
    TaskFailure,
    /// A task takes long.
    SlowTask,
    /// An operator does something beside the story.
    Operator,
    /// An agent stalls for hours and goes on.
    Stall,
    /// An agent's clock is set.
    ClockJump,
    /// A copy of the control plane runs beside it.
    TwoControls,
}

/// Those of the demo's story.
pub const FAULTS: [Fault; 14] = [
    Fault::Drop,
    Fault::Double,
    Fault::Delay,
    Fault::LinkDown,
    Fault::ControlCrash,
    Fault::AgentCrash,
    Fault::MemoryLoss,
    Fault::FromView,
    Fault::TornFrame,
    Fault::OldCopy,
    Fault::SlowDisk,
    Fault::TaskFailure,
    Fault::SlowTask,
    Fault::Operator,
];

impl Fault {
    /// The lowest and highest rate per occasion, in parts in a million.
    const fn range(self) -> (Ppm, Ppm) {
        match self {
            Fault::Drop | Fault::Double | Fault::Delay => (1_000, 150_000),
            Fault::LinkDown => (3_000, 100_000),
            Fault::ControlCrash | Fault::AgentCrash => (2_000, 60_000),
            Fault::MemoryLoss => (20_000, 300_000),
            Fault::FromView | Fault::TornFrame => (300_000, 900_000),
            Fault::OldCopy => (300_000, 1_000_000),
            Fault::SlowDisk => (5_000, 200_000),
            Fault::TaskFailure | Fault::SlowTask => (2_000, 120_000),
            Fault::Operator => (3_000, 60_000),
            Fault::Stall | Fault::ClockJump => (3_000, 60_000),
            Fault::TwoControls => (3_000, 30_000),
        }
    }
}

/// The faults of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    rates: BTreeMap<Fault, Ppm>,
    healed: bool,
    /// How often each happened.
    pub(crate) injected: BTreeMap<Fault, u64>,
}

impl Faults {
    /// Draws a run's faults: 30 to 70 % of them are off, and every 16th run or so has none.
    pub(crate) fn draw(choices: &mut Choices) -> Self {
        Faults::draw_of(&FAULTS, choices)
    }

    /// [`Faults::draw`] for a story with faults of its own.
    pub(crate) fn draw_of(kinds: &[Fault], choices: &mut Choices) -> Self {
        let off = choices.between(Draw::Knob, 300_000, 700_000);
        let calm = choices.below(Draw::Knob, 16) == 0;
        let mut rates = BTreeMap::new();
        for fault in kinds.iter().copied() {
            let on = choices.below(Draw::Knob, 1_000_000) >= off;
            let (low, high) = fault.range();
            let rate = choices.log_uniform(Draw::Knob, low, high);
            if on && !calm {
                rates.insert(fault, rate);
            }
        }
        Faults { rates, healed: false, injected: BTreeMap::new() }
    }

    /// Whether a fault is to happen on this occasion, not counted: it may turn out that it cannot.
    pub(crate) fn considers(&self, fault: Fault, kind: Draw, choices: &mut Choices) -> bool {
        let rate = if self.healed { 0 } else { self.rates.get(&fault).copied().unwrap_or(0) };
        choices.chance(kind, rate)
    }

    /// Whether a fault happens on this occasion; counted if so.
    pub(crate) fn strikes(&mut self, fault: Fault, kind: Draw, choices: &mut Choices) -> bool {
        let strikes = self.considers(fault, kind, choices);
        if strikes {
            self.count(fault);
        }
        strikes
    }

    /// Counts a fault that the story itself injects.
    pub(crate) fn count(&mut self, fault: Fault) {
        *self.injected.entry(fault).or_default() += 1;
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
    }

    /// Whether any fault is on in this run.
    pub(crate) fn any(&self) -> bool {
        !self.rates.is_empty()
    }
}
