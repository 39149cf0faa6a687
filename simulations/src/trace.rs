//! The hash over everything that happened in a run: each step, each frame, each choice. Two runs of one seed must agree.

use crate::choices::Choice;
use farshore_schemas::ids::Digest;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    /// In words, when someone wants to read them.
    lines: Option<Vec<String>>,
}

impl Trace {
    /// `keep` keeps the words too.
    pub(crate) fn new(keep: bool) -> Self {
        Trace { lines: keep.then(Vec::new), ..Trace::default() }
    }

    /// A step: what kind of thing, and which one.
    pub(crate) fn step(&mut self, now: i64, what: &str, which: u64) {
        self.buffer.extend_from_slice(&now.to_le_bytes());
        self.buffer.extend_from_slice(what.as_bytes());
        self.buffer.extend_from_slice(&which.to_le_bytes());
        self.flush(4096);
    }

    /// The hash of a frame or a message.
    pub(crate) fn hash(&mut self, hash: &[u8]) {
        self.buffer.extend_from_slice(hash);
    }

    /// Words, made only when they are wanted.
    pub(crate) fn say(&mut self, now: i64, words: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} {}", (now - crate::layout::BEGIN) as f64 / 1_000.0, words()));
        }
    }

    /// The hash over the run.
    pub(crate) fn finish(&mut self, choices: &[Choice]) -> Digest {
        for choice in choices {
            self.buffer.push(choice.kind);
            self.buffer.extend_from_slice(&choice.value.to_le_bytes());
            self.flush(4096);
        }
        self.flush(0);
        Digest(*self.hasher.finalize().as_bytes())
    }

    /// The words.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }

    fn flush(&mut self, beyond: usize) {
        if self.buffer.len() > beyond {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }
}
