//! Key slots: the repository's key and the domain's secret, sealed under a key that argon2id makes of a passphrase. Several
//! slots may hold the same key; a slot is a small JSON file.

use super::keys::{FileId, RepositoryKey, SealKey, Suite};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};

/// What a slot's key material is sealed as.
const SLOT: u8 = 131;
/// More memory than this (KiB) is not asked for by a slot of ours, and not granted to anybody's.
const MAX_MEMORY: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;

/// Why a slot does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The file is not a slot.
    #[error("it is not a key slot: {0}")]
    Garbage(String),
    /// It asks for more than any slot of ours.
    #[error("it asks for {memory} KiB, {passes} passes and {lanes} lanes, more than is granted")]
    Costs {
        /// Memory in KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// Another passphrase, or a changed slot.
    #[error("the passphrase does not open it")]
    Passphrase,
}

/// A key slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySlot {
    /// How the passphrase becomes a key: `argon2id`.
    kdf: String,
    /// Memory in KiB.
    memory: u32,
    passes: u32,
    lanes: u32,
    /// Random, in hex.
    salt: String,
    /// The repository's key and the domain's secret, sealed, in hex.
    sealed: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()).collect()
}

impl KeySlot {
    /// Makes a slot that this passphrase opens; `salt` is random.
    ///
    /// # Errors
    /// [`SlotError::Costs`] when memory for the derivation cannot be had.
    pub fn make(
        passphrase: &[u8],
        salt: [u8; 32],
        key: &RepositoryKey,
        domain: &[u8; 32],
    ) -> Result<KeySlot, SlotError> {
        // OWASP's second choice for argon2id, 46 MiB and one pass, with two passes for good measure.
        let mut slot = KeySlot {
            kdf: "argon2id".into(),
            memory: 47_104,
            passes: 2,
            lanes: 1,
            salt: hex(&salt),
            sealed: String::new(),
        };
        let seal = slot.key(passphrase, &salt)?;
        let mut sealed = [key.0, *domain].concat();
        seal.seal((SLOT, 0), &mut sealed, 0);
        slot.sealed = hex(&sealed);
        Ok(slot)
    }

    fn key(&self, passphrase: &[u8], salt: &[u8]) -> Result<SealKey, SlotError> {
        let costs = SlotError::Costs { memory: self.memory, passes: self.passes, lanes: self.lanes };
        if self.memory > MAX_MEMORY || self.passes > MAX_PASSES || self.lanes > 16 {
            return Err(costs);
        }
        let params = Params::new(self.memory, self.passes, self.lanes, Some(32)).map_err(|_| costs.clone())?;
        let mut key = RepositoryKey([0; 32]);
        let mut memory = vec![Block::default(); params.block_count()];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase, salt, &mut key.0, &mut memory)
            .map_err(|_| costs)?;
        let mut id = FileId([0; 32]);
        id.0.iter_mut().zip(salt).for_each(|(into, byte)| *into = *byte);
        Ok(SealKey::new(Suite::ChaCha20Poly1305, Some(&key), &id).expect("a key was given"))
    }

    /// What opening it costs, in KiB that are passed over. Whoever tries several begins with the least, so that no slot that was
    /// put there by somebody else keeps a good one waiting.
    pub fn work(&self) -> u64 {
        u64::from(self.memory) * u64::from(self.passes)
    }

    /// Opens the slot: the repository's key and the domain's secret.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn open(&self, passphrase: &[u8]) -> Result<(RepositoryKey, [u8; 32]), SlotError> {
        if self.kdf != "argon2id" {
            return Err(SlotError::Garbage(format!("its kdf {:?} is not known", self.kdf)));
        }
        let bad = |what: &str| SlotError::Garbage(format!("its {what} is not hex of the right length"));
        let salt = unhex(&self.salt).filter(|salt| salt.len() == 32).ok_or_else(|| bad("salt"))?;
        let mut sealed = unhex(&self.sealed).filter(|sealed| sealed.len() == 80).ok_or_else(|| bad("sealed key"))?;
        let seal = self.key(passphrase, &salt)?;
        let plain = seal.open((SLOT, 0), &mut sealed).ok_or(SlotError::Passphrase)?;
        let (key, domain) = plain.split_first_chunk::<32>().ok_or(SlotError::Passphrase)?;
        let domain = <[u8; 32]>::try_from(domain).map_err(|_| SlotError::Passphrase)?;
        Ok((RepositoryKey(*key), domain))
    }

    /// Reads a slot's file.
    ///
    /// # Errors
    /// [`SlotError::Garbage`].
    pub fn decode(bytes: &[u8]) -> Result<KeySlot, SlotError> {
        if bytes.len() > 64 * 1024 {
            return Err(SlotError::Garbage(format!("it has {} bytes", bytes.len())));
        }
        serde_json::from_slice(bytes).map_err(|error| SlotError::Garbage(error.to_string()))
    }

    /// The slot as a file.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a slot has only texts and numbers")
    }
}
