//! Everything that chance decides in a run, as one recorded stream. There is one generator per kind of draw, so that a
//! draw added to one kind does not shift the others, and a recorded stream can be played again. Zero is always the calm
//! outcome: a recording that ends early goes on without faults, which is what makes shrinking possible.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::VecDeque;

/// What a draw is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Draw {
    /// The shape of the run: which faults are on, how often, how many VMs.
    Knob,
    /// Loss, doubling and delay of messages.
    Bus,
    /// When links between the sites go down.
    Link,
    /// How long disks take, and what a power cut leaves.
    Disk,
    /// Which process crashes when, and how it comes back.
    Crash,
    /// How long tasks take, and which fail.
    Task,
    /// What guests write.
    Guest,
    /// What operators do beyond the story.
    Operator,
    /// New lineages and incarnations.
    Identity,
    /// In which order actors of one site are served.
    Local,
}

/// All kinds, in the order of their generators.
pub(crate) const DRAWS: [Draw; 10] = [
    Draw::Knob,
    Draw::Bus,
    Draw::Link,
    Draw::Disk,
    Draw::Crash,
    Draw::Task,
    Draw::Guest,
    Draw::Operator,
    Draw::Identity,
    Draw::Local,
];

/// One draw as it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Choice {
    /// Index into [`DRAWS`].
    pub kind: u8,
    /// The outcome: below the bound that was asked for.
    pub value: u64,
}

/// The stream of one run.
#[derive(Debug)]
pub(crate) struct Choices {
    generators: Vec<ChaCha8Rng>,
    recorded: Vec<Choice>,
    replay: Option<Vec<VecDeque<u64>>>,
}

/// Parts in a million.
pub(crate) type Ppm = u32;
/// As often as not at all.
const MILLION: u64 = 1_000_000;

impl Choices {
    /// A stream that follows from a seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let generator = |kind: &Draw| {
            let mut key = [0u8; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            key[8] = *kind as u8;
            ChaCha8Rng::from_seed(key)
        };
        Choices { generators: DRAWS.iter().map(generator).collect(), recorded: Vec::new(), replay: None }
    }

    /// A stream that was recorded. Where it ends, everything goes the calm way.
    pub(crate) fn from_recording(recording: &[Choice]) -> Self {
        let mut queues = vec![VecDeque::new(); DRAWS.len()];
        for choice in recording {
            if let Some(queue) = queues.get_mut(usize::from(choice.kind)) {
                queue.push_back(choice.value);
            }
        }
        Choices { replay: Some(queues), ..Choices::from_seed(0) }
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, kind: Draw, bound: u64) -> u64 {
        assert!(bound > 0, "a draw has at least one outcome");
        let at = kind as usize;
        let value = match &mut self.replay {
            Some(queues) => queues[at].pop_front().map_or(0, |value| value.min(bound - 1)),
            None => {
                let wide = u128::from(self.generators[at].next_u64()) * u128::from(bound);
                u64::try_from(wide >> 64).expect("the high half of a product of two u64")
            }
        };
        self.recorded.push(Choice { kind: kind as u8, value });
        value
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, kind: Draw, low: u64, high: u64) -> u64 {
        assert!(low <= high, "a range is not empty");
        low + self.below(kind, high - low + 1)
    }

    /// Whether something happens that happens this often.
    pub(crate) fn chance(&mut self, kind: Draw, often: Ppm) -> bool {
        self.below(kind, MILLION) >= MILLION - u64::from(often).min(MILLION)
    }

    /// A rate between `low` and `high`, each order of magnitude as likely as any other.
    pub(crate) fn log_uniform(&mut self, kind: Draw, low: Ppm, high: Ppm) -> Ppm {
        let (low, high) = (f64::from(low.max(1)).ln(), f64::from(high.max(1)).ln());
        let at = self.below(kind, MILLION) as f64 / MILLION as f64;
        let rate = (low + (high - low) * at).exp();
        rate as Ppm
    }

    /// Sixteen bytes, for a lineage.
    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.below(Draw::Identity, u64::MAX).to_le_bytes());
        bytes[8..].copy_from_slice(&self.below(Draw::Identity, u64::MAX).to_le_bytes());
        // A recording that has ended must still mint identities that differ.
        let count = u32::try_from(self.recorded.len()).unwrap_or(u32::MAX);
        bytes[12..].iter_mut().zip(count.to_le_bytes()).for_each(|(byte, salt)| *byte ^= salt);
        bytes
    }

    /// Everything drawn so far.
    pub(crate) fn recorded(&self) -> &[Choice] {
        &self.recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_does_not_shift_another() {
        let mut plain = Choices::from_seed(7);
        let mut busy = Choices::from_seed(7);
        for _ in 0..10 {
            busy.below(Draw::Bus, 100);
        }
        let draws = |choices: &mut Choices| (0..20).map(|_| choices.below(Draw::Task, 1_000)).collect::<Vec<_>>();
        assert_eq!(draws(&mut plain), draws(&mut busy));
    }

    #[test]
    fn a_recording_plays_again_and_ends_calmly() {
        let mut first = Choices::from_seed(3);
        let drawn: Vec<u64> = (0..5).map(|_| first.below(Draw::Disk, 50)).collect();
        let mut again = Choices::from_recording(first.recorded());
        assert_eq!((0..5).map(|_| again.below(Draw::Disk, 50)).collect::<Vec<_>>(), drawn);
        assert!(!again.chance(Draw::Disk, 999_999));
    }
}
