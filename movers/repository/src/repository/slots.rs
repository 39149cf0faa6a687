//! Key slots: each seals the repository's key and the domain's secret under one passphrase, so that a passphrase can come
//! or go without anything else being written anew. Whoever has read a slot and knew its passphrase keeps what it held:
//! taking a slot away shuts out who comes later.

use super::home::{Unlock, open_keys, read_header};
use super::{Repository, random_id};
use crate::io::Io;
use crate::{Error, Result, Store};
use farshore_format::repository::KeySlot;
use farshore_schemas::ids::Name;
use std::io::Read;
use std::path::Path;

/// Longest passphrase; far longer than any is.
const LONGEST: u64 = 4096;

impl Unlock {
    /// What opens a repository by the passphrase in this file, without the line end that editors put there.
    ///
    /// # Errors
    /// [`Error::Passphrase`].
    pub fn from_file(path: &Path) -> Result<Unlock> {
        let wrong = |why: String| Error::Passphrase { path: path.to_owned(), why };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(LONGEST + 2).read_to_end(&mut bytes))
            .map_err(|error| wrong(error.to_string()))?;
        if bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        if bytes.contains(&b'\n') {
            return Err(wrong("it holds more than one line".to_owned()));
        }
        if bytes.is_empty() || bytes.len() as u64 > LONGEST {
            return Err(wrong(format!("it holds no passphrase of 1 to {LONGEST} bytes")));
        }
        Ok(Unlock { passphrase: Some(bytes) })
    }
}

/// A dedup domain as another repository may join it.
#[derive(Clone)]
pub struct SharedDomain {
    /// Its name.
    pub name: Name,
    /// Its secret.
    pub secret: [u8; 32],
    /// Whether it was kept in key slots: then it may not be written down in clear elsewhere.
    pub sealed: bool,
}

impl std::fmt::Debug for SharedDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedDomain").field("name", &self.name).finish_non_exhaustive()
    }
}

fn refused(path: &Path, why: impl Into<String>) -> Error {
    Error::Key { path: path.to_owned(), why: why.into() }
}

fn io(path: &Path) -> Result<Io> {
    let io = Io::new(Store::Repository, None);
    // A folder that is not there is told by whoever looks for what is in it.
    if path.is_dir() { io.confined(path) } else { Ok(io) }
}

impl Repository {
    /// The dedup domain of the repository in this folder.
    ///
    /// # Errors
    /// As opening it, but for its lock, which is not needed.
    pub fn domain_of(path: &Path, unlock: &Unlock) -> Result<SharedDomain> {
        let io = io(path)?;
        let header = read_header(&io, path)?;
        // The passphrase may be meant for the repository that joins: one in the clear has none to be refused.
        let none = Unlock::default();
        let (_, secret) = open_keys(&io, path, (&header, if header.encrypted { unlock } else { &none }))?;
        Ok(SharedDomain { name: header.domain, secret, sealed: header.encrypted })
    }

    /// The names of the key slots of the repository in this folder; none when it is not encrypted.
    ///
    /// # Errors
    /// [`Error::NotHere`], [`Error::Newer`], [`Error::Damage`], or what the disk says.
    pub fn key_slots(path: &Path) -> Result<Vec<String>> {
        let io = io(path)?;
        read_header(&io, path)?;
        let names = io.names(&path.join("keys"))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(ToOwned::to_owned).collect())
    }

    /// Adds a slot that this passphrase opens, durable. Answers its name.
    ///
    /// # Errors
    /// [`Error::NoKey`] when it is not encrypted, [`Error::Key`] when what was given does not open it, [`Error::Locked`], or what
    /// the disk says.
    pub fn add_key(path: &Path, unlock: &Unlock, passphrase: &[u8]) -> Result<String> {
        let io = io(path)?;
        let header = read_header(&io, path)?;
        let _lock = io.lock(path)?;
        let (sealing, secret) = open_keys(&io, path, (&header, unlock))?;
        let Some(key) = &sealing.key else {
            return Err(Error::NoKey { path: path.to_owned() });
        };
        let slot = KeySlot::make(passphrase, random_id().0, key, &secret);
        let slot = slot.map_err(|why| refused(path, why.to_string()))?;
        let taken = Self::key_slots(path)?;
        let free = (0u32..).map(|number| number.to_string()).find(|name| !taken.contains(name));
        let name = free.expect("there are more numbers than files");
        io.place_durable(&path.join("keys").join(format!("{name}.json")), &slot.encode())?;
        Ok(name)
    }

    /// Takes a slot away, durable. The passphrase must open one of those that stay, so that nobody locks everybody out.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::NoSlot`], [`Error::LastSlot`] when it is the last or the passphrase opens none that stays,
    /// [`Error::Key`] without a passphrase, [`Error::Locked`], or what the disk says.
    pub fn remove_key(path: &Path, unlock: &Unlock, slot: &str) -> Result<()> {
        let io = io(path)?;
        if !read_header(&io, path)?.encrypted {
            return Err(Error::NoKey { path: path.to_owned() });
        }
        let _lock = io.lock(path)?;
        let slots = Self::key_slots(path)?;
        if !slots.iter().any(|name| name == slot) {
            return Err(Error::NoSlot { path: path.to_owned(), slot: slot.to_owned() });
        }
        let last = |why| Error::LastSlot { path: path.to_owned(), slot: slot.to_owned(), why };
        if slots.len() == 1 {
            return Err(last("it is the last key slot"));
        }
        let Some(passphrase) = &unlock.passphrase else {
            return Err(refused(path, "no passphrase was given"));
        };
        let folder = path.join("keys");
        let mut stays = false;
        for name in slots.iter().filter(|name| *name != slot) {
            // One that cannot be read is none that opens.
            let bytes = io.read(&folder.join(format!("{name}.json"))).ok().flatten().unwrap_or_default();
            stays |= KeySlot::decode(&bytes).and_then(|slot| slot.open(passphrase)).is_ok();
        }
        if !stays {
            return Err(last("the passphrase opens none of the key slots that would stay"));
        }
        io.remove_file(&folder.join(format!("{slot}.json")))?;
        io.sync_folder(&folder)
    }
}
