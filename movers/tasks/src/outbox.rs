//! When what stands in the outbox is said again. None of this is remembered over a restart: then everything is said
//! at once, and paced anew.

use crate::state::{Outbox, State};
use farshore_schemas::envelope::Envelope;
use farshore_schemas::ids::Address;
use farshore_schemas::units::{Millis, Timestamp};
use std::collections::BTreeMap;

/// The wait before the first repetition; it doubles each time.
const FIRST_WAIT: Millis = Millis(200);
/// The longest wait between repetitions.
const LONGEST_WAIT: Millis = Millis(5_000);
/// Messages under way to one receiver at once.
const WINDOW: usize = 64;
/// A receiver that answers so many repetitions in turn with the same number, below one that it had acked, has lost its
/// memory. Acks that were merely late or doubled do not come so evenly while nothing else moves.
const FALLEN_BEHIND: u32 = 8;

/// The pace towards one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Pace {
    /// Repetitions since the last progress.
    tries: u32,
    /// When to say it again.
    due: Timestamp,
    /// When it was said last.
    said: Timestamp,
    /// The highest number that was said.
    top: u64,
    /// The number below what was acked that was answered last, to how many repetitions, and to which one last.
    behind: Option<Behind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behind {
    number: u64,
    answers: u32,
    said: Timestamp,
}

impl Pace {
    fn wait(&self) -> Millis {
        Millis(FIRST_WAIT.0.saturating_mul(1 << self.tries.min(10)).min(LONGEST_WAIT.0))
    }
}

/// The paces towards all receivers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pacing(BTreeMap<Address, Pace>);

fn window(outbox: &Outbox) -> impl Iterator<Item = &Envelope> {
    outbox.waiting.values().take(WINDOW).map(|outgoing| &outgoing.envelope)
}

impl Pacing {
    /// What is new in each window.
    pub(crate) fn fresh(&mut self, state: &State, now: Timestamp) -> Vec<Envelope> {
        let mut said = Vec::new();
        for (to, outbox) in &state.outboxes {
            let known = self.0.get(to).map_or(0, |pace| pace.top);
            let fresh: Vec<Envelope> = window(outbox).filter(|envelope| envelope.number > known).cloned().collect();
            let Some(last) = fresh.last() else { continue };
            let pace = self.0.entry(to.clone()).or_default();
            if pace.top <= outbox.acked {
                pace.tries = 0;
                pace.due = now.after(pace.wait());
            }
            pace.top = last.number;
            pace.said = now;
            said.extend(fresh);
        }
        said
    }

    /// What is due to be said again.
    pub(crate) fn repeats(&mut self, state: &State, now: Timestamp) -> Vec<Envelope> {
        let mut said = Vec::new();
        for (to, pace) in &mut self.0 {
            let Some(outbox) = state.outboxes.get(to).filter(|outbox| !outbox.waiting.is_empty()) else { continue };
            if now < pace.due {
                continue;
            }
            pace.tries = pace.tries.saturating_add(1);
            pace.due = now.after(pace.wait());
            pace.said = now;
            said.extend(window(outbox).cloned());
        }
        said
    }

    /// When the next repetition is due.
    pub(crate) fn next_due(&self, state: &State) -> Option<Timestamp> {
        let waits = |to: &Address| state.outboxes.get(to).is_some_and(|outbox| !outbox.waiting.is_empty());
        self.0.iter().filter(|(to, _)| waits(to)).map(|(_, pace)| pace.due).min()
    }

    /// An ack moved the channel on.
    pub(crate) fn progressed(&mut self, to: &Address, now: Timestamp) {
        let pace = self.0.entry(to.clone()).or_default();
        pace.tries = 0;
        pace.behind = None;
        pace.due = now.after(pace.wait());
    }

    /// An ack said nothing new: something is missing there, or it was merely late. Whether the receiver has lost its memory.
    pub(crate) fn stalled(&mut self, to: &Address, number: u64, outbox: &Outbox) -> bool {
        let pace = self.0.entry(to.clone()).or_default();
        pace.due = pace.due.min(pace.said.after(FIRST_WAIT));
        if number >= outbox.acked {
            pace.behind = None;
            return false;
        }
        let behind = match pace.behind {
            // More answers to the same repetition count once.
            Some(behind) if behind.number == number && behind.said == pace.said => behind,
            Some(behind) if behind.number == number => {
                Behind { answers: behind.answers + 1, said: pace.said, ..behind }
            }
            Some(_) | None => Behind { number, answers: 1, said: pace.said },
        };
        pace.behind = Some(behind);
        behind.answers >= FALLEN_BEHIND
    }
}
