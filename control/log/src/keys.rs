//! The site's key, which signs its baselines, and the public keys that a reader of its folder trusts. The private half
//! (Ed25519) is in `DIR/secrets/site-key`, for its owner's eyes only; the public halves of all keys that the site ever had are
//! in `DIR/site-keys`, which may be copied along with the log.

use crate::disk::{sync_dir, write_whole};
use crate::error::LogError;
use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use farshore_schemas::ids::Digest;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Said before what is signed, so that a signature of another kind never passes for a baseline's.
const CONTEXT: &[u8] = b"farshore baseline 1";

/// Bytes of a signature.
pub(crate) const SIGNATURE: usize = 64;

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Digest(self.0).fmt(f)
    }
}

impl PublicKey {
    /// Whether the key's owner signed this hash.
    pub(crate) fn has_signed(&self, hash: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&[CONTEXT, hash].concat(), signature).is_ok()
    }
}

/// The site's key.
pub struct SiteKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SiteKey {
    /// Reads the key of a data folder, or makes one, and sees to it that its public half is listed.
    ///
    /// # Errors
    /// [`LogError::Io`], also when the file holds no key.
    pub fn open_or_make(dir: &Path) -> Result<SiteKey, LogError> {
        let path = dir.join("secrets/site-key");
        let seed = match fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse::<Digest>().map_err(|_| io::Error::other("it holds no key of 64 hexadecimal digits"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_seed(&path),
            Err(error) => Err(error),
        };
        let seed = seed.map_err(LogError::io("read or make the site's key in", &path))?;
        let unusable = |_| LogError::io("use the site's key in", &path)(io::Error::other("the library refuses it"));
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed.0).map_err(unusable)?;
        let mut public = PublicKey([0; 32]);
        public.0.copy_from_slice(pair.public_key().as_ref());
        let mut keys = Keys::of(dir)?;
        if !keys.trust(&public) {
            keys.0.push(public);
            let list = list_of(dir);
            write_whole(&list, keys.lines().as_bytes()).map_err(LogError::io("write", &list))?;
        }
        Ok(SiteKey { pair, public })
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn sign(&self, hash: &[u8]) -> Vec<u8> {
        self.pair.sign(&[CONTEXT, hash].concat()).as_ref().to_vec()
    }
}

fn make_seed(path: &Path) -> io::Result<Digest> {
    let mut seed = [0; 32];
    rand::fill(&mut seed).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let seed = Digest(seed);
    let secrets = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(secrets)?;
    let beside = path.with_extension("tmp");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(format!("{seed}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_dir(secrets)?;
    Ok(seed)
}

/// The public keys that a folder lists; none when there is no list.
///
/// # Errors
/// [`LogError::Io`].
pub fn listed_keys(dir: &Path) -> Result<Vec<PublicKey>, LogError> {
    Ok(Keys::of(dir)?.0)
}

/// Writes the list of a folder that has none, durable.
///
/// # Errors
/// [`LogError::Io`].
pub fn list_keys(dir: &Path, keys: &[PublicKey]) -> Result<(), LogError> {
    let list = list_of(dir);
    write_whole(&list, Keys(keys.to_vec()).lines().as_bytes()).map_err(LogError::io("write", &list))
}

fn list_of(dir: &Path) -> PathBuf {
    dir.join("site-keys")
}

/// The public keys that are trusted in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Keys(Vec<PublicKey>);

impl Keys {
    /// Those listed in `DIR/site-keys`; none when there is no list. A line that is no key is no key.
    pub(crate) fn of(dir: &Path) -> Result<Keys, LogError> {
        let path = list_of(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Keys::default()),
            Err(error) => return Err(LogError::io("read", &path)(error)),
        };
        let keys = text.lines().filter_map(|line| line.trim().parse::<Digest>().ok());
        Ok(Keys(keys.map(|key| PublicKey(key.0)).collect()))
    }

    fn lines(&self) -> String {
        self.0.iter().map(|key| format!("{key}\n")).collect()
    }

    pub(crate) fn trust(&self, key: &PublicKey) -> bool {
        self.0.contains(key)
    }
}
