//! Fuzz targets: everything that decodes bytes which somebody else may have written or damaged. Each target takes bytes in
//! two ways: as they are, which tries the checks at the door, and wrapped in the crc, hash or seal that they lack, which
//! tries what lies behind. What decodes is encoded again and has to decode to the same.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; the tests run their seeds, and everything that was ever found.

mod agent;
mod chunk;
mod frame;
mod index;
mod manifest;
mod pack;
mod seeds;
mod tree;

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Feeds it; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that reach far, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
    Target { name: "agent", run: agent::run, seeds: agent::seeds },
    Target { name: "chunk", run: chunk::run, seeds: chunk::seeds },
    Target { name: "pack", run: pack::run, seeds: pack::seeds },
    Target { name: "index", run: index::run, seeds: index::seeds },
    Target { name: "tree", run: tree::run, seeds: tree::seeds },
    Target { name: "manifest", run: manifest::run, seeds: manifest::seeds },
];

/// Most memory that a decoder may hold at once for an input of `len` bytes, beside the input.
pub const fn memory_limit(len: usize) -> usize {
    8 * len + (1 << 20)
}

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// The first `N` bytes of an input, zeros where it has fewer, and the rest.
fn head<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = bytes.split_at(N.min(bytes.len()));
    let mut head = [0; N];
    head[..first.len()].copy_from_slice(first);
    (head, rest)
}

/// The first 16 bytes of a BLAKE3, as headers and pages bear them.
fn check(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    head::<16>(hasher.finalize().as_bytes()).0
}
