//! A small disk that changes between backups: noise, texts, zeros and holes.

use crate::crash::{Choices, Wrong};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 2048;

/// A disk's image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) path: PathBuf,
    file: File,
}

/// The hash of a file's content.
pub(super) fn sha256(path: &Path) -> Result<[u8; 32], Wrong> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().into())
}

impl Image {
    /// A new one.
    pub(super) fn make(path: &Path, choices: &mut Choices) -> Result<Image, Wrong> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(BLOCKS * BLOCK)?;
        let mut image = Image { path: path.to_owned(), file };
        for _ in 0..24 {
            image.write(choices, 64)?;
        }
        Ok(image)
    }

    /// Some runs of blocks get new content.
    pub(super) fn change(&mut self, choices: &mut Choices) -> Result<(), Wrong> {
        for _ in 0..=choices.of(0..6) {
            self.write(choices, 32)?;
        }
        Ok(())
    }

    fn write(&mut self, choices: &mut Choices, longest: u64) -> Result<(), Wrong> {
        let (start, length) = (choices.of(0..BLOCKS), 1 + choices.of(0..longest));
        let length = length.min(BLOCKS - start);
        let mut content = vec![0u8; (length * BLOCK) as usize];
        match choices.of(0..10) {
            0 => {}
            1..5 => {
                for word in content.chunks_exact_mut(8) {
                    word.copy_from_slice(&choices.number().to_le_bytes());
                }
            }
            _ => {
                let words: [u64; 64] = std::array::from_fn(|_| choices.number());
                for word in content.chunks_exact_mut(8) {
                    word.copy_from_slice(&words[choices.of(0..64) as usize].to_le_bytes());
                }
            }
        }
        Ok(self.file.write_all_at(&content, start * BLOCK)?)
    }
}
