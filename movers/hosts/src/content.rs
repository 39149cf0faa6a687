//! Made-up file content that follows from a seed: text that compresses, noise that does not, and pieces that repeat, as
//! on real disks.

/// A small generator (splitmix64): the same seed gives the same content on every machine and in every version.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit.max(1) as u64) as usize
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Text,
    Noise,
    Repeated,
}

impl Flavour {
    pub(crate) fn of(number: usize) -> Flavour {
        match number % 8 {
            0..=2 => Flavour::Text,
            3..=5 => Flavour::Noise,
            _ => Flavour::Repeated,
        }
    }
}

const WORDS: [&str; 16] = [
    "ledger", "harbour", "invoice", "anchor", "payment", "tide", "cargo", "buoy", "account", "current", "berth",
    "total", "signal", "island", "balance", "lantern",
];

/// `length` bytes of that flavour.
pub(crate) fn content(dice: &mut Dice, flavour: Flavour, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    match flavour {
        Flavour::Text => {
            while bytes.len() < length {
                let number = dice.roll() % 100_000;
                bytes.extend_from_slice(WORDS[dice.below(WORDS.len())].as_bytes());
                bytes.extend_from_slice(format!(" {number}\n").as_bytes());
            }
        }
        Flavour::Noise => {
            while bytes.len() < length {
                bytes.extend_from_slice(&dice.roll().to_le_bytes());
            }
        }
        Flavour::Repeated => {
            let piece = content(dice, Flavour::Noise, 16 * 1024);
            while bytes.len() < length {
                bytes.extend_from_slice(&piece);
            }
        }
    }
    bytes.truncate(length);
    bytes
}
