//! The disk that `bench changed` works on: extents of data and holes as file systems leave them, made from a seed alone.
//! Two fifths of the data are noise, the rest is made of eight-byte words, which compress as texts and programs do.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Result;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) const BLOCK: u64 = 4096;
/// The longest extent, in blocks.
const LONGEST: u64 = 512;
/// Words that texts are made of.
const WORDS: usize = 4096;

/// A made disk.
pub(super) struct Disk {
    file: File,
    words: Vec<[u8; 8]>,
    random: SmallRng,
    size: u64,
    /// What holds data, in order.
    pub(super) data: Vec<Range<u64>>,
}

impl Disk {
    /// Makes a disk of `size` bytes of which about `data` hold data.
    pub(super) fn make(path: &Path, size: u64, data: u64, seed: u64) -> Result<Disk> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(size)?;
        let mut random = SmallRng::seed_from_u64(seed);
        let words = (0..WORDS).map(|_| random.random::<u64>().to_le_bytes()).collect();
        let mut disk = Disk { file, words, random, size, data: Vec::new() };
        let (mut at, mut left) = (0, data);
        while at < size && left > 0 {
            let length = disk.extent().min(size - at).min(left.next_multiple_of(BLOCK));
            // A hole before each extent, so that data is spread evenly over what is left of the disk.
            let spare = (size - at).saturating_sub(left.max(length));
            let hole = u128::from(length) * u128::from(spare) / u128::from(left);
            at += (hole as u64).min(spare) / BLOCK * BLOCK;
            disk.fill(at, length)?;
            match disk.data.last_mut() {
                Some(last) if last.end == at => last.end += length,
                Some(_) | None => disk.data.push(at..at + length),
            }
            at += length;
            left = left.saturating_sub(length);
        }
        Ok(disk)
    }

    /// The length of an extent: short ones are as likely as long ones, by powers of two.
    fn extent(&mut self) -> u64 {
        let power = 1 << self.random.random_range(0..LONGEST.ilog2());
        (power + self.random.random_range(0..power)) * BLOCK
    }

    /// Writes new content.
    fn fill(&mut self, at: u64, length: u64) -> Result<()> {
        let mut content = vec![0; length as usize];
        if self.random.random_ratio(2, 5) {
            self.random.fill(&mut content[..]);
        } else {
            for word in content.chunks_exact_mut(8) {
                word.copy_from_slice(&self.words[self.random.random_range(0..WORDS)]);
            }
        }
        self.file.write_all_at(&content, at)
    }

    /// Writes new content over `bytes` of the data in runs of this length, at places by chance. Answers the runs.
    pub(super) fn change(&mut self, bytes: u64, run: u64) -> Result<Vec<Range<u64>>> {
        let mut places = BTreeSet::new();
        while (places.len() as u64) < bytes / run {
            let at = self.random.random_range(0..self.size / run) * run;
            let after = self.data.partition_point(|extent| extent.end <= at);
            if self.data.get(after).is_some_and(|extent| extent.start <= at) {
                places.insert(at);
            }
        }
        places.iter().try_for_each(|at| self.fill(*at, run))?;
        Ok(places.into_iter().map(|at| at..at + run).collect())
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all()
    }
}
