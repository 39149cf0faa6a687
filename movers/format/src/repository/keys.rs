//! Keys. A repository has one key, from which every file's own key is derived by HKDF-SHA256 over the file's random id of
//! 256 bits; within a file the nonce is the record's number, and no file is written twice, so no nonce comes twice. A dedup
//! domain has a secret of its own, shared by repositories that may share chunks; ids and borders are keyed by it.
//!
//! Randomness comes from the caller.

use super::RecordKind;
use crate::chunk::ChunkId;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

/// How records are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    /// Not at all: a hash proves what is stored, the chunk's id its content, and nothing hides or signs it.
    None = 0,
    /// AES-256-GCM, for processors with AES instructions.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305, for all others.
    ChaCha20Poly1305 = 2,
}

impl Suite {
    /// The suite of this number, if there is one.
    pub fn from_byte(byte: u8) -> Option<Suite> {
        match byte {
            0 => Some(Suite::None),
            1 => Some(Suite::Aes256Gcm),
            2 => Some(Suite::ChaCha20Poly1305),
            3..=u8::MAX => None,
        }
    }

    /// Bytes that sealing adds.
    pub fn overhead(self) -> usize {
        match self {
            Suite::None | Suite::Aes256Gcm | Suite::ChaCha20Poly1305 => 16,
        }
    }

    fn algorithm(self) -> Option<&'static Algorithm> {
        match self {
            Suite::None => None,
            Suite::Aes256Gcm => Some(&AES_256_GCM),
            Suite::ChaCha20Poly1305 => Some(&CHACHA20_POLY1305),
        }
    }
}

/// The random name of a pack or of one writing of another sealed file: 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 32]);

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        farshore_schemas::ids::Digest(self.0).fmt(f)
    }
}

/// What everything in an encrypted repository is sealed under.
#[derive(Clone, PartialEq, Eq)]
pub struct RepositoryKey(pub [u8; 32]);

impl std::fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RepositoryKey")
    }
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl RepositoryKey {
    fn derive(&self, file: &FileId) -> [u8; 32] {
        let fits = "one hash's length is always granted";
        let secret = Salt::new(HKDF_SHA256, &file.0).extract(&self.0);
        let mut key = [0; 32];
        secret.expand(&[b"farshore repository 1"], KeyLength).expect(fits).fill(&mut key).expect(fits);
        key
    }
}

/// The key of one file.
pub struct SealKey {
    suite: Suite,
    key: Option<LessSafeKey>,
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl SealKey {
    /// The key of this file; none when a suite that seals has no repository key to work with.
    pub fn new(suite: Suite, key: Option<&RepositoryKey>, file: &FileId) -> Option<SealKey> {
        let Some(algorithm) = suite.algorithm() else { return Some(SealKey { suite, key: None }) };
        let bytes = key?.derive(file);
        let key = UnboundKey::new(algorithm, &bytes).expect("both suites take keys of 32 bytes");
        Some(SealKey { suite, key: Some(LessSafeKey::new(key)) })
    }

    /// How this key seals.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Seals `bytes[from..]` in place and appends the tag. `kind` and `number`, the record's place in its file, are
    /// authenticated. A number must be used once in a file.
    pub fn seal(&self, (kind, number): (u8, u32), bytes: &mut Vec<u8>, from: usize) {
        let Some(key) = &self.key else {
            let check = unsealed_check((kind, number), &bytes[from..]);
            bytes.extend_from_slice(&check);
            return;
        };
        let tag = key
            .seal_in_place_separate_tag(nonce(number), Aad::from([kind]), &mut bytes[from..])
            .expect("a record is far below the suite's limit");
        bytes.extend_from_slice(tag.as_ref());
    }

    /// Opens a sealed record in place; none when it is not what was sealed at this place.
    pub fn open<'a>(&self, (kind, number): (u8, u32), bytes: &'a mut [u8]) -> Option<&'a mut [u8]> {
        match &self.key {
            None => {
                let (content, check) = bytes.split_at_mut_checked(bytes.len().checked_sub(CHECK)?)?;
                (unsealed_check((kind, number), content) == *check).then_some(content)
            }
            Some(key) => key.open_in_place(nonce(number), Aad::from([kind]), bytes).ok(),
        }
    }
}

/// Bytes of the hash that stands where a tag would.
const CHECK: usize = 16;

/// What follows an unsealed record: without it a change that unpacks to the same content, or that swaps records, would pass
/// unnoticed until it meets a stricter reader. It proves nothing against somebody who can write.
fn unsealed_check((kind, number): (u8, u32), content: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind]).update(&number.to_le_bytes()).update(content);
    let mut check = [0; CHECK];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
    check
}

fn nonce(number: u32) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// The keys of a dedup domain as a mover is given them that names and cuts chunks for a repository. They do not tell the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct DomainKeys {
    /// For ids.
    pub ids: [u8; 32],
    /// For borders.
    pub borders: [u8; 32],
}

impl std::fmt::Debug for DomainKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DomainKeys")
    }
}

/// The keys of a dedup domain.
#[derive(Clone)]
pub struct Domain {
    ids: [u8; 32],
    borders: [u8; 32],
}

impl std::fmt::Debug for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Domain")
    }
}

impl Domain {
    /// The domain of this secret.
    pub fn new(secret: &[u8; 32]) -> Domain {
        Domain {
            ids: blake3::derive_key("farshore 2026-11 dedup domain: chunk ids", secret),
            borders: blake3::derive_key("farshore 2026-11 dedup domain: chunk borders", secret),
        }
    }

    /// The domain of these keys.
    pub fn of_keys(keys: &DomainKeys) -> Domain {
        Domain { ids: keys.ids, borders: keys.borders }
    }

    /// Its keys, for a mover that names and cuts chunks for it.
    pub fn keys(&self) -> DomainKeys {
        DomainKeys { ids: self.ids, borders: self.borders }
    }

    /// The id of a record's plain content: BLAKE3 keyed by the domain and, but for data, by the kind.
    pub fn id(&self, kind: RecordKind, content: &[u8]) -> ChunkId {
        match kind {
            RecordKind::Data => ChunkId(*blake3::keyed_hash(&self.ids, content).as_bytes()),
            RecordKind::Leaf | RecordKind::List | RecordKind::Disk => {
                let mut hasher = blake3::Hasher::new_keyed(&self.ids);
                hasher.update(content);
                // Content cannot end like this by chance, and data of that ending has its own length of blocks.
                hasher.update(&[b"farshore record ".as_slice(), &[kind as u8]].concat());
                ChunkId(*hasher.finalize().as_bytes())
            }
        }
    }

    pub(super) fn border_secret(&self) -> [u8; 192] {
        let mut secret = [0; 192];
        blake3::Hasher::new_keyed(&self.borders).finalize_xof().fill(&mut secret);
        secret
    }
}
